//! Declared subscriptions: a group begins with a topic when somebody declares that it wants it, not when its first consumer
//! comes, so that what was sent in between counts. Progress is begun by cursors in the log, on each shard with queues of
//! the topic, whichever of the two comes last: the group or the topic.

use std::collections::BTreeSet;

use broker_model::{ConsumerGroup, MessageType, Model, StartFrom, Topic, TopicName};
use broker_store::record::Place;
use broker_store::{Lease, Record};

use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::index::Queue;

/// Who declares more than so much is looked at again when that is committed: it may have been more than one step does.
pub(crate) const DECLARED_AT_ONCE_MAX: usize = 3;
/// Records that one declaration makes by itself; what is left begins in the look at all groups, step by step.
pub(crate) const RECORDS_PER_DECLARATION: u32 = 4_096;

impl<R: ReplyTo> Engine<R> {
    /// Begins what a group declares, behind the record that puts it.
    pub(crate) fn begin_declared(
        &mut self,
        number: u32,
        group: &ConsumerGroup,
        effects: &mut Effects<R>,
    ) {
        let before = effects.records;
        for name in declared_topics(group) {
            if effects.records.saturating_sub(before) >= RECORDS_PER_DECLARATION {
                // Once it is committed ([`DECLARED_AT_ONCE_MAX`]).
                return;
            }
            let Some(&topic) = self.state.topic_numbers.get(name) else { continue };
            if self.deleting_topics.contains(&topic) {
                continue;
            }
            let Some(state) = self.state.topics.get(&topic) else { continue };
            if !can_begin(&state.topic, state.queues.len()) {
                continue;
            }
            self.begin_at(number, topic, group.start_from(name), effects);
        }
    }

    /// Begins the groups that declare a topic, behind the record that puts it.
    pub(crate) fn begin_subscribers(
        &mut self,
        number: u32,
        topic: &Topic,
        effects: &mut Effects<R>,
    ) {
        let queues = topic.queues_on(self.shard) as usize;
        if !can_begin(topic, queues) {
            return;
        }
        let subscribers = self.state.subscribers.get(&topic.name).cloned().unwrap_or_default();
        let before = effects.records;
        for group in subscribers {
            if effects.records.saturating_sub(before) >= RECORDS_PER_DECLARATION {
                return;
            }
            let Some(settings) = self.state.groups.get(&group) else { continue };
            if !self.deleting_groups.contains(&group) {
                let start = settings.start_from(&topic.name);
                self.begin_at(group, number, start, effects);
            }
        }
    }

    pub(crate) fn begin_later(&mut self, group: u32) {
        self.declared_from = Some(self.declared_from.map_or(group, |from| from.min(group)));
    }

    /// Begins what an earlier version, which waited for the first consumer, left out, and what a declaration was too long for. Up
    /// to this much of work; says how much was done.
    pub(crate) fn begin_all_declared(&mut self, work: u32, effects: &mut Effects<R>) -> u32 {
        let Some(from) = self.declared_from.filter(|_| work > 0) else { return 0 };
        let before = effects.records;
        let subscribers = self.state.subscribers.values().flatten();
        let groups: BTreeSet<u32> = subscribers.copied().filter(|group| *group >= from).collect();
        for number in groups {
            let done = effects.records.saturating_sub(before);
            if done >= work {
                self.declared_from = Some(number);
                return done;
            }
            if let Some(group) = self.state.groups.get(&number).cloned() {
                self.begin_declared(number, &group, effects);
                effects.end_piece();
            }
            if effects.records.saturating_sub(before).saturating_sub(done)
                >= RECORDS_PER_DECLARATION
            {
                // It may declare more than that.
                self.declared_from = Some(number);
                return effects.records.saturating_sub(before);
            }
        }
        self.declared_from = None;
        effects.records.saturating_sub(before)
    }

    fn begin_at(&mut self, group: u32, topic: u32, start: StartFrom, effects: &mut Effects<R>) {
        if self.state.group_topic_indexes.contains_key(&(group, topic)) {
            return;
        }
        let queues = self.state.topics.get(&topic).map_or(&[][..], |state| &state.queues);
        let offset = |queue: &Queue| match start {
            StartFrom::Earliest => queue.base(),
            StartFrom::Latest => queue.end(),
        };
        // Progress begins at the base of a queue by itself. The first one is logged in any case: it says that the group
        // is here, before the topic has queues too.
        let first = queues.first().map_or(0, offset);
        let moved = (0u32..).zip(queues).skip(1).filter(|(_, queue)| offset(queue) > queue.base());
        let moved: Vec<(u32, u64)> = moved.map(|(number, queue)| (number, offset(queue))).collect();
        for (queue, offset) in std::iter::once((0, first)).chain(moved) {
            let place = Place { group, topic, queue, offset };
            let is_known =
                self.state.groups.contains_key(&group) && self.state.topics.contains_key(&topic);
            if is_known {
                self.append_cursor(place, effects);
            } else {
                // Nothing can be handed out before the record in front of this one is applied.
                effects.append(&Record::Cursor(place));
            }
        }
    }

    /// A consumer of the group is here: known from now on, even when it gets nothing.
    pub(crate) fn note_poll(&mut self, index: usize, client_id: &str, effects: &mut Effects<R>) {
        let Some(progress) = self.state.group_topic(index) else { return };
        if progress.is_polled {
            return;
        }
        let (group, topic) = (progress.group, progress.topic);
        let client = self.client_number(client_id, effects);
        let first = Place { group, topic, queue: 0, offset: 0 };
        let (span, mask, attempt, nonce, deadline_ms) = (0, 0, 1, 0, 0);
        // Known at once, as any lease is; committing it again changes nothing.
        let lease = Lease { first, span, mask, attempt, nonce, deadline_ms, client };
        effects.append(&Record::Lease(lease));
        if let Some(progress) = self.state.group_topic_mut(index) {
            progress.is_polled = true;
        }
    }
}

/// The topics whose progress begins with the declaration. Each consumer of a broadcasting group has progress of its own.
pub(crate) fn declared_topics(group: &ConsumerGroup) -> BTreeSet<&TopicName> {
    let is_shared = group.model == Model::Clustering;
    let subscriptions = group.subscriptions.iter().filter(|_| is_shared);
    subscriptions.map(|subscription| &subscription.topic).collect()
}

/// Which lite topics a group wants is known when its consumers say so.
fn can_begin(topic: &Topic, queues: usize) -> bool {
    topic.message_type != MessageType::Lite && queues > 0
}
