//! The state of a shard as its disk says: the newest snapshot that can be used, the index files of sealed segments, and
//! behind them the frames of the log, one by one. The same for a replica that starts and for the work that seals segments.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_engine::{Effects, Engine, ReplyTo, Seed};
use broker_model::{Now, ShardId};
use broker_store::left_out::{self, DIED_FILE, Instead};
use broker_store::log::{LogEnd, LogOptions};
use broker_store::recovery::{OpenError, RecoveredFrame};
use broker_store::sealed_index::{BuildError, IndexError, index_path, open_or_build};
use broker_store::segments::{self, Segment};
use broker_store::snapshot::{self, SnapshotError, SnapshotHead};
use broker_store::{Disk, FrameKind, ReadError, Record, RecordError};
use bytes::{Bytes, BytesMut};

use crate::at_hand::{AtHand, Noted};
use crate::raft_log::{RaftLog, Vote};

/// The one voter of a shard with one replica.
pub(crate) const REPLICA_ID: u64 = 1;

/// Where timed messages of the snapshot are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimedMessages {
    /// In memory, for who decides about them.
    InMemory,
    /// Where they are: there may be ten millions of them, and most are only carried over.
    InSnapshot,
}

/// What the disk comes to, up to a frame of the log.
pub(crate) struct Recovered<R> {
    pub(crate) engine: Engine<R>,
    pub(crate) raft_log: RaftLog,
    pub(crate) vote: Vote,
    /// Where the log goes on behind the snapshot.
    pub(crate) start: LogEnd,
    /// Bytes of the snapshot.
    pub(crate) snapshot_bytes: u64,
    /// Snapshots that cannot be used, and why.
    pub(crate) unusable: Vec<SnapshotError>,
    effects: Effects<R>,
    /// The newest time of an entry behind the snapshot, and of any frame.
    newest_entry_ms: u64,
    newest_frame_ms: u64,
    /// Log positions of records that are left out.
    left_out: BTreeSet<u64>,
    /// Records are read one by one: one may be left out, or a start died on one.
    is_careful: bool,
}

impl<R: ReplyTo> Recovered<R> {
    /// Takes in the newest snapshot that can be used, and the indexes of the segments before it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn load(
        disk: &Arc<dyn Disk>,
        options: &LogOptions,
        seed: Seed,
        timed: TimedMessages,
    ) -> Result<Self, OpenError> {
        let mut recovered = Self::of_newest_snapshot(disk, options, seed, timed)?;
        recovered.left_out = left_out::read(&**disk, options)?;
        let has_died = disk.open(&options.directory.join(DIED_FILE)).is_ok();
        recovered.is_careful = has_died || !recovered.left_out.is_empty();
        Ok(recovered)
    }

    fn of_newest_snapshot(
        disk: &Arc<dyn Disk>,
        options: &LogOptions,
        seed: Seed,
        timed: TimedMessages,
    ) -> Result<Self, OpenError> {
        let directory = snapshot::snapshot_directory(options);
        let mut unusable = Vec::new();
        for position in snapshot::positions(&**disk, &directory)? {
            let head = SnapshotHead::read(&**disk, &directory, options.shard, position);
            match head.and_then(|head| Self::of_snapshot(disk, options, &head, seed, timed)) {
                Ok(mut recovered) => {
                    recovered.attach_indexes(&**disk, options)?;
                    recovered.unusable = unusable;
                    return Ok(recovered);
                }
                Err(error @ SnapshotError::LaterVersion { .. }) => {
                    let reason = error.to_string();
                    return Err(OpenError::Derived { shard: options.shard, reason });
                }
                // The one before it says less, and the log behind it says the rest.
                Err(error) => unusable.push(error),
            }
        }
        let first = Self::first_segment(&**disk, options)?;
        match first {
            Some(position) if position > 0 => {
                Err(OpenError::NoSnapshot { shard: options.shard, position })
            }
            _ => Ok(Self { unusable, ..Self::empty(options.shard, seed) }),
        }
    }

    /// Where the first whole segment begins.
    fn first_segment(disk: &dyn Disk, options: &LogOptions) -> Result<Option<u64>, OpenError> {
        match segments::look(disk, &options.directory) {
            Ok(segments) => {
                Ok(segments.iter().find(|segment| !segment.is_condensed()).map(Segment::base))
            }
            Err(error) if error.is_missing => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn empty(shard: u32, seed: Seed) -> Self {
        let vote = Vote { term: 0, vote: 0, voters: vec![REPLICA_ID] };
        Self {
            engine: Engine::new(ShardId(shard), seed),
            raft_log: RaftLog::new(vote.clone(), 0, 0),
            vote,
            start: LogEnd::default(),
            snapshot_bytes: 0,
            unusable: Vec::new(),
            effects: Effects::default(),
            newest_entry_ms: 0,
            newest_frame_ms: 0,
            left_out: BTreeSet::new(),
            is_careful: false,
        }
    }

    /// The state that a snapshot holds, without the indexes of the segments before it.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub(crate) fn of_snapshot(
        disk: &Arc<dyn Disk>,
        options: &LogOptions,
        head: &SnapshotHead,
        seed: Seed,
        timed: TimedMessages,
    ) -> Result<Self, SnapshotError> {
        let directory = &snapshot::snapshot_directory(options);
        let path = || snapshot::head_path(directory, head.end.position);
        let mut recovered = Self::empty(options.shard, seed);
        for number in 0..head.parts.len() {
            let engine = &mut recovered.engine;
            let loaded = match timed {
                TimedMessages::InMemory => {
                    engine.load_state(head.part(&**disk, directory, number)?)
                }
                TimedMessages::InSnapshot => {
                    let failure = engine.index_failure_note();
                    let (part, file) = head.open_part(&**disk, directory, number, failure)?;
                    engine.load_state_in_place(&part, &file)
                }
            };
            loaded.map_err(|error| SnapshotError::Unloadable { path: path(), what: error.0 })?;
        }
        recovered.engine.finish_loading();
        if !head.hard_state.is_empty() {
            let vote = Vote::decode(&head.hard_state);
            let no_vote = || SnapshotError::Unloadable { path: path(), what: "vote" };
            recovered.vote = vote.ok_or_else(no_vote)?;
        }
        recovered.raft_log = RaftLog::new(recovered.vote.clone(), head.end.index, head.end.term);
        recovered.start = head.end;
        recovered.snapshot_bytes = head.bytes();
        Ok(recovered)
    }

    /// Takes in the indexes of the segments before the snapshot, and builds those that are missing.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn attach_indexes(
        &mut self,
        disk: &dyn Disk,
        options: &LogOptions,
    ) -> Result<(), OpenError> {
        let segments = segments::look(disk, &options.directory)?;
        let segment_of = segment_of(&segments);
        let failure = self.engine.index_failure_note().clone();
        let mut built = Vec::new();
        let covered = segments.iter().filter(|segment| segment.base() < self.start.position);
        for segment in covered {
            let (directory, shard) = (&options.directory, options.shard);
            let runs = open_or_build(disk, directory, shard, segment, &failure, &segment_of);
            match runs {
                Ok((runs, was_built)) => {
                    built.extend(was_built.then(|| index_path(directory, segment.base())));
                    self.engine.attach(runs);
                }
                Err(
                    BuildError::Index(IndexError::Disk(error))
                    | BuildError::Read(ReadError::Disk(error)),
                ) => return Err(error.into()),
                Err(error) => {
                    return Err(OpenError::Derived { shard, reason: error.to_string() });
                }
            }
        }
        let Some((topic, queue, offset)) = self.engine.incomplete_queue() else { return Ok(()) };
        // Once the segment is restored a whole one can be built.
        built.iter().try_for_each(|path| disk.remove(path))?;
        let (shard, topic) = (options.shard, topic.to_string());
        Err(OpenError::MissingIndex { shard, topic, queue, offset })
    }

    /// The newest time that a message was stored at, and the newest time in the log: hard states say how far the steady
    /// time had come. 0 when there is none.
    pub(crate) fn newest_times(&self) -> (u64, u64) {
        let sealed_ms = self.engine.sealed_runs().map(|run| run.last_ms).max().unwrap_or(0);
        let stored_ms = self.newest_entry_ms.max(sealed_ms);
        (stored_ms, self.newest_frame_ms.max(stored_ms))
    }

    /// Takes in the next frame of the log.
    ///
    /// # Errors
    /// [`OpenError`] when it cannot be read, or an index file that it needs.
    pub(crate) fn take(&mut self, frame: RecoveredFrame) -> Result<(), OpenError> {
        let header = frame.header;
        self.newest_frame_ms = self.newest_frame_ms.max(header.time_ms);
        if header.kind == FrameKind::HardState {
            if let Some(vote) = Vote::decode(&frame.payload) {
                self.vote = vote;
            }
            return Ok(());
        }
        self.newest_entry_ms = self.newest_entry_ms.max(header.time_ms);
        self.raft_log.append(header.index, header.term);
        // With one voter every durable entry is committed.
        let (shard, position) = (header.shard, frame.payload_position);
        let applied = if self.is_careful {
            self.take_one_by_one(shard, Now::at(header.time_ms), position, frame.payload)
        } else {
            let _noted = Noted::new(AtHand::Record { shard, position });
            self.engine.apply(Now::at(header.time_ms), position, frame.payload, &mut self.effects)
        };
        applied.map_err(|reason| OpenError::Unreadable { shard, index: header.index, reason })?;
        // Nobody asked, and nobody is told.
        self.engine.forget_news();
        self.effects = Effects::default();
        match self.engine.index_failure() {
            None => Ok(()),
            Some(error) => {
                Err(OpenError::Derived { shard: header.shard, reason: error.to_string() })
            }
        }
    }
}

impl<R: ReplyTo> Recovered<R> {
    /// As [`Engine::apply`] does for the whole, but without what is left out, and noting each record.
    fn take_one_by_one(
        &mut self,
        shard: u32,
        time: Now,
        first: u64,
        mut payload: Bytes,
    ) -> Result<(), RecordError> {
        let mut position = first;
        while !payload.is_empty() {
            let rest = payload.clone();
            let record = Record::decode_of_whole_frame(&mut payload)?;
            let mut bytes = rest.slice(..rest.len().saturating_sub(payload.len()));
            let next = position.saturating_add(bytes.len() as u64);
            let is_left_out = self.left_out.contains(&position);
            if is_left_out {
                let mut instead = BytesMut::new();
                match left_out::instead_of(record) {
                    Instead::Defaults(record) => record.encode(&mut instead),
                    Instead::Nothing => {}
                    Instead::Impossible => instead.extend_from_slice(&bytes),
                }
                bytes = instead.freeze();
            }
            let _noted = (!is_left_out).then(|| Noted::new(AtHand::Record { shard, position }));
            self.engine.apply(time, position, bytes, &mut self.effects)?;
            position = next;
        }
        Ok(())
    }
}

/// Where a start goes on from.
#[derive(Debug)]
pub struct StartingPoint {
    /// The end of the newest snapshot that can be loaded; the beginning of the log when there is none.
    pub start: LogEnd,
    /// Snapshots that cannot be loaded, by log position, and why; the newest first.
    pub unusable: Vec<(u64, SnapshotError)>,
}

/// Loads snapshots as a start does, until one can be. Changes nothing.
///
/// # Errors
/// [`OpenError::Derived`] when a later version wrote one, [`OpenError::Disk`] when the directory cannot be listed.
pub fn starting_point(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
) -> Result<StartingPoint, OpenError> {
    let directory = snapshot::snapshot_directory(options);
    let mut unusable = Vec::new();
    for position in snapshot::positions(&**disk, &directory)? {
        match load_snapshot(disk, options, position) {
            Ok(head) => return Ok(StartingPoint { start: head.end, unusable }),
            Err(error @ SnapshotError::LaterVersion { .. }) => {
                let reason = error.to_string();
                return Err(OpenError::Derived { shard: options.shard, reason });
            }
            Err(error) => unusable.push((position, error)),
        }
    }
    Ok(StartingPoint { start: LogEnd::default(), unusable })
}

/// Loads the snapshot at a log position to see whether that can be done, and gives back its head.
///
/// # Errors
/// [`SnapshotError`].
pub fn load_snapshot(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    position: u64,
) -> Result<SnapshotHead, SnapshotError> {
    let directory = snapshot::snapshot_directory(options);
    let head = SnapshotHead::read(&**disk, &directory, options.shard, position)?;
    Recovered::<Nobody>::of_snapshot(
        disk,
        options,
        &head,
        Seed::from(0),
        TimedMessages::InSnapshot,
    )?;
    Ok(head)
}

/// Nobody waits for an answer.
#[derive(Debug)]
pub(crate) struct Nobody;

impl ReplyTo for Nobody {
    fn is_gone(&self) -> bool {
        true
    }
}

/// Which segment a log position is in, by the beginning of that segment.
pub(crate) fn segment_of(segments: &[Segment]) -> impl Fn(u64) -> u64 {
    let bases: Vec<u64> = segments.iter().map(Segment::base).collect();
    move |position| {
        let at = bases.partition_point(|base| *base <= position);
        at.checked_sub(1).map_or(0, |at| bases[at])
    }
}
