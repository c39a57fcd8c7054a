//! A condensed segment: the few records of a segment that are live yet, in a file beside it, so that the space of the
//! segment can be given back. Their log positions stay what they are; a directory says where in the file each record is.
//! `<log position of the segment, 20 digits>.live`, written once; docs/storage-format.md draws it. What is live is the
//! caller's to know.

mod directory;
mod writer;

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::disk::{Disk, DiskError};
use crate::reader::{LoggedRecord, ReadError};
use crate::record::{Record, RecordError};
use crate::segments::Segment;

pub(crate) use directory::Condensed;
use directory::Entry;
pub use writer::{CondenseError, Leftovers, condense};

/// What is being condensed.
pub(crate) const UNFINISHED_CONDENSED: &str = "live.tmp";

/// The path of what is condensed of a segment.
#[must_use]
pub fn condensed_path(directory: &Path, base: u64) -> PathBuf {
    directory.join(format!("{base:020}.live"))
}

impl Condensed {
    /// Opens what is condensed of the segment at `base`. Damage is not told here but to who reads a record.
    pub(crate) fn open(disk: &dyn Disk, directory: &Path, base: u64) -> Result<Segment, DiskError> {
        Self::open_at(disk, &condensed_path(directory, base), base)
    }

    fn open_at(disk: &dyn Disk, path: &Path, base: u64) -> Result<Segment, DiskError> {
        let file = disk.open(path)?;
        let condensed = Some(Self::read(&*file, base)?.into());
        Ok(Segment { base, file, condensed })
    }
}

/// The records of a condensed segment, in order. After one that is damaged the next ones follow all the same.
#[derive(Debug)]
pub struct CondensedRecords<'a> {
    shard: u32,
    segment: &'a Segment,
    condensed: &'a Condensed,
    /// What is left of the block being read.
    entries: std::vec::IntoIter<Entry>,
    next_block: usize,
}

impl Segment {
    /// The records that are kept of a condensed segment; none when this one is whole.
    #[must_use]
    pub fn condensed_records(&self, shard: u32) -> Option<CondensedRecords<'_>> {
        let condensed = &**self.condensed.as_ref()?;
        let entries = Vec::new().into_iter();
        Some(CondensedRecords { shard, segment: self, condensed, entries, next_block: 0 })
    }

    /// The record of `length_bytes` at a log position in a condensed segment.
    pub(crate) fn condensed_record(
        &self,
        condensed: &Condensed,
        shard: u32,
        (position, length_bytes): (u64, u32),
    ) -> Result<Record, ReadError> {
        let damaged = |reason| ReadError::Damaged { position, reason };
        if condensed.is_of(shard) && position >= condensed.end() {
            return Err(ReadError::Gone(position));
        }
        let block = condensed.block_of(shard, position).map_err(damaged)?;
        let Some(block) = block else { return Err(ReadError::Gone(position)) };
        let entries = condensed.entries(&*self.file, block)?.map_err(damaged)?;
        let at = entries.binary_search_by_key(&position, |entry| entry.position);
        let entry = at.map_err(|_| ReadError::Gone(position))?;
        if entries[entry].length_bytes != length_bytes {
            return Err(ReadError::Another(position));
        }
        self.record_of(&entries[entry])
    }

    fn record_of(&self, entry: &Entry) -> Result<Record, ReadError> {
        let mut bytes = vec![0; entry.length_bytes as usize];
        self.file.read_at(entry.place, &mut bytes)?;
        let mut bytes = Bytes::from(bytes);
        let record = Record::decode(&mut bytes);
        let record = record
            .and_then(|record| if bytes.is_empty() { Ok(record) } else { Err(RecordError::Short) });
        record.map_err(|reason| ReadError::Damaged { position: entry.position, reason })
    }
}

impl Iterator for CondensedRecords<'_> {
    type Item = Result<LoggedRecord, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = loop {
            if let Some(entry) = self.entries.next() {
                break entry;
            }
            let block = self.next_block;
            self.next_block += 1;
            let first = self.condensed.first_of(self.shard, block);
            let position = match first {
                Ok(position) => position?,
                // Without its head nothing of the file can be found.
                Err(reason) if block == 0 => {
                    let position = self.segment.base;
                    return Some(Err(ReadError::Damaged { position, reason }));
                }
                Err(_) => return None,
            };
            match self.condensed.entries(&*self.segment.file, block) {
                Ok(Ok(entries)) => self.entries = entries.into_iter(),
                Ok(Err(reason)) => return Some(Err(ReadError::Damaged { position, reason })),
                Err(error) => return Some(Err(error.into())),
            }
        };
        let Entry { position, time_ms, length_bytes, .. } = entry;
        let record = self.segment.record_of(&entry);
        Some(record.map(|record| LoggedRecord { position, length_bytes, time_ms, record }))
    }
}

#[cfg(test)]
mod tests;
