//! What the engine wants done: records to append, and replies to release now or once those records are committed.

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};

use broker_model::Topic;
use broker_store::Record;

use crate::command::{Outcome, TransactionCheck};
use crate::refusal::Refusal;

/// The answer to a command.
pub type Reply = Result<Outcome, Refusal>;

/// Where an answer goes. The engine never sends it; it only asks whether anybody still waits.
pub trait ReplyTo {
    /// Whether nobody waits for the answer any more.
    fn is_gone(&self) -> bool;
}

/// A list of effects, filled by one or more commands and carried out by the shell.
#[derive(Debug)]
pub struct Effects<R> {
    /// Encoded records for the next frame.
    pub payload: BytesMut,
    /// How many they are.
    pub records: u32,
    /// To release when the frame is committed.
    pub on_commit: Vec<(R, Reply)>,
    /// To release now.
    pub now: Vec<(R, Reply)>,
    /// Dead-letter topics that came into being.
    pub new_topics: Vec<Topic>,
    /// Transactions whose producers are to be asked.
    pub checks: Vec<TransactionCheck>,
}

impl<R> Default for Effects<R> {
    fn default() -> Self {
        Self {
            payload: BytesMut::new(),
            records: 0,
            on_commit: Vec::new(),
            now: Vec::new(),
            new_topics: Vec::new(),
            checks: Vec::new(),
        }
    }
}

impl<R> Effects<R> {
    /// Adds a record to the next frame.
    pub fn append(&mut self, record: &Record) {
        record.encode(&mut self.payload);
        self.records += 1;
    }

    /// The encoded records, and how many they are. The next ones get memory for about as many bytes, so that it need not grow
    /// step by step. `reusable` may give memory of a capacity in the range.
    pub fn take_records(
        &mut self,
        reusable: impl FnOnce(RangeInclusive<usize>) -> Option<BytesMut>,
    ) -> (Bytes, u32) {
        let records = std::mem::take(&mut self.records);
        let (length, capacity) = (self.payload.len(), self.payload.capacity());
        if length <= capacity / 2 {
            // Frames are kept for a while: not together with room for twice as much.
            let payload = reusable(length..=length * 2);
            let mut payload = payload.unwrap_or_else(|| BytesMut::with_capacity(length));
            payload.extend_from_slice(&self.payload);
            self.payload.clear();
            return (payload.freeze(), records);
        }
        let next = reusable(length..=length * 4);
        let next = next.unwrap_or_else(|| BytesMut::with_capacity(length + length / 4));
        (std::mem::replace(&mut self.payload, next).freeze(), records)
    }

    /// Whether there is anything for a frame.
    #[must_use]
    pub fn has_records(&self) -> bool {
        self.records > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(length: usize, capacity: usize) -> Effects<()> {
        let mut payload = BytesMut::with_capacity(capacity);
        payload.resize(length, 7);
        Effects { payload, records: 1, ..Effects::default() }
    }

    #[test]
    fn records_are_taken_whole_and_memory_that_fits_is_used_again() {
        // length, capacity, capacity to reuse; whether the frame is in it, whether the next records are
        let rows = [
            (900, 1000, 1200, false, true),
            (900, 1000, 800, false, false),
            (400, 1000, 500, true, false),
            (400, 1000, 5000, false, false),
            (400, 1000, 300, false, false),
        ];
        for (length, capacity, reusable, is_frame, is_next) in rows {
            let mut effects = filled(length, capacity);
            let reusable = BytesMut::with_capacity(reusable);
            let place = reusable.as_ptr();
            // What does not fit lives on: its place cannot be anybody's.
            let mut reusable = Some(reusable);
            let (payload, records) = effects.take_records(|range| {
                reusable.take_if(|buffer| range.contains(&buffer.capacity()))
            });
            assert_eq!((payload.len(), records), (length, 1));
            assert!(payload.iter().all(|byte| *byte == 7));
            assert!(effects.payload.is_empty() && !effects.has_records());
            let found = (payload.as_ptr() == place, effects.payload.as_ptr() == place);
            assert_eq!(found, (is_frame, is_next), "{length} of {capacity}");
        }
    }
}
