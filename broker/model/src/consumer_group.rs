//! A consumer group: the identity under which consumers share logic and load.

use crate::limits::{SUBSCRIPTION_EXPRESSION_BYTES_MAX, SUBSCRIPTIONS_MAX};
use crate::{GroupName, Owner, OwnerError, RetryError, RetryPolicy, TopicName};

/// Why a group is not legal.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConsumerGroupError {
    /// Its retry policy is not.
    #[error("consumer group {name}: {error}")]
    Retry {
        /// The group.
        name: GroupName,
        /// Why.
        error: RetryError,
    },
    /// Too many subscriptions.
    #[error(
        "consumer group {name} declares {count} subscriptions; at most {SUBSCRIPTIONS_MAX} are allowed"
    )]
    Subscriptions {
        /// The group.
        name: GroupName,
        /// What was asked.
        count: usize,
    },
    /// A filter that is too long.
    #[error(
        "the filter of consumer group {name} for topic {topic} has {bytes} bytes; at most \
         {SUBSCRIPTION_EXPRESSION_BYTES_MAX} are allowed"
    )]
    Expression {
        /// The group.
        name: GroupName,
        /// The topic.
        topic: TopicName,
        /// Length of the filter.
        bytes: usize,
    },
    /// Its owner is not legal.
    #[error("consumer group {name}: {error}")]
    Owner {
        /// The group.
        name: GroupName,
        /// Why.
        error: OwnerError,
    },
}

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

/// Why a group cannot become another one; the same rules as those of the resource `ConsumerGroup`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsumerGroupChangeError {
    /// Another model.
    #[error(
        "the model of consumer group {0} cannot be changed: progress is kept differently; delete the group first, or \
         use another name"
    )]
    Model(GroupName),
    /// Another lite topic.
    #[error(
        "the liteTopic of consumer group {0} cannot be changed; delete the group first, or use another name"
    )]
    LiteTopic(GroupName),
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
    /// Checks what the types alone do not: every number that somebody gave, against its limit.
    ///
    /// # Errors
    /// [`ConsumerGroupError`] naming what is wrong.
    pub fn validate(&self) -> Result<(), ConsumerGroupError> {
        let name = || self.name.clone();
        let legal = self.retry.validate();
        legal.map_err(|error| ConsumerGroupError::Retry { name: name(), error })?;
        let count = self.subscriptions.len();
        if count > SUBSCRIPTIONS_MAX {
            return Err(ConsumerGroupError::Subscriptions { name: name(), count });
        }
        let is_long = |s: &&Subscription| s.expression.len() > SUBSCRIPTION_EXPRESSION_BYTES_MAX;
        if let Some(long) = self.subscriptions.iter().find(is_long) {
            let (topic, bytes) = (long.topic.clone(), long.expression.len());
            return Err(ConsumerGroupError::Expression { name: name(), topic, bytes });
        }
        let legal = self.owner.as_ref().map_or(Ok(()), Owner::validate);
        legal.map_err(|error| ConsumerGroupError::Owner { name: name(), error })
    }

    /// Checks whether this group may become `next`, another set of settings for the same name. A group that appeared by
    /// first use may become anything: nobody said before what it is.
    ///
    /// # Errors
    /// [`ConsumerGroupChangeError`] naming what cannot be changed.
    pub fn check_change(&self, next: &Self) -> Result<(), ConsumerGroupChangeError> {
        if *self == Self::with_defaults(self.name.clone()) {
            return Ok(());
        }
        if self.model != next.model {
            return Err(ConsumerGroupChangeError::Model(self.name.clone()));
        }
        if self.lite_topic != next.lite_topic {
            return Err(ConsumerGroupChangeError::LiteTopic(self.name.clone()));
        }
        Ok(())
    }

    /// The group as an earlier version stored it, which let any number pass: what is too large becomes the largest.
    #[must_use]
    pub fn bounded(self) -> Self {
        Self { retry: self.retry.bounded(), ..self }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_group_keeps_its_model_and_its_lite_topic() {
        let by_first_use = ConsumerGroup::with_defaults(GroupName::parse("billing").unwrap());
        let declared = ConsumerGroup { owner: Some(Owner::default()), ..by_first_use.clone() };
        let casts = ConsumerGroup { model: Model::Broadcasting, ..declared.clone() };
        let lite_topic = Some(TopicName::parse("rooms").unwrap());
        let lite = ConsumerGroup { lite_topic, ..declared.clone() };
        assert_eq!(by_first_use.check_change(&casts), Ok(()));
        assert_eq!(by_first_use.check_change(&lite), Ok(()));
        let name = || declared.name.clone();
        assert_eq!(declared.check_change(&casts), Err(ConsumerGroupChangeError::Model(name())));
        assert_eq!(declared.check_change(&lite), Err(ConsumerGroupChangeError::LiteTopic(name())));
        assert_eq!(lite.check_change(&declared), Err(ConsumerGroupChangeError::LiteTopic(name())));
        let paused = ConsumerGroup { is_consuming: false, ..declared.clone() };
        assert_eq!(declared.check_change(&paused), Ok(()));
    }

    #[test]
    fn a_group_is_refused_with_what_is_too_much_of_it() {
        let group = ConsumerGroup::with_defaults(GroupName::parse("billing").unwrap());
        assert_eq!(group.validate(), Ok(()));
        let subscription = |expression: String| Subscription {
            topic: TopicName::parse("orders").unwrap(),
            is_sql: false,
            expression,
            start_from: StartFrom::Earliest,
        };
        let mut many = group.clone();
        many.subscriptions = vec![subscription("*".into()); 100_000];
        let mut long = group.clone();
        long.subscriptions = vec![subscription("x".repeat(1025))];
        let mut owned = group;
        owned.owner = Some(Owner { uid: "x".repeat(254), ..Owner::default() });
        for (group, words) in [
            (many, "declares 100000 subscriptions; at most 100"),
            (long, "has 1025 bytes; at most 1024"),
            (owned, "uid has 254 bytes; at most 253"),
        ] {
            let text = group.validate().unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
    }
}
