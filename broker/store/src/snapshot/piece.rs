//! Pieces of a snapshot's parts that stay on the disk until somebody asks for them: what is most of a snapshot need not
//! stand in memory to be carried over into the next one. What the bytes mean is the caller's.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

use super::SnapshotError;
use crate::disk::DiskFile;
use crate::sealed_index::IndexFailure;

/// A part of a snapshot that is kept open.
#[derive(Debug)]
pub struct PartFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    failure: IndexFailure,
}

impl PartFile {
    /// A part whose checksum was found to hold; that a piece of it cannot be read later is noted as `failure`.
    pub(super) fn new(path: PathBuf, file: Arc<dyn DiskFile>, failure: &IndexFailure) -> Arc<Self> {
        Arc::new(Self { path, file, failure: Arc::clone(failure) })
    }
}

/// Consecutive bytes of a part.
#[derive(Debug, Clone)]
pub struct Piece {
    part: Arc<PartFile>,
    position: u64,
    length_bytes: usize,
    checksum: u32,
}

impl Piece {
    /// The bytes that stand at a position in a part.
    #[must_use]
    pub fn new(part: &Arc<PartFile>, position: u64, bytes: &[u8]) -> Self {
        let (part, checksum) = (Arc::clone(part), crc32c(bytes));
        Self { part, position, length_bytes: bytes.len(), checksum }
    }

    /// Takes in the bytes at a position in a part when they follow this piece there and it gets no longer than
    /// `length_bytes_max`; says whether they do.
    pub fn extend(
        &mut self,
        part: &Arc<PartFile>,
        position: u64,
        bytes: &[u8],
        length_bytes_max: usize,
    ) -> bool {
        let length_bytes = self.length_bytes + bytes.len();
        let follows = Arc::ptr_eq(&self.part, part)
            && self.position + self.length_bytes as u64 == position
            && length_bytes <= length_bytes_max;
        if follows {
            self.length_bytes = length_bytes;
            self.checksum = crc32c_append(self.checksum, bytes);
        }
        follows
    }

    /// The bytes; none when they cannot be read or are not what they were, which is noted as the failure.
    #[must_use]
    pub fn read(&self) -> Option<Bytes> {
        let mut bytes = vec![0; self.length_bytes];
        let read = self.part.file.read_at(self.position, &mut bytes);
        let read = read.map_err(SnapshotError::from).and_then(|()| {
            if crc32c(&bytes) == self.checksum {
                return Ok(());
            }
            let path = self.part.path.clone();
            Err(SnapshotError::Damaged { path, what: "it has changed since it was loaded" })
        });
        match read {
            Ok(()) => Some(bytes.into()),
            Err(error) => {
                // Only the first one counts.
                let _known = self.part.failure.set(error.into());
                None
            }
        }
    }
}
