//! Reading durable records from any thread: a snapshot of the open segments, without the log's owner.
//! One record by its place, or all records of a stretch in order. Nothing here knows what records mean.

mod identity;
mod keyed;
mod records;

use std::ops::RangeInclusive;
use std::sync::Arc;

use broker_model::ShardId;
use bytes::Bytes;

use crate::disk::DiskError;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::limits::CLOCK_STEP_MS_MAX;
use crate::record::{MessageRecord, Record, RecordError};
use crate::segments::Segment;

pub use identity::{MessageIdentity, Stored};
pub use keyed::{KeyTables, KeyedRecords};
pub use records::{LoggedRecord, Records};

/// Reads records that were durable when it was made.
#[derive(Debug, Clone)]
pub struct LogReader {
    shard: u32,
    segments: Arc<Vec<Segment>>,
}

/// A record could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The bytes are not what was written.
    #[error("the record at log position {position} is damaged: {reason}")]
    Damaged {
        /// Log position.
        position: u64,
        /// What is wrong.
        reason: RecordError,
    },
    /// A whole record, and not the one that was wanted: the disk read or wrote another place.
    #[error("the record at log position {0} is not the message that was stored there")]
    Another(u64),
    /// There is no whole frame where one must be.
    #[error(
        "the log is damaged at log position {0}: there is no whole frame that follows the one before"
    )]
    DamagedFrame(u64),
    /// Nothing is kept there any more.
    #[error("log position {0} is not kept any more")]
    Gone(u64),
}

impl LogReader {
    pub(crate) fn new(shard: u32, segments: Arc<Vec<Segment>>) -> Self {
        Self { shard, segments }
    }

    /// Reads the record of `length_bytes` at a log position.
    ///
    /// # Errors
    /// [`ReadError`]; damaged bytes are never returned as a record.
    pub fn record(&self, position: u64, length_bytes: u32) -> Result<Record, ReadError> {
        let at = self.segments.partition_point(|segment| segment.base <= position);
        let segment = at.checked_sub(1).and_then(|at| self.segments.get(at));
        if let Some(segment) = segment
            && let Some(condensed) = &segment.condensed
        {
            return segment.condensed_record(condensed, self.shard, (position, length_bytes));
        }
        let segment = segment.filter(|segment| position + u64::from(length_bytes) <= segment.end());
        let segment = segment.ok_or(ReadError::Gone(position))?;
        let mut bytes = vec![0; length_bytes as usize];
        segment.file.read_at(position - segment.base, &mut bytes)?;
        let mut bytes = Bytes::from(bytes);
        let record =
            Record::decode(&mut bytes).map_err(|reason| ReadError::Damaged { position, reason })?;
        // A whole one that is shorter: the disk read another place.
        if bytes.is_empty() { Ok(record) } else { Err(ReadError::Another(position)) }
    }

    /// Reads the message whose record of `length_bytes` is at a log position.
    ///
    /// # Errors
    /// [`ReadError`]; neither damaged bytes nor, as far as `identity` tells, another message are ever returned.
    pub fn message(
        &self,
        position: u64,
        length_bytes: u32,
        identity: &MessageIdentity,
    ) -> Result<MessageRecord, ReadError> {
        let record = self.record(position, length_bytes)?;
        let is_it = identity.is_of(&record);
        #[cfg(any(test, feature = "simulation"))]
        let is_it = is_it || crate::switches::has_bug(crate::switches::Bug::AnyRecord);
        if !is_it {
            return Err(ReadError::Another(position));
        }
        record.into_message().ok_or(ReadError::Another(position))
    }

    /// The oldest log position that is kept.
    #[must_use]
    pub fn begin(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.base)
    }

    /// All records that are kept from the frame that begins at `from` up to `end`, a log position up to which everything is durable.
    #[must_use]
    pub fn records(&self, from: u64, end: u64) -> Records<'_> {
        Records::new(self.shard, &self.segments, from, end)
    }

    /// The records up to `end` whose frames carry a time in this range, Unix milliseconds. Frames are in the order of
    /// time but for steps of the leader's clock, so that only the segments of the range are read.
    ///
    /// # Errors
    /// [`ReadError`] when the beginning of a segment cannot be read.
    pub fn records_of_times(
        &self,
        times: RangeInclusive<u64>,
        end: u64,
    ) -> Result<Records<'_>, ReadError> {
        self.records_of_times_from(0, times, end)
    }

    /// As [`LogReader::records_of_times`], from the segment on in which a log position is.
    ///
    /// # Errors
    /// As there.
    pub fn records_of_times_from(
        &self,
        position: u64,
        times: RangeInclusive<u64>,
        end: u64,
    ) -> Result<Records<'_>, ReadError> {
        let count = self.segments.partition_point(|segment| segment.base < end);
        let earliest_ms = times.start().saturating_sub(CLOCK_STEP_MS_MAX);
        let first = self.begun_before(earliest_ms, count)?;
        let reached = self.segments[..count].partition_point(|segment| segment.base <= position);
        let first = first.max(reached).saturating_sub(1);
        let from = self.segments.get(first).map_or(0, |segment| segment.base);
        Ok(self.records(from, end).only(times))
    }

    /// How many of the first `count` segments begin before a time.
    fn begun_before(&self, time_ms: u64, count: usize) -> Result<usize, ReadError> {
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.begin_ms(&self.segments[middle])? < time_ms {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The time of the first entry of a segment, or of the first one of which a condensed segment keeps something.
    fn begin_ms(&self, segment: &Segment) -> Result<u64, ReadError> {
        if let Some(mut records) = segment.condensed_records(self.shard) {
            return records.next().map_or(Ok(0), |first| Ok(first?.time_ms));
        }
        let mut position = segment.base;
        loop {
            let mut bytes = [0; FRAME_HEADER_BYTES];
            segment.file.read_at(position - segment.base, &mut bytes)?;
            let header = FrameHeader::decode(&bytes).map(|(header, _)| header);
            let ours =
                header.filter(|header| (header.position, header.shard) == (position, self.shard));
            match ours {
                Some(header) if header.kind == FrameKind::Entry => return Ok(header.time_ms),
                // Its time is not that of anything stored.
                Some(header) => position += header.frame_bytes(),
                None if position == segment.base => return Err(ReadError::DamagedFrame(position)),
                // Nothing is stored in it yet.
                None => return Ok(u64::MAX),
            }
        }
    }
}

/// The directory of a shard's log below the data directory.
#[must_use]
pub fn log_directory(shard: ShardId) -> String {
    format!("shard-{}/log", shard.0)
}

#[cfg(test)]
mod tests;
