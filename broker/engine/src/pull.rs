//! Pull: read messages of one queue from an offset on, without handing them out (protocol section 3.12). A pull that
//! finds nothing waits for the next message of its queue.

use broker_model::limits::{
    RECEIVE_BATCH_BYTES_MAX, RECEIVE_BATCH_MESSAGES_MAX, WAITERS_PER_GROUP_TOPIC_MAX,
    WAITERS_PER_SHARD_MAX,
};
use broker_model::{ReceiptHandle, TopicName};
use broker_store::Log;

use crate::command::{Delivery, Outcome, Pull, Pulled};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::receive::source_at;
use crate::refusal::Refusal;
use crate::state::PullEnd;

/// Messages looked at in one go; a filter that lets little through answers with how far it got.
const LOOKED_AT_MAX: u64 = 4096;

/// A pull that waits.
#[derive(Debug)]
pub(crate) struct WaitingPull<R> {
    pub(crate) id: u64,
    pub(crate) reply: R,
    pub(crate) pull: Pull,
}

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn pull(
        &mut self,
        now_ms: u64,
        pull: Pull,
        reply: R,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        let pulled = match self.read_from(&pull, log) {
            Ok(pulled) => pulled,
            Err(refusal) => return effects.now.push((reply, Err(refusal))),
        };
        let is_answer = !pulled.messages.is_empty()
            || pulled.is_out_of_range
            || pulled.next_offset > pull.offset
            || pull.poll_until_ms <= now_ms;
        if is_answer {
            return effects.now.push((reply, Ok(Outcome::Pulled(pulled))));
        }
        self.park_pull(pull, reply, effects);
    }

    fn park_pull(&mut self, pull: Pull, reply: R, effects: &mut Effects<R>) {
        let number = self.topic_number(&pull.topic).unwrap_or(0);
        let waiters = self.state.waiters;
        let Some(topic) = self.state.topics.get_mut(&number) else { return };
        if topic.pulls.len() >= WAITERS_PER_GROUP_TOPIC_MAX || waiters >= WAITERS_PER_SHARD_MAX {
            let text = format!("{} pulls wait already on this topic", topic.pulls.len());
            return effects.now.push((reply, Err(Refusal::TooMany(text))));
        }
        let id = self.next_waiter;
        self.next_waiter = self.next_waiter.saturating_add(1);
        self.state.waiters = self.state.waiters.saturating_add(1);
        let deadline_ms = pull.poll_until_ms;
        topic.pulls.push(WaitingPull { id, reply, pull });
        self.state.pull_ends.insert(PullEnd { deadline_ms, topic: number, waiter: id });
    }

    /// Answers the pulls of a topic that have something now, or `is_over`, that wait no longer than this time.
    pub(crate) fn serve_pulls(
        &mut self,
        topic: u32,
        ended: Option<u64>,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        let Some(state) = self.state.topics.get_mut(&topic) else { return };
        let pulls = std::mem::take(&mut state.pulls);
        let mut waiting = Vec::new();
        for waiter in pulls {
            let answer = self.read_from(&waiter.pull, log);
            let waits = waiter.pull.poll_until_ms > ended.unwrap_or(0)
                && !waiter.reply.is_gone()
                && answer.as_ref().is_ok_and(|pulled| {
                    pulled.messages.is_empty() && pulled.next_offset == waiter.pull.offset
                });
            if waits {
                waiting.push(waiter);
                continue;
            }
            self.state.waiters = self.state.waiters.saturating_sub(1);
            let deadline_ms = waiter.pull.poll_until_ms;
            self.state.pull_ends.remove(&PullEnd { deadline_ms, topic, waiter: waiter.id });
            effects.now.push((waiter.reply, answer.map(Outcome::Pulled)));
        }
        if let Some(state) = self.state.topics.get_mut(&topic) {
            state.pulls = waiting;
        }
    }

    fn read_from(&self, pull: &Pull, log: &Log) -> Result<Pulled, Refusal> {
        let topic = self.readable_topic(&pull.topic)?;
        let queue = self.queue(&pull.topic, pull.queue)?;
        let start = pull.offset.clamp(queue.base(), queue.end());
        let is_out_of_range = start != pull.offset;
        let mut pulled = Pulled { messages: Vec::new(), next_offset: start, is_out_of_range };
        if is_out_of_range {
            return Ok(pulled);
        }
        let messages_max = pull.messages_max.clamp(1, RECEIVE_BATCH_MESSAGES_MAX) as usize;
        let mut room_bytes = RECEIVE_BATCH_BYTES_MAX;
        for offset in start..queue.end().min(start.saturating_add(LOOKED_AT_MAX)) {
            let Some(entry) = queue.get(offset) else { break };
            let bytes = entry.length_bytes as usize;
            let is_full = pulled.messages.len() >= messages_max
                || (bytes > room_bytes && !pulled.messages.is_empty());
            if is_full {
                break;
            }
            pulled.next_offset = offset.saturating_add(1);
            if !pull.filter.matches(entry.tag_hash) {
                continue;
            }
            room_bytes = room_bytes.saturating_sub(bytes);
            let shard = self.shard;
            let (group, nonce, attempt, queue) = (0, 0, 0, pull.queue);
            let identity = || self.identity_of((topic, queue, offset), &entry);
            pulled.messages.push(Delivery {
                handle: ReceiptHandle {
                    shard,
                    topic,
                    group,
                    queue,
                    offset,
                    nonce,
                    attempt,
                    code: None,
                },
                stored_ms: entry.stored_ms,
                invisible_until_ms: 0,
                origin_topic: self.state.topic_names.get(&entry.origin).cloned(),
                source: source_at(entry.position, entry.length_bytes, log, identity),
            });
        }
        Ok(pulled)
    }

    fn readable_topic(&self, name: &TopicName) -> Result<u32, Refusal> {
        let number = self.topic_number(name)?;
        let state = self.state.topics.get(&number);
        let is_readable = state.is_some_and(|state| state.topic.readable);
        is_readable.then_some(number).ok_or_else(|| Refusal::NotReadable(name.clone()))
    }
}
