//! The front of an index file: a header, and one line for each run of messages of one queue.

use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use crc32c::crc32c;

use super::{BLOCK_ENTRIES, Block, Columns, IndexEntry, IndexError, SealedIndex};
use crate::disk::DiskFile;
use crate::record::Place;

const MAGIC: &[u8; 4] = b"PNX1";
const VERSION: u32 = 2;
/// Did not say how many bytes are in each of the other segments.
const FIRST_VERSION: u32 = 1;
pub(super) const HEADER_BYTES: usize = 64;
/// A line without the segments that it refers to.
pub(super) const LINE_BYTES: usize = 52;
/// One of the segments that a line refers to.
pub(super) const ELSEWHERE_BYTES: usize = 16;
const HAS_MESSAGE_GROUPS: u32 = 1;
const HAS_ORIGINS: u32 = 2;

/// What the directory says of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) topic: u32,
    pub(super) queue: u32,
    pub(super) first: u64,
    pub(super) count: u32,
    pub(super) columns: Columns,
    pub(super) last_ms: u64,
    pub(super) bytes: u64,
    /// Place of the first block in the file.
    pub(super) at: u64,
    /// Other segments that hold messages of the run.
    pub(super) refers_to: Vec<Elsewhere>,
}

/// Messages of a run whose records are in another segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elsewhere {
    /// Log position of that segment.
    pub base: u64,
    /// Bytes of those records there, or more.
    pub bytes: u64,
}

/// Consecutive messages of one queue that came to stand there in one segment.
#[derive(Debug, Clone)]
pub struct SealedRun {
    /// Number of the topic.
    pub topic: u32,
    /// Queue in this shard.
    pub queue: u32,
    /// Offset of the first message.
    pub first: u64,
    /// How many they are.
    pub count: u32,
    columns: Columns,
    /// The newest time of any of them, Unix time.
    pub last_ms: u64,
    /// Bytes of their records.
    pub bytes: u64,
    at: u64,
    refers_to: Option<Arc<[Elsewhere]>>,
    index: Arc<SealedIndex>,
}

impl Line {
    pub(super) fn of(self, index: &Arc<SealedIndex>) -> SealedRun {
        SealedRun {
            topic: self.topic,
            queue: self.queue,
            first: self.first,
            count: self.count,
            columns: self.columns,
            last_ms: self.last_ms,
            bytes: self.bytes,
            at: self.at,
            refers_to: (!self.refers_to.is_empty()).then(|| self.refers_to.into()),
            index: Arc::clone(index),
        }
    }

    /// What its blocks take in the file.
    pub(super) fn blocks_bytes(&self) -> usize {
        let (whole, rest) = (self.count / BLOCK_ENTRIES, self.count % BLOCK_ENTRIES);
        let rest_bytes = if rest == 0 { 0 } else { self.columns.block(rest).bytes() };
        whole as usize * self.columns.block(BLOCK_ENTRIES).bytes() + rest_bytes
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        let mut flags = 0;
        if self.columns.has_message_groups {
            flags |= HAS_MESSAGE_GROUPS;
        }
        if self.columns.has_origins {
            flags |= HAS_ORIGINS;
        }
        bytes.extend_from_slice(&self.topic.to_le_bytes());
        bytes.extend_from_slice(&self.queue.to_le_bytes());
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&self.last_ms.to_le_bytes());
        bytes.extend_from_slice(&self.bytes.to_le_bytes());
        bytes.extend_from_slice(&self.at.to_le_bytes());
        let refers_to = u32::try_from(self.refers_to.len()).expect("segments are few");
        bytes.extend_from_slice(&refers_to.to_le_bytes());
        for Elsewhere { base, bytes: there } in &self.refers_to {
            bytes.extend_from_slice(&base.to_le_bytes());
            bytes.extend_from_slice(&there.to_le_bytes());
        }
    }

    fn decode(bytes: &mut Bytes, version: u32) -> Option<Self> {
        if bytes.len() < LINE_BYTES {
            return None;
        }
        let (topic, queue, first) = (bytes.get_u32_le(), bytes.get_u32_le(), bytes.get_u64_le());
        let (count, flags) = (bytes.get_u32_le(), bytes.get_u32_le());
        let (last_ms, size, at) = (bytes.get_u64_le(), bytes.get_u64_le(), bytes.get_u64_le());
        let references = bytes.get_u32_le() as usize;
        let reference_bytes = if version == FIRST_VERSION { 8 } else { ELSEWHERE_BYTES };
        if bytes.len() / reference_bytes < references
            || first.checked_add(u64::from(count)).is_none()
        {
            return None;
        }
        let refers_to = (0..references).map(|_| Elsewhere {
            base: bytes.get_u64_le(),
            bytes: if version == FIRST_VERSION { size } else { bytes.get_u64_le() },
        });
        let refers_to = refers_to.collect();
        Some(Self {
            topic,
            queue,
            first,
            count,
            columns: Columns {
                has_message_groups: flags & HAS_MESSAGE_GROUPS != 0,
                has_origins: flags & HAS_ORIGINS != 0,
            },
            last_ms,
            bytes: size,
            at,
            refers_to,
        })
    }

    /// Where its blocks end; none when that is nowhere.
    fn end(&self) -> Option<u64> {
        let block_bytes = |entries| self.columns.block(entries).bytes() as u64;
        let (whole, rest) = (self.count / BLOCK_ENTRIES, self.count % BLOCK_ENTRIES);
        let mut bytes = u64::from(whole) * block_bytes(BLOCK_ENTRIES);
        if rest > 0 {
            bytes += block_bytes(rest);
        }
        self.at.checked_add(bytes)
    }
}

/// The header: magic, version, shard, number of lines, log position of the segment, bytes of the directory and of the
/// file, checksum of the directory, checksum of the header.
pub(super) fn encode_header(shard: u32, base: u64, lines: &[u8], count: u32, file: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&shard.to_le_bytes());
    header.extend_from_slice(&count.to_le_bytes());
    header.extend_from_slice(&base.to_le_bytes());
    header.extend_from_slice(&(lines.len() as u64).to_le_bytes());
    header.extend_from_slice(&file.to_le_bytes());
    header.extend_from_slice(&crc32c(lines).to_le_bytes());
    header.resize(HEADER_BYTES - 4, 0);
    let checksum = crc32c(&header);
    header.extend_from_slice(&checksum.to_le_bytes());
    header
}

pub(super) fn read(
    file: &dyn DiskFile,
    path: &Path,
    shard: u32,
    base: u64,
) -> Result<Vec<Line>, IndexError> {
    let damaged = |what| IndexError::Damaged { path: path.to_owned(), what };
    if file.length_bytes() < HEADER_BYTES as u64 {
        return Err(damaged("it is too short"));
    }
    let mut header = [0; HEADER_BYTES];
    file.read_at(0, &mut header)?;
    let (content, checksum) = header.split_at(HEADER_BYTES - 4);
    if crc32c(content).to_le_bytes() != checksum || content[..4] != *MAGIC {
        return Err(damaged("its header"));
    }
    let mut fields = &content[4..];
    let (version, of_shard, count) =
        (fields.get_u32_le(), fields.get_u32_le(), fields.get_u32_le());
    let (of_base, length, file_bytes) =
        (fields.get_u64_le(), fields.get_u64_le(), fields.get_u64_le());
    let lines_checksum = fields.get_u32_le();
    if !(FIRST_VERSION..=VERSION).contains(&version) || (of_shard, of_base) != (shard, base) {
        return Err(damaged("it is another one's, or of another version"));
    }
    if file_bytes != file.length_bytes() || length > file_bytes - HEADER_BYTES as u64 {
        return Err(damaged("its length"));
    }
    let mut lines = vec![0; usize::try_from(length).expect("it is in a file that fits")];
    file.read_at(HEADER_BYTES as u64, &mut lines)?;
    if crc32c(&lines) != lines_checksum {
        return Err(damaged("its directory"));
    }
    let mut lines = Bytes::from(lines);
    let mut read = Vec::new();
    let mut at = HEADER_BYTES as u64 + length;
    for _ in 0..count {
        let line = Line::decode(&mut lines, version);
        let line = line.ok_or_else(|| damaged("a line of its directory"))?;
        // The blocks follow each other up to the end of the file.
        let line_end = line.end().filter(|end| line.at == at && *end <= file_bytes);
        let bytes_max = u64::from(line.count) * u64::from(u32::MAX);
        let is_possible = line.count > 0 && line.bytes <= bytes_max;
        at = line_end.filter(|_| is_possible).ok_or_else(|| damaged("a line of its directory"))?;
        read.push(line);
    }
    if at != file_bytes || !lines.is_empty() {
        return Err(damaged("its length"));
    }
    Ok(read)
}

impl SealedRun {
    /// Offset behind the last message.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Log position of its segment.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.index.base()
    }

    /// Other segments that hold messages of the run, by log position.
    #[must_use]
    pub fn refers_to(&self) -> &[Elsewhere] {
        self.refers_to.as_deref().unwrap_or_default()
    }

    /// A message of the run; none when there is none, or when it cannot be read, which is noted as the failure of the
    /// shard.
    #[must_use]
    pub fn entry(&self, offset: u64) -> Option<IndexEntry> {
        let (block, at) = self.block_of(offset)?;
        block.entries.get(at).copied()
    }

    /// Hash of the message group, 0 without one.
    #[must_use]
    pub fn message_group_hash(&self, offset: u64) -> u64 {
        if !self.columns.has_message_groups {
            return 0;
        }
        self.block_of(offset).and_then(|(b, at)| b.message_groups.get(at).copied()).unwrap_or(0)
    }

    /// What the message was before it became a dead letter.
    #[must_use]
    pub fn origin(&self, offset: u64) -> Option<Place> {
        if !self.columns.has_origins {
            return None;
        }
        let (block, at) = self.block_of(offset)?;
        block.origins.get(at).copied()
    }

    /// Gives every message of the run to `visit`, in order, past what is kept in memory. That one cannot be read is told
    /// to the caller alone.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn read(&self, visit: &mut dyn FnMut(IndexEntry)) -> Result<(), IndexError> {
        let mut at = self.at;
        let mut left = self.count;
        while left > 0 {
            let shape = self.columns.block(left.min(BLOCK_ENTRIES));
            self.index.read_block(at, shape)?.entries.into_iter().for_each(&mut *visit);
            at += shape.bytes() as u64;
            left -= left.min(BLOCK_ENTRIES);
        }
        Ok(())
    }

    fn block_of(&self, offset: u64) -> Option<(Arc<Block>, usize)> {
        let n = u32::try_from(offset.checked_sub(self.first)?).ok().filter(|n| *n < self.count)?;
        let (number, at) = (n / BLOCK_ENTRIES, n % BLOCK_ENTRIES);
        let block_bytes = self.columns.block(BLOCK_ENTRIES).bytes() as u64;
        let place = self.at + u64::from(number) * block_bytes;
        let entries = (self.count - number * BLOCK_ENTRIES).min(BLOCK_ENTRIES);
        Some((self.index.block(place, self.columns.block(entries))?, at as usize))
    }
}
