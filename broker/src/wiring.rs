//! The composition root of a broker: which shards are opened, on which core each runs, and who is handed what.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use broker_engine::{SEED_BYTES, Seed};
use broker_grpc::{Advertised, BrokerContext, BrokerOptions, DiskSpace, RenewalTiming};
use broker_model::{ShardId, shard_name};
use broker_replication::shard::OpenShard;
use broker_replication::{
    Catalog, Memory, ShardEvent, ShardHandle, ShardOptions, SystemClock, open_shard,
};
use broker_store::Disk;
use tokio::sync::mpsc;

use crate::cli::failure::Failure;
use crate::listener::cores::Cores;
use crate::real_disk::RealDisk;
use crate::serve::identity::Identity;
use crate::serve::{deaths, logging, whole_file};
use crate::volume;

/// The cluster map as the operator sent it last.
const MAP_FILE: &str = "cluster-map";
/// How long a delivery of a push consumer is invisible at first, in milliseconds.
#[cfg(debug_assertions)]
const SLICE_VARIABLE: &str = "PINNACE_TEST_SLICE_MS";

/// Which shards this process holds.
///
/// # Errors
/// Wrong input: a number given twice, or data of a shard that is left out.
pub(crate) fn shard_ids(data: &Path, count: u32, listed: &[u32]) -> Result<Vec<ShardId>, Failure> {
    let wanted: Vec<u32> = if listed.is_empty() { (0..count).collect() } else { listed.to_vec() };
    let distinct: BTreeSet<u32> = wanted.iter().copied().collect();
    if distinct.len() != wanted.len() {
        return Err(Failure::input("--shard-ids names a shard twice; name each once"));
    }
    let left_out = stored_shards(data)?.into_iter().find(|stored| !distinct.contains(stored));
    match left_out {
        None => Ok(distinct.into_iter().map(ShardId).collect()),
        Some(id) => {
            let (name, data) = (shard_name(ShardId(id)), data.display());
            Err(Failure::input(format!(
                "{data} holds messages of {name}, which would not be served; start with --shards {} or more, \
                 or name it in --shard-ids",
                id.saturating_add(1)
            )))
        }
    }
}

/// The shards that have a folder.
fn stored_shards(data: &Path) -> Result<BTreeSet<u32>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::runtime(format!("cannot read the data directory {}: {error}", data.display()))
    };
    let mut stored = BTreeSet::new();
    for entry in std::fs::read_dir(data).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix("shard-")?.parse::<u32>().ok());
        stored.extend(id);
    }
    Ok(stored)
}

/// Whether shards have room to work on the volume.
///
/// # Errors
/// Wrong input: a volume that is too small, and nothing on it yet. With something on it, it is read and served as far as it
/// goes.
fn check_volume(
    data: &Path,
    volume_bytes: u64,
    segment_bytes: u64,
    shards: u64,
) -> Result<(), Failure> {
    let least_bytes = volume::volume_bytes_min(segment_bytes, shards);
    if volume_bytes >= least_bytes {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    let text = format!(
        "the volume of {} has {} MiB, and {shards} shards need at least {} MiB: use a larger volume or fewer shards",
        data.display(),
        mib(volume_bytes),
        least_bytes.div_ceil(1 << 20)
    );
    if stored_shards(data)?.is_empty() {
        return Err(Failure::input(text));
    }
    tracing::warn!("{text}; what it holds is served, but sends may be refused for long");
    Ok(())
}

/// What the shards say by themselves.
pub(crate) type ShardEvents = mpsc::UnboundedReceiver<ShardEvent>;

/// Opens all shards at the same time and runs each on its core.
///
/// # Errors
/// The first shard whose log cannot be opened; nothing was changed then.
pub(crate) async fn open_shards(
    data: &Path,
    ids: Vec<ShardId>,
    memory: &Memory,
    cores: &Cores,
) -> anyhow::Result<(Catalog, ShardEvents)> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(data));
    #[cfg(debug_assertions)]
    let disk = crate::failing_disk::wrap(crate::power_cut::wrap(disk));
    let (volume_bytes, shards) = (disk.space(data)?.total_bytes, ids.len() as u64);
    let segment_bytes = volume::segment_bytes(volume_bytes, shards);
    #[cfg(debug_assertions)]
    let segment_bytes = crate::power_cut::segment_bytes().unwrap_or(segment_bytes);
    check_volume(data, volume_bytes, segment_bytes, shards)?;
    let mut opening = Vec::new();
    for id in &ids {
        deaths::check(data, *id)?;
    }
    for id in ids {
        let options = ShardOptions {
            id,
            data: data.to_owned(),
            segment_bytes,
            seed: random_seed()?,
            keys_of_head: broker_grpc::keys_of_head,
            memory: memory.clone(),
        };
        let disk = Arc::clone(&disk);
        let open = move || open_shard(&disk, Arc::new(SystemClock), &options);
        opening.push((id, tokio::task::spawn_blocking(open)));
    }
    let mut open = Vec::new();
    for (id, shard) in opening {
        let name = shard_name(id);
        let shard = shard.await.with_context(|| format!("opening {name} broke off"))?;
        open.push(shard.with_context(|| format!("cannot open {name}"))?);
    }
    Ok(run_shards(open, cores))
}

fn run_shards(open: Vec<OpenShard>, cores: &Cores) -> (Catalog, ShardEvents) {
    let (events, heard) = mpsc::unbounded_channel();
    let mut handles: Vec<ShardHandle> = Vec::new();
    let mut known = Vec::new();
    OpenShard::share_steady_time(&open);
    for (index, mut shard) in open.into_iter().enumerate() {
        handles.push(shard.handle.clone());
        known.push(std::mem::take(&mut shard.known));
        cores.spawn_on(index, shard.run(events.clone()));
    }
    // Later than at every earlier start, whatever the wall clock says.
    let version = handles.iter().map(ShardHandle::steady_ms).max().unwrap_or(0);
    (Catalog::new(handles, known, version), heard)
}

fn random_seed() -> anyhow::Result<Seed> {
    let mut bytes = [0; SEED_BYTES];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("the system gives no random numbers")?;
    Ok(Seed::new(bytes))
}

/// What the services need.
///
/// # Errors
/// When the kept cluster map cannot be read from the disk.
pub(crate) fn broker_context(
    catalog: Catalog,
    identity: &Identity,
    advertised: Advertised,
    memory: Memory,
    data: PathBuf,
) -> anyhow::Result<Arc<BrokerContext>> {
    let kept_map = whole_file::read(&data, MAP_FILE)
        .with_context(|| format!("cannot read {}", data.join(MAP_FILE).display()))?;
    let directory = data.clone();
    Ok(BrokerContext::new(BrokerOptions {
        catalog,
        broker_id: identity.broker,
        disk_id: identity.disk.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        advertised,
        disk: Box::new(move || disk_space(&directory)),
        keep_map: Box::new(move |bytes| whole_file::replace(&data, MAP_FILE, bytes)),
        set_log_level: Box::new(logging::set_level),
        memory,
        kept_map,
        timing: renewal_timing(),
    }))
}

/// When deliveries of push consumers are prolonged, and when silent connections are closed. Tests of a debug build may have it
/// happen faster.
pub(crate) fn renewal_timing() -> RenewalTiming {
    #[cfg(debug_assertions)]
    if let Some(slice_ms) = std::env::var(SLICE_VARIABLE).ok().and_then(|ms| ms.parse().ok()) {
        return RenewalTiming::of_slice(slice_ms);
    }
    RenewalTiming::default()
}

/// Zeros when the system does not tell.
pub(crate) fn disk_space(directory: &Path) -> DiskSpace {
    let Ok(volume) = rustix::fs::statvfs(directory) else { return DiskSpace::default() };
    DiskSpace {
        free_bytes: volume.f_bavail.saturating_mul(volume.f_frsize),
        total_bytes: volume.f_blocks.saturating_mul(volume.f_frsize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(data: &Path, count: u32, listed: &[u32]) -> Result<Vec<u32>, String> {
        let ids = shard_ids(data, count, listed).map_err(|failure| failure.to_string())?;
        Ok(ids.into_iter().map(|id| id.0).collect())
    }

    #[test]
    fn shards_are_counted_from_zero_or_listed() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(ids(data.path(), 3, &[]), Ok(vec![0, 1, 2]));
        assert_eq!(ids(data.path(), 1, &[7, 4]), Ok(vec![4, 7]));
        assert!(ids(data.path(), 1, &[4, 4]).unwrap_err().contains("twice"));
    }

    #[test]
    fn a_volume_that_is_too_small_is_taken_only_with_what_it_holds() {
        const MIB: u64 = 1024 * 1024;
        let data = tempfile::tempdir().unwrap();
        let check = |volume_bytes| check_volume(data.path(), volume_bytes, 8 * MIB, 3);
        assert_eq!(check(168 * MIB), Ok(()));
        let text = check(168 * MIB - 1).unwrap_err().to_string();
        for part in ["167 MiB", "3 shards", "at least 168 MiB", "larger volume or fewer shards"] {
            assert!(text.contains(part), "{text}");
        }
        std::fs::create_dir(data.path().join("shard-2")).unwrap();
        assert_eq!(check(100 * MIB), Ok(()));
    }

    #[test]
    fn stored_shards_cannot_be_left_out() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("shard-2")).unwrap();
        let text = ids(data.path(), 2, &[]).unwrap_err();
        assert!(text.contains("shard-2") && text.contains("--shards 3"), "{text}");
        assert_eq!(ids(data.path(), 3, &[]), Ok(vec![0, 1, 2]));
        assert_eq!(ids(data.path(), 1, &[2]), Ok(vec![2]));
    }
}
