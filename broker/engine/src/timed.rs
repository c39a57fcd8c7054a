//! Timed messages: visible when they are due, gone when they are recalled before.

use broker_store::Record;

use crate::command::{Outcome, Recall};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::hidden::TimedKey;
use crate::refusal::Refusal;

/// Timed messages made due whose commit is still outstanding.
const LEAVING_MAX: usize = 16 * 1024;

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
        let topic = self.topic_number(&recall.topic)?;
        if (recall.handle.shard, recall.handle.topic) != (self.shard, topic) {
            return Err(Refusal::NotTimed);
        }
        let key = (recall.handle.due_ms, recall.handle.number);
        self.state.timed.leave(key).map(|_| key).ok_or(Refusal::NotTimed)
    }

    /// Makes visible what is due.
    pub(crate) fn release_due(&mut self, now_ms: u64, effects: &mut Effects<R>) {
        while let Some(key) = self.state.timed.next_due(now_ms, LEAVING_MAX) {
            let (due_ms, number) = key;
            if let Some(message) = self.state.timed.leave(key) {
                self.take_offset(message.topic, message.queue);
                effects.append(&Record::Due { number, due_ms });
            }
        }
    }

    /// When the next timed message is due; none while the commit of earlier ones has to come first.
    pub(crate) fn next_due_ms(&self) -> Option<u64> {
        self.state.timed.next_ms(LEAVING_MAX)
    }
}
