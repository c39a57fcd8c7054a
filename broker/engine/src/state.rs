//! The state of a shard: topics with their queues, groups, and the progress of groups on topics with the polls that wait.

use std::collections::{BTreeSet, HashMap, VecDeque};

use broker_delivery::GroupQueue;
use broker_model::{ConsumerGroup, Filter, GroupName, Topic, TopicName};

use crate::index::Queue;

/// A topic on this shard.
#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) topic: Topic,
    pub(crate) queues: Vec<Queue>,
    /// Where the next message without a message group goes.
    pub(crate) next_queue: usize,
    /// Progress of groups on it: indexes into [`State::group_topics`].
    pub(crate) group_topics: Vec<usize>,
}

/// A poll that waits for messages.
#[derive(Debug)]
pub(crate) struct Waiter<R> {
    pub(crate) id: u64,
    pub(crate) reply: R,
    pub(crate) filter: Filter,
    pub(crate) messages_max: u32,
    pub(crate) invisible_ms: u64,
    pub(crate) deadline_ms: u64,
}

/// Progress of one group on one topic.
#[derive(Debug)]
pub(crate) struct GroupTopic<R> {
    pub(crate) group: u32,
    pub(crate) topic: u32,
    pub(crate) queues: Vec<GroupQueue>,
    /// Where the next receive begins, so that no queue starves.
    pub(crate) start: usize,
    pub(crate) waiters: VecDeque<Waiter<R>>,
}

/// A batch in flight, ordered by when it becomes visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Expiry {
    pub(crate) deadline_ms: u64,
    pub(crate) group_topic: usize,
    pub(crate) queue: u32,
    pub(crate) first: u64,
    pub(crate) nonce: u32,
}

/// A waiting poll, ordered by when it is answered empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PollEnd {
    pub(crate) deadline_ms: u64,
    pub(crate) group_topic: usize,
    pub(crate) waiter: u64,
}

/// Everything that the log says, ready to be asked.
#[derive(Debug)]
pub(crate) struct State<R> {
    pub(crate) topics: HashMap<u32, TopicState>,
    pub(crate) topic_numbers: HashMap<TopicName, u32>,
    /// Names of all topics that ever were: dead letters may point at deleted ones.
    pub(crate) topic_names: HashMap<u32, TopicName>,
    pub(crate) next_topic_number: u32,
    pub(crate) groups: HashMap<u32, ConsumerGroup>,
    pub(crate) group_numbers: HashMap<GroupName, u32>,
    pub(crate) next_group_number: u32,
    pub(crate) group_topics: Vec<Option<GroupTopic<R>>>,
    pub(crate) group_topic_indexes: HashMap<(u32, u32), usize>,
    pub(crate) expiries: BTreeSet<Expiry>,
    pub(crate) poll_ends: BTreeSet<PollEnd>,
    pub(crate) messages: u64,
    pub(crate) waiters: usize,
}

impl<R> Default for State<R> {
    fn default() -> Self {
        Self {
            topics: HashMap::new(),
            topic_numbers: HashMap::new(),
            topic_names: HashMap::new(),
            next_topic_number: 1,
            groups: HashMap::new(),
            group_numbers: HashMap::new(),
            next_group_number: 1,
            group_topics: Vec::new(),
            group_topic_indexes: HashMap::new(),
            expiries: BTreeSet::new(),
            poll_ends: BTreeSet::new(),
            messages: 0,
            waiters: 0,
        }
    }
}

impl<R> State<R> {
    /// The progress of a group on a topic, made on first use with as many queues as the topic has.
    pub(crate) fn group_topic_index(&mut self, group: u32, topic: u32) -> usize {
        let queues = self.topics.get(&topic).map_or(0, |t| t.queues.len());
        if let Some(&index) = self.group_topic_indexes.get(&(group, topic)) {
            if let Some(progress) = self.group_topics.get_mut(index).and_then(Option::as_mut)
                && progress.queues.len() < queues
            {
                progress.queues.resize_with(queues, GroupQueue::default);
            }
            return index;
        }
        let mut progress =
            GroupTopic { group, topic, queues: Vec::new(), start: 0, waiters: VecDeque::new() };
        progress.queues.resize_with(queues, GroupQueue::default);
        let index = self.group_topics.len();
        self.group_topics.push(Some(progress));
        self.group_topic_indexes.insert((group, topic), index);
        if let Some(state) = self.topics.get_mut(&topic) {
            state.group_topics.push(index);
        }
        index
    }

    pub(crate) fn group_topic(&self, index: usize) -> Option<&GroupTopic<R>> {
        self.group_topics.get(index).and_then(Option::as_ref)
    }

    pub(crate) fn group_topic_mut(&mut self, index: usize) -> Option<&mut GroupTopic<R>> {
        self.group_topics.get_mut(index).and_then(Option::as_mut)
    }

    /// Deliveries that a group allows before the dead-letter topic.
    pub(crate) fn attempts_max(&self, group: u32) -> u32 {
        self.groups.get(&group).map_or(u32::MAX, |g| g.retry.max_attempts)
    }

    /// Forgets progress and returns its waiting polls.
    pub(crate) fn remove_group_topic(&mut self, index: usize) -> VecDeque<Waiter<R>> {
        let Some(progress) = self.group_topics.get_mut(index).and_then(Option::take) else {
            return VecDeque::new();
        };
        self.group_topic_indexes.remove(&(progress.group, progress.topic));
        if let Some(topic) = self.topics.get_mut(&progress.topic) {
            topic.group_topics.retain(|other| *other != index);
        }
        self.expiries.retain(|expiry| expiry.group_topic != index);
        self.poll_ends.retain(|end| end.group_topic != index);
        self.waiters -= progress.waiters.len();
        progress.waiters
    }
}
