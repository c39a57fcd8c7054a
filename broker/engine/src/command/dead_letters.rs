//! What can be asked about dead letters, and what is answered.

use broker_model::{GroupName, TopicName};
use broker_store::record::Place;

use super::Source;

/// Dead letters to put back.
#[derive(Debug, Clone)]
pub struct Redrive {
    /// The group whose dead letters they are.
    pub group: GroupName,
    /// Only those that came from this topic.
    pub topic: Option<TopicName>,
    /// At most this many.
    pub messages_max: u32,
    /// Only the one at this offset of the dead-letter topic.
    pub only: Option<u64>,
    /// They are taken away for good, wherever they came from.
    pub is_purge: bool,
    /// Only say how many there are.
    pub is_dry_run: bool,
}

/// Dead letters to look at.
#[derive(Debug, Clone)]
pub struct ListDeadLetters {
    /// The group whose dead letters they are.
    pub group: GroupName,
    /// The first offset of the dead-letter topic to look at.
    pub from: u64,
    /// At most this many offsets are looked at.
    pub looked_at_max: u32,
}

/// A dead letter that is kept and was not put back.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// In the dead-letter topic.
    pub offset: u64,
    /// When it became one, Unix time.
    pub died_ms: u64,
    /// The topic that it was sent to; none when that is gone.
    pub origin_topic: Option<TopicName>,
    /// Where its group had it.
    pub place: Place,
    /// When it was stored there, Unix time; none when the topic is gone, or kept it no longer.
    pub stored_ms: Option<u64>,
    /// Where its bytes are.
    pub source: Source,
}

/// Dead letters of one shard.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// In order.
    pub letters: Vec<DeadLetter>,
    /// Where to go on; none at the end.
    pub next: Option<u64>,
}

/// What a redrive did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Redriven {
    /// Dead letters put back.
    pub messages: u64,
    /// Dead letters that match and are still there.
    pub left: u64,
}
