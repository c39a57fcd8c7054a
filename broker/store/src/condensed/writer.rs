//! Condensing: the live records of a segment are copied into a file of their own. The segment stays as it is; when not
//! everything that is live is found in it, nothing comes of it.

use std::ops::Range;
use std::path::Path;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::directory::{Condensed, Entry, encode};
use super::{UNFINISHED_CONDENSED, condensed_path};
use crate::disk::{Disk, DiskError};
use crate::read_back::{create_compared, differs};
use crate::reader::{LoggedRecord, ReadError, Records};
use crate::record::Record;
use crate::sealed_index::IndexError;
use crate::segments::Segment;

/// Why a segment was not condensed. It is what it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CondenseError {
    /// Nobody wants it any more.
    #[error("given up")]
    GivenUp,
    /// The disk failed, or has no room.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The segment cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An index does not tell what is live.
    #[error(transparent)]
    Index(IndexError),
    /// Something that is live was not found there: damage, or references of format 1, which do not say what they place.
    #[error("the segment at log position {0} does not show everything that is live in it")]
    Incomplete(u64),
}

/// What is live of one segment.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// Log position and length of the records that hold live messages.
    messages: Vec<(u64, u32)>,
    /// Topic, queue and offsets of the live runs of the segment's index: what put their messages there is kept too, so
    /// that the index can be built again.
    runs: Vec<(u32, u32, Range<u64>)>,
}

impl Leftovers {
    /// Keeps a message that stands in a queue.
    pub fn keep(&mut self, position: u64, length_bytes: u32) {
        self.messages.push((position, length_bytes));
    }

    /// Keeps a message that nobody sees yet.
    pub fn keep_hidden(&mut self, position: u64, length_bytes: u32) {
        #[cfg(any(test, feature = "simulation"))]
        if crate::switches::has_bug(crate::switches::Bug::ForgottenLeftovers) {
            return;
        }
        self.keep(position, length_bytes);
    }

    /// Keeps what the entries of a run of the segment's index come from.
    pub fn keep_run(&mut self, topic: u32, queue: u32, offsets: Range<u64>) {
        self.runs.push((topic, queue, offsets));
    }

    /// Puts in order what was kept, once each; to be done before it is used.
    pub fn sort(&mut self) {
        self.messages.sort_unstable();
        self.messages.dedup();
        self.runs.sort_unstable_by_key(|(topic, queue, offsets)| (*topic, *queue, offsets.start));
        self.runs.dedup();
    }

    /// Bytes of the messages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.messages.iter().map(|(_, length_bytes)| u64::from(*length_bytes)).sum()
    }

    fn holds(&self, logged: &LoggedRecord) -> bool {
        self.messages.binary_search(&(logged.position, logged.length_bytes)).is_ok()
    }

    fn places(&self, logged: &LoggedRecord) -> bool {
        let Some((topic, queue, offset)) = logged.record.stands_at() else { return false };
        let is_before = |(of, in_queue, offsets): &(u32, u32, Range<u64>)| {
            (*of, *in_queue, offsets.start) <= (topic, queue, offset)
        };
        let at = self.runs.partition_point(is_before).checked_sub(1);
        at.and_then(|at| self.runs.get(at)).is_some_and(|(of, in_queue, offsets)| {
            (*of, *in_queue) == (topic, queue) && offsets.contains(&offset)
        })
    }
}

/// Writes what is live of a whole segment into a file beside it, durably, and reads it back. None when nothing is.
///
/// # Errors
/// [`CondenseError`].
pub fn condense(
    disk: &dyn Disk,
    directory: &Path,
    shard: u32,
    segment: &Segment,
    leftovers: &Leftovers,
    is_given_up: &AtomicBool,
) -> Result<Option<Segment>, CondenseError> {
    let (entries, records) = gather(shard, segment, leftovers, is_given_up)?;
    if entries.is_empty() {
        return Ok(None);
    }
    let mut file = encode(shard, (segment.base, segment.end()), &entries, records.len());
    file.extend_from_slice(&records);
    let unfinished = directory.join(UNFINISHED_CONDENSED);
    create_compared(disk, &unfinished, &file)?;
    drop(file);
    if !holds(disk, &unfinished, (shard, segment), (&entries, &records))? {
        return Err(differs(&unfinished).into());
    }
    drop(records);
    disk.rename(&unfinished, &condensed_path(directory, segment.base))?;
    Ok(Some(Condensed::open(disk, directory, segment.base)?))
}

/// Whether every record is found in the file where it was in the segment, and is what it was.
fn holds(
    disk: &dyn Disk,
    path: &Path,
    (shard, segment): (u32, &Segment),
    (entries, records): (&[Entry], &[u8]),
) -> Result<bool, CondenseError> {
    let condensed = Condensed::open_at(disk, path, segment.base)?;
    if condensed.end() != segment.end() {
        return Ok(false);
    }
    let mut read = condensed.condensed_records(shard).into_iter().flatten();
    for entry in entries {
        let place = usize::try_from(entry.place).expect("it is in memory");
        let bytes = &records[place..place + entry.length_bytes as usize];
        let is_same = match read.next() {
            Some(Ok(logged)) => {
                let meant = Record::decode(&mut Bytes::copy_from_slice(bytes));
                (logged.position, logged.length_bytes, logged.time_ms)
                    == (entry.position, entry.length_bytes, entry.time_ms)
                    && meant == Ok(logged.record)
            }
            Some(Err(ReadError::Disk(error))) => return Err(error.into()),
            _ => false,
        };
        if !is_same {
            return Ok(false);
        }
    }
    Ok(read.next().is_none())
}

/// The records to keep, one behind another, and where each is among them.
fn gather(
    shard: u32,
    segment: &Segment,
    leftovers: &Leftovers,
    is_given_up: &AtomicBool,
) -> Result<(Vec<Entry>, Vec<u8>), CondenseError> {
    let (mut entries, mut records) = (Vec::new(), Vec::new());
    let (mut messages, mut placed) = (0, 0);
    let one = slice::from_ref(segment);
    let mut read = Records::beside(shard, one, segment.base, segment.end());
    while let Some(next) = read.next_with_bytes() {
        if is_given_up.load(Ordering::Relaxed) {
            return Err(CondenseError::GivenUp);
        }
        let (logged, bytes) = match next {
            Ok(next) => next,
            // The unused rest, or damage: then something is missing.
            Err(ReadError::DamagedFrame(_)) => break,
            Err(error) => return Err(error.into()),
        };
        let (holds, places) = (leftovers.holds(&logged), leftovers.places(&logged));
        messages += usize::from(holds);
        placed += u64::from(places);
        if holds || places {
            let LoggedRecord { position, time_ms, length_bytes, .. } = logged;
            entries.push(Entry { position, time_ms, place: records.len() as u64, length_bytes });
            records.extend_from_slice(&bytes);
        }
    }
    let placed_expected: u64 = leftovers.runs.iter().map(|(_, _, o)| o.end - o.start).sum();
    if messages == leftovers.messages.len() && placed == placed_expected {
        Ok((entries, records))
    } else {
        Err(CondenseError::Incomplete(segment.base))
    }
}
