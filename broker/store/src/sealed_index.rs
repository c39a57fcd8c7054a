//! The index of one sealed segment: which messages came to stand in which queue there, and what a filter needs to know
//! of each. A companion file beside the segment, `<log position of the segment, 20 digits>.idx`, derived from the log and
//! written once; docs/storage-format.md draws it. Nothing here decides what is kept.

mod builder;
mod directory;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Buf;
use crc32c::crc32c;

use crate::disk::{Disk, DiskError, DiskFile};
use crate::record::Place;
use crate::snapshot::SnapshotError;

pub use builder::{BuildError, IndexBuilder, open_or_build};
pub use directory::{Elsewhere, SealedRun};

/// Entries that are read and checked together.
pub(crate) const BLOCK_ENTRIES: u32 = 64;
/// Blocks of one file kept in memory.
const CACHED_BLOCKS: usize = 4;

/// One message of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Log position of its record.
    pub position: u64,
    /// Hash of its tag.
    pub tag_hash: u64,
    /// When it was stored, or dead-lettered; Unix time.
    pub stored_ms: u64,
    /// Length of its record.
    pub length_bytes: u32,
    /// Number of the topic it was sent to when that is not this one; 0 otherwise.
    pub origin: u32,
}

impl IndexEntry {
    /// The topic that it was sent to; `here` is the one it stands in. A dead letter that dies again keeps its first origin.
    #[must_use]
    pub fn origin_or(&self, here: u32) -> u32 {
        if self.origin == 0 { here } else { self.origin }
    }
}

/// An index file cannot be used. It is derived: removing it has it built again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The bytes are not what was written.
    #[error("the index {} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        what: &'static str,
    },
    /// A snapshot that is read piece by piece.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl IndexError {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Disk(error) => &error.path,
            Self::Damaged { path, .. }
            | Self::Snapshot(
                SnapshotError::Damaged { path, .. }
                | SnapshotError::Unloadable { path, .. }
                | SnapshotError::LaterVersion { path },
            ) => path,
            Self::Snapshot(SnapshotError::Disk(error)) => &error.path,
        }
    }
}

/// Where the first failed read of any index of a shard is noted, for the shard to stop: nothing may be decided without
/// knowing what a queue holds.
pub type IndexFailure = Arc<OnceLock<IndexError>>;

/// Consecutive messages of one run.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) entries: Vec<IndexEntry>,
    /// Hashes of the message groups; empty when no message of the run has one.
    pub(crate) message_groups: Vec<u64>,
    /// What the messages were before they became dead letters; empty elsewhere.
    pub(crate) origins: Vec<Place>,
}

/// One open index file.
#[derive(Debug)]
pub struct SealedIndex {
    /// Log position of its segment.
    base: u64,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    failure: IndexFailure,
    recent: Mutex<VecDeque<(u64, Arc<Block>)>>,
}

/// The path of a segment's index.
#[must_use]
pub fn index_path(directory: &Path, base: u64) -> PathBuf {
    directory.join(format!("{base:020}.idx"))
}

impl SealedIndex {
    /// Opens the index of the segment at `base` and reads its directory: the runs, by topic and queue.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn open(
        disk: &dyn Disk,
        directory: &Path,
        shard: u32,
        base: u64,
        failure: &IndexFailure,
    ) -> Result<Vec<SealedRun>, IndexError> {
        let path = index_path(directory, base);
        let file = disk.open(&path)?;
        let read = directory::read(&*file, &path, shard, base)?;
        let index = Arc::new(Self::of(path, file, base, failure));
        Ok(read.into_iter().map(|run| run.of(&index)).collect())
    }

    fn of(path: PathBuf, file: Arc<dyn DiskFile>, base: u64, failure: &IndexFailure) -> Self {
        Self { base, path, file, failure: Arc::clone(failure), recent: Mutex::default() }
    }

    /// Log position of its segment.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// A block at a place in the file; none when it cannot be read, which is noted as the failure of the shard.
    pub(crate) fn block(&self, at: u64, shape: BlockShape) -> Option<Arc<Block>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, block)) = recent.iter().find(|(known, _)| *known == at) {
            return Some(Arc::clone(block));
        }
        match self.read_block(at, shape) {
            Ok(block) => {
                let block = Arc::new(block);
                if recent.len() >= CACHED_BLOCKS {
                    recent.pop_front();
                }
                recent.push_back((at, Arc::clone(&block)));
                Some(block)
            }
            Err(error) => {
                // Only the first one counts.
                let _known = self.failure.set(error);
                None
            }
        }
    }

    fn read_block(&self, at: u64, shape: BlockShape) -> Result<Block, IndexError> {
        let mut bytes = vec![0; shape.bytes()];
        self.file.read_at(at, &mut bytes)?;
        let (content, checksum) = bytes.split_at(bytes.len() - 4);
        if crc32c(content).to_le_bytes() != checksum {
            return Err(IndexError::Damaged { path: self.path.clone(), what: "a block" });
        }
        Ok(shape.decode(content))
    }
}

/// What the blocks of a run hold beside the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) has_message_groups: bool,
    pub(crate) has_origins: bool,
}

impl Columns {
    /// A block of so many entries.
    pub(crate) fn block(self, entries: u32) -> BlockShape {
        BlockShape { entries, columns: self }
    }
}

/// How many entries a block has, and which columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockShape {
    entries: u32,
    columns: Columns,
}

const ENTRY_BYTES: usize = 32;
const MESSAGE_GROUP_BYTES: usize = 8;
const ORIGIN_BYTES: usize = 20;

impl BlockShape {
    /// Bytes in the file, with the checksum.
    pub(crate) fn bytes(self) -> usize {
        let groups = if self.columns.has_message_groups { MESSAGE_GROUP_BYTES } else { 0 };
        let origins = if self.columns.has_origins { ORIGIN_BYTES } else { 0 };
        self.entries as usize * (ENTRY_BYTES + groups + origins) + 4
    }

    fn decode(self, mut content: &[u8]) -> Block {
        // The length was taken from the shape, so that no read goes beyond the end.
        let count = self.entries as usize;
        let entries = (0..count).map(|_| IndexEntry {
            position: content.get_u64_le(),
            tag_hash: content.get_u64_le(),
            stored_ms: content.get_u64_le(),
            length_bytes: content.get_u32_le(),
            origin: content.get_u32_le(),
        });
        let entries = entries.collect();
        let groups = if self.columns.has_message_groups { count } else { 0 };
        let message_groups = (0..groups).map(|_| content.get_u64_le()).collect();
        let origins = if self.columns.has_origins { count } else { 0 };
        let origins = (0..origins).map(|_| Place {
            group: content.get_u32_le(),
            topic: content.get_u32_le(),
            queue: content.get_u32_le(),
            offset: content.get_u64_le(),
        });
        let origins = origins.collect();
        Block { entries, message_groups, origins }
    }
}

#[cfg(test)]
mod tests;
