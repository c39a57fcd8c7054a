//! Lite topics: many small queues inside one LITE topic, made on first use and deleted when nobody used them for long.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use broker_model::MessageType;
use broker_model::limits::{
    GROUP_QUEUES_PER_SHARD_MAX, LITE_EXPIRY_CHECK_MS, LITE_EXPIRY_MS_DEFAULT,
    LITE_TOPICS_PER_TOPIC_MAX,
};
use broker_store::Record;

use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::refusal::Refusal;

/// Lite topics looked at in one step, for whether somebody uses them; the others come in the next.
const LOOKED_AT_PER_STEP: usize = 16 * 1024;

/// The lite topics of one topic, on one shard. A lite topic's number is that of its queue.
#[derive(Debug, Default)]
pub(crate) struct LiteTopics {
    by_name: HashMap<Arc<str>, u32>,
    names: BTreeMap<u32, LiteTopic>,
    /// Queues of deleted lite topics, to be given to others.
    free: BTreeSet<u32>,
}

#[derive(Debug)]
struct LiteTopic {
    name: Arc<str>,
    /// Last send or receive; 0 until there is one.
    used_ms: u64,
    is_leaving: bool,
}

impl LiteTopics {
    pub(crate) fn queue(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The queues of these lite topics, as far as they exist.
    pub(crate) fn queues(&self, names: &BTreeSet<String>) -> Vec<usize> {
        names.iter().filter_map(|name| self.queue(name)).map(|queue| queue as usize).collect()
    }

    /// Whether the queue is that of one of these lite topics.
    pub(crate) fn is_of(&self, queue: usize, names: &BTreeSet<String>) -> bool {
        let lite = u32::try_from(queue).ok().and_then(|queue| self.names.get(&queue));
        lite.is_some_and(|lite| names.contains(&*lite.name))
    }

    /// Queues and names, by queue.
    pub(crate) fn names(&self) -> Vec<(u32, Arc<str>)> {
        let mut names: Vec<_> =
            self.names.iter().map(|(queue, lite)| (*queue, lite.name.clone())).collect();
        names.sort_unstable_by_key(|(queue, _)| *queue);
        names
    }

    /// Queues that no lite topic has, of so many, may be given to others.
    pub(crate) fn free_all_but_named(&mut self, queues: u32) {
        self.free = (0..queues).filter(|queue| !self.names.contains_key(queue)).collect();
    }

    pub(crate) fn note_use(&mut self, queue: u32, now_ms: u64) {
        if let Some(lite) = self.names.get_mut(&queue) {
            lite.used_ms = lite.used_ms.max(now_ms);
        }
    }

    fn insert(&mut self, queue: u32, name: &str) {
        let name: Arc<str> = name.into();
        self.free.remove(&queue);
        self.by_name.insert(name.clone(), queue);
        self.names.entry(queue).or_insert(LiteTopic { name, used_ms: 0, is_leaving: false });
    }

    fn remove(&mut self, queue: u32) -> bool {
        let Some(lite) = self.names.remove(&queue) else { return false };
        self.by_name.remove(&lite.name);
        self.free.insert(queue);
        true
    }
}

impl<R: ReplyTo> Engine<R> {
    /// The queue of a lite topic, made when it has none.
    pub(crate) fn lite_queue(
        &mut self,
        topic: u32,
        name: &str,
        effects: &mut Effects<R>,
    ) -> Result<u32, Refusal> {
        let Some(state) = self.state.topics.get(&topic) else { return Ok(0) };
        if let Some(queue) = state.lite.queue(name) {
            return Ok(queue);
        }
        if state.lite.names.len() >= LITE_TOPICS_PER_TOPIC_MAX {
            return Err(Refusal::TooManyLiteTopics);
        }
        let readers = state.group_topics.len();
        if self.state.group_queues.saturating_add(readers) > GROUP_QUEUES_PER_SHARD_MAX {
            return Err(Refusal::TooMany(format!(
                "the shard keeps the progress of groups on {} queues, its limit; delete groups that are not used",
                self.state.group_queues
            )));
        }
        let next = u32::try_from(state.queues.len()).expect("lite topics are limited");
        let queue = state.lite.free.first().copied().unwrap_or(next);
        // Known at once, so that the next send finds it; committing it again changes nothing.
        self.apply_put_lite_topic(topic, queue, name);
        effects.append(&Record::PutLiteTopic { topic, queue, name: name.to_owned() });
        Ok(queue)
    }

    pub(crate) fn apply_put_lite_topic(&mut self, topic: u32, queue: u32, name: &str) {
        let Some(state) = self.state.topics.get_mut(&topic) else { return };
        if queue as usize >= LITE_TOPICS_PER_TOPIC_MAX || state.lite.queue(name) == Some(queue) {
            return;
        }
        if state.queues.len() <= queue as usize {
            let count = (queue as usize).saturating_add(1);
            state.queues.resize_with(count, crate::index::Queue::default);
        }
        state.lite.insert(queue, name);
        for index in state.group_topics.clone() {
            self.state.grow_group_topic(index);
        }
    }

    /// Deletes the lite topics that nobody used for long: looks at some of all, and goes on in the next step.
    pub(crate) fn expire_lite_topics(&mut self, now_ms: u64, effects: &mut Effects<R>) {
        let (from_topic, mut from_queue) = std::mem::take(&mut self.lite_checked_to);
        let lite = self.state.topics.iter().filter(|(number, state)| {
            **number >= from_topic && state.topic.message_type == MessageType::Lite
        });
        let mut topics: Vec<u32> = lite.map(|(number, _)| *number).collect();
        // The log must not depend on the order of a hash map.
        topics.sort_unstable();
        let mut left = LOOKED_AT_PER_STEP;
        for topic in topics {
            let from = if topic == from_topic { std::mem::take(&mut from_queue) } else { 0 };
            let Some(state) = self.state.topics.get_mut(&topic) else { continue };
            let expiry_ms = state.topic.lite_expiry_ms.unwrap_or(LITE_EXPIRY_MS_DEFAULT);
            for (&queue, lite) in state.lite.names.range_mut(from..) {
                if left == 0 {
                    self.lite_checked_to = (topic, queue);
                    self.next_lite_check_ms = Some(now_ms);
                    return;
                }
                left = left.saturating_sub(1);
                // After a start the last use is not known; the time counts from now then.
                if lite.used_ms == 0 {
                    lite.used_ms = now_ms;
                }
                if !lite.is_leaving && lite.used_ms.saturating_add(expiry_ms) <= now_ms {
                    lite.is_leaving = true;
                    effects.append(&Record::DeleteLiteTopic { topic, queue });
                    effects.end_piece();
                }
            }
        }
        self.next_lite_check_ms = Some(now_ms.saturating_add(LITE_EXPIRY_CHECK_MS));
    }

    pub(crate) fn apply_delete_lite_topic(&mut self, topic: u32, queue: u32) {
        let Some(state) = self.state.topics.get_mut(&topic) else { return };
        if !state.lite.remove(queue) {
            return;
        }
        let Some(entries) = state.queues.get_mut(queue as usize) else { return };
        let index_entries = entries.index_entries();
        self.state.index_entries = self.state.index_entries.saturating_sub(index_entries);
        entries.clear();
        let end = entries.end();
        for index in state.group_topics.clone() {
            self.state.reset_queue(index, queue, end);
        }
    }
}
