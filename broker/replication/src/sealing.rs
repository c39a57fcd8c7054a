//! Sealing: the segments behind which the log goes on get their index files, and the state at their end becomes the next
//! snapshot. A recovery that is written down, beside the running shard and without it: from the disk alone. Old segments
//! give their space back: whole, or all of it but what is live. Whatever is written is read back from the disk and compared
//! before anything older goes; a start falls back on nothing that nobody has read.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker_engine::{Engine, ReplyTo, Seed};
use broker_store::log::LogOptions;
use broker_store::recovery::{self, OpenError};
use broker_store::sealed_index::IndexError;
use broker_store::segments::{self, Segment};
use broker_store::snapshot::{
    self, SnapshotError, SnapshotHead, SnapshotWriter, UncountedSnapshot,
};
use broker_store::{
    CondenseError, Disk, DiskError, IndexBuilder, IndexFailure, KeyTableBuilder, KeysOfHead,
    SealedIndex, SealedRun,
};
use bytes::Bytes;

use crate::condensing::Condensing;
use crate::key_tables;
use crate::recovered::{Nobody, Recovered, TimedMessages, segment_of};

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
    /// Why older snapshots stay; the next job tries again.
    pub not_removed: Option<DiskError>,
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
    /// What was written does not read back as what it was made from. Nothing older was removed; the next try may succeed.
    #[error("what was written of the state is not what it was made from: {0}")]
    NotReadBack(String),
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
        Recovered::load(disk, options, Seed::from(0), TimedMessages::InSnapshot)?;
    // It was read just now, so that a start can fall back on it.
    let older = Some(recovered.start.position).filter(|position| *position > 0);
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
    let position = recovered.start.position;
    if sealed.is_empty() {
        let snapshot_bytes = recovered.snapshot_bytes;
        return Ok(Sealed { position, snapshot_bytes, ..Sealed::default() });
    }
    let (count, mut runs) = (sealed.len(), Vec::new());
    for base in sealed {
        let opened = SealedIndex::open(&**disk, &options.directory, options.shard, base, failure);
        runs.extend(opened.map_err(not_read_back)?);
    }
    let recovered = replace_snapshot(disk, options, recovered, &segments, is_given_up)?;
    key_tables::make_one(&**disk, options, &segments, position, keys_of_head, is_given_up);
    condensing.gather(&recovered.engine);
    let condensed = condensing.carry_out(&**disk, options, is_given_up);
    let mut sealed = Sealed {
        segments: count,
        runs,
        position,
        snapshot_bytes: recovered.snapshot_bytes,
        unneeded: Vec::new(),
        condensed: condensed.segments,
        not_condensed: condensed.failure,
        not_removed: None,
    };
    match let_go(&**disk, options, &segments, older, position) {
        Ok(unneeded) => sealed.unneeded = unneeded,
        Err(error) => sealed.not_removed = Some(error),
    }
    Ok(sealed)
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
    let written = index.write(&**disk, &options.directory, &segment_of(segments));
    written.map_err(not_read_back)?;
    let failure = recovered.engine.index_failure_note().clone();
    let (directory, shard) = (&options.directory, options.shard);
    let runs = SealedIndex::open(&**disk, directory, shard, segment.base(), &failure);
    recovered.engine.attach(runs.map_err(not_read_back)?);
    recovered.start = end;
    key_tables::write(&**disk, options, &keys.finish(end.checksum));
    Ok(())
}

/// The next snapshot, from a state up to the end of a segment. Gives back the state as the disk has it: what goes on from
/// here goes on from what was read back, as a start will.
fn replace_snapshot(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    recovered: Recovered<Nobody>,
    segments: &[Segment],
    is_given_up: &AtomicBool,
) -> Result<Recovered<Nobody>, SealError> {
    let directory = snapshot::snapshot_directory(options);
    disk.create_directory(&directory)?;
    let written = write_snapshot(disk, options, &directory, &recovered, segments, is_given_up);
    // Its memory is wanted for the one that is read.
    drop(recovered);
    let replaced = written.and_then(|written| {
        let read = read_back(disk, options, written.head(), segments, is_given_up)?;
        written.publish()?;
        Ok(read)
    });
    if replaced.is_err() {
        // It takes space that somebody may want, and is written anew in any case.
        let _stays = snapshot::remove_uncounted(&**disk, &directory);
    }
    replaced
}

fn write_snapshot<'a>(
    disk: &'a Arc<dyn Disk>,
    options: &LogOptions,
    directory: &'a Path,
    recovered: &Recovered<Nobody>,
    segments: &[Segment],
    is_given_up: &AtomicBool,
) -> Result<UncountedSnapshot<'a>, SealError> {
    let end = recovered.start;
    let mut writer = SnapshotWriter::new(&**disk, directory, end.position);
    recovered.engine.store_state(&mut |part| {
        if is_given_up.load(Ordering::Relaxed) {
            return Err(SealError::GivenUp);
        }
        Ok(writer.part(part)?)
    })?;
    let needs = needs(&recovered.engine, segments);
    if let Some(error) = recovered.engine.index_failure() {
        // Timed messages that could not be carried over are missing in what was written.
        return Err(not_read_back(error.clone()));
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

/// Loads a snapshot and its indexes as a start does, and stores the state once more: it has to give the same parts.
fn read_back(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    head: &SnapshotHead,
    segments: &[Segment],
    is_given_up: &AtomicBool,
) -> Result<Recovered<Nobody>, SealError> {
    let mut read =
        Recovered::of_snapshot(disk, options, head, Seed::from(0), TimedMessages::InSnapshot)
            .map_err(|error| match error {
                SnapshotError::Disk(error) => SealError::Disk(error),
                error => SealError::NotReadBack(error.to_string()),
            })?;
    read.attach_indexes(&**disk, options).map_err(|error| match error {
        OpenError::Disk(error) => SealError::Disk(error),
        error => SealError::NotReadBack(error.to_string()),
    })?;
    let mut parts = head.parts.iter();
    let mut is_same = true;
    read.engine.store_state(&mut |part| {
        is_same &= parts.next() == Some(&snapshot::length_and_checksum(part));
        if is_given_up.load(Ordering::Relaxed) { Err(SealError::GivenUp) } else { Ok(()) }
    })?;
    is_same &= parts.next().is_none()
        && head.hard_state == read.vote.encode()
        && needs(&read.engine, segments).into_iter().eq(head.needs.iter().copied());
    if let Some(error) = read.engine.index_failure() {
        // What could not be read was missing.
        return Err(not_read_back(error.clone()));
    }
    let differs = || SealError::NotReadBack("the state, once it is loaded, is another".to_owned());
    is_same.then_some(read).ok_or_else(differs)
}

/// The sealed segments that a state needs: something that is kept is in them.
fn needs<R: ReplyTo>(engine: &Engine<R>, segments: &[Segment]) -> BTreeSet<u64> {
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

/// Removes every snapshot but the two that this job has read: `older`, which it went on from, and the one at `newer`.
/// Gives back the segments that neither of them needs, nor the log behind the older one.
fn let_go(
    disk: &dyn Disk,
    options: &LogOptions,
    segments: &[Segment],
    older: Option<u64>,
    newer: u64,
) -> Result<Vec<u64>, DiskError> {
    let directory = snapshot::snapshot_directory(options);
    let kept: Vec<u64> = older.into_iter().chain([newer]).collect();
    snapshot::remove_all_but(disk, &directory, &kept)?;
    // With one alone there is nothing to fall back on but the log.
    let Some(older) = older else { return Ok(Vec::new()) };
    let mut needs = BTreeSet::new();
    for position in kept {
        match SnapshotHead::read(disk, &directory, options.shard, position) {
            Ok(head) => needs.extend(head.needs),
            Err(SnapshotError::Disk(error)) => return Err(error),
            // What it needs is not known, so that everything is kept until there is another one.
            Err(_) => return Ok(Vec::new()),
        }
    }
    let bases = segments.iter().map(Segment::base);
    Ok(bases.filter(|base| *base < older && !needs.contains(base)).collect())
}

fn not_read_back(error: IndexError) -> SealError {
    match error {
        IndexError::Disk(error) | IndexError::Snapshot(SnapshotError::Disk(error)) => {
            SealError::Disk(error)
        }
        error => SealError::NotReadBack(error.to_string()),
    }
}
