//! Applying what is said of topics and groups: they come into being, change, and go with all that is known of them.

use std::collections::BTreeSet;

use broker_delivery::GroupQueue;
use broker_model::limits::QUEUES_PER_TOPIC_MAX;
use broker_model::{ConsumerGroup, MessageType, Order, Topic};
use broker_store::record::NameKind;

use crate::declared::{DECLARED_AT_ONCE_MAX, declared_topics};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::index::Queue;
use crate::refusal::Refusal;
use crate::serve::ANY_QUEUE;
use crate::state::TopicState;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn apply_put_topic(&mut self, number: u32, topic: Topic) {
        let number = self.state.topic_numbers.get(&topic.name).copied().unwrap_or(number);
        self.state.next_topic_number = self.state.next_topic_number.max(number.saturating_add(1));
        self.state.topic_numbers.insert(topic.name.clone(), number);
        self.state.topic_names.insert(number, topic.name.clone());
        if topic.retention_ms.is_some() || topic.retention_bytes.is_some() {
            self.retention.next_ms.get_or_insert(0);
        }
        let queues = topic.queues_on(self.shard).min(QUEUES_PER_TOPIC_MAX) as usize;
        let is_new = !self.state.topics.contains_key(&number);
        let state =
            self.state.topics.entry(number).or_insert_with(|| TopicState::new(topic.clone()));
        let has_grown = match is_new {
            // Elsewhere, before this shard came.
            true => topic.first_queues.is_some_and(|first| first < topic.queues),
            false => topic.queues > state.topic.queues,
        };
        if topic.message_type == MessageType::Fifo && has_grown {
            state.layouts.grow(topic.queues, state.queues.iter().map(Queue::end).collect());
        }
        if topic.message_type == MessageType::Lite {
            // Its queues are those of its lite topics.
            self.next_lite_check_ms.get_or_insert(0);
        } else if state.queues.len() < queues {
            state.queues.resize_with(queues, Queue::default);
        }
        let subscribers = self.state.subscribers.get(&topic.name);
        if let Some(first) = subscribers
            .filter(|s| s.len() > DECLARED_AT_ONCE_MAX)
            .and_then(BTreeSet::first)
            .copied()
        {
            self.declared_from = Some(self.declared_from.map_or(first, |from| from.min(first)));
        }
        state.topic = topic;
        for index in state.group_topics.clone() {
            self.state.grow_group_topic(index);
            self.wake(index, ANY_QUEUE);
        }
    }

    pub(super) fn apply_delete_topic(&mut self, number: u32, effects: &mut Effects<R>) {
        self.deleting_topics.retain(|deleting| *deleting != number);
        let Some(topic) = self.state.topics.get(&number) else { return };
        let name = topic.topic.name.clone();
        for index in topic.group_topics.clone() {
            self.forget_progress(index, &Refusal::TopicNotFound(name.clone()), effects);
        }
        self.state.topic_numbers.remove(&name);
        self.state.known_names.forget(NameKind::Topic, name.as_str());
        if let Some(topic) = self.state.topics.remove(&number) {
            self.state.index_entries = self
                .state
                .index_entries
                .saturating_sub(topic.queues.iter().map(Queue::index_entries).sum::<u64>());
            for waiter in topic.pulls {
                self.state.waiters = self.state.waiters.saturating_sub(1);
                effects.now.push((waiter.reply, Err(Refusal::TopicNotFound(name.clone()))));
            }
        }
        self.state.pull_ends.retain(|end| end.topic != number);
        self.state.index_entries =
            self.state.index_entries.saturating_sub(self.state.timed.forget_topic(number));
        self.state.index_entries =
            self.state.index_entries.saturating_sub(self.state.transactions.forget_topic(number));
    }

    pub(super) fn apply_put_group(&mut self, number: u32, group: ConsumerGroup) {
        let number = self.state.group_numbers.get(&group.name).copied().unwrap_or(number);
        self.state.next_group_number = self.state.next_group_number.max(number.saturating_add(1));
        // Whoever made it by first use says so behind this.
        self.state.group_uses.forget(number);
        let is_in_order = group.order == Order::Fifo;
        self.forget_subscriber(number);
        for topic in declared_topics(&group) {
            self.state.subscribers.entry(topic.clone()).or_default().insert(number);
        }
        if declared_topics(&group).len() > DECLARED_AT_ONCE_MAX {
            self.begin_later(number);
        }
        self.state.group_numbers.insert(group.name.clone(), number);
        self.state.groups.insert(number, group);
        // It may consume in another way now, or go on: so do the consumers of one that broadcasts.
        let members = &self.state.members;
        let group_of = |reader: u32| members.get(&reader).map_or(reader, |member| member.group);
        for (index, progress) in self.state.group_topics.iter_mut().enumerate() {
            let Some(progress) = progress.as_mut().filter(|p| group_of(p.group) == number) else {
                continue;
            };
            let is_lite = self.state.topics.get(&progress.topic).is_some_and(is_lite_topic);
            if !is_in_order && !is_lite {
                progress.queues.iter_mut().for_each(GroupQueue::forget_order);
            }
            if !progress.waiters.is_empty() {
                self.dirty.push((index, ANY_QUEUE));
            }
        }
    }

    pub(super) fn apply_delete_group(&mut self, number: u32, effects: &mut Effects<R>) {
        self.deleting_groups.retain(|deleting| *deleting != number);
        let Some(group) = self.state.groups.get(&number) else { return };
        let refusal = Refusal::GroupNotFound(group.name.clone());
        for member in self.state.members_of(number) {
            self.apply_delete_member(member, effects);
        }
        self.forget_subscriber(number);
        let Some(group) = self.state.groups.remove(&number) else { return };
        self.state.group_numbers.remove(&group.name);
        self.state.known_names.forget(NameKind::Group, group.name.as_str());
        self.state.resets.forget(number);
        self.state.group_uses.forget(number);
        self.forget_group_progress(number, &refusal, effects);
    }

    pub(super) fn forget_subscriber(&mut self, number: u32) {
        let Some(group) = self.state.groups.get(&number) else { return };
        for topic in declared_topics(group) {
            if let Some(groups) = self.state.subscribers.get_mut(topic) {
                groups.remove(&number);
                if groups.is_empty() {
                    self.state.subscribers.remove(topic);
                }
            }
        }
    }

    pub(super) fn forget_group_progress(
        &mut self,
        number: u32,
        refusal: &Refusal,
        effects: &mut Effects<R>,
    ) {
        let known = self.state.group_topic_indexes.range((number, 0)..=(number, u32::MAX));
        let indexes: Vec<usize> = known.map(|(_, index)| *index).collect();
        for index in indexes {
            self.forget_progress(index, refusal, effects);
        }
    }

    pub(super) fn forget_progress(
        &mut self,
        index: usize,
        refusal: &Refusal,
        effects: &mut Effects<R>,
    ) {
        let waiters = self.state.remove_group_topic(index);
        effects
            .now
            .extend(waiters.into_waiters().map(|waiter| (waiter.reply, Err(refusal.clone()))));
    }
}

fn is_lite_topic<R>(state: &TopicState<R>) -> bool {
    state.topic.message_type == MessageType::Lite
}
