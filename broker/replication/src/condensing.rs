//! Condensing: old segments of which little is live give their space back. What is live of them (messages that wait for
//! their time or their transaction, what dead letters point at, what topics keep for long) is copied into a small file.
//! Part of sealing; here is decided which segments, and what of them is live.
//!
//! A record is live when the state before the replay needs it, which is the older snapshot from now on, or the state
//! behind it, which is the newer one: a start goes on from either, through the log behind it. What neither needs is never
//! needed again: a record that makes a message stand somewhere is decided while the message is there, and would have to
//! wait for its commit while a whole segment is written. Segments are dropped by the same rule.

use std::sync::atomic::AtomicBool;

use broker_engine::{Engine, ReplyTo};
use broker_store::condensed::condense;
use broker_store::log::LogOptions;
use broker_store::segments::Segment;
use broker_store::{CondenseError, Disk, Leftovers};

/// A segment is condensed when less than one part in so many of it is live.
const LIVE_PART: u64 = 4;
/// So many times the bytes that are sealed are read of old segments, at most.
const READ_FACTOR: u64 = 2;
/// A record that makes a message stand somewhere by reference takes no more.
const REFERENCE_BYTES: u64 = 72;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Condensed {
    /// They take the place of the whole ones.
    pub(crate) segments: Vec<Segment>,
    /// Why one was left as it is.
    pub(crate) failure: Option<CondenseError>,
}

/// Segments that are worth it, and what of them is live.
#[derive(Debug)]
pub(crate) struct Condensing<'a> {
    /// In the order of the log.
    candidates: Vec<(&'a Segment, Leftovers)>,
    failure: Option<CondenseError>,
}

impl<'a> Condensing<'a> {
    /// Picks among whole `segments`, all before the state, those of which little is live: of no more than a few times the
    /// bytes that are sealed, and no more live bytes than one segment holds. `turn` is another one each time.
    pub(crate) fn choose<R: ReplyTo>(
        engine: &Engine<R>,
        segments: Vec<&'a Segment>,
        sealed_bytes: u64,
        turn: u64,
    ) -> Self {
        let live = live_bytes(engine, &segments);
        let pays = |(segment, live): &(&Segment, u64)| {
            *live > 0 && live.saturating_mul(LIVE_PART) < segment.file_bytes()
        };
        let mut worth: Vec<_> = segments.into_iter().zip(live).filter(pays).collect();
        if !worth.is_empty() {
            // Not always the oldest first: one that cannot be condensed must not keep the others from it.
            let count = worth.len() as u64;
            worth.rotate_left(usize::try_from(turn % count).expect("less than there are"));
        }
        let (mut read_bytes, mut live_bytes) = (0, 0);
        let mut candidates = Vec::new();
        for (segment, live) in worth {
            read_bytes += segment.file_bytes();
            live_bytes += live;
            // One at least: segments may have been larger once.
            let is_enough =
                read_bytes > READ_FACTOR * sealed_bytes || live_bytes > segment.file_bytes();
            if is_enough && !candidates.is_empty() {
                break;
            }
            candidates.push((segment, Leftovers::default()));
        }
        candidates.sort_by_key(|(segment, _)| segment.base());
        Self { candidates, failure: None }
    }

    /// Adds what is live in a state.
    pub(crate) fn gather<R: ReplyTo>(&mut self, engine: &Engine<R>) {
        if self.candidates.is_empty() {
            return;
        }
        for run in engine.sealed_runs() {
            let own = self.candidate(run.base());
            if let Some(leftovers) = own {
                leftovers.keep_run(run.topic, run.queue, run.first..run.end());
            } else if run.refers_to().iter().all(|other| self.candidate(other.base).is_none()) {
                continue;
            }
            let read = run.read(&mut |entry| {
                if let Some(leftovers) = self.candidate(entry.position) {
                    leftovers.keep(entry.position, entry.length_bytes);
                }
            });
            if let Err(error) = read {
                // What is live is not known, so that everything stays.
                self.candidates.clear();
                self.failure = Some(CondenseError::Index(error));
                return;
            }
        }
        for (position, length_bytes) in engine.hidden_records() {
            if let Some(leftovers) = self.candidate(position) {
                leftovers.keep_hidden(position, length_bytes);
            }
        }
        if engine.index_failure().is_some() {
            // They ended early.
            self.candidates.clear();
        }
        for (_, leftovers) in &mut self.candidates {
            leftovers.sort();
        }
    }

    /// The candidate that holds a log position.
    fn candidate(&mut self, position: u64) -> Option<&mut Leftovers> {
        let behind = self.candidates.partition_point(|(segment, _)| segment.base() <= position);
        let (segment, leftovers) = self.candidates.get_mut(behind.checked_sub(1)?)?;
        (position < segment.end()).then_some(leftovers)
    }

    /// Writes what is live of each into a file beside it.
    pub(crate) fn carry_out(
        self,
        disk: &dyn Disk,
        options: &LogOptions,
        is_given_up: &AtomicBool,
    ) -> Condensed {
        let mut condensed = Condensed { segments: Vec::new(), failure: self.failure };
        for (segment, leftovers) in self.candidates {
            if leftovers.bytes() * LIVE_PART >= segment.file_bytes() {
                continue;
            }
            let (directory, shard) = (&options.directory, options.shard);
            match condense(disk, directory, shard, segment, &leftovers, is_given_up) {
                Ok(written) => condensed.segments.extend(written),
                Err(CondenseError::GivenUp) => break,
                // The next job may find some.
                Err(CondenseError::Disk(error)) if error.is_no_room() => break,
                Err(error) => condensed.failure = Some(error),
            }
        }
        condensed
    }
}

/// How many bytes of each segment are live, without reading any of them: as the directories of the index files say, and the
/// state of what nobody sees yet.
fn live_bytes<R: ReplyTo>(engine: &Engine<R>, segments: &[&Segment]) -> Vec<u64> {
    let mut live = vec![0; segments.len()];
    if segments.is_empty() {
        return live;
    }
    let mut add = |position: u64, bytes: u64| {
        let behind = segments.partition_point(|segment| segment.base() <= position);
        let at = behind.checked_sub(1).filter(|at| position < segments[*at].end());
        if let Some(at) = at {
            // An index may say anything.
            live[at] = bytes.saturating_add(live[at]);
        }
    };
    for run in engine.sealed_runs() {
        let mut own_bytes = run.bytes;
        for other in run.refers_to() {
            add(other.base, other.bytes);
            own_bytes = own_bytes.saturating_sub(other.bytes);
        }
        if !run.refers_to().is_empty() {
            own_bytes = own_bytes.saturating_add(REFERENCE_BYTES * u64::from(run.count));
        }
        add(run.base(), own_bytes);
    }
    for (position, length_bytes) in engine.hidden_records() {
        add(position, u64::from(length_bytes));
    }
    live
}
