//! Reading one segment in large pieces: the frame at a position, or the promises of all frames behind it.

use std::sync::Arc;

use bytes::Bytes;
use crc32c::crc32c;

use crate::disk::{AlignedBuffer, DiskError};
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, later_version, starts_like_a_frame};
use crate::limits::FRAME_ALIGNMENT_BYTES;
use crate::segments::Segment;

const PIECE_BYTES: u64 = 1024 * 1024;
const SMALL_PIECE_BYTES: u64 = 4096;
const READ_AHEAD_BYTES: u64 = 8 * 1024 * 1024;

/// A window that moves over one segment.
#[derive(Debug)]
pub(crate) struct SegmentScan<'a> {
    shard: u32,
    segment: &'a Segment,
    window: Window,
    window_start: u64,
    pieces: Pieces,
}

/// What was read last. Payloads that were given out are parts of it, not copies.
#[derive(Debug, Clone)]
struct Window(Arc<AlignedBuffer>);

impl AsRef<[u8]> for Window {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl Window {
    fn empty() -> Self {
        Self(Arc::new(AlignedBuffer::with_capacity(0)))
    }

    /// Room for this many bytes: the memory of before, unless somebody has a payload of it yet.
    fn overwrite(&mut self, length_bytes: usize) -> &mut [u8] {
        if Arc::get_mut(&mut self.0).is_none() {
            *self = Self::empty();
        }
        let buffer = Arc::get_mut(&mut self.0).expect("nobody else has it");
        buffer.reset(length_bytes);
        buffer.overwrite(length_bytes)
    }
}

/// How much is read at once, and in which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pieces {
    /// Somebody waits: the medium reads on while a piece is worked on.
    Ahead,
    /// Nobody waits, and nobody reads it again soon.
    Through,
    /// To find out exactly what of a medium cannot be read.
    Small,
}

impl<'a> SegmentScan<'a> {
    pub(crate) fn new(shard: u32, segment: &'a Segment) -> Self {
        Self {
            shard,
            segment,
            window: Window::empty(),
            window_start: segment.base,
            pieces: Pieces::Ahead,
        }
    }

    /// For work beside the data path, which must cost it as little as can be.
    pub(crate) fn beside(shard: u32, segment: &'a Segment) -> Self {
        Self { pieces: Pieces::Through, ..Self::new(shard, segment) }
    }

    /// The whole, undamaged frame at a log position, with its checksum; none when there is no such frame. Who keeps the
    /// payload keeps all that was read with it in memory.
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
        let length_bytes = u64::from(header.payload_bytes);
        let holds = |payload: &&[u8]| crc32c(payload) == header.payload_checksum;
        #[cfg(any(test, feature = "simulation"))]
        let holds = |payload: &&[u8]| {
            holds(payload) || crate::switches::has_bug(crate::switches::Bug::TornFrames)
        };
        if self.bytes(start, length_bytes)?.filter(holds).is_none() {
            return Ok(None);
        }
        let from = usize::try_from(start - self.window_start).expect("inside the window");
        let payload = from..from + header.payload_bytes as usize;
        Ok(Some(Bytes::from_owner(self.window.clone()).slice(payload)))
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
        self.window.overwrite(0);
        std::mem::replace(&mut self.pieces, Pieces::Small) != Pieces::Small
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
        let window_end = self.window_start + self.window.as_ref().len() as u64;
        if position < self.window_start || end > window_end {
            self.move_window(position, end)?;
        }
        let from = usize::try_from(position - self.window_start).expect("inside the window");
        let to = usize::try_from(end - self.window_start).expect("inside the window");
        Ok(self.window.as_ref().get(from..to))
    }

    /// Reads what is between two log positions, and on to the end of the piece.
    fn move_window(&mut self, position: u64, end: u64) -> Result<(), DiskError> {
        let (base, length) = (self.segment.base, self.segment.file.length_bytes());
        let from = (position - base) / SMALL_PIECE_BYTES * SMALL_PIECE_BYTES;
        let wanted = match self.pieces {
            Pieces::Ahead | Pieces::Through => PIECE_BYTES,
            Pieces::Small => SMALL_PIECE_BYTES,
        };
        let to = (end - base).max(from + wanted).next_multiple_of(SMALL_PIECE_BYTES).min(length);
        let piece_bytes = usize::try_from(to - from).expect("pieces fit in memory");
        let piece = self.window.overwrite(piece_bytes);
        let file = &self.segment.file;
        let read = match self.pieces {
            Pieces::Through => file.read_through(from, piece),
            Pieces::Ahead => {
                file.will_read(to, READ_AHEAD_BYTES);
                file.read_at(from, piece)
            }
            Pieces::Small => file.read_at(from, piece),
        };
        if read.is_err() {
            self.window.overwrite(0);
        }
        self.window_start = base + from;
        read
    }
}
