//! `pinnace repair`: makes a damaged log writable again, and leaves out a record on which starts die, once somebody has
//! seen what is lost and said yes. It starts where the broker would: behind the newest snapshot that can be loaded.

mod leave_out;

use std::sync::Arc;

use broker_model::ShardId;
use broker_replication::{StartingPoint, starting_point};
use broker_store::log::{LogEnd, LogOptions};
use broker_store::repair::{self, Plan, RepairError};
use broker_store::segments::{self, Segment};
use broker_store::{Disk, OpenError, snapshot};
use clap::Args;
use serde::Serialize;

use super::data_directory::DataArguments;
use super::failure::Failure;
use super::output::{OutputArguments, bytes, fields, print};
use crate::read_only_disk::ReadOnlyDisk;
use crate::real_disk::RealDisk;
use crate::serve::data_lock::{DataLock, LockError};

/// Arguments of `pinnace repair`.
#[derive(Debug, Args)]
pub(crate) struct RepairArguments {
    #[command(flatten)]
    data: DataArguments,
    /// Only say what is damaged and what a repair would do.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Leave out the record at this log position, on which starts die, instead of mending damage.
    #[arg(long, value_name = "POSITION")]
    leave_out: Option<u64>,
    /// Carry it out.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// What is damaged, and what becomes of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RepairView {
    shard: u32,
    damaged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<DamageView>,
    /// Where the log is read from.
    from: u64,
    unusable_snapshots: Vec<UnusableView>,
    files_kept_aside: Vec<String>,
    repaired: bool,
}

/// A snapshot that cannot be loaded.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UnusableView {
    position: u64,
    reason: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DamageView {
    from: u64,
    to: u64,
    first_index: u64,
    last_index: u64,
    durable_index: u64,
    highest_index: u64,
    frames_behind: u64,
    bytes_behind: u64,
    /// Entries that were acknowledged and will be in the log no more, as far as the log still tells.
    entries_lost_at_least: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
}

/// Runs `pinnace repair`.
pub(crate) fn run(arguments: &RepairArguments) -> Result<(), Failure> {
    let log = arguments.data.log()?;
    if let Some(position) = arguments.leave_out {
        return leave_out::run(arguments, &log, position);
    }
    if !arguments.yes {
        let (point, plan) = look(Arc::new(ReadOnlyDisk), &log)?;
        return show(arguments, (log.shard, &point), plan.as_ref(), false);
    }
    let _lock = lock(arguments)?;
    let disk = Arc::new(RealDisk::new(&arguments.data.data));
    let (point, plan) = look(Arc::clone(&disk) as Arc<dyn Disk>, &log)?;
    if let Some(plan) = &plan {
        check_not_covered(&log, &point, plan)?;
        repair::carry_out(&*disk, &log, plan).map_err(failed)?;
    }
    show(arguments, (log.shard, &point), plan.as_ref(), plan.is_some())
}

fn lock(arguments: &RepairArguments) -> Result<DataLock, Failure> {
    DataLock::take(&arguments.data.data).map_err(|error| match error {
        LockError::Taken(_) => Failure::input(format!(
            "a running broker holds {}; stop it first, a log is repaired while nobody uses it",
            arguments.data.data.display()
        )),
        LockError::Io { .. } => Failure::runtime(error.to_string()),
    })
}

/// Where a start would go on from, and what a repair would do behind it.
fn look(disk: Arc<dyn Disk>, log: &LogOptions) -> Result<(StartingPoint, Option<Plan>), Failure> {
    let point = starting_point(&disk, log).map_err(|error| failed(error.into()))?;
    let segments = segments::look(&*disk, &log.directory).map_err(|error| failed(error.into()))?;
    let first = segments.iter().find(|segment| !segment.is_condensed());
    let begins_late = first.is_some_and(|segment| segment.base() > 0);
    if point.start == LogEnd::default() && begins_late {
        let position = first.map_or(0, Segment::base);
        let mut text = OpenError::NoSnapshot { shard: log.shard, position }.to_string();
        for (_, reason) in &point.unusable {
            text.push_str(&format!("\n{reason}"));
        }
        return Err(Failure::runtime(text));
    }
    let plan = repair::plan(&*disk, log, point.start).map_err(failed)?;
    Ok((point, plan))
}

/// What a snapshot that cannot be loaded covers is not damage of the log: the segments before it went because of it.
fn check_not_covered(log: &LogOptions, point: &StartingPoint, plan: &Plan) -> Result<(), Failure> {
    let from = plan.damage.from;
    let covering = point.unusable.iter().find(|(position, _)| *position > from);
    let Some((position, reason)) = covering else { return Ok(()) };
    let directory = snapshot::snapshot_directory(log);
    Err(Failure::runtime(format!(
        "the log is not whole from log position {from} on because a snapshot stands for what was there, up to log position \
         {position}, and {reason}: restore {directory} from a copy, or start a version of Pinnace that can load it. A repair \
         would cut everything from {from} on; to give all that up, move {directory} away and run this again. Nothing was changed",
        directory = directory.display()
    )))
}

fn failed(error: RepairError) -> Failure {
    Failure::runtime(error.to_string())
}

fn show(
    arguments: &RepairArguments,
    (shard, point): (u32, &StartingPoint),
    plan: Option<&Plan>,
    repaired: bool,
) -> Result<(), Failure> {
    let asides = plan.map(|plan| plan.asides.as_slice()).unwrap_or_default();
    let view = RepairView {
        shard,
        damaged: plan.is_some(),
        damage: plan.map(|plan| damage_view(&plan.damage)),
        from: point.start.position,
        unusable_snapshots: point
            .unusable
            .iter()
            .map(|(position, reason)| UnusableView {
                position: *position,
                reason: reason.to_string(),
            })
            .collect(),
        files_kept_aside: asides.iter().map(|aside| aside.aside.display().to_string()).collect(),
        repaired,
    };
    print(arguments.output.format, &view, |view| table(view, arguments.yes))
}

fn damage_view(damage: &broker_store::Damage) -> DamageView {
    let last = damage.highest_index.max(damage.durable_index).max(damage.last_index);
    DamageView {
        from: damage.from,
        to: damage.to,
        first_index: damage.first_index,
        last_index: damage.last_index,
        durable_index: damage.durable_index,
        highest_index: damage.highest_index,
        frames_behind: damage.frames_behind,
        bytes_behind: damage.bytes_behind,
        entries_lost_at_least: (last + 1).saturating_sub(damage.first_index),
        cause: damage.cause.clone(),
    }
}

fn table(view: &RepairView, is_meant: bool) -> String {
    let name = broker_model::shard_name(ShardId(view.shard));
    let Some(damage) = &view.damage else {
        let mut text = format!("the log of {name} is not damaged; there is nothing to repair\n");
        for unusable in &view.unusable_snapshots {
            text.push_str(&format!("{}: it is passed over, ", unusable.reason));
            text.push_str(&format!("and the log is read from position {} on\n", view.from));
        }
        return text;
    };
    let last = damage.first_index + damage.entries_lost_at_least.saturating_sub(1);
    let mut rows = vec![
        ("Shard", name),
        ("Damaged", format!("log positions [{}, {})", damage.from, damage.to)),
        ("Damaged indexes", format!("{} to {}", damage.first_index, damage.last_index)),
        ("Durable", format!("every entry up to index {} was", damage.durable_index)),
        (
            "Whole behind it",
            format!(
                "{} frames, {}, up to index {}; they are not kept in the log",
                damage.frames_behind,
                bytes(damage.bytes_behind),
                damage.highest_index
            ),
        ),
        (
            "Lost from the log",
            format!(
                "at least {} entries, indexes {} to {last}; more if the damage reaches behind the last whole frame",
                damage.entries_lost_at_least, damage.first_index
            ),
        ),
    ];
    let unusable = view.unusable_snapshots.iter();
    rows.extend(unusable.map(|unusable| ("Snapshot", unusable.reason.clone())));
    rows.extend(damage.cause.iter().map(|cause| ("Cause", cause.clone())));
    rows.extend(view.files_kept_aside.iter().map(|file| ("Kept aside", file.clone())));
    let done = match (view.repaired, is_meant) {
        (true, _) => "the log ends at the damage and can be written again",
        _ => "nothing was changed; --yes carries this out",
    };
    rows.push(("Repair", done.to_owned()));
    fields(&rows)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use broker_store::{SnapshotHead, SnapshotWriter};
    use bytes::Bytes;

    use super::*;

    const SEGMENT_BYTES: u64 = 64 * 1024;

    /// A shard of which only the segments at these positions are left, and a snapshot at each of those, whose bytes are
    /// whole and which nobody can load.
    fn shard(folder: &Path, segments: &[u64], snapshots: &[u64]) -> LogOptions {
        let log = LogOptions {
            shard: 0,
            directory: folder.join("shard-0/log"),
            segment_bytes: SEGMENT_BYTES,
        };
        let disk = RealDisk::new(folder);
        let directory = snapshot::snapshot_directory(&log);
        disk.create_directory(&log.directory).unwrap();
        disk.create_directory(&directory).unwrap();
        for base in segments {
            let path = log.directory.join(format!("{base:020}.seg"));
            disk.create_zeroed(&path, SEGMENT_BYTES).unwrap();
        }
        for position in snapshots {
            let mut writer = SnapshotWriter::new(&disk, &directory, *position);
            writer.part(b"\x01\x00\x00\x00\xff").unwrap();
            let head = SnapshotHead {
                shard: 0,
                end: LogEnd { position: *position, ..LogEnd::default() },
                hard_state: Bytes::new(),
                needs: Vec::new(),
                parts: Vec::new(),
            };
            writer.finish(head).unwrap().publish().unwrap();
        }
        log
    }

    #[test]
    fn without_a_snapshot_that_can_be_loaded_it_says_what_to_restore() {
        let folder = tempfile::tempdir().unwrap();
        let at = [SEGMENT_BYTES, 2 * SEGMENT_BYTES];
        let log = shard(folder.path(), &at, &at);
        let text = look(Arc::new(ReadOnlyDisk), &log).unwrap_err().to_string();
        for part in ["begins at log position 65536", "restore the directory 'snapshot'"] {
            assert!(text.contains(part), "{text}");
        }
        for position in at {
            let snapshot =
                format!("{position:020}.snap cannot be loaded: it holds an illegal kind");
            assert!(text.contains(&snapshot), "{text}");
        }
    }

    #[test]
    fn what_a_snapshot_stands_for_that_cannot_be_loaded_is_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        // The first one was needed for something; those behind it went on the strength of the snapshot.
        let log = shard(folder.path(), &[0, 2 * SEGMENT_BYTES], &[2 * SEGMENT_BYTES]);
        let (point, plan) = look(Arc::new(ReadOnlyDisk), &log).unwrap();
        let plan = plan.expect("segments are missing");
        let text = check_not_covered(&log, &point, &plan).unwrap_err().to_string();
        for part in ["up to log position 131072", "cannot be loaded", "Nothing was changed"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_snapshot_that_the_log_makes_up_for_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let log = shard(folder.path(), &[0], &[SEGMENT_BYTES]);
        let (point, plan) = look(Arc::new(ReadOnlyDisk), &log).unwrap();
        assert!(plan.is_none());
        let unusable = |(position, reason): &(u64, broker_store::snapshot::SnapshotError)| {
            UnusableView { position: *position, reason: reason.to_string() }
        };
        let view = RepairView {
            shard: 0,
            damaged: false,
            damage: None,
            from: point.start.position,
            unusable_snapshots: point.unusable.iter().map(unusable).collect(),
            files_kept_aside: Vec::new(),
            repaired: false,
        };
        let text = table(&view, false);
        for part in ["not damaged", "cannot be loaded", "read from position 0 on"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
