//! Which messages of a sealed segment have a key: a companion file beside the segment, `<log position of the segment, 20
//! digits>.keys`, derived from the segment alone and written once; docs/storage-format.md draws it. Answers are hints: a
//! message that is named may have another key, but none that has the key is left out. Only searches read it, so that a
//! table that is missing or damaged costs time and nothing else.

mod builder;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Buf;
use crc32c::crc32c;

use crate::disk::{Disk, DiskFile};
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::limits::KEYS_PER_SEGMENT_MAX;
use crate::sealed_index::IndexError;
use crate::segments::Segment;

pub use builder::{KeyTableBuilder, KeyTableFile};

/// Adds the hashes of a message's keys, as its head says; the head is opaque to everybody who calls it. What it adds is
/// stored, so that a change of it is a change of the format.
pub type KeysOfHead = fn(head: &[u8], hashes: &mut Vec<u64>);

const MAGIC: &[u8; 4] = b"PNK1";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
/// Entries that are read and checked together.
const BLOCK_ENTRIES: usize = 256;
const ENTRY_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
/// A table without entries says nothing: the segment has more of them than a table takes, or cannot be read to its end.
const IS_LEFT_OUT: u32 = 1;

/// What is looked for: messages of one topic with one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicKey {
    /// Number of the topic.
    pub topic: u32,
    /// Hash of the key, as [`KeysOfHead`] gives it.
    pub hash: u64,
}

impl TopicKey {
    /// What stands in a table for it.
    fn short(self) -> u32 {
        let topic = u64::from(self.topic).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        u32::try_from((self.hash ^ topic) >> 32).expect("half of it")
    }
}

/// A message that may have the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedMessage {
    /// Log position of its record.
    pub position: u64,
    /// When it was stored, Unix time.
    pub stored_ms: u64,
}

/// The front of a table.
#[derive(Debug, Clone, Copy)]
struct Header {
    shard: u32,
    entries: u32,
    flags: u32,
    base: u64,
    /// Times of the first and the last messages, Unix time.
    oldest_ms: u64,
    newest_ms: u64,
    /// The last frame of the segment, from its beginning: the frame chain makes its checksum one of all frames before.
    last_frame: u32,
    last_checksum: u32,
    directory_checksum: u32,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        for field in [VERSION, self.shard, self.entries, self.flags] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        for field in [self.base, self.oldest_ms, self.newest_ms] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        for field in [self.last_frame, self.last_checksum, self.directory_checksum] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.resize(HEADER_BYTES - CHECKSUM_BYTES, 0);
        let checksum = crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// None when the bytes are no header of this version.
    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (content, checksum) = bytes.split_at(HEADER_BYTES - CHECKSUM_BYTES);
        if crc32c(content).to_le_bytes() != checksum || content[..4] != *MAGIC {
            return None;
        }
        let mut fields = &content[4..];
        let version = fields.get_u32_le();
        let header = Self {
            shard: fields.get_u32_le(),
            entries: fields.get_u32_le(),
            flags: fields.get_u32_le(),
            base: fields.get_u64_le(),
            oldest_ms: fields.get_u64_le(),
            newest_ms: fields.get_u64_le(),
            last_frame: fields.get_u32_le(),
            last_checksum: fields.get_u32_le(),
            directory_checksum: fields.get_u32_le(),
        };
        let is_possible = header.entries as usize <= KEYS_PER_SEGMENT_MAX;
        (version == VERSION && is_possible).then_some(header)
    }

    fn blocks(&self) -> usize {
        (self.entries as usize).div_ceil(BLOCK_ENTRIES)
    }

    /// Entries of a block.
    fn entries_of(&self, block: usize) -> usize {
        (self.entries as usize - block * BLOCK_ENTRIES).min(BLOCK_ENTRIES)
    }

    fn place_of(&self, block: usize) -> usize {
        let block_bytes = BLOCK_ENTRIES * ENTRY_BYTES + CHECKSUM_BYTES;
        HEADER_BYTES + self.blocks() * 4 + block * block_bytes
    }

    fn file_bytes(&self) -> usize {
        HEADER_BYTES + self.blocks() * (4 + CHECKSUM_BYTES) + self.entries as usize * ENTRY_BYTES
    }
}

/// The path of a segment's key table.
#[must_use]
pub fn key_table_path(directory: &Path, base: u64) -> PathBuf {
    directory.join(format!("{base:020}.keys"))
}

/// One open table. Holds its directory, four bytes for each 256 entries.
#[derive(Debug)]
pub struct KeyTable {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    header: Header,
    /// The first entry of each block.
    directory: Vec<u32>,
}

impl KeyTable {
    /// Opens the table of a segment; none when there is none, or when it says nothing.
    ///
    /// # Errors
    /// [`IndexError`] when it cannot be read, or is not of the segment as it is: removing it has it built again.
    pub fn open(
        disk: &dyn Disk,
        directory: &Path,
        shard: u32,
        segment: &Segment,
    ) -> Result<Option<Self>, IndexError> {
        if segment.is_condensed() {
            // One that is there yet is of the whole segment.
            return Ok(None);
        }
        let path = key_table_path(directory, segment.base);
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.is_missing => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let damaged = |what| IndexError::Damaged { path: path.clone(), what };
        if file.length_bytes() < HEADER_BYTES as u64 {
            return Err(damaged("it is too short"));
        }
        let mut bytes = [0; HEADER_BYTES];
        file.read_at(0, &mut bytes)?;
        let header = Header::decode(&bytes).ok_or_else(|| damaged("its header"))?;
        if (header.shard, header.base) != (shard, segment.base) || !is_of(&header, segment)? {
            return Err(damaged("it is of other bytes than those of its segment"));
        }
        if header.flags & IS_LEFT_OUT != 0 {
            return Ok(None);
        }
        if header.file_bytes() as u64 != file.length_bytes() {
            return Err(damaged("its length"));
        }
        let mut bytes = vec![0; header.blocks() * 4];
        file.read_at(HEADER_BYTES as u64, &mut bytes)?;
        if crc32c(&bytes) != header.directory_checksum {
            return Err(damaged("its directory"));
        }
        let mut fields = &bytes[..];
        let directory = (0..header.blocks()).map(|_| fields.get_u32_le()).collect();
        Ok(Some(Self { path, file, header, directory }))
    }

    /// Times of the oldest and the newest message of the segment, Unix time.
    #[must_use]
    pub fn times(&self) -> (u64, u64) {
        (self.header.oldest_ms, self.header.newest_ms)
    }

    /// Bytes that were read to open it.
    pub(crate) fn front_bytes(&self) -> u64 {
        self.header.place_of(0) as u64
    }

    /// Messages that may have the key, in the order of the log, and how many bytes were read for it.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn find(&self, key: TopicKey) -> Result<(Vec<KeyedMessage>, u64), IndexError> {
        let short = key.short();
        // Entries of one key may begin in the block before the first one that begins with it.
        let first = self.directory.partition_point(|begin| *begin < short).saturating_sub(1);
        let mut found = Vec::new();
        let mut read_bytes = 0;
        for (block, begin) in self.directory.iter().enumerate().skip(first) {
            if *begin > short {
                break;
            }
            let bytes = self.read_block(block)?;
            read_bytes += bytes.len() as u64;
            for mut entry in bytes[..bytes.len() - CHECKSUM_BYTES].chunks_exact(ENTRY_BYTES) {
                let (of, at) = (entry.get_u32_le(), entry.get_u32_le());
                if of == short {
                    let position = self.header.base + u64::from(at);
                    found.push(KeyedMessage { position, stored_ms: entry.get_u64_le() });
                }
            }
        }
        // A message that has two keys of one hash is there twice.
        found.sort_unstable_by_key(|message| message.position);
        found.dedup();
        Ok((found, read_bytes))
    }

    fn read_block(&self, block: usize) -> Result<Vec<u8>, IndexError> {
        let mut bytes = vec![0; self.header.entries_of(block) * ENTRY_BYTES + CHECKSUM_BYTES];
        self.file.read_at(self.header.place_of(block) as u64, &mut bytes)?;
        let (content, checksum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if crc32c(content).to_le_bytes() != checksum {
            return Err(IndexError::Damaged { path: self.path.clone(), what: "a block" });
        }
        Ok(bytes)
    }
}

/// Whether the segment ends with the frame that the table was made up to.
fn is_of(header: &Header, segment: &Segment) -> Result<bool, IndexError> {
    let at = u64::from(header.last_frame);
    if at + FRAME_HEADER_BYTES as u64 > segment.file.length_bytes() {
        return Ok(false);
    }
    let mut bytes = [0; FRAME_HEADER_BYTES];
    segment.file.read_at(at, &mut bytes)?;
    let frame = FrameHeader::decode(&bytes);
    Ok(frame.is_some_and(|(frame, checksum)| {
        (frame.position, checksum) == (segment.base + at, header.last_checksum)
    }))
}

#[cfg(test)]
mod tests;
