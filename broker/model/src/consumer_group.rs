//! A consumer group: the identity under which consumers share logic and load.

use crate::{GroupName, Owner, RetryPolicy, TopicName};

/// Point-to-point sharing, or every consumer gets every message. Numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Model {
    /// Each message goes to one consumer of the group.
    #[default]
    Clustering = 1,
    /// Each message goes to every live consumer of the group.
    Broadcasting = 2,
}

/// Whether the group consumes message groups in order. Numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Order {
    /// No order.
    #[default]
    Concurrent = 1,
    /// In order per message group.
    Fifo = 2,
}

/// Where a group begins with a topic that it never received from. Numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum StartFrom {
    /// With the oldest message kept.
    #[default]
    Earliest = 1,
    /// With what is sent from now on.
    Latest = 2,
}

/// What happens to a message whose deliveries are used up. Numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum DeadLetterPolicy {
    /// It goes to the group's dead-letter topic.
    #[default]
    Store = 1,
    /// It is done for the group.
    Discard = 2,
}

/// A declared subscription; what clients really subscribe to is theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The topic.
    pub topic: TopicName,
    /// SQL92 when true, else a tag expression.
    pub is_sql: bool,
    /// The filter expression.
    pub expression: String,
    /// Where the group begins.
    pub start_from: StartFrom,
}

/// The settings of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerGroup {
    /// Its name, unique in the cluster.
    pub name: GroupName,
    /// Sharing or broadcasting.
    pub model: Model,
    /// Order of consumption.
    pub order: Order,
    /// Attempts and pauses.
    pub retry: RetryPolicy,
    /// Declared subscriptions.
    pub subscriptions: Vec<Subscription>,
    /// After the last delivery.
    pub dead_letter: DeadLetterPolicy,
    /// The one LITE topic that the group's consumers subscribe to lite topics of; none for other groups.
    pub lite_topic: Option<TopicName>,
    /// Whether the group gets messages; its progress is kept while it does not.
    pub is_consuming: bool,
    /// Who declared it; none when it appeared by first use.
    pub owner: Option<Owner>,
}

impl ConsumerGroup {
    /// Where the group begins with a topic.
    #[must_use]
    pub fn start_from(&self, topic: &TopicName) -> StartFrom {
        let declared = self.subscriptions.iter().find(|subscription| subscription.topic == *topic);
        declared.map(|subscription| subscription.start_from).unwrap_or_default()
    }

    /// A group with default settings, as made by first use.
    #[must_use]
    pub fn with_defaults(name: GroupName) -> Self {
        Self {
            name,
            model: Model::default(),
            order: Order::default(),
            retry: RetryPolicy::default(),
            subscriptions: Vec::new(),
            dead_letter: DeadLetterPolicy::default(),
            lite_topic: None,
            is_consuming: true,
            owner: None,
        }
    }
}
