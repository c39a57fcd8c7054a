//! Applying committed records: the only place where state changes for good. Runs the same on a leader, a follower and in
//! recovery; whatever the records say, it never panics.

use broker_delivery::{Batch, LeaseBatch};
use broker_model::{ConsumerGroup, Topic};
use broker_store::record::Place;
use broker_store::{Lease, MessageRecord, Record, RecordError};
use bytes::Bytes;

use crate::command::Refusal;
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::index::{IndexEntry, Queue};
use crate::state::{Expiry, TopicState};

impl<R: ReplyTo> Engine<R> {
    /// Applies the records of one committed frame.
    ///
    /// # Errors
    /// [`RecordError`] when the payload cannot be read; records before the bad one are applied.
    pub fn apply(
        &mut self,
        time_ms: u64,
        payload_position: u64,
        mut payload: Bytes,
        effects: &mut Effects<R>,
    ) -> Result<(), RecordError> {
        let total = payload.len();
        while !payload.is_empty() {
            let start = total - payload.len();
            let record = Record::decode(&mut payload)?;
            let length = total - payload.len() - start;
            match record {
                Record::Message(message) => {
                    let position = payload_position + start as u64;
                    let length_bytes = u32::try_from(length).unwrap_or(u32::MAX);
                    self.apply_message(&message, position, length_bytes, time_ms);
                }
                Record::Lease(lease) => self.apply_lease(&lease),
                Record::Acknowledge(place) => self.apply_done(place),
                Record::ChangeInvisible { place, nonce, new_nonce, attempt, deadline_ms } => {
                    let lease = LeaseBatch { mask: 1, attempt, nonce: new_nonce, deadline_ms };
                    self.apply_change(place, nonce, lease);
                }
                Record::DeadLetter(place) => self.apply_dead_letter(place, time_ms),
                Record::PutTopic { number, topic } => {
                    if topic.name.is_dead_letter() {
                        effects.new_topics.push((*topic).clone());
                    }
                    self.apply_put_topic(number, *topic);
                }
                Record::DeleteTopic { number } => self.apply_delete_topic(number, effects),
                Record::PutGroup { number, group } => self.apply_put_group(number, *group),
                Record::DeleteGroup { number } => self.apply_delete_group(number, effects),
            }
        }
        Ok(())
    }

    fn apply_message(
        &mut self,
        message: &MessageRecord,
        position: u64,
        length_bytes: u32,
        time_ms: u64,
    ) {
        let Some(topic) = self.state.topics.get_mut(&message.topic) else { return };
        let Some(queue) = topic.queues.get_mut(message.queue as usize) else { return };
        queue.push(IndexEntry {
            position,
            tag_hash: message.tag_hash,
            stored_ms: time_ms,
            length_bytes,
            origin: 0,
        });
        self.state.messages += 1;
        self.dirty.extend_from_slice(&topic.group_topics);
    }

    fn apply_lease(&mut self, lease: &Lease) {
        let Place { group, topic, queue, offset } = lease.first;
        if !self.state.groups.contains_key(&group) || !self.state.topics.contains_key(&topic) {
            return;
        }
        let index = self.state.group_topic_index(group, topic);
        let progress = self.state.group_topic_mut(index);
        let Some(state) = progress.and_then(|p| p.queues.get_mut(queue as usize)) else { return };
        let batch =
            Batch { first: offset, span: lease.span, mask: lease.mask, attempt: lease.attempt };
        let is_news = state.lease(batch, lease.nonce, lease.deadline_ms);
        if is_news && lease.mask != 0 {
            self.state.expiries.insert(Expiry {
                deadline_ms: lease.deadline_ms,
                group_topic: index,
                queue,
                first: offset,
                nonce: lease.nonce,
            });
        }
    }

    fn apply_done(&mut self, place: Place) {
        let Some(&index) = self.state.group_topic_indexes.get(&(place.group, place.topic)) else {
            return;
        };
        let progress = self.state.group_topic_mut(index);
        let queue = progress.and_then(|p| p.queues.get_mut(place.queue as usize));
        if let Some(Some((first, batch))) = queue.map(|queue| queue.acknowledge(place.offset)) {
            self.drop_expiry(index, place.queue, first, &batch);
        }
    }

    fn apply_change(&mut self, place: Place, nonce: u32, lease: LeaseBatch) {
        let Some(&index) = self.state.group_topic_indexes.get(&(place.group, place.topic)) else {
            return;
        };
        let progress = self.state.group_topic_mut(index);
        let Some(queue) = progress.and_then(|p| p.queues.get_mut(place.queue as usize)) else {
            return;
        };
        let LeaseBatch { attempt, nonce: new_nonce, deadline_ms, .. } = lease;
        let changed = queue.change_invisible(place.offset, nonce, attempt, new_nonce, deadline_ms);
        let Some(left) = changed else { return };
        if let Some((first, batch)) = left {
            self.drop_expiry(index, place.queue, first, &batch);
        }
        self.state.expiries.insert(Expiry {
            deadline_ms,
            group_topic: index,
            queue: place.queue,
            first: place.offset,
            nonce: new_nonce,
        });
    }

    fn drop_expiry(&mut self, group_topic: usize, queue: u32, first: u64, batch: &LeaseBatch) {
        let LeaseBatch { deadline_ms, nonce, .. } = *batch;
        self.state.expiries.remove(&Expiry { deadline_ms, group_topic, queue, first, nonce });
    }

    fn apply_dead_letter(&mut self, place: Place, time_ms: u64) {
        let entry = self.state.topics.get(&place.topic);
        let entry =
            entry.and_then(|t| t.queues.get(place.queue as usize)?.get(place.offset)).copied();
        let group = self.state.groups.get(&place.group);
        let name = group.map(|group| broker_model::TopicName::dead_letter_of(&group.name));
        let number = name.and_then(|name| self.state.topic_numbers.get(&name).copied());
        let dead_letters = number.and_then(|number| self.state.topics.get_mut(&number));
        if let (Some(entry), Some(topic)) = (entry, dead_letters)
            && let Some(queue) = topic.queues.first_mut()
        {
            // A dead letter that dies again keeps its first origin.
            let origin = if entry.origin == 0 { place.topic } else { entry.origin };
            queue.push(IndexEntry { stored_ms: time_ms, origin, ..entry });
            self.state.messages += 1;
            self.dirty.extend_from_slice(&topic.group_topics);
        }
        self.apply_done(place);
    }

    fn apply_put_topic(&mut self, number: u32, topic: Topic) {
        let number = self.state.topic_numbers.get(&topic.name).copied().unwrap_or(number);
        self.state.next_topic_number = self.state.next_topic_number.max(number + 1);
        self.reserved_topics.retain(|name| *name != topic.name);
        self.state.topic_numbers.insert(topic.name.clone(), number);
        self.state.topic_names.insert(number, topic.name.clone());
        let queues = topic.queues_on(self.shard) as usize;
        let state = self.state.topics.entry(number).or_insert_with(|| TopicState {
            topic: topic.clone(),
            queues: Vec::new(),
            next_queue: 0,
            group_topics: Vec::new(),
        });
        state.topic = topic;
        if state.queues.len() < queues {
            state.queues.resize_with(queues, Queue::default);
        }
        // Progress of groups gets the new queues.
        let groups: Vec<u32> = state
            .group_topics
            .iter()
            .filter_map(|i| self.state.group_topics.get(*i)?.as_ref().map(|g| g.group))
            .collect();
        for group in groups {
            let index = self.state.group_topic_index(group, number);
            self.dirty.push(index);
        }
    }

    fn apply_delete_topic(&mut self, number: u32, effects: &mut Effects<R>) {
        let Some(topic) = self.state.topics.get(&number) else { return };
        let name = topic.topic.name.clone();
        for index in topic.group_topics.clone() {
            self.forget_progress(index, &Refusal::TopicNotFound(name.clone()), effects);
        }
        self.state.topic_numbers.remove(&name);
        if let Some(topic) = self.state.topics.remove(&number) {
            self.state.messages -= topic.queues.iter().map(Queue::len).sum::<u64>();
        }
    }

    fn apply_put_group(&mut self, number: u32, group: ConsumerGroup) {
        let number = self.state.group_numbers.get(&group.name).copied().unwrap_or(number);
        self.state.next_group_number = self.state.next_group_number.max(number + 1);
        self.state.group_numbers.insert(group.name.clone(), number);
        self.state.groups.insert(number, group);
    }

    fn apply_delete_group(&mut self, number: u32, effects: &mut Effects<R>) {
        let Some(group) = self.state.groups.remove(&number) else { return };
        self.state.group_numbers.remove(&group.name);
        for index in 0..self.state.group_topics.len() {
            if self.state.group_topic(index).is_some_and(|progress| progress.group == number) {
                self.forget_progress(index, &Refusal::GroupNotFound(group.name.clone()), effects);
            }
        }
    }

    fn forget_progress(&mut self, index: usize, refusal: &Refusal, effects: &mut Effects<R>) {
        let waiters = self.state.remove_group_topic(index);
        effects.now.extend(waiters.into_iter().map(|waiter| (waiter.reply, Err(refusal.clone()))));
    }
}
