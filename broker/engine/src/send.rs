//! Send: choose a queue, take offsets, append. Answered when committed. A message that is not visible at once is kept
//! aside and gets its offset when it becomes visible.

use broker_model::limits::INDEX_ENTRIES_PER_SHARD_MAX;
use broker_model::{RecallHandle, TransactionId};
use broker_store::{MessageRecord, Record};

use crate::command::{Hidden, NewMessage, Outcome, Send, SentMessage, Target, Visible};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::refusal::Refusal;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn send(&mut self, send: Send, reply: R, effects: &mut Effects<R>) {
        match self.try_send(send, effects) {
            Ok(sent) => effects.on_commit.push((reply, Ok(Outcome::Sent(sent)))),
            Err(refusal) => effects.now.push((reply, Err(refusal))),
        }
    }

    fn try_send(
        &mut self,
        send: Send,
        effects: &mut Effects<R>,
    ) -> Result<Vec<SentMessage>, Refusal> {
        let topic = self.topic_number(&send.topic)?;
        self.check_room(&send)?;
        // A batch goes to one queue, so that its messages stay together.
        let queue = self.choose_queue(topic, &send, effects)?;
        let mut sent = Vec::with_capacity(send.messages.len());
        for message in send.messages {
            sent.push(self.append_message(topic, queue, message, effects));
        }
        Ok(sent)
    }

    fn choose_queue(
        &mut self,
        number: u32,
        send: &Send,
        effects: &mut Effects<R>,
    ) -> Result<u32, Refusal> {
        let topic = self.state.topics.get_mut(&number);
        let topic = topic.ok_or_else(|| Refusal::TopicNotFound(send.topic.clone()))?;
        if !topic.topic.writable || send.topic.is_dead_letter() {
            return Err(Refusal::NotWritable(send.topic.clone()));
        }
        let count = u32::try_from(topic.queues.len()).expect("queues of a topic are limited");
        match &send.target {
            Target::LiteTopic(name) => self.lite_queue(number, name, effects),
            _ if count == 0 => Err(Refusal::NotWritable(send.topic.clone())),
            Target::QueueOf { layout, .. } if !topic.takes_layout(*layout) => {
                Err(Refusal::LayoutChanges(send.topic.clone()))
            }
            Target::Queue(queue) | Target::QueueOf { queue, .. } if *queue < count => Ok(*queue),
            Target::Queue(queue) | Target::QueueOf { queue, .. } => {
                Err(Refusal::QueueNotFound { topic: send.topic.clone(), queue: *queue })
            }
            Target::AnyQueue => {
                let queue = topic.next_queue.checked_rem(count).unwrap_or(0);
                topic.next_queue = queue.saturating_add(1);
                Ok(queue)
            }
        }
    }

    fn append_message(
        &mut self,
        topic: u32,
        queue: u32,
        message: NewMessage,
        effects: &mut Effects<R>,
    ) -> SentMessage {
        let NewMessage { tag_hash, message_group_hash, visible, head, body } = message;
        let offset = match visible {
            Visible::AtOnce => self.take_offset(topic, queue),
            Visible::At { .. } | Visible::OnCommit { .. } => 0,
        };
        let message =
            MessageRecord { topic, queue, offset, tag_hash, message_group_hash, head, body };
        let hidden = match visible {
            Visible::AtOnce => {
                effects.append(&Record::Message(message));
                None
            }
            Visible::At { due_ms } => {
                let number = self.state.timed.take_number();
                effects.append(&Record::Timed { number, due_ms, message });
                let (shard, message_id) = (self.shard, String::new());
                let handle = RecallHandle { shard, topic, number, due_ms, message_id, code: None };
                let code = self.handle_key(effects).of_recall(&handle);
                Some(Hidden::Timed { number, due_ms, code })
            }
            Visible::OnCommit { check_after_ms } => {
                let number = self.state.transactions.take_number();
                effects.append(&Record::Half { number, check_after_ms, message });
                let id = TransactionId { shard: self.shard, topic, number, code: None };
                let code = self.handle_key(effects).of_transaction(&id);
                Some(Hidden::Half { number, code })
            }
        };
        SentMessage { queue, offset, topic, hidden }
    }

    /// Takes the offset for a message that is about to become visible; every such decision does, in log order.
    pub(crate) fn take_offset(&mut self, topic: u32, queue: u32) -> u64 {
        let topic = self.state.topics.get_mut(&topic);
        let queue = topic.and_then(|topic| topic.queues.get_mut(queue as usize));
        queue.map_or(0, crate::index::Queue::take_offset)
    }

    fn check_room(&self, send: &Send) -> Result<(), Refusal> {
        if self.is_disk_full {
            return Err(Refusal::DiskFull);
        }
        if self.state.index_entries.saturating_add(send.messages.len() as u64)
            > INDEX_ENTRIES_PER_SHARD_MAX
        {
            let text = format!(
                "the index of the shard holds {INDEX_ENTRIES_PER_SHARD_MAX} entries, its limit"
            );
            return Err(Refusal::TooMany(text));
        }
        let bytes: usize =
            send.messages.iter().map(|m| m.head.len().saturating_add(m.body.len())).sum();
        if bytes > self.send_bytes_max {
            return Err(Refusal::SendTooLarge { bytes, bytes_max: self.send_bytes_max });
        }
        Ok(())
    }
}
