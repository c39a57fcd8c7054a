//! What is asked about the progress of groups, and what is told.

use broker_model::{GroupName, TopicName};

/// Progress to be told.
#[derive(Debug, Clone, Default)]
pub struct ProgressQuery {
    /// Of whom; of all without one.
    pub group: Option<GroupName>,
    /// From where on: the default first, then where the part before ended.
    pub from: ProgressPlace,
}

/// Where a part of the progress on one shard begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProgressPlace {
    /// Number of a group, or of a member that has its own progress.
    pub(crate) reader: u32,
    pub(crate) topic: u32,
}

/// How far one group is with one topic, on one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupTopicProgress {
    /// The group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// Not acknowledged yet, in flight included.
    pub lag_messages: u64,
    /// Handed out and neither acknowledged nor expired.
    pub inflight_messages: u64,
    /// When the oldest message not acknowledged was stored, Unix time; none without lag.
    pub oldest_ms: Option<u64>,
    /// Polls waiting.
    pub waiters: usize,
    /// Whether a consumer of the group was ever here; it counts from its declaration on until then.
    pub is_polled: bool,
    /// Whether what passes the declared filter of a long backlog was estimated.
    pub is_estimate: bool,
}
