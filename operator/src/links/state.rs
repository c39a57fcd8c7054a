//! What one broker holds, as its state stream told it, and what was pushed to it in this session. Pure and synchronous:
//! an event in, the changes that somebody may want to look at out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use broker_proto::admin::state_event::Event;
use broker_proto::admin::{BrokerStatus, Group, GroupStatus, Owner, StateEvent, Topic, TopicLag};

use crate::broker_cluster::storage;

/// A thing with a name that brokers hold and the operator pushes.
pub trait Thing: prost::Message + Clone + Send + Sync + fmt::Debug + 'static {
    /// Its name in the cluster.
    fn name(&self) -> &str;
    /// Changes with every change in the broker.
    fn version(&self) -> u64;
    /// Who declared it.
    fn owner(&self) -> Option<&Owner>;
    /// All of its kind that a broker holds.
    fn held(state: &BrokerState) -> &Held<Self>;
    /// All of its kind that a broker holds.
    fn held_mut(state: &mut BrokerState) -> &mut Held<Self>;
    /// What it means when one appears.
    fn appearance(name: String) -> Change;
}

/// What was pushed last, and the version that the broker gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Hash of what was asked for.
    pub hash: u64,
    /// Version in the broker's answer.
    pub version: u64,
}

/// What is known of something that was pushed in this session and went without being asked to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vanished {
    /// Shards of the broker on which it was.
    pub shards: Vec<String>,
    /// The group that had most messages of it to get, and how many; none when no group waited.
    pub waited: Option<(String, u64)>,
}

/// Things whose end is remembered until they are pushed again.
const VANISHED_MAX: usize = 1024;

/// All things of one kind that a broker holds.
#[derive(Debug, Clone)]
pub struct Held<T> {
    things: BTreeMap<String, T>,
    /// Names of things that the broker was asked for, and of which it may hold any without having said so.
    unanswered: BTreeSet<String>,
    pushed: HashMap<String, Pushed>,
    vanished: HashMap<String, Vanished>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self {
            things: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            pushed: HashMap::new(),
            vanished: HashMap::new(),
        }
    }
}

impl<T: Thing> Held<T> {
    /// One of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        self.things.get(name)
    }

    /// The names of all of them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.things.keys().map(String::as_str)
    }

    /// What was pushed for it in this session.
    #[must_use]
    pub fn pushed(&self, name: &str) -> Option<Pushed> {
        self.pushed.get(name).copied()
    }

    /// Notes that the broker is about to be asked for a thing.
    pub fn note_ask(&mut self, name: &str) {
        self.unanswered.insert(name.to_owned());
    }

    /// Notes an answered push, ahead of the stream; answers whether the thing is new.
    pub fn note_push(&mut self, answer: T, hash: u64) -> bool {
        let pushed = Pushed { hash, version: answer.version() };
        self.pushed.insert(answer.name().to_owned(), pushed);
        self.unanswered.remove(answer.name());
        // The stream may already have told something newer.
        let held = self.things.get(answer.name());
        match held {
            Some(held) if held.version() > answer.version() => false,
            _ => self.insert(answer),
        }
    }

    fn insert(&mut self, thing: T) -> bool {
        let name = thing.name().to_owned();
        self.things.insert(name, thing).is_none()
    }

    /// What was known of something that vanished, once.
    pub fn take_vanished(&mut self, name: &str) -> Option<Vanished> {
        self.vanished.remove(name)
    }

    /// What is asked to go does not vanish.
    pub fn note_delete(&mut self, name: &str) {
        self.pushed.remove(name);
        self.vanished.remove(name);
    }

    fn remove(&mut self, name: &str, vanished: Vanished) {
        self.things.remove(name);
        if self.pushed.remove(name).is_some() && self.vanished.len() < VANISHED_MAX {
            self.vanished.insert(name.to_owned(), vanished);
        }
    }
}

impl Thing for Topic {
    fn name(&self) -> &str {
        &self.name
    }
    fn version(&self) -> u64 {
        self.version
    }
    fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }
    fn held(state: &BrokerState) -> &Held<Self> {
        &state.topics
    }
    fn held_mut(state: &mut BrokerState) -> &mut Held<Self> {
        &mut state.topics
    }
    fn appearance(name: String) -> Change {
        Change::TopicSet(name)
    }
}

impl Thing for Group {
    fn name(&self) -> &str {
        &self.name
    }
    fn version(&self) -> u64 {
        self.version
    }
    fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }
    fn held(state: &BrokerState) -> &Held<Self> {
        &state.groups
    }
    fn held_mut(state: &mut BrokerState) -> &mut Held<Self> {
        &mut state.groups
    }
    fn appearance(name: String) -> Change {
        Change::Group(name)
    }
}

/// What one broker told in one session.
#[derive(Debug, Clone, Default)]
pub struct BrokerState {
    /// Everything has been told; from now on there are changes only.
    pub synced: bool,
    /// Version of the cluster map that it holds.
    pub map_version: u64,
    /// What it says of itself.
    pub broker: Option<BrokerStatus>,
    /// Its topics.
    pub topics: Held<Topic>,
    /// Its groups.
    pub groups: Held<Group>,
    /// Members and lag of its groups.
    pub group_status: BTreeMap<String, GroupStatus>,
    /// Groups by a topic that they draw from.
    drawn: HashMap<String, BTreeSet<String>>,
}

/// Something that somebody may want to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The first telling ended.
    Synced,
    /// The broker itself: shards, version, cluster map.
    Broker,
    /// A topic or who draws from it.
    Topic(String),
    /// A topic appeared or went; groups may have waited for it.
    TopicSet(String),
    /// A group, its members or its lag.
    Group(String),
}

impl BrokerState {
    /// Takes in one event. Before the first telling ended, nothing needs to be looked at.
    pub fn apply(&mut self, event: StateEvent) -> Vec<Change> {
        let changes = match event.event {
            Some(Event::Topic(topic)) => {
                let name = topic.name.clone();
                if self.topics.insert(topic) {
                    self.topic_set(name)
                } else {
                    vec![Change::Topic(name)]
                }
            }
            Some(Event::TopicDeleted(name)) => {
                let vanished = self.vanishing(&name);
                self.topics.remove(&name, vanished);
                self.topic_set(name)
            }
            Some(Event::Group(group)) => {
                let name = group.name.clone();
                self.groups.insert(group);
                vec![Change::Group(name)]
            }
            Some(Event::GroupDeleted(name)) => {
                let shards = self.shards();
                self.groups.remove(&name, Vanished { shards, waited: None });
                let before = self.group_status.remove(&name);
                self.forget_drawn(&name, before.iter().flat_map(|status| &status.topics));
                vec![Change::Group(name)]
            }
            Some(Event::GroupStatus(status)) => self.apply_group_status(status),
            Some(Event::Broker(broker)) => self.apply_broker(broker),
            Some(Event::Synced(_)) => {
                self.synced = true;
                vec![Change::Synced]
            }
            None => Vec::new(),
        };
        if self.synced { changes } else { Vec::new() }
    }

    fn apply_group_status(&mut self, status: GroupStatus) -> Vec<Change> {
        let topics_of = |status: &GroupStatus| -> BTreeSet<String> {
            status.topics.iter().map(|lag| lag.topic.clone()).collect()
        };
        let now = topics_of(&status);
        let name = status.name.clone();
        let mut changes = vec![Change::Group(name.clone())];
        let before = self.group_status.insert(name.clone(), status);
        self.forget_drawn(&name, before.iter().flat_map(|status| &status.topics));
        for topic in &now {
            self.drawn.entry(topic.clone()).or_default().insert(name.clone());
        }
        let before = before.as_ref().map(topics_of).unwrap_or_default();
        changes.extend(now.symmetric_difference(&before).cloned().map(Change::Topic));
        changes
    }

    fn forget_drawn<'a>(&mut self, group: &str, rows: impl Iterator<Item = &'a TopicLag>) {
        for row in rows {
            if let Some(groups) = self.drawn.get_mut(&row.topic) {
                groups.remove(group);
                if groups.is_empty() {
                    self.drawn.remove(&row.topic);
                }
            }
        }
    }

    /// A topic that appeared or went, and the groups that draw from it.
    fn topic_set(&self, topic: String) -> Vec<Change> {
        let groups = self.groups_of(&topic).map(|group| Change::Group(group.to_owned()));
        let groups: Vec<_> = groups.collect();
        std::iter::once(Change::TopicSet(topic)).chain(groups).collect()
    }

    /// The disk that the broker told of, and whether nothing can have been stored there: then none of its shards has a queue
    /// of any topic. A message needs a queue, and queues come through this connection; that none is stored now would prove
    /// nothing, because the next one may be stored before it is told of.
    #[must_use]
    pub fn disk(&self) -> Option<(&str, bool)> {
        let broker = self.broker.as_ref().filter(|broker| !broker.disk_id.is_empty())?;
        let is_mine = |shard: &String| broker.shards.iter().any(|mine| mine.name == *shard);
        let placed = self.topics.things.values().flat_map(|topic| &topic.placement);
        let has_queues = placed.filter(|placed| placed.queues > 0).any(|p| is_mine(&p.shard));
        let is_whole =
            self.synced && !broker.shards.is_empty() && self.topics.unanswered.is_empty();
        Some((&broker.disk_id, is_whole && !has_queues))
    }

    /// Names of the shards of the broker.
    fn shards(&self) -> Vec<String> {
        let shards = self.broker.iter().flat_map(|broker| &broker.shards);
        shards.map(|shard| shard.name.clone()).collect()
    }

    /// What is known of a topic that goes.
    fn vanishing(&self, topic: &str) -> Vanished {
        let placement = self.topics.get(topic).map_or(&[][..], |topic| &topic.placement);
        let is_here = |shard: &String| placement.iter().any(|p| p.shard == *shard && p.queues > 0);
        let rows = self.groups_of(topic).filter_map(|group| {
            let row = self.group_status.get(group)?.topics.iter().find(|lag| lag.topic == topic)?;
            Some((group.to_owned(), row.lag_messages))
        });
        Vanished {
            shards: self.shards().into_iter().filter(is_here).collect(),
            waited: rows
                .filter(|(_, messages)| *messages > 0)
                .max_by_key(|(_, messages)| *messages),
        }
    }

    fn apply_broker(&mut self, broker: BrokerStatus) -> Vec<Change> {
        // Free disk and log sizes move all the time and change nothing that is reported, until there is little of it. The age
        // of the oldest message is reported, in steps, and is no reason to look.
        let facts = |broker: &BrokerStatus| {
            let shard = |s: &broker_proto::admin::ShardStatus| {
                (s.id, s.role.clone(), s.failure.clone(), s.refuses_sends)
            };
            let shards: Vec<_> = broker.shards.iter().map(shard).collect();
            let standing = (broker.version.clone(), broker.started_ms, broker.disk_id.clone());
            (standing, broker.cluster_map_version, storage::fill(broker), shards)
        };
        let changed = self.broker.as_ref().map(facts) != Some(facts(&broker));
        self.map_version = broker.cluster_map_version.max(self.map_version);
        self.broker = Some(broker);
        if changed { vec![Change::Broker] } else { Vec::new() }
    }

    /// Groups that draw from a topic.
    pub fn groups_of(&self, topic: &str) -> impl Iterator<Item = &str> {
        self.drawn.get(topic).into_iter().flatten().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use broker_proto::admin::{QueuePlacement, ShardStatus, Synced};

    use super::*;

    fn event(event: Event) -> StateEvent {
        StateEvent { version: 1, event: Some(event) }
    }

    fn topic(version: u64) -> Topic {
        Topic { name: "orders".to_owned(), version, ..Topic::default() }
    }

    fn synced_state() -> BrokerState {
        let mut state = BrokerState::default();
        assert!(state.apply(event(Event::Topic(topic(1)))).is_empty());
        assert_eq!(state.apply(event(Event::Synced(Synced {}))), [Change::Synced]);
        state
    }

    #[test]
    fn the_first_telling_wakes_nobody_until_it_ends() {
        let mut state = synced_state();
        assert_eq!(
            state.apply(event(Event::Topic(topic(2)))),
            [Change::Topic("orders".to_owned())]
        );
        let gone = state.apply(event(Event::TopicDeleted("orders".to_owned())));
        assert_eq!(gone, [Change::TopicSet("orders".to_owned())]);
        assert!(state.topics.get("orders").is_none());
    }

    #[test]
    fn an_answer_never_replaces_something_newer_that_the_stream_told() {
        let mut state = BrokerState::default();
        state.apply(event(Event::Synced(Synced {})));
        assert!(state.topics.note_push(topic(5), 77));
        assert!(!state.topics.note_push(topic(5), 77));
        state.apply(event(Event::Topic(topic(6))));
        assert!(!state.topics.note_push(topic(5), 77));
        assert_eq!(state.topics.get("orders").map(Thing::version), Some(6));
        assert_eq!(state.topics.pushed("orders"), Some(Pushed { hash: 77, version: 5 }));
        state.apply(event(Event::TopicDeleted("orders".to_owned())));
        assert_eq!(state.topics.pushed("orders"), None);
    }

    #[test]
    fn a_group_that_starts_to_draw_from_a_topic_wakes_the_topic_once() {
        let mut state = synced_state();
        let status = |lag_messages| GroupStatus {
            name: "billing".to_owned(),
            topics: vec![TopicLag {
                topic: "orders".to_owned(),
                lag_messages,
                ..TopicLag::default()
            }],
            ..GroupStatus::default()
        };
        let first = state.apply(event(Event::GroupStatus(status(1))));
        assert_eq!(
            first,
            [Change::Group("billing".to_owned()), Change::Topic("orders".to_owned())]
        );
        let second = state.apply(event(Event::GroupStatus(status(2))));
        assert_eq!(second, [Change::Group("billing".to_owned())]);
        assert_eq!(state.groups_of("orders").collect::<Vec<_>>(), ["billing"]);
    }

    fn lag(group: &str, lag_messages: u64) -> StateEvent {
        let row = TopicLag { topic: "orders".to_owned(), lag_messages, ..TopicLag::default() };
        let name = group.to_owned();
        event(Event::GroupStatus(GroupStatus { name, topics: vec![row], ..GroupStatus::default() }))
    }

    #[test]
    fn what_vanishes_is_remembered_with_its_shards_and_who_waited_until_it_is_pushed_again() {
        let mut state = synced_state();
        let shard = |name: &str| ShardStatus { name: name.to_owned(), ..ShardStatus::default() };
        let shards = vec![shard("shard-0"), shard("shard-2")];
        state.apply(event(Event::Broker(BrokerStatus { shards, ..BrokerStatus::default() })));
        let placed = |shard: &str| QueuePlacement { shard: shard.to_owned(), queues: 4 };
        let placement = vec![placed("shard-1"), placed("shard-2")];
        state.topics.note_push(Topic { placement, ..topic(3) }, 77);
        state.apply(lag("billing", 5));
        state.apply(lag("audit", 7));
        let changes = state.apply(event(Event::TopicDeleted("orders".to_owned())));
        let group = |name: &str| Change::Group(name.to_owned());
        let woken = [Change::TopicSet("orders".to_owned()), group("audit"), group("billing")];
        assert_eq!(changes, woken);
        let waited = Some(("audit".to_owned(), 7));
        let vanished = Vanished { shards: vec!["shard-2".to_owned()], waited };
        assert_eq!(state.topics.take_vanished("orders"), Some(vanished));
        assert_eq!(state.topics.take_vanished("orders"), None);
    }

    #[test]
    fn what_is_deleted_on_purpose_or_was_never_pushed_does_not_vanish() {
        let mut state = synced_state();
        state.apply(event(Event::TopicDeleted("orders".to_owned())));
        assert_eq!(state.topics.take_vanished("orders"), None);
        state.topics.note_push(topic(3), 77);
        state.topics.note_delete("orders");
        state.apply(event(Event::TopicDeleted("orders".to_owned())));
        assert_eq!(state.topics.take_vanished("orders"), None);
    }

    #[test]
    fn a_disk_is_empty_when_all_is_told_and_no_topic_has_a_queue_there() {
        let shards = vec![ShardStatus { name: "shard-1".to_owned(), ..ShardStatus::default() }];
        let broker = BrokerStatus { disk_id: "disk".to_owned(), shards, ..BrokerStatus::default() };
        let told = |synced: bool| {
            let mut state = if synced { synced_state() } else { BrokerState::default() };
            state.apply(event(Event::Broker(broker.clone())));
            state
        };
        assert_eq!(BrokerState::default().disk(), None);
        assert_eq!(told(false).disk(), Some(("disk", false)));
        let mut state = told(true);
        assert_eq!(state.disk(), Some(("disk", true)));
        let on = |shard: &str, queues| Topic {
            placement: vec![QueuePlacement { shard: shard.to_owned(), queues }],
            ..topic(2)
        };
        state.topics.note_ask("orders");
        assert_eq!(state.disk(), Some(("disk", false)), "it may have come and not been told of");
        state.topics.note_push(on("shard-0", 4), 77);
        assert_eq!(state.disk(), Some(("disk", true)));
        state.topics.note_push(Topic { version: 3, ..on("shard-1", 4) }, 78);
        assert_eq!(state.disk(), Some(("disk", false)));
    }

    #[test]
    fn free_disk_alone_wakes_nobody() {
        let mut state = synced_state();
        let status = |disk_free_bytes, cluster_map_version| {
            event(Event::Broker(BrokerStatus {
                disk_free_bytes,
                cluster_map_version,
                ..BrokerStatus::default()
            }))
        };
        assert_eq!(state.apply(status(10, 1)), [Change::Broker]);
        assert!(state.apply(status(9, 1)).is_empty());
        assert_eq!(state.apply(status(9, 2)), [Change::Broker]);
        assert_eq!(state.map_version, 2);
    }
}
