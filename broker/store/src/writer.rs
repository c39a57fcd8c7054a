//! The writing side, for a thread of its own: puts whole batches of frames on the disk with one durable write each.
//! After the first failure it writes nothing more: what a failed write left behind is unknown (engine rule "a failed
//! sync is final").

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{AlignedBuffer, Disk, DiskError};
use crate::frame::FRAME_HEADER_BYTES;
use crate::limits::{BLOCK_BYTES, FRAME_ALIGNMENT_BYTES};
use crate::log::LogOptions;
use crate::segments::{self, Segment};

/// Frames to put on the disk in one piece, all in one segment.
#[derive(Debug)]
pub struct Write {
    pub(crate) segment_base: u64,
    pub(crate) segment_bytes: u64,
    pub(crate) position: u64,
    pub(crate) end_position: u64,
    pub(crate) index: u64,
    pub(crate) frames: Vec<EncodedFrame>,
}

pub(crate) struct EncodedFrame {
    pub(crate) header: [u8; FRAME_HEADER_BYTES],
    pub(crate) payload: Bytes,
}

/// Without its bytes: the checksum of the header stands for all of them, since that holds the checksum of the payload.
impl fmt::Debug for EncodedFrame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A checksum of something with its own checksum behind it is the same for all.
        let checksum = crc32c::crc32c(&self.header[..FRAME_HEADER_BYTES - 4]);
        write!(formatter, "{} bytes, {checksum:08x}", self.header.len() + self.payload.len())
    }
}

/// A write that is durable.
#[derive(Debug)]
pub struct Written {
    pub(crate) end_position: u64,
    pub(crate) index: u64,
    pub(crate) opened: Option<Segment>,
}

impl Written {
    /// Whether it was the first write into a segment, so that readers need to know a new file.
    #[must_use]
    pub fn opens_segment(&self) -> bool {
        self.opened.is_some()
    }
}

/// A write that did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The volume has no room for the segment that it begins. Nothing of it was written; the same write may be tried again.
    #[error(transparent)]
    NoRoom(DiskError),
    /// What it left behind is unknown; every later write fails with the same error.
    #[error(transparent)]
    Failed(DiskError),
}

/// Owns the end of the log on the disk.
#[derive(Debug)]
pub struct Writer {
    disk: Arc<dyn Disk>,
    options: LogOptions,
    segment: Segment,
    /// The bytes of the last block when it is only partly filled: written again with more behind them.
    partial_block: Vec<u8>,
    buffer: AlignedBuffer,
    failure: Option<DiskError>,
}

impl Writer {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        segment: Segment,
        partial_block: Vec<u8>,
    ) -> Self {
        let buffer = AlignedBuffer::with_capacity(BLOCK_BYTES);
        Self { disk, options, segment, partial_block, buffer, failure: None }
    }

    /// A writer that writes nothing: the log is read-only.
    pub(crate) fn refusing(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        segment: Segment,
        reason: &str,
    ) -> Self {
        let path = options.directory.clone();
        let failure = DiskError {
            operation: "write",
            path,
            message: reason.to_owned(),
            is_full: false,
            is_missing: false,
        };
        let mut writer = Self::new(disk, options, segment, Vec::new());
        writer.failure = Some(failure);
        writer
    }

    /// Writes and syncs. Blocks.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write(&mut self, write: &Write) -> Result<Written, WriteError> {
        if let Some(failure) = &self.failure {
            return Err(WriteError::Failed(failure.clone()));
        }
        let entered = self.enter_segment(write);
        if let Err(error) = &entered
            && error.is_no_room()
        {
            return Err(WriteError::NoRoom(error.clone()));
        }
        entered.and_then(|opened| self.put(write, opened)).map_err(|error| {
            self.failure = Some(error.clone());
            WriteError::Failed(error)
        })
    }

    fn put(&mut self, write: &Write, opened: Option<Segment>) -> Result<Written, DiskError> {
        let start = write.position - self.segment.base;
        let block_start = start - start % BLOCK_BYTES as u64;
        debug_assert_eq!(self.partial_block.len() as u64, start - block_start);
        let length = usize::try_from(write.end_position - self.segment.base - block_start)
            .expect("a write fits in memory");
        self.buffer.reset(length);
        self.buffer.extend(&self.partial_block);
        for frame in &write.frames {
            self.buffer.extend(&frame.header);
            self.buffer.extend(&frame.payload);
            self.buffer.pad_to(FRAME_ALIGNMENT_BYTES as usize);
        }
        self.partial_block.clear();
        let whole_blocks = length - length % BLOCK_BYTES;
        self.partial_block.extend_from_slice(&self.buffer.as_slice()[whole_blocks..]);
        self.buffer.pad_to(BLOCK_BYTES);
        self.segment.file.write_durable(block_start, &self.buffer)?;
        Ok(Written { end_position: write.end_position, index: write.index, opened })
    }

    fn enter_segment(&mut self, write: &Write) -> Result<Option<Segment>, DiskError> {
        let has_length = self.segment.file_bytes() == write.segment_bytes;
        if self.segment.base == write.segment_base && has_length {
            return Ok(None);
        }
        let directory = &self.options.directory;
        let (base, length) = (write.segment_base, write.segment_bytes);
        self.segment = segments::open_or_create(&*self.disk, directory, base, length)?;
        self.partial_block.clear();
        Ok(Some(self.segment.clone()))
    }
}
