//! Opening a log: reads it from the start, tells a torn tail from corruption, and hands every frame to the caller.
//!
//! A bad frame with no later frame that says "everything up to there was durable" is a torn tail: it was never
//! acknowledged and is cut. A bad frame below such a mark was acknowledged: that is corruption, and nothing is cut.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, DiskError};
use crate::frame::{FORMAT_VERSION, FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::limits::{BLOCK_BYTES, tail_cache_bytes};
use crate::log::{Log, LogEnd, LogOptions};
use crate::record::RecordError;
use crate::segment_scan::SegmentScan;
use crate::segments::{self, Segment};
use crate::writer::Writer;

/// A frame found in the log.
#[derive(Debug, Clone)]
pub struct RecoveredFrame {
    /// Its header.
    pub header: FrameHeader,
    /// Its payload.
    pub payload: Bytes,
    /// Log position of the payload.
    pub payload_position: u64,
}

/// Why a log cannot be opened. Nothing was changed on the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The disk failed; what it holds is unknown.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Durable frames are damaged.
    #[error(
        "the log of shard {shard} is damaged at log position {position}, index {index}: a later frame says that \
         everything up to index {durable_index} was durable; restore the file from a copy, nothing was changed"
    )]
    Corrupt {
        /// The shard.
        shard: u32,
        /// Where the damage begins.
        position: u64,
        /// The first entry that cannot be read.
        index: u64,
        /// What later frames promise.
        durable_index: u64,
    },
    /// A segment file is missing in the middle.
    #[error(
        "the log of shard {shard} has a gap: no segment file begins at log position {position}"
    )]
    MissingSegment {
        /// The shard.
        shard: u32,
        /// Where it should begin.
        position: u64,
    },
    /// The log does not begin at its beginning, and no snapshot says what was before.
    #[error(
        "the log of shard {shard} begins at log position {position}, and no snapshot of what was before can be used: \
         restore the directory 'snapshot' from a copy, nothing was changed"
    )]
    NoSnapshot {
        /// The shard.
        shard: u32,
        /// Where the first segment begins.
        position: u64,
    },
    /// Messages are in no index, and no segment tells where they are.
    #[error(
        "the index of shard {shard} misses messages of topic {topic}, queue {queue} from offset {offset} on, and the \
         damaged segment does not tell it: restore the segment or index files from a copy, nothing was changed"
    )]
    MissingIndex {
        /// The shard.
        shard: u32,
        /// Name of the topic.
        topic: String,
        /// Queue in the shard.
        queue: u32,
        /// The first offset that misses.
        offset: u64,
    },
    /// A snapshot or index cannot be used.
    #[error("the log of shard {shard} cannot be opened: {reason}")]
    Derived {
        /// The shard.
        shard: u32,
        /// What is wrong with which file.
        reason: String,
    },
    /// A later version of Pinnace wrote it.
    #[error(
        "the log of shard {shard} was written in storage format {found} at log position {position}; this version of \
         Pinnace reads up to {known}: start the version that wrote it, nothing was changed"
    )]
    LaterVersion {
        /// The shard.
        shard: u32,
        /// The first frame of that version.
        position: u64,
        /// The format version of that frame.
        found: u8,
        /// The latest format version that can be read.
        known: u8,
    },
    /// A record that a newer version wrote, or that is garbage behind a right checksum.
    #[error(
        "the log of shard {shard} holds a record at index {index} that this version cannot read: {reason}"
    )]
    Unreadable {
        /// The shard.
        shard: u32,
        /// The entry.
        index: u64,
        /// What is wrong.
        reason: RecordError,
    },
}

impl OpenError {
    /// Whether part of the log is gone, so that the rest can still be read.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } | Self::MissingSegment { .. } => true,
            Self::Disk(error) => error.operation == "read",
            Self::NoSnapshot { .. }
            | Self::MissingIndex { .. }
            | Self::Derived { .. }
            | Self::LaterVersion { .. }
            | Self::Unreadable { .. } => false,
        }
    }
}

/// Opens the log in a directory, creating it when there is none. Reads it from `start`, the beginning of a segment, on;
/// what stands before is covered by a snapshot, and there may be gaps in it. Every frame is given to `visit`, in order.
///
/// # Errors
/// [`OpenError`], also any that `visit` returns.
pub fn open(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    start: LogEnd,
    visit: &mut dyn FnMut(RecoveredFrame) -> Result<(), OpenError>,
) -> Result<(Log, Writer), OpenError> {
    disk.create_directory(&options.directory)?;
    let mut segments = segments::look(&**disk, &options.directory)?;
    if segments.is_empty() && start == LogEnd::default() {
        let directory = &options.directory;
        segments.push(segments::open_or_create(&**disk, directory, 0, options.segment_bytes)?);
    }
    let covered = covered(options.shard, &segments, start)?;
    let mut recovery = Recovery::new(options.shard, start);
    let found = covered + recovery.read_all(&segments[covered..], visit)?;
    // Only now it is known that the log is ours to change.
    segments::remove_unfinished(&**disk, &options.directory)?;
    let writer = Writer::new(
        disk.clone(),
        options.clone(),
        segments[found].clone(),
        std::mem::take(&mut recovery.partial_block),
    );
    let mut log = Log::new(options.clone(), segments, recovery.end);
    recovery.recent.into_iter().for_each(|(position, payload)| log.remember(position, payload));
    Ok((log, writer))
}

/// How many segments are covered by a snapshot. All others must follow each other from `start` on.
fn covered(shard: u32, segments: &[Segment], start: LogEnd) -> Result<usize, OpenError> {
    let covered = segments.partition_point(|segment| segment.base < start.position);
    let mut position = start.position;
    for segment in &segments[covered..] {
        if segment.base != position || segment.is_condensed() {
            break;
        }
        position = segment.end();
    }
    let is_whole = segments.last().is_some_and(|last| last.end() == position);
    if is_whole { Ok(covered) } else { Err(OpenError::MissingSegment { shard, position }) }
}

/// Reads the frames of a sealed segment from `start`, its beginning, to its last one, which is the one that `next` carries
/// on from. Changes nothing. Says where the log goes on.
///
/// # Errors
/// [`OpenError`] also when frames between the two are damaged, and any that `visit` returns.
pub fn replay(
    shard: u32,
    segment: &Segment,
    next: &Segment,
    start: LogEnd,
    visit: &mut dyn FnMut(RecoveredFrame) -> Result<(), OpenError>,
) -> Result<LogEnd, OpenError> {
    let mut recovery = Recovery::new(shard, start);
    // Nothing is written behind it, and nobody reads at its end.
    recovery.keeps_end = false;
    let mut scan = SegmentScan::beside(shard, segment);
    while recovery.read_next(&mut scan, visit)? {}
    let stopped = recovery.end;
    let end = LogEnd { position: next.base, ..stopped };
    recovery.end = end;
    if recovery.read_next(&mut SegmentScan::new(shard, next), &mut |_| Ok(()))? {
        return Ok(end);
    }
    let (position, index) = (stopped.position, stopped.index + 1);
    Err(OpenError::Corrupt { shard, position, index, durable_index: index })
}

struct Recovery {
    shard: u32,
    end: LogEnd,
    /// Whether the end of the log is kept, to go on from there: the two below.
    keeps_end: bool,
    /// Newest payloads, for the tail cache.
    recent: VecDeque<(u64, Bytes)>,
    recent_bytes: usize,
    /// What stands between the beginning of the last block and the end of the log. Taken from the frames as they were
    /// checked: bytes that are read once more may be others, and would be written over good ones.
    partial_block: Vec<u8>,
}

impl Recovery {
    fn new(shard: u32, start: LogEnd) -> Self {
        Self {
            shard,
            end: start,
            keeps_end: true,
            recent: VecDeque::new(),
            recent_bytes: 0,
            partial_block: Vec::new(),
        }
    }

    /// Reads until the end of the log; returns which segment it is in.
    fn read_all(
        &mut self,
        segments: &[Segment],
        visit: &mut dyn FnMut(RecoveredFrame) -> Result<(), OpenError>,
    ) -> Result<usize, OpenError> {
        let mut current = 0;
        let mut scan = SegmentScan::new(self.shard, &segments[0]);
        loop {
            if self.read_next(&mut scan, visit)? {
                continue;
            }
            // Either the unused rest of a full segment, or the end of the log.
            let next = segments.get(current + 1);
            let mut next_scan = next.map(|segment| SegmentScan::new(self.shard, segment));
            let stopped_at = self.end.position;
            if let (Some(segment), Some(next_scan)) = (next, next_scan.as_mut()) {
                self.end.position = segment.base;
                if self.read_next(next_scan, visit)? {
                    current += 1;
                    scan = SegmentScan::new(self.shard, segment);
                    continue;
                }
            }
            self.end.position = stopped_at;
            self.check_tail(scan, &segments[current + 1..])?;
            return Ok(current);
        }
    }

    /// Reads the frame at the end position and moves behind it; false when there is no valid one.
    fn read_next(
        &mut self,
        scan: &mut SegmentScan<'_>,
        visit: &mut dyn FnMut(RecoveredFrame) -> Result<(), OpenError>,
    ) -> Result<bool, OpenError> {
        let Some((header, checksum, payload)) = scan.frame_at(self.end.position)? else {
            return Ok(false);
        };
        let is_entry = header.kind == FrameKind::Entry;
        let follows = header.previous_checksum == self.end.checksum
            && Some(header.index) == self.end.index.checked_add(u64::from(is_entry));
        if !follows {
            return Ok(false);
        }
        self.end = LogEnd {
            position: header.position + header.frame_bytes(),
            index: header.index,
            term: if is_entry { header.term } else { self.end.term },
            checksum,
            record: header.first_record.wrapping_add(u64::from(header.records)),
        };
        let payload_position = header.position + FRAME_HEADER_BYTES as u64;
        if self.keeps_end {
            self.extend_block(&header, &payload);
            if is_entry && !payload.is_empty() {
                // A part of what was read at once would keep all of it.
                self.remember(payload_position, Bytes::copy_from_slice(&payload));
            }
        }
        visit(RecoveredFrame { header, payload, payload_position })?;
        Ok(true)
    }

    fn extend_block(&mut self, header: &FrameHeader, payload: &[u8]) {
        let block_bytes = BLOCK_BYTES as u64;
        if header.position.is_multiple_of(block_bytes) {
            self.partial_block.clear();
        }
        let padding = header.frame_bytes() as usize - FRAME_HEADER_BYTES - payload.len();
        self.partial_block.extend_from_slice(&header.encode().0);
        // Only the end of a long payload can be in the last block.
        let skipped = payload.len().saturating_sub(2 * BLOCK_BYTES);
        let skipped = skipped - skipped % BLOCK_BYTES;
        self.partial_block.extend_from_slice(&payload[skipped..]);
        self.partial_block.resize(self.partial_block.len() + padding, 0);
        let left = ((header.position + header.frame_bytes()) % block_bytes) as usize;
        let over = self.partial_block.len() - left;
        self.partial_block.drain(..over);
    }

    fn remember(&mut self, position: u64, payload: Bytes) {
        self.recent_bytes += payload.len();
        self.recent.push_back((position, payload));
        while self.recent_bytes > tail_cache_bytes() && self.recent.len() > 1 {
            let forgotten = self.recent.pop_front();
            self.recent_bytes -= forgotten.map_or(0, |(_, payload)| payload.len());
        }
    }

    /// Looks behind the last good frame for one that promises more than was found.
    fn check_tail(&self, mut scan: SegmentScan<'_>, later: &[Segment]) -> Result<(), OpenError> {
        self.check_version(&mut scan, self.end.position)?;
        if let Some(next) = later.first() {
            self.check_version(&mut SegmentScan::new(self.shard, next), next.base)?;
        }
        let mut durable_index = scan.highest_durable_index_from(self.end.position)?;
        for segment in later {
            let scan = SegmentScan::new(self.shard, segment);
            durable_index = durable_index.max(scan.highest_durable_index_from(segment.base)?);
        }
        #[cfg(any(test, feature = "simulation"))]
        if crate::switches::has_bug(crate::switches::Bug::CutCorruption) {
            return Ok(());
        }
        if durable_index > self.end.index {
            return Err(OpenError::Corrupt {
                shard: self.shard,
                position: self.end.position,
                index: self.end.index + 1,
                durable_index,
            });
        }
        Ok(())
    }

    /// What a later version wrote is neither torn nor damaged.
    fn check_version(&self, scan: &mut SegmentScan<'_>, position: u64) -> Result<(), OpenError> {
        match scan.later_version_at(position)? {
            None => Ok(()),
            Some(found) => Err(OpenError::LaterVersion {
                shard: self.shard,
                position,
                found,
                known: FORMAT_VERSION,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
