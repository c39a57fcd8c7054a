//! What the engine wants done: records to append, and replies to release now or once those records are committed.

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};

use broker_model::Topic;
use broker_store::Record;
use broker_store::limits::FRAME_PAYLOAD_BYTES_MAX;
use broker_store::record::record_bytes;

use crate::command::{Outcome, TransactionCheck};
use crate::limits::limits;
use crate::refusal::Refusal;

/// The answer to a command.
pub type Reply = Result<Outcome, Refusal>;

/// Where an answer goes. The engine never sends it; it only asks whether anybody still waits, and whether for it.
pub trait ReplyTo {
    /// Whether nobody waits for the answer any more, or not for one from here.
    fn is_gone(&self) -> bool;

    /// Takes a poll that may wait on other shards as well, before messages are handed out for it. False when another
    /// shard answers it: it is gone then.
    fn claim(&self) -> bool {
        true
    }
}

/// Records for one frame of the log, and the answers that wait for it.
#[derive(Debug)]
pub struct Frame<R> {
    /// The encoded records.
    pub payload: Bytes,
    /// How many they are.
    pub records: u32,
    /// To release when the frame is committed.
    pub on_commit: Vec<(R, Reply)>,
}

/// How much there was at some point.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    payload_bytes: usize,
    records: u32,
    answers: usize,
}

/// A list of effects, filled by one or more commands and carried out by the shell.
#[derive(Debug)]
pub struct Effects<R> {
    /// Encoded records for the next frames.
    pub payload: BytesMut,
    /// How many they are.
    pub records: u32,
    /// To release when the records before are committed.
    pub on_commit: Vec<(R, Reply)>,
    /// To release now.
    pub now: Vec<(R, Reply)>,
    /// Dead-letter topics that came into being.
    pub new_topics: Vec<Topic>,
    /// Transactions whose producers are to be asked.
    pub checks: Vec<TransactionCheck>,
    /// What the log takes as the payload of one frame.
    frame_bytes_max: usize,
    /// Where frames end.
    cuts: Vec<Mark>,
    /// Where the last piece ended.
    piece_end: Mark,
}

impl<R> Default for Effects<R> {
    fn default() -> Self {
        Self::for_frames(FRAME_PAYLOAD_BYTES_MAX)
    }
}

impl<R> Effects<R> {
    /// Without effects yet, for a log that takes so many bytes of records in a frame.
    #[must_use]
    pub fn for_frames(frame_bytes_max: usize) -> Self {
        Self {
            payload: BytesMut::new(),
            records: 0,
            on_commit: Vec::new(),
            now: Vec::new(),
            new_topics: Vec::new(),
            checks: Vec::new(),
            frame_bytes_max,
            cuts: Vec::new(),
            piece_end: Mark::default(),
        }
    }

    /// Adds a record to the next frame.
    pub fn append(&mut self, record: &Record) {
        record.encode(&mut self.payload);
        self.records = self.records.saturating_add(1);
    }

    /// What was added since the last call is one piece: it holds without what follows, and stands in one frame as far as
    /// that can be.
    pub fn end_piece(&mut self) {
        let end = self.mark();
        let mut begin = self.cuts.last().copied().unwrap_or_default();
        if end.payload_bytes.saturating_sub(begin.payload_bytes) < limits().frame_bytes_target {
            self.piece_end = end;
            return;
        }
        if end.payload_bytes.saturating_sub(begin.payload_bytes) > self.frame_bytes_max
            && self.piece_end.payload_bytes > begin.payload_bytes
        {
            begin = self.piece_end;
            self.cuts.push(begin);
        }
        if end.payload_bytes.saturating_sub(begin.payload_bytes) > self.frame_bytes_max {
            self.cut_between_records(begin, end);
        }
        self.cuts.push(end);
        self.piece_end = end;
    }

    /// A piece that no frame can hold is cut where records end. Each of them says all that it means.
    fn cut_between_records(&mut self, mut begin: Mark, end: Mark) {
        let mut at = begin;
        while let Some(length) = record_bytes(&self.payload[at.payload_bytes..end.payload_bytes]) {
            let is_full =
                at.payload_bytes.saturating_add(length).saturating_sub(begin.payload_bytes)
                    > limits().frame_bytes_target;
            if is_full && at.payload_bytes > begin.payload_bytes {
                begin = at;
                self.cuts.push(begin);
            }
            at.payload_bytes = at.payload_bytes.saturating_add(length);
            at.records = at.records.saturating_add(1);
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            payload_bytes: self.payload.len(),
            records: self.records,
            answers: self.on_commit.len(),
        }
    }

    /// Everything for the log, in frames that it takes, each with the answers that depend on no later one. `reusable` is as
    /// in [`Effects::take_records`].
    pub fn take_frames(
        &mut self,
        reusable: impl FnOnce(RangeInclusive<usize>) -> Option<BytesMut>,
    ) -> Vec<Frame<R>> {
        self.end_piece();
        let mut cuts = std::mem::take(&mut self.cuts);
        self.piece_end = Mark::default();
        // What comes behind the last cut is a frame of its own; answers alone are none.
        let end = self.mark();
        match cuts.last_mut() {
            Some(last) if last.payload_bytes == end.payload_bytes => *last = end,
            _ => cuts.push(end),
        }
        let (mut payload, _) = self.take_records(reusable);
        let mut on_commit = std::mem::take(&mut self.on_commit);
        let mut frames = Vec::with_capacity(cuts.len());
        let mut begin = Mark::default();
        for cut in cuts {
            let later = on_commit.split_off(cut.answers.saturating_sub(begin.answers));
            frames.push(Frame {
                payload: payload.split_to(cut.payload_bytes.saturating_sub(begin.payload_bytes)),
                records: cut.records.saturating_sub(begin.records),
                on_commit: std::mem::replace(&mut on_commit, later),
            });
            begin = cut;
        }
        frames
    }

    /// The encoded records, and how many they are. The next ones get memory for about as many bytes, so that it need not grow
    /// step by step. `reusable` may give memory of a capacity in the range.
    fn take_records(
        &mut self,
        reusable: impl FnOnce(RangeInclusive<usize>) -> Option<BytesMut>,
    ) -> (Bytes, u32) {
        let records = std::mem::take(&mut self.records);
        let (length, capacity) = (self.payload.len(), self.payload.capacity());
        if length <= capacity / 2 {
            // Frames are kept for a while: not together with room for twice as much.
            let payload = reusable(length..=length.saturating_mul(2));
            let mut payload = payload.unwrap_or_else(|| BytesMut::with_capacity(length));
            payload.extend_from_slice(&self.payload);
            self.payload.clear();
            return (payload.freeze(), records);
        }
        let next = reusable(length..=length.saturating_mul(4));
        let next =
            next.unwrap_or_else(|| BytesMut::with_capacity(length.saturating_add(length / 4)));
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
