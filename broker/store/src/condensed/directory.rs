//! The front of the file of a condensed segment: a header, a table of the first log position of every block of the
//! directory, and the blocks. In memory is only the table.

use bytes::Buf;
use crc32c::crc32c;

use crate::disk::{DiskError, DiskFile};
use crate::record::RecordError;

const MAGIC: &[u8; 4] = b"PNC1";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
/// Records whose places are read and checked together.
const BLOCK_ENTRIES: usize = 128;
const ENTRY_BYTES: usize = 28;
const CHECKSUM_BYTES: usize = 4;

/// What is known of the file of a condensed segment.
#[derive(Debug)]
pub(crate) struct Condensed {
    /// Log position behind the segment; its beginning while that is not known.
    end: u64,
    /// What does not hold, when nothing can be found in it.
    table: Result<Table, &'static str>,
}

#[derive(Debug)]
struct Table {
    shard: u32,
    records: usize,
    /// The first log position of each block.
    firsts: Vec<u64>,
    file_bytes: u64,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Log position.
    pub(super) position: u64,
    /// The time of its frame.
    pub(super) time_ms: u64,
    /// Place in the file.
    pub(super) place: u64,
    /// Length of the record.
    pub(super) length_bytes: u32,
}

impl Condensed {
    /// Reads header and table.
    ///
    /// # Errors
    /// [`DiskError`] when they cannot be read. That they are damaged is told to who asks for a record.
    pub(super) fn read(file: &dyn DiskFile, base: u64) -> Result<Self, DiskError> {
        Ok(match read(file, base)? {
            Ok((table, end)) => Self { end, table: Ok(table) },
            Err(what) => Self { end: base, table: Err(what) },
        })
    }

    /// Log position behind the segment.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Whether it can be used, and for this shard.
    pub(super) fn is_of(&self, shard: u32) -> bool {
        self.table(shard).is_ok()
    }

    fn table(&self, shard: u32) -> Result<&Table, RecordError> {
        let table = self.table.as_ref().map_err(|what| RecordError::Unfindable(what))?;
        let is_ours = table.shard == shard;
        is_ours.then_some(table).ok_or(RecordError::Unfindable("it is another shard's"))
    }

    /// Which block of the directory tells of a log position; none when no block does.
    pub(super) fn block_of(&self, shard: u32, position: u64) -> Result<Option<usize>, RecordError> {
        let firsts = &self.table(shard)?.firsts;
        Ok(firsts.partition_point(|first| *first <= position).checked_sub(1))
    }

    /// The first log position of a block; none behind the last block.
    pub(super) fn first_of(&self, shard: u32, block: usize) -> Result<Option<u64>, RecordError> {
        Ok(self.table(shard)?.firsts.get(block).copied())
    }

    /// The entries of a block, or what does not hold.
    ///
    /// # Errors
    /// [`DiskError`].
    pub(super) fn entries(
        &self,
        file: &dyn DiskFile,
        block: usize,
    ) -> Result<Result<Vec<Entry>, RecordError>, DiskError> {
        let Ok(table) = &self.table else { return Ok(Err(RecordError::Unfindable("its head"))) };
        let count = table.records.saturating_sub(block * BLOCK_ENTRIES).min(BLOCK_ENTRIES);
        let at = HEADER_BYTES + table.firsts.len() * 8 + block * block_bytes(BLOCK_ENTRIES);
        let mut bytes = vec![0; block_bytes(count)];
        file.read_at(at as u64, &mut bytes)?;
        let (mut content, checksum) = bytes.split_at(count * ENTRY_BYTES);
        if crc32c(content).to_le_bytes() != checksum {
            return Ok(Err(RecordError::Unfindable("a block of its directory")));
        }
        let entries: Vec<Entry> = (0..count)
            .map(|_| Entry {
                position: content.get_u64_le(),
                time_ms: content.get_u64_le(),
                place: content.get_u64_le(),
                length_bytes: content.get_u32_le(),
            })
            .collect();
        let is_inside = |entry: &Entry| {
            entry
                .place
                .checked_add(entry.length_bytes.into())
                .is_some_and(|e| e <= table.file_bytes)
        };
        if entries.iter().all(is_inside) && entries.is_sorted_by(|a, b| a.position < b.position) {
            return Ok(Ok(entries));
        }
        Ok(Err(RecordError::Unfindable("a block of its directory")))
    }
}

fn block_bytes(entries: usize) -> usize {
    entries * ENTRY_BYTES + CHECKSUM_BYTES
}

/// Bytes in front of the records.
fn front_bytes(records: usize) -> usize {
    let (whole, rest) = (records / BLOCK_ENTRIES, records % BLOCK_ENTRIES);
    let rest_bytes = if rest > 0 { block_bytes(rest) } else { 0 };
    HEADER_BYTES
        + records.div_ceil(BLOCK_ENTRIES) * 8
        + whole * block_bytes(BLOCK_ENTRIES)
        + rest_bytes
}

/// The front of a file: header, table and directory. The places of the entries are taken as from the end of the front.
pub(super) fn encode(
    shard: u32,
    (base, end): (u64, u64),
    entries: &[Entry],
    records_bytes: usize,
) -> Vec<u8> {
    let front = front_bytes(entries.len());
    let firsts = entries.chunks(BLOCK_ENTRIES).map(|block| block[0].position);
    let table: Vec<u8> = firsts.flat_map(u64::to_le_bytes).collect();
    let mut bytes = Vec::with_capacity(front + records_bytes);
    bytes.extend_from_slice(MAGIC);
    let records = u32::try_from(entries.len()).expect("a segment holds fewer records");
    for field in [VERSION, shard, records] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    for field in [base, end, (front + records_bytes) as u64] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&crc32c(&table).to_le_bytes());
    bytes.resize(HEADER_BYTES - CHECKSUM_BYTES, 0);
    let checksum = crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend_from_slice(&table);
    for block in entries.chunks(BLOCK_ENTRIES) {
        let start = bytes.len();
        for entry in block {
            for field in [entry.position, entry.time_ms, front as u64 + entry.place] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
            bytes.extend_from_slice(&entry.length_bytes.to_le_bytes());
        }
        let checksum = crc32c(&bytes[start..]);
        bytes.extend_from_slice(&checksum.to_le_bytes());
    }
    debug_assert_eq!(bytes.len(), front);
    bytes
}

/// Header and table, and the log position behind the segment; or what does not hold.
fn read(file: &dyn DiskFile, base: u64) -> Result<Result<(Table, u64), &'static str>, DiskError> {
    if file.length_bytes() < HEADER_BYTES as u64 {
        return Ok(Err("it is too short"));
    }
    let mut header = [0; HEADER_BYTES];
    file.read_at(0, &mut header)?;
    let (content, checksum) = header.split_at(HEADER_BYTES - CHECKSUM_BYTES);
    if crc32c(content).to_le_bytes() != checksum || content[..4] != *MAGIC {
        return Ok(Err("its header"));
    }
    let mut fields = &content[4..];
    let (version, shard) = (fields.get_u32_le(), fields.get_u32_le());
    let records = fields.get_u32_le() as usize;
    let (of_base, end, file_bytes) =
        (fields.get_u64_le(), fields.get_u64_le(), fields.get_u64_le());
    let table_checksum = fields.get_u32_le();
    if version != VERSION || of_base != base || end <= base {
        return Ok(Err("it is another one's, or of another version"));
    }
    if file_bytes != file.length_bytes() || front_bytes(records) as u64 > file_bytes {
        return Ok(Err("its length"));
    }
    let mut table = vec![0; records.div_ceil(BLOCK_ENTRIES) * 8];
    file.read_at(HEADER_BYTES as u64, &mut table)?;
    if crc32c(&table) != table_checksum {
        return Ok(Err("its table"));
    }
    let mut table = table.as_slice();
    let firsts = (0..records.div_ceil(BLOCK_ENTRIES)).map(|_| table.get_u64_le()).collect();
    Ok(Ok((Table { shard, records, firsts, file_bytes }, end)))
}
