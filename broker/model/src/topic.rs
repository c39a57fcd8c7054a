//! A topic: a named container of messages of one type, made of queues that are placed on shards.

use crate::limits::{
    BODY_BYTES_MAX, LITE_EXPIRY_MS_MAX, LITE_EXPIRY_MS_MIN, QUEUES_PER_TOPIC_MAX, RETENTION_MS_MAX,
    RETENTION_MS_MIN, SHARD_NUMBER_MAX,
};
use crate::{MessageType, Owner, OwnerError, ShardId, TopicName};

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
        placed: u64,
        /// What was asked.
        queues: u32,
    },
    /// It is said to have grown, and cannot have.
    #[error(
        "topic {name} is said to have had {first} queues first; that is for FIFO topics of more queues, and it has {queues}"
    )]
    FirstQueues {
        /// The topic.
        name: TopicName,
        /// What was said.
        first: u32,
        /// Its queues.
        queues: u32,
    },
    /// A shard whose number no cluster has.
    #[error("topic {name} is placed on shard-{shard}; shards are numbered 0 to {SHARD_NUMBER_MAX}")]
    Shard {
        /// The topic.
        name: TopicName,
        /// What was asked.
        shard: u32,
    },
    /// A number outside of its bounds.
    #[error("the {setting} of topic {name} is {value} {unit}; use {min} to {max}")]
    OutOfRange {
        /// The topic.
        name: TopicName,
        /// The setting, for people.
        setting: &'static str,
        /// What was asked.
        value: u64,
        /// "ms" or "bytes".
        unit: &'static str,
        /// Smallest value allowed.
        min: u64,
        /// Largest value allowed.
        max: u64,
    },
    /// Its owner is not legal.
    #[error("topic {name}: {error}")]
    Owner {
        /// The topic.
        name: TopicName,
        /// Why.
        error: OwnerError,
    },
}

/// Why a topic cannot become another one; the same rules as those of the resource `Topic`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicChangeError {
    /// Another type.
    #[error(
        "topic {name} has the type {have}, which cannot be changed to {wanted}; delete it first or use another name"
    )]
    Type {
        /// The topic.
        name: TopicName,
        /// Its type.
        have: MessageType,
        /// What was asked.
        wanted: MessageType,
    },
    /// Fewer queues.
    #[error(
        "topic {name} has {have} queues, which cannot be reduced to {wanted}: messages in removed queues would be lost"
    )]
    FewerQueues {
        /// The topic.
        name: TopicName,
        /// Its queues.
        have: u32,
        /// What was asked.
        wanted: u32,
    },
    /// A shard would lose queues.
    #[error("the placement of topic {0} takes queues away from a shard that has them")]
    Placement(TopicName),
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
    /// Of a FIFO topic that grew: its queues before it first did. Every number of queues that it had since is a layout of it.
    pub first_queues: Option<u32>,
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
            queues: queues_of(&placement),
            placement,
            first_queues: None,
            owner: None,
            retention_ms: None,
            retention_bytes: None,
            max_message_bytes: None,
            lite_expiry_ms: None,
            readable: true,
            writable: true,
        }
    }

    /// Checks what the types alone do not: every number that somebody gave, against its limit.
    ///
    /// # Errors
    /// [`TopicError`] naming what is wrong.
    pub fn validate(&self) -> Result<(), TopicError> {
        let (name, queues) = (self.name.clone(), self.queues);
        if !(1..=QUEUES_PER_TOPIC_MAX).contains(&queues) {
            return Err(TopicError::Queues { name, queues });
        }
        let placed = self.placement.iter().map(|p| u64::from(p.queues)).sum();
        if placed != u64::from(queues) {
            return Err(TopicError::Placement { name, placed, queues });
        }
        let may_have_grown =
            |first| self.message_type == MessageType::Fifo && (1..queues).contains(&first);
        if let Some(first) = self.first_queues.filter(|first| !may_have_grown(*first)) {
            return Err(TopicError::FirstQueues { name, first, queues });
        }
        if let Some(beyond) = self.placement.iter().find(|p| p.shard.0 > SHARD_NUMBER_MAX) {
            return Err(TopicError::Shard { name, shard: beyond.shard.0 });
        }
        self.validate_bounds()?;
        let legal = self.owner.as_ref().map_or(Ok(()), Owner::validate);
        legal.map_err(|error| TopicError::Owner { name, error })
    }

    fn validate_bounds(&self) -> Result<(), TopicError> {
        let body_bytes_max = BODY_BYTES_MAX as u64;
        let bounds = [
            ("retention time", self.retention_ms, "ms", RETENTION_MS_MIN, RETENTION_MS_MAX),
            ("retention size", self.retention_bytes, "bytes", 1, i64::MAX as u64),
            ("largest body", self.max_message_bytes.map(u64::from), "bytes", 1, body_bytes_max),
            (
                "expiry of lite topics",
                self.lite_expiry_ms,
                "ms",
                LITE_EXPIRY_MS_MIN,
                LITE_EXPIRY_MS_MAX,
            ),
        ];
        for (setting, value, unit, min, max) in bounds {
            if let Some(value) = value.filter(|value| !(min..=max).contains(value)) {
                let name = self.name.clone();
                return Err(TopicError::OutOfRange { name, setting, value, unit, min, max });
            }
        }
        Ok(())
    }

    /// What a topic has to remember of this one, which it follows: a FIFO topic that grows, how many queues it had first.
    #[must_use]
    pub fn first_queues_of_next(&self, queues: u32) -> Option<u32> {
        let grows = self.message_type == MessageType::Fifo && queues > self.queues;
        self.first_queues.or_else(|| grows.then_some(self.queues))
    }

    /// Whether every shard has as many queues of both.
    #[must_use]
    pub fn is_placed_as(&self, other: &Self) -> bool {
        let shards = self.placement.iter().chain(&other.placement).map(|placed| placed.shard);
        shards.into_iter().all(|shard| self.queues_on(shard) == other.queues_on(shard))
    }

    /// Checks whether this topic may become `next`, another set of settings for the same name.
    ///
    /// # Errors
    /// [`TopicChangeError`] naming what cannot be changed.
    pub fn check_change(&self, next: &Self) -> Result<(), TopicChangeError> {
        let (name, have, wanted) = (self.name.clone(), self.queues, next.queues);
        if self.message_type != next.message_type {
            let (have, wanted) = (self.message_type, next.message_type);
            return Err(TopicChangeError::Type { name, have, wanted });
        }
        if wanted < have {
            return Err(TopicChangeError::FewerQueues { name, have, wanted });
        }
        if self.placement.iter().any(|placed| next.queues_on(placed.shard) < placed.queues) {
            return Err(TopicChangeError::Placement(name));
        }
        Ok(())
    }

    /// The topic as an earlier version stored it, which let any number pass: what is too large becomes the largest.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.retention_ms = self.retention_ms.map(|ms| ms.min(RETENTION_MS_MAX));
        self.lite_expiry_ms = self.lite_expiry_ms.map(|ms| ms.min(LITE_EXPIRY_MS_MAX));
        self
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
            queue = queue.saturating_sub(placement.queues);
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
        self.queues = queues_of(&self.placement);
    }

    /// Spreads `queues` evenly over `shards`, the first ones taking the rest.
    #[must_use]
    pub fn spread(queues: u32, shards: &[ShardId]) -> Vec<QueuePlacement> {
        let count = u32::try_from(shards.len()).unwrap_or(u32::MAX).max(1);
        let (share, rest) = (queues.checked_div(count), queues.checked_rem(count));
        let (share, rest) = (share.unwrap_or(0), rest.unwrap_or(0));
        let share = |i: u32| share.saturating_add(u32::from(i < rest));
        (0u32..)
            .zip(shards)
            .map(|(i, shard)| QueuePlacement { shard: *shard, queues: share(i) })
            .filter(|p| p.queues > 0)
            .collect()
    }
}

fn queues_of(placement: &[QueuePlacement]) -> u32 {
    placement.iter().fold(0, |queues, placed| queues.saturating_add(placed.queues))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> Topic {
        let name = TopicName::parse("orders").unwrap();
        Topic::with_defaults(name, MessageType::Normal, Topic::spread(4, &[ShardId(0)]))
    }

    #[test]
    fn a_number_beyond_its_limit_is_refused_with_what_is_allowed() {
        assert_eq!(orders().validate(), Ok(()));
        type Change = fn(&mut Topic);
        let refused: [(Change, &str); 10] = [
            (|t| t.first_queues = Some(2), "is said to have had 2 queues first"),
            (|t| t.retention_ms = Some(0), "use 60000 to 315360000000"),
            (|t| t.retention_ms = Some(1), "use 60000 to"),
            (|t| t.retention_ms = Some(u64::MAX), "the retention time of topic orders"),
            (|t| t.retention_bytes = Some(0), "the retention size of topic orders is 0 bytes"),
            (|t| t.max_message_bytes = Some(0), "use 1 to 4194304"),
            (|t| t.max_message_bytes = Some(u32::MAX), "use 1 to 4194304"),
            (|t| t.lite_expiry_ms = Some(u64::MAX), "use 1000 to 31536000000"),
            (|t| t.placement[0].shard = ShardId(u32::MAX), "shards are numbered 0 to 16383"),
            (
                |t| t.placement = vec![QueuePlacement { queues: u32::MAX, ..t.placement[0] }; 2],
                "adds up to 8589934590",
            ),
        ];
        for (change, words) in refused {
            let mut topic = orders();
            change(&mut topic);
            let text = topic.validate().unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn what_an_earlier_version_stored_is_bounded_and_then_legal() {
        let stored = Topic {
            retention_ms: Some(u64::MAX),
            lite_expiry_ms: Some(u64::MAX),
            message_type: MessageType::Lite,
            ..orders()
        };
        assert!(stored.validate().is_err());
        assert_eq!(stored.bounded().validate(), Ok(()));
        assert_eq!(orders().bounded(), orders());
    }

    #[test]
    fn a_topic_keeps_its_type_its_queues_and_the_order_in_them() {
        let fifo = Topic { message_type: MessageType::Fifo, ..orders() };
        let with = |topic: &Topic, queues| Topic {
            queues,
            placement: Topic::spread(queues, &[ShardId(0)]),
            ..topic.clone()
        };
        assert_eq!(orders().check_change(&with(&orders(), 5)), Ok(()));
        assert_eq!(
            fifo.check_change(&Topic { retention_ms: Some(60_000), ..fifo.clone() }),
            Ok(())
        );
        let grown = with(&fifo, 5);
        assert_eq!(fifo.check_change(&grown), Ok(()));
        assert_eq!((fifo.first_queues_of_next(4), fifo.first_queues_of_next(5)), (None, Some(4)));
        let grown = Topic { first_queues: Some(4), ..grown };
        assert_eq!(grown.first_queues_of_next(9), Some(4));
        assert_eq!(orders().first_queues_of_next(5), None);
        let moved = Topic { placement: Topic::spread(4, &[ShardId(0), ShardId(1)]), ..orders() };
        for (have, wanted, words) in [
            (&orders(), &fifo, "cannot be changed to FIFO"),
            (&orders(), &with(&orders(), 3), "cannot be reduced to 3"),
            (&orders(), &moved, "takes queues away"),
        ] {
            let text = have.check_change(wanted).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
    }

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
