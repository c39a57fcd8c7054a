//! The seam to the disk: the few operations that the log needs, so that a simulated disk can take the real one's place.
//! Nothing here decides; an implementation either did what was asked, durably where it says so, or reports an error.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::limits::BLOCK_BYTES;

/// A failed operation. After a failed write or sync the file must not be written again: what it holds is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operation} {}: {message}", path.display())]
pub struct DiskError {
    /// What was tried, such as "write".
    pub operation: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// What the system said.
    pub message: String,
    /// No space was left.
    pub is_full: bool,
    /// The file does not exist.
    pub is_missing: bool,
}

impl DiskError {
    /// Whether a new file found no room, so that nothing of it is there and the same may be tried again. A write or sync
    /// that failed for want of room is none of these: what it left is unknown.
    #[must_use]
    pub fn is_no_room(&self) -> bool {
        self.is_full && matches!(self.operation, "create" | "create directory" | "rename")
    }
}

/// Space of the volume that holds a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes free to us.
    pub free_bytes: u64,
    /// Size of the volume.
    pub total_bytes: u64,
}

/// A directory tree on some medium.
pub trait Disk: Send + Sync + Debug {
    /// Creates a directory and its parents, durably.
    ///
    /// # Errors
    /// [`DiskError`].
    fn create_directory(&self, directory: &Path) -> Result<(), DiskError>;

    /// The names of the files in a directory, in no order.
    ///
    /// # Errors
    /// [`DiskError`].
    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError>;

    /// Creates a file of zeros whose blocks are really allocated and synced; replaces one of the same name.
    ///
    /// # Errors
    /// [`DiskError`], with `is_full` when there is no room.
    fn create_zeroed(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError>;

    /// Creates a file whose blocks belong to it, durably, as fast as the medium can: it reads as zeros, but the first
    /// writes into it may be slow. Replaces one of the same name.
    ///
    /// # Errors
    /// [`DiskError`], with `is_full` when there is no room.
    fn create_allocated(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        self.create_zeroed(path, length_bytes)
    }

    /// Creates a file with these bytes, durably; replaces one of the same name. Interrupted, it leaves any part of them.
    ///
    /// # Errors
    /// [`DiskError`], with `is_full` when there is no room.
    fn create_filled(&self, path: &Path, contents: &[u8]) -> Result<(), DiskError>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// [`DiskError`].
    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError>;

    /// Renames a file inside one directory, durably.
    ///
    /// # Errors
    /// [`DiskError`].
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file, durably.
    ///
    /// # Errors
    /// [`DiskError`].
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// Space of the volume.
    ///
    /// # Errors
    /// [`DiskError`].
    fn space(&self, directory: &Path) -> Result<Space, DiskError>;
}

/// An open file. May be used from several threads; only one may write.
pub trait DiskFile: Send + Sync + Debug {
    /// Length when opened; files of the log never change it.
    fn length_bytes(&self) -> u64;

    /// Fills `buffer` from `position`.
    ///
    /// # Errors
    /// [`DiskError`], also when the file ends before the buffer is full.
    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// As [`DiskFile::read_at`], of a file that is read once from one end to the other: what was read need not be kept
    /// for others. Cheaper where position, address and length are multiples of [`BLOCK_BYTES`].
    ///
    /// # Errors
    /// As [`DiskFile::read_at`].
    fn read_through(&self, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.read_at(position, buffer)
    }

    /// Says that these bytes will be read soon, so that the medium may begin; nothing but time depends on it.
    fn will_read(&self, _position: u64, _length_bytes: u64) {}

    /// Writes at `position`, a multiple of [`BLOCK_BYTES`]; when it returns Ok the bytes are durable.
    ///
    /// # Errors
    /// [`DiskError`]; then it is unknown which part of the bytes is on the disk.
    fn write_durable(&self, position: u64, buffer: &AlignedBuffer) -> Result<(), DiskError>;
}

/// A buffer whose address and length are multiples of [`BLOCK_BYTES`], as direct I/O asks. Filled from the front;
/// what is not filled is zero.
#[derive(Debug)]
pub struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// An empty buffer with room for `capacity_bytes`.
    #[must_use]
    pub fn with_capacity(capacity_bytes: usize) -> Self {
        let rounded = capacity_bytes.next_multiple_of(BLOCK_BYTES);
        let memory = vec![0; rounded + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        Self { memory, start, length: 0 }
    }

    /// Empties the buffer and makes sure of its capacity. Keeps the memory unless it is much too large.
    pub fn reset(&mut self, capacity_bytes: usize) {
        let rounded = capacity_bytes.next_multiple_of(BLOCK_BYTES);
        let room = self.memory.len() - BLOCK_BYTES;
        if room < rounded || (room > 1024 * 1024 && room / 8 > rounded) {
            *self = Self::with_capacity(capacity_bytes);
        } else {
            self.length = 0;
        }
    }

    /// Appends bytes; there must be room.
    pub fn extend(&mut self, bytes: &[u8]) {
        let from = self.start + self.length;
        self.memory[from..from + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// Appends zeros until the length is a multiple of `alignment`.
    pub fn pad_to(&mut self, alignment: usize) {
        let padded = self.length.next_multiple_of(alignment);
        let from = self.start + self.length;
        self.memory[from..self.start + padded].fill(0);
        self.length = padded;
    }

    /// Makes it this long, whatever is in it then, and gives the bytes to be overwritten; there must be room.
    pub fn overwrite(&mut self, length_bytes: usize) -> &mut [u8] {
        self.length = length_bytes;
        &mut self.memory[self.start..self.start + length_bytes]
    }

    /// The filled bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_padded_with_zeros() {
        let mut buffer = AlignedBuffer::with_capacity(10_000);
        buffer.extend(&[7; 100]);
        buffer.pad_to(BLOCK_BYTES);
        assert_eq!(buffer.as_slice().len(), BLOCK_BYTES);
        assert_eq!(buffer.as_slice().as_ptr().align_offset(BLOCK_BYTES), 0);
        assert!(buffer.as_slice()[100..].iter().all(|b| *b == 0));
        buffer.reset(5_000);
        buffer.extend(&[1; 10]);
        buffer.pad_to(64);
        assert_eq!(&buffer.as_slice()[..10], &[1; 10]);
        assert!(buffer.as_slice()[10..].iter().all(|b| *b == 0), "old bytes are not written again");
    }
}
