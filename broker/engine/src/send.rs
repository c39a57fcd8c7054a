//! Send: choose a queue, take offsets, append. Answered when committed.

use broker_model::limits::{MESSAGES_PER_SHARD_MAX, SEND_REQUEST_BYTES_MAX};
use broker_store::{MessageRecord, Record};

use crate::command::{Outcome, Refusal, Send, SentMessage};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;

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
        let number = self.topic_number(&send.topic)?;
        self.check_room(&send)?;
        let topic = self.state.topics.get_mut(&number);
        let topic = topic.ok_or_else(|| Refusal::TopicNotFound(send.topic.clone()))?;
        let is_writable = topic.topic.writable && !send.topic.is_dead_letter();
        if !is_writable || topic.queues.is_empty() {
            return Err(Refusal::NotWritable(send.topic));
        }
        // A batch goes to one queue, so that its messages stay together.
        let queue = topic.next_queue % topic.queues.len();
        topic.next_queue = queue + 1;
        let queue_number = u32::try_from(queue).expect("queues of a topic are limited");
        let mut sent = Vec::with_capacity(send.messages.len());
        for message in send.messages {
            let offset = topic.queues[queue].take_offset();
            effects.append(&Record::Message(MessageRecord {
                topic: number,
                queue: queue_number,
                offset,
                tag_hash: message.tag_hash,
                head: message.head,
                body: message.body,
            }));
            sent.push(SentMessage { queue: queue_number, offset });
        }
        Ok(sent)
    }

    fn check_room(&self, send: &Send) -> Result<(), Refusal> {
        if self.is_disk_full {
            return Err(Refusal::DiskFull);
        }
        if self.state.messages + send.messages.len() as u64 > MESSAGES_PER_SHARD_MAX {
            let text = format!("the shard holds {MESSAGES_PER_SHARD_MAX} messages, its limit");
            return Err(Refusal::TooMany(text));
        }
        let bytes: usize = send.messages.iter().map(|m| m.head.len() + m.body.len()).sum();
        if bytes > SEND_REQUEST_BYTES_MAX {
            let text = format!("{bytes} bytes in one send, at most {SEND_REQUEST_BYTES_MAX}");
            return Err(Refusal::TooMany(text));
        }
        Ok(())
    }
}
