//! The records in which a key may be, in the order of the log: of segments with a key table those that the table names, of
//! all others every one. A table that cannot be used is no error: its segment is read like one that has none.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::Path;

use super::{LogReader, LoggedRecord, ReadError, Records};
use crate::disk::Disk;
use crate::key_table::{KeyTable, KeyedMessage, TopicKey};
use crate::limits::CLOCK_STEP_MS_MAX;
use crate::record::RECORD_HEADER_BYTES;
use crate::sealed_index::IndexError;
use crate::segments::Segment;

/// Where the key tables of a shard are.
#[derive(Debug, Clone, Copy)]
pub struct KeyTables<'a> {
    /// The disk.
    pub disk: &'a dyn Disk,
    /// The directory of the log.
    pub directory: &'a Path,
}

/// A stretch of the log that is read record by record.
#[derive(Debug)]
struct Scan<'a> {
    records: Records<'a>,
    /// What stands from here on is found in another way.
    until: u64,
    /// Log position up to which its bytes are counted.
    counted: u64,
}

/// See the head of this file. Goes on in small steps, so that whoever asks can stop it between any two.
#[derive(Debug)]
pub struct KeyedRecords<'a> {
    reader: &'a LogReader,
    tables: KeyTables<'a>,
    key: TopicKey,
    times: RangeInclusive<u64>,
    end: u64,
    /// From the one being read on.
    segments: &'a [Segment],
    scan: Option<Scan<'a>>,
    /// What the table of the first segment named and was not read yet, when it has one.
    named: Option<VecDeque<KeyedMessage>>,
    /// The table of the segment at which the scan ends.
    next_table: Option<KeyTable>,
    /// Records below this log position were given out already.
    given_out: u64,
    newest_ms: u64,
    read_bytes: u64,
    until_ms: u64,
    unusable: Vec<IndexError>,
}

impl LogReader {
    /// The records up to `end`, a log position up to which everything is durable, that may hold a message with a key, and
    /// whose frames carry a time in this range, Unix milliseconds. Others are among them: look at each.
    ///
    /// # Errors
    /// [`ReadError`] when the beginning of a segment cannot be read.
    pub fn records_of_key<'a>(
        &'a self,
        tables: KeyTables<'a>,
        key: TopicKey,
        times: RangeInclusive<u64>,
        end: u64,
    ) -> Result<KeyedRecords<'a>, ReadError> {
        let count = self.segments.partition_point(|segment| segment.base < end);
        let earliest_ms = times.start().saturating_sub(CLOCK_STEP_MS_MAX);
        let latest_ms = times.end().saturating_add(CLOCK_STEP_MS_MAX);
        let first = self.begun_before(earliest_ms, count)?.saturating_sub(1);
        let last = self.begun_before(latest_ms.saturating_add(1), count)?.max(first);
        Ok(KeyedRecords {
            reader: self,
            tables,
            key,
            times,
            end,
            segments: &self.segments[first..last],
            scan: None,
            named: None,
            next_table: None,
            given_out: 0,
            newest_ms: 0,
            read_bytes: 0,
            until_ms: 0,
            unusable: Vec::new(),
        })
    }

    /// Reads the record at a log position, which does not say its time.
    fn record_at(&self, position: u64) -> Result<LoggedRecord, ReadError> {
        let at = self.segments.partition_point(|segment| segment.base <= position);
        let segment = at.checked_sub(1).and_then(|at| self.segments.get(at));
        let segment = segment.ok_or(ReadError::Gone(position))?;
        let mut length = [0; 4];
        segment.file.read_at(position - segment.base, &mut length)?;
        let header_bytes = u32::try_from(RECORD_HEADER_BYTES).expect("a few");
        let length_bytes = u32::from_le_bytes(length).saturating_add(header_bytes);
        let record = self.record(position, length_bytes)?;
        Ok(LoggedRecord { position, length_bytes, time_ms: 0, record })
    }
}

impl<'a> KeyedRecords<'a> {
    /// One step: the next record, or nothing yet; none at the end.
    ///
    /// # Errors
    /// [`ReadError`] as [`Records`] gives it; then it is over.
    pub fn step(&mut self) -> Option<Result<Option<LoggedRecord>, ReadError>> {
        if self.scan.is_some() {
            return Some(self.scan_on());
        }
        if self.named.is_some() {
            return Some(Ok(self.next_named()));
        }
        let segment = self.segments.first()?;
        match self.next_table.take().or_else(|| self.open(segment)) {
            Some(table) => self.ask(&table),
            None => self.begin_scan(),
        }
        Some(Ok(None))
    }

    /// Log position before which everything was looked at, as far as segments tell; 0 while one is read record by record.
    #[must_use]
    pub fn position(&self) -> u64 {
        match self.scan {
            Some(_) => 0,
            None => self.segments.first().map_or(self.end, Segment::base),
        }
    }

    /// Bytes read until now.
    #[must_use]
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Everything stored before that time was looked at, as far as the steps of clocks let tell; Unix time, 0 at first.
    #[must_use]
    pub fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Tables that could not be used since this was asked last.
    pub fn take_unusable(&mut self) -> Vec<IndexError> {
        std::mem::take(&mut self.unusable)
    }

    fn open(&mut self, segment: &Segment) -> Option<KeyTable> {
        let KeyTables { disk, directory } = self.tables;
        match KeyTable::open(disk, directory, self.reader.shard, segment) {
            Ok(table) => table,
            Err(error) => {
                self.unusable.push(error);
                None
            }
        }
    }

    /// Asks the table of the first segment.
    fn ask(&mut self, table: &KeyTable) {
        self.read_bytes += table.front_bytes();
        let (oldest_ms, newest_ms) = table.times();
        self.newest_ms = newest_ms.min(*self.times.end());
        if oldest_ms > *self.times.end() || newest_ms < *self.times.start() {
            self.segments = &self.segments[1..];
            return;
        }
        match table.find(self.key) {
            Ok((found, read_bytes)) => {
                self.read_bytes += read_bytes;
                let is_asked = |message: &KeyedMessage| {
                    message.position < self.end && self.times.contains(&message.stored_ms)
                };
                self.named = Some(found.into_iter().filter(is_asked).collect());
            }
            Err(error) => {
                self.unusable.push(error);
                self.begin_scan();
            }
        }
    }

    fn next_named(&mut self) -> Option<LoggedRecord> {
        let Some(message) = self.named.as_mut().and_then(VecDeque::pop_front) else {
            self.named = None;
            self.until_ms = self.until_ms.max(self.newest_ms);
            self.segments = &self.segments[1..];
            return None;
        };
        let KeyedMessage { position, stored_ms } = message;
        if let Ok(record) = self.reader.record_at(position) {
            self.read_bytes += u64::from(record.length_bytes);
            self.given_out = position + 1;
            self.until_ms = self.until_ms.max(stored_ms);
            return Some(LoggedRecord { time_ms: stored_ms, ..record });
        }
        // The segment is damaged, or has changed: reading it tells.
        self.named = None;
        self.begin_scan();
        None
    }

    /// Begins to read from the first segment on, up to one that has a table.
    fn begin_scan(&mut self) {
        let Some(first) = self.segments.first() else { return };
        let mut count = 1;
        while let Some(segment) = self.segments.get(count) {
            self.next_table = self.open(segment);
            if self.next_table.is_some() {
                break;
            }
            count += 1;
        }
        self.segments = &self.segments[count..];
        let until = self.segments.first().map_or(self.end, Segment::base);
        // One frame further, which shows that nothing is missing between the two.
        let records = self.reader.records(first.base, self.end.min(until.saturating_add(1)));
        let records = records.only(self.times.clone());
        self.scan = Some(Scan { records, until, counted: first.base });
    }

    fn scan_on(&mut self) -> Result<Option<LoggedRecord>, ReadError> {
        let Some(scan) = &mut self.scan else { return Ok(None) };
        let Some(record) = scan.records.next().transpose()?.filter(|r| r.position < scan.until)
        else {
            self.scan = None;
            return Ok(None);
        };
        let position = scan.records.position();
        self.read_bytes += position - scan.counted;
        scan.counted = position;
        if record.position < self.given_out {
            return Ok(None);
        }
        self.until_ms = self.until_ms.max(record.time_ms);
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests;
