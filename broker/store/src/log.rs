//! The log as its one owner sees it: frames are appended, handed to the writer in batches, and count as durable when the
//! writer says so. Does no I/O itself. One write is in flight at a time; what queues meanwhile shares the next.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use crc32c::crc32c;

use crate::frame::{FORMAT_VERSION, FRAME_HEADER_BYTES, FrameHeader, FrameKind, frame_bytes};
use crate::limits::{BLOCK_BYTES, frame_payload_bytes_max, tail_cache_bytes};
use crate::reader::LogReader;
use crate::segments::Segment;
use crate::writer::{EncodedFrame, Write, Written};

/// Most payload bytes handed to the writer at once, unless one frame alone is larger.
const WRITE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// A spare is wanted once this part of a segment, one in so many, is full.
const SPARE_WANTED_PART: u64 = 16;

/// Payloads with memory of so many bytes have it used again: smaller ones are cheap, larger ones are rare.
const REUSABLE_BYTES: RangeInclusive<usize> = 32 * 1024..=2 * 1024 * 1024;
/// Of so many at most.
const REUSABLE_MAX: usize = 4;

/// What a log needs to know when it is opened.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The shard; frames of another one are refused.
    pub shard: u32,
    /// Where the segments are.
    pub directory: PathBuf,
    /// Size of new segments; existing ones keep theirs.
    pub segment_bytes: u64,
}

/// A frame to append.
#[derive(Debug, Clone)]
pub struct NewFrame {
    /// What the payload is.
    pub kind: FrameKind,
    /// Raft term.
    pub term: u64,
    /// Raft index; for [`FrameKind::Entry`] one more than the last.
    pub index: u64,
    /// The leader's clock, Unix time.
    pub time_ms: u64,
    /// Records in the payload.
    pub records: u32,
    /// At most [`Log::frame_payload_bytes_max`] bytes.
    pub payload: Bytes,
}

/// The segments of the log are too small for the frame, or no reader would take it for one: it is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a frame of {payload_bytes} bytes is not written, because this log takes at most {bytes_max}"
)]
pub struct FrameTooLarge {
    /// Bytes of its payload.
    pub payload_bytes: usize,
    /// What the log takes.
    pub bytes_max: usize,
}

/// Where the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogEnd {
    /// Log position of the next frame.
    pub position: u64,
    /// Index of the last entry; 0 before the first.
    pub index: u64,
    /// Term of the last entry.
    pub term: u64,
    /// Checksum of the last frame.
    pub checksum: u32,
    /// Number of the next record.
    pub record: u64,
}

/// The log of one shard.
#[derive(Debug)]
pub struct Log {
    options: LogOptions,
    segments: Arc<Vec<Segment>>,
    /// Log position behind the segment that frames are appended to.
    active_end: u64,
    active_base: u64,
    /// Bytes of the kept segments before it.
    older_bytes: u64,
    /// The next frame begins a segment.
    leaves_segment: bool,
    end: LogEnd,
    durable_index: u64,
    durable_position: u64,
    queued: VecDeque<Queued>,
    in_flight: bool,
    /// Segments that frames were appended to, and that the writer has not entered yet.
    segments_to_enter: u64,
    tail: VecDeque<(u64, Bytes)>,
    tail_bytes: usize,
    /// Memory of payloads that left the tail.
    reusable: Vec<BytesMut>,
}

#[derive(Debug)]
struct Queued {
    segment_base: u64,
    segment_bytes: u64,
    position: u64,
    index: u64,
    frame: EncodedFrame,
}

impl Log {
    pub(crate) fn new(options: LogOptions, segments: Vec<Segment>, end: LogEnd) -> Self {
        let active = segments.iter().rfind(|s| s.base <= end.position);
        let (active_base, active_end) = active.map_or((0, 0), |s| (s.base, s.end()));
        let older = segments.iter().filter(|segment| segment.base < active_base);
        let older_bytes = older.map(Segment::file_bytes).sum();
        Self {
            options,
            segments: Arc::new(segments),
            active_end,
            active_base,
            older_bytes,
            leaves_segment: false,
            end,
            durable_index: end.index,
            durable_position: end.position,
            queued: VecDeque::new(),
            in_flight: false,
            segments_to_enter: 0,
            tail: VecDeque::new(),
            tail_bytes: 0,
            reusable: Vec::new(),
        }
    }

    /// Appends a frame to the queue of the writer; returns the log position of its payload.
    ///
    /// # Errors
    /// [`FrameTooLarge`]; nothing was changed then.
    ///
    /// # Panics
    /// When an entry's index does not follow the last one: the caller broke the log's order.
    pub fn append(&mut self, frame: NewFrame) -> Result<u64, FrameTooLarge> {
        let (payload_bytes, bytes_max) = (frame.payload.len(), self.frame_payload_bytes_max());
        if payload_bytes > bytes_max {
            return Err(FrameTooLarge { payload_bytes, bytes_max });
        }
        let follows = self.end.index + u64::from(frame.kind == FrameKind::Entry);
        assert_eq!(frame.index, follows, "entries are appended in order");
        let length = frame_bytes(payload_bytes);
        if self.end.position + length > self.active_end || self.leaves_segment {
            self.begin_segment(length);
        }
        let position = self.end.position;
        let header = FrameHeader {
            version: FORMAT_VERSION,
            kind: frame.kind,
            shard: self.options.shard,
            records: frame.records,
            term: frame.term,
            index: frame.index,
            first_record: self.end.record,
            position,
            durable_index: self.durable_index,
            time_ms: frame.time_ms,
            payload_bytes: u32::try_from(payload_bytes).expect("payloads are limited"),
            previous_checksum: self.end.checksum,
            payload_checksum: crc32c(&frame.payload),
        };
        let (header, checksum) = header.encode();
        self.end = LogEnd {
            position: position + length,
            index: frame.index,
            term: if frame.kind == FrameKind::Entry { frame.term } else { self.end.term },
            checksum,
            record: self.end.record + u64::from(frame.records),
        };
        let payload_position = position + FRAME_HEADER_BYTES as u64;
        if frame.kind == FrameKind::Entry && !frame.payload.is_empty() {
            self.remember(payload_position, frame.payload.clone());
        }
        self.queued.push_back(Queued {
            segment_base: self.active_base,
            segment_bytes: self.active_end - self.active_base,
            position,
            index: frame.index,
            frame: EncodedFrame { header, payload: frame.payload },
        });
        Ok(payload_position)
    }

    /// A frame of so many bytes is the first of a segment.
    fn begin_segment(&mut self, length: u64) {
        self.leaves_segment = false;
        // One with nothing in it, whose file an earlier start made smaller, is made anew: an empty segment between two with
        // frames would be taken for damage.
        if self.end.position > self.active_base {
            // A frame never crosses segments: the rest of this one stays unused.
            self.older_bytes += self.active_end - self.active_base;
            self.active_base = self.active_end;
        }
        // A frame that is larger than a segment gets a segment of its size.
        let block_bytes = BLOCK_BYTES as u64;
        let segment_bytes = self.options.segment_bytes.max(length.next_multiple_of(block_bytes));
        self.active_end = self.active_base + segment_bytes;
        self.end.position = self.active_base;
        self.segments_to_enter += 1;
    }

    /// Largest payload of a frame that this log takes.
    #[must_use]
    pub fn frame_payload_bytes_max(&self) -> usize {
        frame_payload_bytes_max(self.options.segment_bytes)
    }

    /// The next batch for the writer; none while one is in flight or nothing is queued.
    pub fn take_write(&mut self) -> Option<Write> {
        let first = self.queued.front()?;
        if self.in_flight {
            return None;
        }
        let (segment_base, segment_bytes) = (first.segment_base, first.segment_bytes);
        let mut write = Write {
            segment_base,
            segment_bytes,
            position: first.position,
            frames: Vec::with_capacity(self.queued.len()),
            end_position: first.position,
            index: first.index,
        };
        while let Some(next) = self.queued.front() {
            let length = frame_bytes(next.frame.payload.len());
            let is_full = write.end_position + length - write.position > WRITE_BYTES_MAX;
            if next.segment_base != segment_base || (is_full && !write.frames.is_empty()) {
                break;
            }
            write.end_position += length;
            write.index = next.index;
            write.frames.extend(self.queued.pop_front().map(|queued| queued.frame));
        }
        self.in_flight = true;
        Some(write)
    }

    /// Takes note of a finished write: its frames are durable.
    pub fn written(&mut self, written: Written) {
        self.in_flight = false;
        self.durable_index = written.index;
        self.durable_position = written.end_position;
        if let Some(segment) = written.opened {
            self.segments_to_enter = self.segments_to_enter.saturating_sub(1);
            let segments = Arc::make_mut(&mut self.segments);
            // A crash may have left the file of a segment that nothing was written to: it is known already.
            match segments.binary_search_by_key(&segment.base, Segment::base) {
                Ok(known) => segments[known] = segment,
                Err(at) => segments.insert(at, segment),
            }
        }
    }

    /// Where the segment begins that frames are appended to.
    #[must_use]
    pub fn active_base(&self) -> u64 {
        self.active_base
    }

    /// Lets the next frame begin a segment, although this one has room for it.
    pub fn leave_segment(&mut self) {
        self.leaves_segment = self.end.position > self.active_base;
    }

    /// Whether the next frame begins a segment in any case.
    #[must_use]
    pub fn leaves_segment(&self) -> bool {
        self.leaves_segment
    }

    /// The segments that are kept and were written into, in the order of the log.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Stops reading older segments; gives them back, for their files to be removed once nobody else reads them.
    pub fn forget(&mut self, bases: &[u64]) -> Vec<Segment> {
        let goes =
            |segment: &Segment| bases.contains(&segment.base) && segment.base < self.active_base;
        let (gone, kept): (Vec<_>, Vec<_>) = self.segments.iter().cloned().partition(goes);
        self.segments = Arc::new(kept);
        self.older_bytes -= gone.iter().map(Segment::file_bytes).sum::<u64>();
        gone
    }

    /// Reads older segments from what was condensed of them from now on; gives the whole ones back, as
    /// [`Log::forget`] does.
    pub fn replace(&mut self, condensed: Vec<Segment>) -> Vec<Segment> {
        let mut gone = Vec::new();
        for condensed in condensed {
            let is_it =
                |segment: &&mut Segment| segment.base == condensed.base && !segment.is_condensed();
            if let Some(segment) = Arc::make_mut(&mut self.segments).iter_mut().find(is_it) {
                self.older_bytes += condensed.file_bytes();
                self.older_bytes -= segment.file_bytes();
                gone.push(std::mem::replace(segment, condensed));
            }
        }
        gone
    }

    /// The last entry that is durable on this replica.
    #[must_use]
    pub fn durable_index(&self) -> u64 {
        self.durable_index
    }

    /// Log position up to which everything is durable.
    #[must_use]
    pub fn durable_position(&self) -> u64 {
        self.durable_position
    }

    /// The end, with what is not durable yet.
    #[must_use]
    pub fn end(&self) -> LogEnd {
        self.end
    }

    /// Whether frames wait for the writer or are being written.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        self.in_flight || !self.queued.is_empty()
    }

    /// Bytes of the segments that are kept, up to the end.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.older_bytes + self.end.position - self.active_base
    }

    /// Whether the segment in use has begun to fill, so that a spare will be wanted: early, while there is room for it.
    #[must_use]
    pub fn wants_spare(&self) -> bool {
        // It may be of an earlier size.
        let segment_bytes = self.options.segment_bytes.min(self.active_end - self.active_base);
        self.end.position - self.active_base > segment_bytes / SPARE_WANTED_PART
    }

    /// Bytes that can be appended before the writer has to enter another segment than those it must enter already.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        self.active_end - self.end.position
    }

    /// Segments that the writer has to enter yet for what was appended.
    #[must_use]
    pub fn segments_to_enter(&self) -> u64 {
        self.segments_to_enter
    }

    /// Memory of so many bytes for a later payload, from one that left the tail; the smallest that fits. Fresh memory of that
    /// size would come from the system, which clears it page by page.
    pub fn take_reusable(&mut self, bytes: RangeInclusive<usize>) -> Option<BytesMut> {
        let fitting = self.reusable.iter().enumerate();
        let fitting = fitting.filter(|(_, buffer)| bytes.contains(&buffer.capacity()));
        let (at, _) = fitting.min_by_key(|(_, buffer)| buffer.capacity())?;
        Some(self.reusable.swap_remove(at))
    }

    /// Bytes of a recent payload, straight from memory.
    #[must_use]
    pub fn read_tail(&self, position: u64, length_bytes: u32) -> Option<Bytes> {
        let at = self.tail.partition_point(|(start, _)| *start <= position).checked_sub(1)?;
        let (start, payload) = self.tail.get(at)?;
        let from = usize::try_from(position - start).ok()?;
        let to = from + length_bytes as usize;
        (to <= payload.len()).then(|| payload.slice(from..to))
    }

    /// For reading what is durable, from any thread.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.options.shard, self.segments.clone())
    }

    pub(crate) fn remember(&mut self, position: u64, payload: Bytes) {
        self.tail_bytes += payload.len();
        self.tail.push_back((position, payload));
        while self.tail_bytes > tail_cache_bytes() && self.tail.len() > 1 {
            let Some((_, old)) = self.tail.pop_front() else { break };
            self.tail_bytes -= old.len();
            // Somebody may read it yet.
            if let Ok(mut buffer) = old.try_into_mut()
                && REUSABLE_BYTES.contains(&buffer.capacity())
            {
                buffer.clear();
                self.reusable.push(buffer);
            }
            if self.reusable.len() > REUSABLE_MAX {
                self.reusable.remove(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_payloads_is_used_again_once_they_left_the_tail_and_nobody_reads_them() {
        const PAYLOAD_BYTES: usize = 1024 * 1024;
        let options = LogOptions { shard: 0, directory: PathBuf::new(), segment_bytes: 0 };
        let mut log = Log::new(options, Vec::new(), LogEnd::default());
        let (mut position, whole_tail) = (0, tail_cache_bytes() / PAYLOAD_BYTES);
        let mut remember = |log: &mut Log| {
            log.remember(position, Bytes::from(vec![7; PAYLOAD_BYTES]));
            position += PAYLOAD_BYTES as u64;
        };
        for _ in 0..whole_tail {
            remember(&mut log);
        }
        assert_eq!(log.take_reusable(REUSABLE_BYTES), None, "all of it can be read");
        let read = log.read_tail(5, 100).unwrap();
        remember(&mut log);
        assert_eq!(log.take_reusable(REUSABLE_BYTES), None, "it is being read");
        assert!(read.iter().all(|byte| *byte == 7));
        (0..10).for_each(|_| remember(&mut log));
        assert_eq!(log.take_reusable(1..=PAYLOAD_BYTES - 1), None, "none is so small");
        for _ in 0..REUSABLE_MAX {
            let reusable = log.take_reusable(PAYLOAD_BYTES..=PAYLOAD_BYTES).unwrap();
            assert!(reusable.is_empty() && reusable.capacity() == PAYLOAD_BYTES);
        }
        assert_eq!(log.take_reusable(REUSABLE_BYTES), None, "no more are kept");
    }
}
