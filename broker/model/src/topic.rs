//! A topic: a named container of messages of one type, made of queues that are placed on shards.

use crate::limits::QUEUES_PER_TOPIC_MAX;
use crate::{MessageType, Owner, ShardId, TopicName};

/// How many queues of the topic one shard holds; their ids count from 0 in each shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePlacement {
    /// The shard.
    pub shard: ShardId,
    /// Its number of queues, at least 1.
    pub queues: u32,
}

/// Why a topic is not legal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// No queue, or too many.
    #[error("topic {name} asks for {queues} queues; use 1 to {QUEUES_PER_TOPIC_MAX}")]
    Queues {
        /// The topic.
        name: TopicName,
        /// What was asked.
        queues: u32,
    },
    /// The placement does not add up.
    #[error("the placement of topic {name} adds up to {placed} queues, but the topic has {queues}")]
    Placement {
        /// The topic.
        name: TopicName,
        /// Sum of the placement.
        placed: u32,
        /// What was asked.
        queues: u32,
    },
}

/// The settings of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name, unique in the cluster.
    pub name: TopicName,
    /// The one type of its messages.
    pub message_type: MessageType,
    /// Queues over all shards.
    pub queues: u32,
    /// Where they are.
    pub placement: Vec<QueuePlacement>,
    /// Who declared it.
    pub owner: Option<Owner>,
    /// Oldest age kept; none = the broker's default.
    pub retention_ms: Option<u64>,
    /// Most bytes kept; none = no limit of its own.
    pub retention_bytes: Option<u64>,
    /// Largest body accepted; none = the model's limit.
    pub max_message_bytes: Option<u32>,
    /// Time without use after which a lite topic of this topic is deleted; none = the broker's default.
    pub lite_expiry_ms: Option<u64>,
    /// May be received from.
    pub readable: bool,
    /// May be sent to.
    pub writable: bool,
}

impl Topic {
    /// A topic with default settings and these queues.
    #[must_use]
    pub fn with_defaults(
        name: TopicName,
        message_type: MessageType,
        placement: Vec<QueuePlacement>,
    ) -> Self {
        Self {
            name,
            message_type,
            queues: placement.iter().map(|placed| placed.queues).sum(),
            placement,
            owner: None,
            retention_ms: None,
            retention_bytes: None,
            max_message_bytes: None,
            lite_expiry_ms: None,
            readable: true,
            writable: true,
        }
    }

    /// Checks what the types alone do not: queue count and placement.
    ///
    /// # Errors
    /// [`TopicError`] naming what is wrong.
    pub fn validate(&self) -> Result<(), TopicError> {
        let (name, queues) = (self.name.clone(), self.queues);
        if !(1..=QUEUES_PER_TOPIC_MAX).contains(&queues) {
            return Err(TopicError::Queues { name, queues });
        }
        let placed = self.placement.iter().map(|p| p.queues).sum();
        if placed != queues {
            return Err(TopicError::Placement { name, placed, queues });
        }
        Ok(())
    }

    /// Queues on one shard.
    #[must_use]
    pub fn queues_on(&self, shard: ShardId) -> u32 {
        let here = self.placement.iter().filter(|p| p.shard == shard);
        here.fold(0, |queues, placed| queues.saturating_add(placed.queues))
    }

    /// The queue that keeps the order of a message group: its shard, and its number there.
    #[must_use]
    pub fn queue_of(&self, message_group_hash: u64) -> Option<(ShardId, u32)> {
        let mut queue =
            u32::try_from(message_group_hash.checked_rem(u64::from(self.queues))?).ok()?;
        for placement in &self.placement {
            if queue < placement.queues {
                return Some((placement.shard, queue));
            }
            queue -= placement.queues;
        }
        None
    }

    /// The shard that holds a lite topic.
    #[must_use]
    pub fn shard_of_lite_topic(&self, name: &str) -> Option<ShardId> {
        let count = self.placement.len() as u64;
        let at = crate::message_group_hash(Some(name)).checked_rem(count)?;
        self.placement.get(usize::try_from(at).ok()?).map(|placement| placement.shard)
    }

    /// Takes over the queues that `other`, the same topic seen by one shard, has there.
    pub fn merge_placement(&mut self, other: &Self) {
        for placed in &other.placement {
            self.placement.retain(|known| known.shard != placed.shard);
            self.placement.push(*placed);
        }
        self.placement.sort_by_key(|placed| placed.shard);
        self.queues = self.placement.iter().map(|placed| placed.queues).sum();
    }

    /// Spreads `queues` evenly over `shards`, the first ones taking the rest.
    #[must_use]
    pub fn spread(queues: u32, shards: &[ShardId]) -> Vec<QueuePlacement> {
        let count = u32::try_from(shards.len()).unwrap_or(u32::MAX).max(1);
        let share = |i: u32| queues / count + u32::from(i < queues % count);
        (0u32..)
            .zip(shards)
            .map(|(i, shard)| QueuePlacement { shard: *shard, queues: share(i) })
            .filter(|p| p.queues > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_even_and_complete() {
        let shards: Vec<_> = (0..3).map(ShardId).collect();
        let placed = Topic::spread(8, &shards);
        assert_eq!(placed.iter().map(|p| p.queues).collect::<Vec<_>>(), [3, 3, 2]);
        assert_eq!(Topic::spread(2, &shards).len(), 2);
    }

    #[test]
    fn message_groups_use_every_queue_of_every_shard() {
        let topic = Topic::with_defaults(
            TopicName::parse("orders").unwrap(),
            MessageType::Fifo,
            Topic::spread(5, &[ShardId(0), ShardId(1)]),
        );
        let used: std::collections::BTreeSet<_> =
            (0..100).filter_map(|hash| topic.queue_of(hash)).map(|(s, q)| (s.0, q)).collect();
        assert_eq!(used.into_iter().collect::<Vec<_>>(), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]);
        assert_eq!(Topic { queues: 0, ..topic }.queue_of(1), None);
    }
}
