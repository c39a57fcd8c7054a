//! What is asked, told and answered about FIFO topics that grow.

use broker_model::{GroupName, TopicName};

use super::ProgressPlace;

/// About the layouts of a FIFO topic: each is named by its number of queues over all shards.
#[derive(Debug, Clone)]
pub enum LayoutCommand {
    /// Sends may go by the newest layout, which all shards have; has no effect when it is not the newest here. Answered with
    /// [`super::Outcome::Done`] once durable.
    Open {
        /// The topic.
        topic: TopicName,
        /// The layout.
        layout: u32,
    },
    /// A group may have the messages of a layout. Answered with [`super::Outcome::Done`] once durable.
    Pass(PassLayout),
    /// Whether this shard has a layout and the group has done here what was sent before it; answered with
    /// [`super::Outcome::Passed`].
    ReadPassed {
        /// The group; without one, whether the shard has the layout.
        group: Option<GroupName>,
        /// The topic.
        topic: TopicName,
        /// The layout.
        layout: u32,
    },
    /// Topics that take no sends because they grow, and groups that are held back, a part at a time; answered with
    /// [`super::Outcome::Held`].
    ReadHeld(ProgressPlace),
}

/// A group that may not have what was sent to a topic since it grew, as long as earlier messages are not done somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldGroup {
    /// The group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// The layout whose messages it waits for.
    pub layout: u32,
    /// How often its progress was set on this shard.
    pub as_of: u64,
}

/// A group has done on every shard what was sent before a layout.
#[derive(Debug, Clone)]
pub struct PassLayout {
    /// The group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// The layout.
    pub layout: u32,
    /// As [`HeldGroup::as_of`] said before the shards were asked.
    pub as_of: u64,
}
