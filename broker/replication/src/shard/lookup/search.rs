//! One pass over the log with its limits: how far it may read, and whether anybody still waits.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

use broker_engine::{Command, Refusal, Reply};
use broker_store::{LogReader, LoggedRecord, ReadError, Records};

/// How far a search came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Searched {
    /// Whether all of the range was read; otherwise a limit ended the search.
    pub is_complete: bool,
    /// The time of the last record that was read, Unix time; 0 when there was none.
    pub until_ms: u64,
}

/// What a search may read.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// Unix milliseconds.
    pub(super) times: RangeInclusive<u64>,
    /// Log position behind the last durable frame.
    pub(super) end: u64,
    /// Bytes of the log.
    pub(super) bytes_max: u64,
}

/// Records in order, until the range ends or a limit is reached.
pub(super) struct Search<'a> {
    records: Records<'a>,
    begin: u64,
    bytes_max: u64,
    is_given_up: &'a AtomicBool,
    ask: &'a dyn Fn(Command) -> Reply,
    searched: Searched,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        reader: &'a LogReader,
        bounds: Bounds,
        is_given_up: &'a AtomicBool,
        ask: &'a dyn Fn(Command) -> Reply,
    ) -> Result<Self, Refusal> {
        let Bounds { times, end, bytes_max } = bounds;
        let records = reader.records_of_times(times, end).map_err(|error| refusal(&error))?;
        let begin = records.position();
        let searched = Searched { is_complete: true, until_ms: 0 };
        Ok(Self { records, begin, bytes_max, is_given_up, ask, searched })
    }

    /// Asks the shard something; blocks.
    pub(super) fn ask(&self, command: Command) -> Reply {
        (self.ask)(command)
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
        if !self.searched.is_complete {
            return None;
        }
        if self.is_given_up.load(Ordering::Relaxed) {
            return Some(Err(Refusal::Unavailable));
        }
        if self.records.position() - self.begin > self.bytes_max {
            self.cut();
            return None;
        }
        let next = self.records.next()?.map_err(|error| refusal(&error));
        if let Ok(record) = &next {
            self.searched.until_ms = self.searched.until_ms.max(record.time_ms);
        }
        Some(next)
    }
}

fn refusal(error: &ReadError) -> Refusal {
    tracing::error!(%error, "a search of the log ended");
    Refusal::LogFailed(error.to_string())
}
