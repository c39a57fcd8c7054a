//! Timed messages: visible when they are due, gone when they are recalled before.

use broker_store::Record;
use broker_store::record::Reference;

use crate::command::{Outcome, Recall};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::hidden::{HiddenMessage, TimedKey};
use crate::refusal::Refusal;

/// Timed messages made due whose commit is still outstanding.
const LEAVING_MAX: usize = 16 * 1024;
/// Unpacking a chunk of up to 1,024 timed messages is as much work as so many records.
const CHUNK_WORK: u32 = 128;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn recall(&mut self, recall: &Recall, reply: R, effects: &mut Effects<R>) {
        match self.try_recall(recall) {
            Ok((due_ms, number)) => {
                effects.append(&Record::Recall { number, due_ms });
                effects.on_commit.push((reply, Ok(Outcome::Done)));
            }
            Err(refusal) => effects.now.push((reply, Err(refusal))),
        }
    }

    fn try_recall(&mut self, recall: &Recall) -> Result<TimedKey, Refusal> {
        self.check_recall(&recall.handle)?;
        let topic = self.topic_number(&recall.topic)?;
        if (recall.handle.shard, recall.handle.topic) != (self.shard, topic) {
            return Err(Refusal::NotTimed);
        }
        let key = (recall.handle.due_ms, recall.handle.number);
        self.state.timed.leave(key).map(|_| key).ok_or(Refusal::NotTimed)
    }

    /// Makes visible what is due, up to this much of work; says how much was done.
    pub(crate) fn release_due(&mut self, wall_ms: u64, work: u32, effects: &mut Effects<R>) -> u32 {
        // One at least: otherwise nothing that is packed would become due while the log is busy, and work is little.
        let chunks_max = work.div_ceil(CHUNK_WORK);
        let (mut done, mut chunks) = (0, chunks_max);
        while done < work
            && let Some(key) = self.state.timed.next_due(wall_ms, LEAVING_MAX, &mut chunks)
        {
            done = done.saturating_add(1);
            let (due_ms, number) = key;
            if let Some(message) = self.state.timed.leave(key) {
                let stands = Some(self.reference_to(message));
                effects.append(&Record::Due { number, due_ms, stands });
                effects.end_piece();
            }
        }
        done.saturating_add(chunks_max.saturating_sub(chunks).saturating_mul(CHUNK_WORK))
    }

    /// The place that a hidden message takes in its queue now.
    pub(crate) fn reference_to(&mut self, message: HiddenMessage) -> Reference {
        let HiddenMessage { position, tag_hash, length_bytes, topic, queue } = message;
        let offset = self.take_offset(topic, queue);
        Reference { topic, queue, offset, position, length_bytes, tag_hash }
    }

    /// When the next timed message is due by the wall clock; none while the commit of earlier ones has to come first.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.state.timed.next_ms(LEAVING_MAX)
    }
}
