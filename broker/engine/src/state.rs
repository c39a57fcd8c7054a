//! The state of a shard: topics with their queues, groups, and the progress of groups on topics with the polls that wait.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use broker_delivery::{GroupQueue, LeaseBatch, RangeSet};
use broker_model::{
    ConsumerGroup, GroupName, HandleKey, MessageType, Order, ReceiptHandle, Topic, TopicName,
};

use crate::clients::Clients;
use crate::group_use::{GroupUses, WatchedGroup};
use crate::hidden::{TimedMessages, Transactions};
use crate::index::Queue;
use crate::known_names::KnownNames;
use crate::known_resets::KnownResets;
use crate::layouts::Layouts;
use crate::lite_topic::LiteTopics;
use crate::pull::WaitingPull;
use crate::waiting::Waiting;

/// A topic on this shard.
#[derive(Debug)]
pub(crate) struct TopicState<R> {
    pub(crate) topic: Topic,
    pub(crate) queues: Vec<Queue>,
    /// Where the next message that may go anywhere goes.
    pub(crate) next_queue: u32,
    /// Progress of groups on it: indexes into [`State::group_topics`].
    pub(crate) group_topics: Vec<usize>,
    /// Pulls that wait for messages of it.
    pub(crate) pulls: Vec<WaitingPull<R>>,
    /// Dead letters that were put back: offsets in queue 0.
    pub(crate) redriven: RangeSet,
    /// Dead letters decided to be put back, and not committed yet.
    pub(crate) redriving: BTreeSet<u64>,
    pub(crate) lite: LiteTopics,
    pub(crate) layouts: Layouts,
}

impl<R> TopicState<R> {
    pub(crate) fn new(topic: Topic) -> Self {
        Self {
            topic,
            queues: Vec::new(),
            next_queue: 0,
            group_topics: Vec::new(),
            pulls: Vec::new(),
            redriven: RangeSet::default(),
            redriving: BTreeSet::new(),
            lite: LiteTopics::default(),
            layouts: Layouts::default(),
        }
    }

    pub(crate) fn is_redriven(&self, offset: u64) -> bool {
        self.redriven.contains(offset)
    }

    /// Finishes for one group, of which nothing is handed out, what was put back before: it is owed to no reader of the dead
    /// letters any more.
    fn pass_redriven(&self, queue: usize, progress: &mut GroupQueue) {
        for (start, end) in self.redriven.ranges().filter(|_| queue == 0) {
            // A million put back together are one range.
            progress.skip(start.max(progress.cursor()), end);
        }
    }
}

/// A consumer of a broadcasting group.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) group: u32,
    pub(crate) client_id: Arc<str>,
}

/// Progress of one group on one topic.
#[derive(Debug)]
pub(crate) struct GroupTopic<R> {
    pub(crate) group: u32,
    pub(crate) topic: u32,
    pub(crate) queues: Vec<GroupQueue>,
    /// Where the next receive begins, so that no queue starves.
    pub(crate) start: usize,
    /// Whether a consumer of the group was ever here.
    pub(crate) is_polled: bool,
    pub(crate) waiters: Waiting<R>,
    /// Cursors decided and not committed: nothing is handed out meanwhile.
    pub(crate) cursors_pending: u32,
    /// Queue and offset of messages that were ended behind such a cursor, which brings them back: nothing is handed out
    /// until that is committed too.
    pub(crate) ends_behind: BTreeSet<(u32, u64)>,
    /// How often cursors were set since the start.
    pub(crate) cursors_set: u64,
    /// The newest layout of its topic that it may have messages of; 0 = the first alone.
    pub(crate) passed_layout: u32,
    /// Deadlines that passed meanwhile: a cursor decided before them may forget their deliveries.
    pub(crate) passed: Vec<Expiry>,
    /// What the last named receives of a group in order were given.
    pub(crate) attempts: VecDeque<(String, Vec<ReceiptHandle>)>,
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

/// A waiting pull, ordered by when it is answered empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PullEnd {
    pub(crate) deadline_ms: u64,
    pub(crate) topic: u32,
    pub(crate) waiter: u64,
}

/// Everything that the log says, ready to be asked.
#[derive(Debug)]
pub(crate) struct State<R> {
    pub(crate) topics: HashMap<u32, TopicState<R>>,
    pub(crate) topic_numbers: HashMap<TopicName, u32>,
    /// Names of all topics that ever were: dead letters may point at deleted ones.
    pub(crate) topic_names: HashMap<u32, TopicName>,
    pub(crate) next_topic_number: u32,
    pub(crate) groups: HashMap<u32, ConsumerGroup>,
    pub(crate) group_numbers: HashMap<GroupName, u32>,
    pub(crate) next_group_number: u32,
    /// Groups that declare a subscription to a topic, whether it exists or not.
    pub(crate) subscribers: HashMap<TopicName, BTreeSet<u32>>,
    pub(crate) group_topics: Vec<Option<GroupTopic<R>>>,
    pub(crate) group_topic_indexes: BTreeMap<(u32, u32), usize>,
    /// Places in `group_topics` to be given to others: consumers of broadcasting groups come and go.
    free_group_topics: Vec<usize>,
    pub(crate) expiries: BTreeSet<Expiry>,
    pub(crate) poll_ends: BTreeSet<PollEnd>,
    pub(crate) pull_ends: BTreeSet<PullEnd>,
    pub(crate) timed: TimedMessages,
    pub(crate) transactions: Transactions,
    pub(crate) members: HashMap<u32, Member>,
    pub(crate) member_numbers: HashMap<(u32, Arc<str>), u32>,
    pub(crate) resets: KnownResets,
    pub(crate) clients: Clients,
    /// Of the codes in handles; none before the first one is made.
    pub(crate) handle_key: Option<HandleKey>,
    pub(crate) known_names: KnownNames,
    pub(crate) group_uses: GroupUses,
    /// The group whose queues are looked at for whether it is used.
    pub(crate) watched_group: Option<WatchedGroup>,
    /// What the messages take in memory: those that no index file holds, runs of index files, and hidden ones.
    pub(crate) index_entries: u64,
    /// Whose named receives are remembered, the oldest first: indexes into [`State::group_topics`],
    /// with the bytes that each takes.
    pub(crate) attempts: VecDeque<(usize, usize)>,
    pub(crate) attempt_bytes: usize,
    /// Queues of all group topics.
    pub(crate) group_queues: usize,
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
            subscribers: HashMap::new(),
            group_topics: Vec::new(),
            group_topic_indexes: BTreeMap::new(),
            free_group_topics: Vec::new(),
            expiries: BTreeSet::new(),
            poll_ends: BTreeSet::new(),
            pull_ends: BTreeSet::new(),
            timed: TimedMessages::default(),
            transactions: Transactions::default(),
            members: HashMap::new(),
            member_numbers: HashMap::new(),
            resets: KnownResets::default(),
            clients: Clients::default(),
            handle_key: None,
            known_names: KnownNames::default(),
            group_uses: GroupUses::default(),
            watched_group: None,
            index_entries: 0,
            attempts: VecDeque::new(),
            attempt_bytes: 0,
            group_queues: 0,
            waiters: 0,
        }
    }
}

impl<R> State<R> {
    /// The progress of a group on a topic, made on first use with as many queues as the topic has.
    pub(crate) fn group_topic_index(&mut self, group: u32, topic: u32) -> usize {
        if let Some(&index) = self.group_topic_indexes.get(&(group, topic)) {
            self.grow_group_topic(index);
            return index;
        }
        let progress = GroupTopic {
            group,
            topic,
            queues: Vec::new(),
            start: 0,
            is_polled: false,
            waiters: Waiting::default(),
            cursors_pending: 0,
            ends_behind: BTreeSet::new(),
            cursors_set: 0,
            passed_layout: 0,
            passed: Vec::new(),
            attempts: VecDeque::new(),
        };
        let index = match self.free_group_topics.pop() {
            Some(free) => {
                self.group_topics[free] = Some(progress);
                free
            }
            None => {
                self.group_topics.push(Some(progress));
                self.group_topics.len().saturating_sub(1)
            }
        };
        self.group_topic_indexes.insert((group, topic), index);
        if let Some(watched) = &mut self.watched_group {
            watched.note(group);
        }
        if let Some(state) = self.topics.get_mut(&topic) {
            state.group_topics.push(index);
        }
        self.grow_group_topic(index);
        index
    }

    /// Progress gets the queues that the topic has got.
    pub(crate) fn grow_group_topic(&mut self, index: usize) {
        let Some(progress) = self.group_topics.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some(topic) = self.topics.get(&progress.topic) else { return };
        let known = progress.queues.len();
        progress.queues.extend(topic.queues.iter().enumerate().skip(known).map(|(n, queue)| {
            // What retention took before the group came is owed to it no more.
            let mut state = GroupQueue::default();
            state.trim_below(queue.base());
            topic.pass_redriven(n, &mut state);
            state
        }));
        self.group_queues =
            self.group_queues.saturating_add(progress.queues.len().saturating_sub(known));
    }

    /// Sets the progress on one queue and forgets its deliveries.
    pub(crate) fn reset_queue(&mut self, index: usize, queue: u32, offset: u64) {
        let Some(progress) = self.group_topics.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some(state) = progress.queues.get_mut(queue as usize) else { return };
        for (first, lease) in state.leases() {
            self.expiries.remove(&Expiry {
                deadline_ms: lease.deadline_ms,
                group_topic: index,
                queue,
                first,
                nonce: lease.nonce,
            });
        }
        let topic = self.topics.get(&progress.topic);
        let base = topic.and_then(|topic| topic.queues.get(queue as usize)).map_or(0, Queue::base);
        // Retention may have gone further since it was decided.
        state.reset(offset.max(base));
        if let Some(topic) = topic {
            topic.pass_redriven(queue as usize, state);
        }
    }

    /// The group, or the one that a member belongs to.
    pub(crate) fn group_of(&self, number: u32) -> Option<&ConsumerGroup> {
        let group = self.members.get(&number).map_or(number, |member| member.group);
        self.groups.get(&group)
    }

    /// The numbers of a broadcasting group's consumers.
    pub(crate) fn members_of(&self, group: u32) -> Vec<u32> {
        let members = self.members.iter().filter(|(_, member)| member.group == group);
        let mut numbers: Vec<u32> = members.map(|(number, _)| *number).collect();
        // What is decided must not depend on the order of a hash map.
        numbers.sort_unstable();
        numbers
    }

    /// Whether messages are handed out in order, one at a time: of each message group, or of each lite topic.
    pub(crate) fn is_in_order(&self, progress: &GroupTopic<R>) -> bool {
        let group = self.group_of(progress.group);
        let topic = self.topics.get(&progress.topic);
        group.is_some_and(|group| group.order == Order::Fifo)
            || topic.is_some_and(|topic| topic.topic.message_type == MessageType::Lite)
    }

    pub(crate) fn group_topic(&self, index: usize) -> Option<&GroupTopic<R>> {
        self.group_topics.get(index).and_then(Option::as_ref)
    }

    pub(crate) fn group_topic_mut(&mut self, index: usize) -> Option<&mut GroupTopic<R>> {
        let progress = self.group_topics.get_mut(index).and_then(Option::as_mut)?;
        if let Some(watched) = &mut self.watched_group {
            watched.note(progress.group);
        }
        Some(progress)
    }

    /// Deliveries that a group allows before the dead-letter topic.
    pub(crate) fn attempts_max(&self, group: u32) -> u32 {
        self.group_of(group).map_or(u32::MAX, |group| group.retry.max_attempts)
    }

    /// Forgets progress and returns its waiting polls.
    pub(crate) fn remove_group_topic(&mut self, index: usize) -> Waiting<R> {
        let Some(progress) = self.group_topics.get_mut(index).and_then(Option::take) else {
            return Waiting::default();
        };
        self.group_topic_indexes.remove(&(progress.group, progress.topic));
        self.free_group_topics.push(index);
        self.group_queues = self.group_queues.saturating_sub(progress.queues.len());
        if let Some(topic) = self.topics.get_mut(&progress.topic) {
            topic.group_topics.retain(|other| *other != index);
        }
        for (queue, state) in (0u32..).zip(&progress.queues) {
            for (first, lease) in state.leases() {
                let LeaseBatch { deadline_ms, nonce, .. } = *lease;
                self.expiries.remove(&Expiry {
                    deadline_ms,
                    group_topic: index,
                    queue,
                    first,
                    nonce,
                });
            }
        }
        for waiter in progress.waiters.iter() {
            self.poll_ends.remove(&waiter.end(index));
        }
        self.waiters = self.waiters.saturating_sub(progress.waiters.len());
        progress.waiters
    }
}
