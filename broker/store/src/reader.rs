//! Reading durable records from any thread: a snapshot of the open segments, without the log's owner.

use std::sync::Arc;

use broker_model::ShardId;
use bytes::Bytes;

use crate::disk::DiskError;
use crate::record::{Record, RecordError};
use crate::segments::Segment;

/// Reads records that were durable when it was made.
#[derive(Debug, Clone)]
pub struct LogReader {
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
    /// Nothing is kept there any more.
    #[error("log position {0} is not kept any more")]
    Gone(u64),
}

impl LogReader {
    pub(crate) fn new(segments: Arc<Vec<Segment>>) -> Self {
        Self { segments }
    }

    /// Reads the record of `length_bytes` at a log position.
    ///
    /// # Errors
    /// [`ReadError`]; damaged bytes are never returned as a record.
    pub fn record(&self, position: u64, length_bytes: u32) -> Result<Record, ReadError> {
        let at = self.segments.partition_point(|segment| segment.base <= position);
        let segment = at.checked_sub(1).and_then(|at| self.segments.get(at));
        let segment = segment.filter(|segment| position + u64::from(length_bytes) <= segment.end());
        let segment = segment.ok_or(ReadError::Gone(position))?;
        let mut bytes = vec![0; length_bytes as usize];
        segment.file.read_at(position - segment.base, &mut bytes)?;
        Record::decode(&mut Bytes::from(bytes))
            .map_err(|reason| ReadError::Damaged { position, reason })
    }
}

/// The directory of a shard's log below the data directory.
#[must_use]
pub fn log_directory(shard: ShardId) -> String {
    format!("shard-{}/log", shard.0)
}
