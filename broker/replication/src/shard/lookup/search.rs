//! One pass over the log with its limits: how far it may read, and whether anybody still waits.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

use broker_engine::{Command, Refusal, Reply};
use broker_store::reader::KeyTables;
use broker_store::sealed_index::IndexError;
use broker_store::{Disk, KeyedRecords, LogReader, LoggedRecord, ReadError, Records, TopicKey};

/// How far a search came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Searched {
    /// Whether all of the range was read; otherwise a limit ended the search.
    pub is_complete: bool,
    /// The time of the last record that was read, Unix time; 0 when there was none.
    pub until_ms: u64,
}

/// Only messages that may have a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct OfKey<'a> {
    pub(super) key: TopicKey,
    pub(super) tables: KeyTables<'a>,
    /// Whether a table that is damaged may be removed.
    pub(super) removes_damaged: bool,
}

/// What a search may read.
#[derive(Debug, Clone)]
pub(super) struct Bounds<'a> {
    /// Unix milliseconds.
    pub(super) times: RangeInclusive<u64>,
    /// Records before this log position were looked at before.
    pub(super) from: u64,
    /// Log position behind the last durable frame.
    pub(super) end: u64,
    /// Bytes of the log, and of key tables.
    pub(super) bytes_max: u64,
    /// None to read everything.
    pub(super) of_key: Option<OfKey<'a>>,
}

/// Where the records of a search come from.
enum Source<'a> {
    /// All of a stretch of the log.
    Every { records: Box<Records<'a>>, begin: u64 },
    /// Those in which a key may be.
    OfKey(Box<KeyedRecords<'a>>),
}

impl<'a> Source<'a> {
    fn every(records: Records<'a>) -> Self {
        let begin = records.position();
        Self::Every { records: Box::new(records), begin }
    }

    fn read_bytes(&self) -> u64 {
        match self {
            Self::Every { records, begin } => Records::position(records) - begin,
            Self::OfKey(records) => records.read_bytes(),
        }
    }

    /// Log position before which everything was looked at, where that is known without a record.
    fn position(&self) -> u64 {
        match self {
            Self::Every { .. } => 0,
            Self::OfKey(records) => records.position(),
        }
    }

    /// The next record, or nothing yet; none at the end.
    fn step(&mut self) -> Option<Result<Option<LoggedRecord>, ReadError>> {
        match self {
            Self::Every { records, .. } => Some(records.next()?.map(Some)),
            Self::OfKey(records) => records.step(),
        }
    }
}

/// Records in order, until the range ends or a limit is reached.
pub(super) struct Search<'a> {
    source: Source<'a>,
    bytes_max: u64,
    is_given_up: &'a AtomicBool,
    ask: &'a dyn Fn(Command) -> Reply,
    /// Where key tables are removed that are damaged.
    removes_from: Option<&'a dyn Disk>,
    searched: Searched,
    from: u64,
    /// Where a search goes on behind the last record that was given out, and where what was cut off begins.
    next: u64,
    end: u64,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        reader: &'a LogReader,
        bounds: Bounds<'a>,
        is_given_up: &'a AtomicBool,
        ask: &'a dyn Fn(Command) -> Reply,
    ) -> Result<Self, Refusal> {
        let Bounds { times, from, end, bytes_max, of_key } = bounds;
        let source = match of_key {
            None => reader.records_of_times_from(from, times, end).map(Source::every),
            Some(OfKey { key, tables, .. }) => {
                let records = reader.records_of_key(tables, key, times, end);
                records.map(|records| Source::OfKey(Box::new(records)))
            }
        };
        Ok(Self {
            source: source.map_err(|error| refusal(&error))?,
            bytes_max,
            is_given_up,
            ask,
            removes_from: of_key.filter(|of| of.removes_damaged).map(|of| of.tables.disk),
            searched: Searched { is_complete: true, until_ms: 0 },
            from,
            next: from,
            end,
        })
    }

    /// Tells of key tables that could not be used. Without the file sealing makes another one.
    fn note_unusable(&mut self) {
        let Source::OfKey(records) = &mut self.source else { return };
        self.searched.until_ms = self.searched.until_ms.max(records.until_ms());
        for error in records.take_unusable() {
            tracing::warn!(%error, "a key table cannot be used; its segment is read instead");
            if let (IndexError::Damaged { path, .. }, Some(disk)) = (&error, self.removes_from) {
                // What cannot be removed is passed over by the next search too.
                let _ = disk.remove(path);
            }
        }
    }

    /// Asks the shard something; blocks.
    pub(super) fn ask(&self, command: Command) -> Reply {
        (self.ask)(command)
    }

    /// Where the search goes on: behind all that was looked at.
    pub(super) fn next_position(&self) -> u64 {
        if self.searched.is_complete { self.end.max(self.from) } else { self.next }
    }

    /// Ends the search before its range does, and before a record that was given out.
    pub(super) fn cut_before(&mut self, position: u64) {
        self.next = position;
        self.searched.is_complete = false;
    }

    /// Ends the search before its range does.
    pub(super) fn cut(&mut self) {
        self.searched.is_complete = false;
    }

    pub(super) fn searched(&self) -> Searched {
        self.searched
    }
}

impl Iterator for Search<'_> {
    type Item = Result<LoggedRecord, Refusal>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if !self.searched.is_complete {
                return None;
            }
            if self.is_given_up.load(Ordering::Relaxed) {
                return Some(Err(Refusal::Unavailable));
            }
            if self.source.read_bytes() > self.bytes_max {
                self.cut();
                self.next = self.next.max(self.source.position());
                return None;
            }
            let step = self.source.step();
            self.note_unusable();
            match step? {
                Ok(Some(record)) if record.position < self.from => {}
                Ok(Some(record)) => {
                    self.next = record.position + 1;
                    self.searched.until_ms = self.searched.until_ms.max(record.time_ms);
                    return Some(Ok(record));
                }
                Ok(None) => {}
                Err(error) => return Some(Err(refusal(&error))),
            }
        }
    }
}

fn refusal(error: &ReadError) -> Refusal {
    tracing::error!(%error, "a search of the log ended");
    Refusal::LogFailed(error.to_string())
}
