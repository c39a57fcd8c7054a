//! The part of the vocabulary that is about where a group goes on.

use std::collections::BTreeSet;

use broker_model::{GroupName, TopicName};

/// New progress on one queue: all before is done, all from there on is new.
#[derive(Debug, Clone)]
pub struct SetOffset {
    /// The group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// Queue in this shard.
    pub queue: u32,
    /// At most the offset behind the last message.
    pub offset: u64,
}

/// An offset of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// Of the oldest message kept.
    Earliest,
    /// Behind the newest message.
    Latest,
    /// Of the first message stored at this time or later, Unix time.
    TimeMs(u64),
    /// So many messages after (or before) where the group is; only in a reset.
    Shift(i64),
    /// This offset, or the nearest that there is.
    Offset(u64),
    /// So many messages before the end.
    Last(u64),
}

/// New progress on whole topics.
#[derive(Debug, Clone)]
pub struct ResetOffsets {
    /// The group.
    pub group: GroupName,
    /// The topics; empty = all that the group has progress on.
    pub topics: Vec<TopicName>,
    /// Where it goes on.
    pub to: OffsetAt,
    /// Names the reset: it is carried out once. Empty = no name, carried out each time.
    pub id: String,
}

/// New progress on lite topics.
#[derive(Debug, Clone)]
pub struct SetLiteOffsets {
    /// The group.
    pub group: GroupName,
    /// The LITE topic.
    pub topic: TopicName,
    /// Its lite topics; one that does not exist here begins with its first message anyway.
    pub lite_topics: BTreeSet<String>,
    /// Where the group goes on.
    pub to: OffsetAt,
}
