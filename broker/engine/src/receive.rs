//! Receive: pick messages that the group may have now, hand them out, or park the poll until there are some. What to pick,
//! and in which order, is said in `pick`.

mod attempts;
mod pick;

use broker_model::limits::{RECEIVE_BATCH_MESSAGES_MAX, WAITERS_PER_SHARD_MAX};
use broker_model::{MessageType, ReceiptHandle};
use broker_store::record::Place;
use broker_store::{Log, MessageIdentity, Record};

use self::pick::Picked;
use crate::command::{Delivery, Outcome, Receive, Source};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::limits::limits;
use crate::refusal::Refusal;
use crate::state::TopicState;
use crate::waiting::Waiter;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn receive(
        &mut self,
        now_ms: u64,
        mut receive: Receive,
        reply: R,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        let index = match self.receive_index(&receive, effects) {
            Ok(index) => index,
            Err(refusal) => return effects.now.push((reply, Err(refusal))),
        };
        receive.messages_max = receive.messages_max.clamp(1, RECEIVE_BATCH_MESSAGES_MAX);
        let waiter = Waiter { id: self.next_waiter, reply, receive };
        self.next_waiter = self.next_waiter.saturating_add(1);
        let deliveries = self.repeat_attempt(now_ms, index, &waiter, log, effects);
        let mut picked = Picked { deliveries, is_cut: false };
        if picked.deliveries.is_empty() {
            let looks_max = limits().looked_at_per_turn;
            picked = self.pick(now_ms, index, &waiter, None, looks_max, log, effects);
        }
        let Picked { deliveries, is_cut } = picked;
        // Nobody is told that there is nothing before all was looked at.
        let is_seen = waiter.receive.poll_until_ms <= now_ms && !is_cut;
        let is_over = is_seen || waiter.reply.is_gone();
        if !deliveries.is_empty() || is_over {
            return effects.now.push((waiter.reply, Ok(Outcome::Received(deliveries))));
        }
        self.park(index, waiter, is_cut, effects);
    }

    fn receive_index(
        &mut self,
        receive: &Receive,
        effects: &mut Effects<R>,
    ) -> Result<usize, Refusal> {
        let topic = self.topic_number(&receive.topic)?;
        let group = self.group_number(&receive.group)?;
        let state = self.state.topics.get(&topic);
        let is_readable = |state: &TopicState<R>| {
            let has_queues = !state.queues.is_empty();
            state.topic.readable && (has_queues || state.topic.message_type == MessageType::Lite)
        };
        if !state.is_some_and(is_readable) {
            return Err(Refusal::NotReadable(receive.topic.clone()));
        }
        let reader = self.reader(group, &receive.client_id, effects);
        self.check_progress_room(reader, topic)?;
        let index = self.begin(reader, topic, effects);
        self.note_poll(index, &receive.client_id, effects);
        Ok(index)
    }

    fn park(
        &mut self,
        index: usize,
        waiter: Waiter<R>,
        is_looking: bool,
        effects: &mut Effects<R>,
    ) {
        let waiters = self.state.group_topic(index).map_or(0, |g| g.waiters.len());
        if waiters >= limits().waiters_per_group_topic
            || self.state.waiters >= WAITERS_PER_SHARD_MAX
        {
            let text = format!("{waiters} polls of this group wait already on this topic");
            return effects.now.push((waiter.reply, Err(Refusal::TooMany(text))));
        }
        self.state.poll_ends.insert(waiter.end(index));
        self.state.waiters = self.state.waiters.saturating_add(1);
        if let Some(progress) = self.state.group_topic_mut(index) {
            progress.waiters.push(waiter, is_looking);
        }
        if is_looking {
            self.look_on_later(index);
        }
    }

    /// The message behind a handle; none when nothing is kept there.
    fn delivery(&self, handle: ReceiptHandle, deadline_ms: u64, log: &Log) -> Option<Delivery> {
        let topic = self.state.topics.get(&handle.topic)?;
        let entry = topic.queues.get(handle.queue as usize)?.get(handle.offset)?;
        Some(Delivery {
            handle,
            stored_ms: entry.stored_ms,
            invisible_until_ms: deadline_ms,
            origin_topic: self.state.topic_names.get(&entry.origin).cloned(),
            source: source_at(entry.position, entry.length_bytes, log, || {
                self.identity_of((handle.topic, handle.queue, handle.offset), &entry)
            }),
        })
    }
}

/// The message that a handle is for.
pub(crate) fn place_of(handle: &ReceiptHandle) -> Place {
    Place { group: handle.group, topic: handle.topic, queue: handle.queue, offset: handle.offset }
}

/// Where the bytes of a message are: in the tail of the log in memory, or further back.
pub(crate) fn source_at(
    position: u64,
    length_bytes: u32,
    log: &Log,
    identity: impl FnOnce() -> MessageIdentity,
) -> Source {
    let in_memory = log.read_tail(position, length_bytes);
    let record = in_memory.and_then(|mut bytes| Record::decode(&mut bytes).ok());
    match record.and_then(Record::into_message) {
        Some(message) => Source::Memory { head: message.head, body: message.body },
        None => Source::Log { position, length_bytes, identity: identity() },
    }
}
