//! Sealing: the segments behind which the log goes on get their index files, and the state at their end becomes the next
//! snapshot. A recovery that is written down, beside the running shard and without it: from the disk alone. Old segments
//! give their space back: whole, or all of it but what is live.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker_engine::{Engine, ReplyTo};
use broker_store::log::LogOptions;
use broker_store::recovery::{self, OpenError};
use broker_store::segments::{self, Segment};
use broker_store::snapshot::{self, SnapshotError, SnapshotHead, SnapshotWriter};
use broker_store::{
    CondenseError, Disk, DiskError, IndexBuilder, IndexFailure, KeyTableBuilder, KeysOfHead,
    SealedIndex, SealedRun,
};
use bytes::Bytes;

use crate::condensing::{Condensed, Condensing};
use crate::key_tables;
use crate::recovered::{Recovered, TimedMessages, segment_of};

/// Snapshots kept: when the newest cannot be read, the one before it and the log behind that say the same.
const SNAPSHOTS_KEPT: usize = 2;

/// What sealing came to.
#[derive(Debug, Default)]
pub struct Sealed {
    /// How many segments.
    pub segments: usize,
    /// The runs of the new index files.
    pub runs: Vec<SealedRun>,
    /// Where the log goes on behind the newest snapshot.
    pub position: u64,
    /// Bytes of the newest snapshot.
    pub snapshot_bytes: u64,
    /// Segments that hold nothing which is kept, by log position.
    pub unneeded: Vec<u64>,
    /// Segments of which only what is live is to be read from now on.
    pub condensed: Vec<Segment>,
    /// Why one that should have been among them is not; the next job tries again.
    pub not_condensed: Option<CondenseError>,
}

/// Sealing did not come to an end. What it left is written anew by the next one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Nobody wants it any more.
    #[error("given up")]
    GivenUp,
    /// The disk failed, or has no room; the next try may succeed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log or what is derived from it cannot be read. Nothing more may be written behind it.
    #[error(transparent)]
    Open(OpenError),
}

impl From<OpenError> for SealError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Disk(error) => Self::Disk(error),
            error => Self::Open(error),
        }
    }
}

/// Nobody waits for an answer.
#[derive(Debug)]
struct Nobody;

impl ReplyTo for Nobody {
    fn is_gone(&self) -> bool {
        true
    }
}

/// Seals every segment between the newest snapshot and `until`, the beginning of a segment that has a durable entry;
/// everything before it must be committed. Index files are opened with `failure`.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    until: u64,
    keys_of_head: KeysOfHead,
    failure: &IndexFailure,
    is_given_up: &AtomicBool,
) -> Result<Sealed, SealError> {
    let mut recovered: Recovered<Nobody> =
        Recovered::load(disk, options, 0, TimedMessages::InSnapshot)?;
    let segments = segments::look(&**disk, &options.directory).map_err(OpenError::from)?;
    let mut condensing = condensing(&**disk, options, &recovered, &segments, until)?;
    condensing.gather(&recovered.engine);
    let mut sealed = Vec::new();
    for pair in segments.windows(2) {
        let (segment, next) = (&pair[0], &pair[1]);
        if segment.base() == recovered.start.position && next.base() <= until {
            let keys = KeyTableBuilder::new(options.shard, segment.base(), keys_of_head);
            let pair = (segment, next);
            seal_segment(disk, options, &mut recovered, &segments, pair, keys, is_given_up)?;
            sealed.push(segment.base());
        }
    }
    let directory = snapshot::snapshot_directory(options);
    let has_sealed = !sealed.is_empty();
    if has_sealed {
        let written = write_snapshot(disk, options, &recovered, &segments, is_given_up);
        recovered.snapshot_bytes = written?;
        snapshot::remove_old(&**disk, &directory, SNAPSHOTS_KEPT)?;
        let position = recovered.start.position;
        key_tables::make_one(&**disk, options, &segments, position, keys_of_head, is_given_up);
    }
    let unneeded = unneeded(&**disk, options, &segments)?;
    let (count, mut runs) = (sealed.len(), Vec::new());
    for base in sealed {
        let opened = SealedIndex::open(&**disk, &options.directory, options.shard, base, failure);
        runs.extend(opened.map_err(|error| derived(options, &error))?);
    }
    let mut condensed = Condensed::default();
    if has_sealed {
        condensing.gather(&recovered.engine);
        condensed = condensing.carry_out(&**disk, options, is_given_up);
    }
    Ok(Sealed {
        segments: count,
        runs,
        position: recovered.start.position,
        snapshot_bytes: recovered.snapshot_bytes,
        unneeded,
        condensed: condensed.segments,
        not_condensed: condensed.failure,
    })
}

/// The segments before the newest snapshot that are worth to be condensed, none of them condensed before.
fn condensing<'a>(
    disk: &dyn Disk,
    options: &LogOptions,
    recovered: &Recovered<Nobody>,
    segments: &'a [Segment],
    until: u64,
) -> Result<Condensing<'a>, SealError> {
    let start = recovered.start.position;
    let done = segments::condensed_bases(disk, &options.directory)?;
    let old = segments.iter().filter(|segment| segment.base() < start);
    let whole = old.filter(|segment| !done.contains(&segment.base())).collect();
    let sealed_bytes = until.saturating_sub(start);
    let turn = start / options.segment_bytes.max(1);
    Ok(Condensing::choose(&recovered.engine, whole, sealed_bytes, turn))
}

fn seal_segment(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    recovered: &mut Recovered<Nobody>,
    segments: &[Segment],
    (segment, next): (&Segment, &Segment),
    mut keys: KeyTableBuilder,
    is_given_up: &AtomicBool,
) -> Result<(), SealError> {
    let start = recovered.start;
    let mut was_given_up = false;
    let end = recovery::replay(options.shard, segment, next, start, &mut |frame| {
        was_given_up |= is_given_up.load(Ordering::Relaxed);
        if was_given_up {
            return Ok(());
        }
        keys.take(&frame.header, &frame.payload);
        recovered.take(frame)
    })?;
    if was_given_up {
        return Err(SealError::GivenUp);
    }
    let mut index = IndexBuilder::new(options.shard, segment.base());
    recovered.engine.unsealed(&mut index);
    index.write(&**disk, &options.directory, &segment_of(segments))?;
    let failure = recovered.engine.index_failure_note().clone();
    let (directory, shard) = (&options.directory, options.shard);
    let runs = SealedIndex::open(&**disk, directory, shard, segment.base(), &failure);
    recovered.engine.attach(runs.map_err(|error| derived(options, &error))?);
    recovered.start = end;
    key_tables::write(&**disk, options, &keys.finish(end.checksum));
    Ok(())
}

fn write_snapshot(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    recovered: &Recovered<Nobody>,
    segments: &[Segment],
    is_given_up: &AtomicBool,
) -> Result<u64, SealError> {
    let directory = snapshot::snapshot_directory(options);
    disk.create_directory(&directory)?;
    let end = recovered.start;
    let mut writer = SnapshotWriter::new(&**disk, &directory, end.position);
    recovered.engine.store_state(&mut |part| {
        if is_given_up.load(Ordering::Relaxed) {
            return Err(SealError::GivenUp);
        }
        Ok(writer.part(part)?)
    })?;
    let needs = needs(&recovered.engine, segments);
    if let Some(error) = recovered.engine.index_failure() {
        // Timed messages that could not be carried over are missing in what was written.
        return Err(derived(options, error));
    }
    let head = SnapshotHead {
        shard: options.shard,
        end,
        hard_state: Bytes::from(recovered.vote.encode()),
        needs: needs.into_iter().collect(),
        parts: Vec::new(),
    };
    Ok(writer.finish(head)?)
}

/// The sealed segments that a state needs: something that is kept is in them.
pub(crate) fn needs<R: ReplyTo>(engine: &Engine<R>, segments: &[Segment]) -> BTreeSet<u64> {
    let segment_of = segment_of(segments);
    let mut needs = BTreeSet::new();
    // One by one: a set that is collected gathers all of its millions first.
    engine.hidden_records().for_each(|(position, _)| {
        needs.insert(segment_of(position));
    });
    for run in engine.sealed_runs() {
        needs.insert(run.base());
        needs.extend(run.refers_to().iter().map(|other| other.base));
    }
    needs
}

/// The segments that neither of the two newest snapshots needs, nor the log behind the older of them.
fn unneeded(
    disk: &dyn Disk,
    options: &LogOptions,
    segments: &[Segment],
) -> Result<Vec<u64>, SealError> {
    let directory = snapshot::snapshot_directory(options);
    let mut heads = Vec::new();
    for position in snapshot::positions(disk, &directory)?.into_iter().take(SNAPSHOTS_KEPT) {
        match SnapshotHead::read(disk, &directory, options.shard, position) {
            Ok(head) => heads.push(head),
            Err(SnapshotError::Disk(error)) => return Err(error.into()),
            // What it needs is not known, so that everything is kept until there is another one.
            Err(_) => return Ok(Vec::new()),
        }
    }
    let Some(older) = heads.get(SNAPSHOTS_KEPT - 1) else { return Ok(Vec::new()) };
    let bases = segments.iter().map(Segment::base);
    let is_needed = |base: u64| heads.iter().any(|head| head.needs.binary_search(&base).is_ok());
    Ok(bases.filter(|base| *base < older.end.position && !is_needed(*base)).collect())
}

fn derived(options: &LogOptions, error: &dyn std::error::Error) -> SealError {
    SealError::Open(OpenError::Derived { shard: options.shard, reason: error.to_string() })
}
