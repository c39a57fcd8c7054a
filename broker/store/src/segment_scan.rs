//! Reading one segment in large pieces: the frame at a position, or the promises of all frames behind it.

use bytes::Bytes;
use crc32c::crc32c;

use crate::disk::DiskError;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, later_version, starts_like_a_frame};
use crate::limits::FRAME_ALIGNMENT_BYTES;
use crate::segments::Segment;

const PIECE_BYTES: u64 = 1024 * 1024;
/// For finding out exactly what of a medium cannot be read.
const SMALL_PIECE_BYTES: u64 = 4096;
const READ_AHEAD_BYTES: u64 = 8 * 1024 * 1024;

/// A window that moves over one segment.
#[derive(Debug)]
pub(crate) struct SegmentScan<'a> {
    shard: u32,
    segment: &'a Segment,
    window: Vec<u8>,
    window_start: u64,
    piece_bytes: u64,
}

impl<'a> SegmentScan<'a> {
    pub(crate) fn new(shard: u32, segment: &'a Segment) -> Self {
        Self {
            shard,
            segment,
            window: Vec::new(),
            window_start: segment.base,
            piece_bytes: PIECE_BYTES,
        }
    }

    /// The whole, undamaged frame at a log position, with its checksum; none when there is no such frame.
    pub(crate) fn frame_at(
        &mut self,
        position: u64,
    ) -> Result<Option<(FrameHeader, u32, Bytes)>, DiskError> {
        let Some((header, checksum)) = self.header_at(position)? else { return Ok(None) };
        let payload = self.payload_of(&header)?;
        Ok(payload.map(|payload| (header, checksum, payload)))
    }

    /// The payload behind a header that was found; none when it does not hold.
    pub(crate) fn payload_of(&mut self, header: &FrameHeader) -> Result<Option<Bytes>, DiskError> {
        let start = header.position + FRAME_HEADER_BYTES as u64;
        let payload = self.bytes(start, u64::from(header.payload_bytes))?;
        let holds = |payload: &&[u8]| crc32c(payload) == header.payload_checksum;
        #[cfg(any(test, feature = "simulation"))]
        let holds = |payload: &&[u8]| {
            holds(payload) || crate::switches::has_bug(crate::switches::Bug::TornFrames)
        };
        Ok(payload.filter(holds).map(Bytes::copy_from_slice))
    }

    /// The header at a log position, with its checksum; none when none of this shard and position holds there.
    pub(crate) fn header_at(
        &mut self,
        position: u64,
    ) -> Result<Option<(FrameHeader, u32)>, DiskError> {
        let shard = self.shard;
        let bytes = self.bytes(position, FRAME_HEADER_BYTES as u64)?;
        let found = bytes.and_then(FrameHeader::decode);
        Ok(found.filter(|(header, _)| header.position == position && header.shard == shard))
    }

    /// The version of the header at a log position when it is later than ours.
    pub(crate) fn later_version_at(&mut self, position: u64) -> Result<Option<u8>, DiskError> {
        let bytes = self.bytes(position, FRAME_HEADER_BYTES as u64)?;
        Ok(bytes.and_then(|bytes| later_version(bytes, position)))
    }

    /// Whether only zeros are there.
    pub(crate) fn is_zero(&mut self, position: u64, length: u64) -> Result<bool, DiskError> {
        Ok(self.bytes(position, length)?.is_none_or(|bytes| bytes.iter().all(|byte| *byte == 0)))
    }

    /// From now on reads no more than it must; false when it does so already.
    pub(crate) fn read_small_pieces(&mut self) -> bool {
        self.window.clear();
        std::mem::replace(&mut self.piece_bytes, SMALL_PIECE_BYTES) != SMALL_PIECE_BYTES
    }

    /// Where the smallest piece behind a log position begins.
    pub(crate) fn next_piece(segment: &Segment, position: u64) -> u64 {
        let next = (position - segment.base + 1).next_multiple_of(SMALL_PIECE_BYTES);
        (segment.base + next).min(segment.end())
    }

    /// The highest durable mark of any whole frame at or behind a log position, 0 without one.
    pub(crate) fn highest_durable_index_from(mut self, position: u64) -> Result<u64, DiskError> {
        let mut highest = 0;
        let mut at = position.next_multiple_of(FRAME_ALIGNMENT_BYTES);
        while at + FRAME_HEADER_BYTES as u64 <= self.segment.end() {
            let begins =
                self.bytes(at, FRAME_HEADER_BYTES as u64)?.is_some_and(starts_like_a_frame);
            if begins && let Some((header, _, _)) = self.frame_at(at)? {
                highest = highest.max(header.durable_index);
                // What looks like a frame inside a whole one is somebody's message.
                at += header.frame_bytes();
            } else {
                at += FRAME_ALIGNMENT_BYTES;
            }
        }
        Ok(highest)
    }

    /// Bytes of the segment; none when they would cross its end.
    fn bytes(&mut self, position: u64, length: u64) -> Result<Option<&[u8]>, DiskError> {
        let end = position + length;
        if end > self.segment.end() {
            return Ok(None);
        }
        let window_end = self.window_start + self.window.len() as u64;
        if position < self.window_start || end > window_end {
            let aligned = SMALL_PIECE_BYTES - (position - self.segment.base) % SMALL_PIECE_BYTES;
            let wanted =
                if self.piece_bytes == SMALL_PIECE_BYTES { aligned } else { self.piece_bytes };
            let piece = length.max(wanted).min(self.segment.end() - position);
            self.window.resize(usize::try_from(piece).expect("pieces fit in memory"), 0);
            let at = position - self.segment.base;
            // The medium reads on while this piece is worked on.
            self.segment.file.will_read(at + piece, READ_AHEAD_BYTES);
            let read = self.segment.file.read_at(at, &mut self.window);
            if read.is_err() {
                self.window.clear();
            }
            read?;
            self.window_start = position;
        }
        let from = usize::try_from(position - self.window_start).expect("inside the window");
        let to = usize::try_from(end - self.window_start).expect("inside the window");
        Ok(self.window.get(from..to))
    }
}
