//! What exists on this broker: topics and groups over all its shards, kept in memory from what the shards' logs say.
//! Changes are decided here, once for all shards, and are done when every shard has logged them.

mod apply;
mod complete;
mod first_use;
mod layouts;
mod merged;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use broker_engine::{
    Command, GroupTopicProgress, Known, Outcome, ProgressPlace, ProgressQuery, Refusal,
    ResetOffsets, TopicNumbers,
};
use broker_model::{ConsumerGroup, GroupName, Owner, ShardId, Topic, TopicName};
use tokio::sync::{Mutex, broadcast};

use crate::shard::ShardHandle;
pub use first_use::UseRound;
pub use layouts::LayoutQuestion;
use merged::{Merged, Repair};

/// Changes that a slow listener may be behind before it has to start over.
const CHANGES_BUFFERED: usize = 1024;

/// A topic and the version of its last change.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicEntry {
    /// Its settings.
    pub topic: Topic,
    /// Grows with every change of anything in the catalog.
    pub version: u64,
}

/// A group and the version of its last change.
#[derive(Debug)]
pub struct GroupEntry {
    /// Its settings.
    pub group: ConsumerGroup,
    /// Grows with every change of anything in the catalog.
    pub version: u64,
    /// Whether somebody declared it; it was made by first use otherwise.
    pub is_declared: bool,
    /// Whether it was used since the shards were told last.
    is_used: AtomicBool,
}

impl GroupEntry {
    /// A group that nobody used yet.
    #[must_use]
    pub fn new(group: ConsumerGroup, version: u64, is_declared: bool) -> Self {
        Self { group, version, is_declared, is_used: AtomicBool::new(false) }
    }

    fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    fn note_use(&self) {
        // Written once in a round, so that the cores that read it keep it.
        if !self.is_used() {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }
}

/// A change, after it is done.
#[derive(Debug, Clone)]
pub enum CatalogChange {
    /// Created or changed.
    Topic(Arc<TopicEntry>),
    /// Deleted.
    TopicDeleted(TopicName),
    /// Created or changed.
    Group(Arc<GroupEntry>),
    /// Deleted.
    GroupDeleted(GroupName),
}

/// How a change is meant.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApplyOptions {
    /// Refuse to change what exists with other settings.
    pub create_only: bool,
    /// Accept what another owner marked.
    pub take_ownership: bool,
    /// Only when the version is this; 0 = only when it does not exist.
    pub if_version: Option<u64>,
}

/// Why a change was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CatalogError {
    /// The settings themselves are not allowed.
    #[error("{0}")]
    Illegal(String),
    /// It exists with other settings that cannot, or shall not, be changed.
    #[error("{0}")]
    Differs(String),
    /// It was declared and deleted: it does not come back by first use.
    #[error(
        "consumer group {0} was deleted; declare it again before it is used: with a ConsumerGroup, or pinnace group create"
    )]
    Deleted(GroupName),
    /// Somebody else declared it.
    #[error("it is declared by {0}; change it there, or delete it there first")]
    OwnedByAnother(Owner),
    /// The precondition does not hold.
    #[error("its version is {have}, not {wanted}; read it again")]
    WrongVersion {
        /// 0 = does not exist.
        have: u64,
        /// What was asked.
        wanted: u64,
    },
    /// A limit was reached.
    #[error("{0}")]
    Limit(String),
    /// A shard refused.
    #[error(transparent)]
    Shard(#[from] Refusal),
}

#[derive(Debug)]
struct State {
    topics: HashMap<TopicName, Arc<TopicEntry>>,
    groups: HashMap<GroupName, Arc<GroupEntry>>,
    /// Groups that were deleted and not declared again.
    deleted_groups: HashSet<GroupName>,
    version: u64,
    /// Whether a FIFO topic ever grew.
    has_grown: bool,
    /// FIFO topics that some shards have with more queues and others do not.
    growing: HashMap<TopicName, Topic>,
}

#[derive(Debug)]
struct Inner {
    shards: Vec<ShardHandle>,
    state: RwLock<State>,
    /// One change at a time. Holds what shards do not know that others do.
    changing: Mutex<Vec<Repair>>,
    changes: broadcast::Sender<CatalogChange>,
    /// Whoever sets progress anew, and whoever asks all shards how far a group is, one at a time.
    moving: Mutex<()>,
}

/// Topics and groups of this broker; cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

impl Catalog {
    /// A catalog of running shards and of what their logs say, in the same order. `version` must be above any version used
    /// before: the time will do. Where shards differ, what was declared last holds; [`Catalog::complete_shards`] tells the
    /// others.
    #[must_use]
    pub fn new(shards: Vec<ShardHandle>, known: Vec<Known>, version: u64) -> Self {
        let Merged { topics, groups, by_first_use, deleted_groups, repairs } = Merged::of(known);
        let (named, grouped) = (HashMap::new(), HashMap::new());
        let mut state = State {
            topics: named,
            groups: grouped,
            deleted_groups,
            version,
            has_grown: false,
            growing: HashMap::new(),
        };
        topics.into_iter().for_each(|topic| drop(state.put_topic(topic)));
        for group in groups {
            let is_declared = !by_first_use.contains(&group.name);
            state.put_group(group, is_declared);
        }
        let (changes, _) = broadcast::channel(CHANGES_BUFFERED);
        let (state, changing) = (RwLock::new(state), Mutex::new(repairs));
        let moving = Mutex::new(());
        Self { inner: Arc::new(Inner { shards, state, changing, changes, moving }) }
    }

    /// The shards of this broker.
    #[must_use]
    pub fn shards(&self) -> &[ShardHandle] {
        &self.inner.shards
    }

    /// One shard of this broker.
    #[must_use]
    pub fn shard(&self, id: ShardId) -> Option<&ShardHandle> {
        self.inner.shards.iter().find(|shard| shard.id() == id)
    }

    /// One shard of this broker, by its name on the wire.
    #[must_use]
    pub fn shard_by_name(&self, name: &str) -> Option<&ShardHandle> {
        self.inner.shards.iter().find(|shard| shard.name() == name)
    }

    /// A topic by its name, which need not be checked before.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<Arc<TopicEntry>> {
        self.read().topics.get(name).cloned()
    }

    /// All topics, by name.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<TopicEntry>> {
        let mut topics: Vec<_> = self.read().topics.values().cloned().collect();
        topics.sort_by(|a, b| a.topic.name.cmp(&b.topic.name));
        topics
    }

    /// A group by its name, which need not be checked before.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Arc<GroupEntry>> {
        self.read().groups.get(name).cloned()
    }

    /// All groups, by name.
    #[must_use]
    pub fn groups(&self) -> Vec<Arc<GroupEntry>> {
        let mut groups: Vec<_> = self.read().groups.values().cloned().collect();
        groups.sort_by(|a, b| a.group.name.cmp(&b.group.name));
        groups
    }

    /// Version of the last change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.read().version
    }

    /// Hears of every change from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<CatalogChange> {
        self.inner.changes.subscribe()
    }

    /// Takes note of a dead-letter topic that a shard made by itself.
    pub fn note_dead_letter_topic(&self, topic: Topic) {
        let entry = {
            let mut state = self.write();
            let known = state.topics.get(&topic.name).map(|entry| entry.topic.clone());
            let mut merged = known.unwrap_or_else(|| Topic {
                queues: 0,
                placement: Vec::new(),
                ..topic.clone()
            });
            merged.merge_placement(&topic);
            state.put_topic(merged)
        };
        self.tell(CatalogChange::Topic(entry));
    }

    /// Progress of one group, or of all, summed over the shards.
    ///
    /// # Errors
    /// [`Refusal`] of a shard.
    pub async fn progress(
        &self,
        group: Option<GroupName>,
    ) -> Result<Vec<GroupTopicProgress>, Refusal> {
        let mut sums: HashMap<(GroupName, TopicName), GroupTopicProgress> = HashMap::new();
        for shard in self.shards() {
            for part in progress_on(shard, group.as_ref()).await? {
                let key = (part.group.clone(), part.topic.clone());
                match sums.get_mut(&key) {
                    None => drop(sums.insert(key, part)),
                    Some(sum) => {
                        sum.lag_messages += part.lag_messages;
                        sum.inflight_messages += part.inflight_messages;
                        sum.waiters += part.waiters;
                        sum.is_polled |= part.is_polled;
                        sum.is_estimate |= part.is_estimate;
                        sum.oldest_ms = sum.oldest_ms.into_iter().chain(part.oldest_ms).min();
                    }
                }
            }
        }
        let mut progress: Vec<_> = sums.into_values().collect();
        progress.sort_by(|a, b| (&a.group, &a.topic).cmp(&(&b.group, &b.topic)));
        Ok(progress)
    }

    /// Sets the progress of a group on every shard; each shard carries out a reset of one id once.
    ///
    /// # Errors
    /// [`Refusal`] of a shard; those before it have carried it out, so the caller asks again with the same id.
    pub async fn reset_offsets(&self, reset: &ResetOffsets) -> Result<(), Refusal> {
        let _one_at_a_time = self.inner.moving.lock().await;
        for shard in self.shards() {
            // A shard that never had a dead letter does not know the topic: nothing is to be reset there.
            let is_here = |name: &&TopicName| {
                let holds = |entry: Arc<TopicEntry>| entry.topic.queues_on(shard.id()) > 0;
                !name.is_dead_letter() || self.topic(name.as_str()).is_some_and(holds)
            };
            let topics: Vec<_> = reset.topics.iter().filter(is_here).cloned().collect();
            // No topic at all would mean every topic.
            if topics.is_empty() && !reset.topics.is_empty() {
                continue;
            }
            let reset = ResetOffsets { topics, ..reset.clone() };
            shard.submit(Command::ResetOffsets(reset)).await?;
        }
        Ok(())
    }

    /// Numbers of all topics, summed over the shards, whose status tells the oldest message from then on.
    ///
    /// # Errors
    /// [`Refusal`] of a shard.
    pub async fn topic_numbers(&self) -> Result<Vec<TopicNumbers>, Refusal> {
        let mut sums: HashMap<TopicName, TopicNumbers> = HashMap::new();
        for shard in self.shards() {
            let (mut next, mut oldest_ms) = (Some(0), None);
            while let Some(first) = next.take() {
                let answer = shard.submit(Command::ReadTopics(first)).await?;
                let Outcome::Topics(part, after) = answer else { break };
                next = after;
                for row in part {
                    oldest_ms = earlier(oldest_ms, row.oldest_ms);
                    match sums.get_mut(&row.topic) {
                        None => drop(sums.insert(row.topic.clone(), row)),
                        Some(sum) => {
                            sum.messages += row.messages;
                            sum.bytes += row.bytes;
                            sum.dead_lettered += row.dead_lettered;
                            sum.oldest_ms = earlier(sum.oldest_ms, row.oldest_ms);
                        }
                    }
                }
            }
            shard.note_oldest(oldest_ms);
        }
        let mut numbers: Vec<_> = sums.into_values().collect();
        numbers.sort_by(|a, b| a.topic.cmp(&b.topic));
        Ok(numbers)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.inner.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: CatalogChange) {
        // No listener is no error.
        let _listeners = self.inner.changes.send(change);
    }
}

/// Progress on one shard. It comes in parts, so that others have their turn between them.
async fn progress_on(
    shard: &ShardHandle,
    group: Option<&GroupName>,
) -> Result<Vec<GroupTopicProgress>, Refusal> {
    let (mut rows, mut next) = (Vec::new(), Some(ProgressPlace::default()));
    while let Some(from) = next.take() {
        let query = ProgressQuery { group: group.cloned(), from };
        let answer = shard.submit(Command::ReadProgress(query)).await?;
        if let Outcome::Progress(part, after) = answer {
            rows.extend(part);
            next = after;
        }
    }
    Ok(rows)
}

impl State {
    fn put_topic(&mut self, topic: Topic) -> Arc<TopicEntry> {
        self.version += 1;
        self.has_grown |= topic.first_queues.is_some();
        self.growing.remove(&topic.name);
        let entry = Arc::new(TopicEntry { topic, version: self.version });
        self.topics.insert(entry.topic.name.clone(), entry.clone());
        entry
    }

    fn make_group(&mut self, name: &GroupName) -> Arc<GroupEntry> {
        self.put_group(ConsumerGroup::with_defaults(name.clone()), false)
    }

    fn remove_group(&mut self, name: &GroupName) {
        self.version += 1;
        self.groups.remove(name);
    }

    fn put_group(&mut self, group: ConsumerGroup, is_declared: bool) -> Arc<GroupEntry> {
        self.version += 1;
        self.deleted_groups.remove(&group.name);
        let entry = Arc::new(GroupEntry::new(group, self.version, is_declared));
        self.groups.insert(entry.group.name.clone(), entry.clone());
        entry
    }
}

fn earlier(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}
