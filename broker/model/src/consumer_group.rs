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

/// A declared subscription; what clients really subscribe to is theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The topic.
    pub topic: TopicName,
    /// SQL92 when true, else a tag expression.
    pub is_sql: bool,
    /// The filter expression.
    pub expression: String,
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
    /// Who declared it; none when it appeared by first use.
    pub owner: Option<Owner>,
}

impl ConsumerGroup {
    /// A group with default settings, as made by first use.
    #[must_use]
    pub fn with_defaults(name: GroupName) -> Self {
        Self {
            name,
            model: Model::default(),
            order: Order::default(),
            retry: RetryPolicy::default(),
            subscriptions: Vec::new(),
            owner: None,
        }
    }
}
