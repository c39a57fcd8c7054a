//! Every reason for which a shard does not carry out a command, as a sentence for its user.

use broker_model::limits::{
    LITE_TOPICS_PER_TOPIC_MAX, OFFSET_RESETS_PER_SHARD_BYTES_MAX, OFFSET_RESETS_REMEMBERED_MAX,
};
use broker_model::{GroupName, TopicName};

/// Why a command was not carried out. Nothing has changed then, unless it is [`Refusal::LogFailed`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such topic on this shard.
    #[error("topic {0} does not exist; create it first")]
    TopicNotFound(TopicName),
    /// The topic grows: not every shard is known to have its new layout, or the sender does not.
    #[error("the queues of topic {0} are changing; send again")]
    LayoutChanges(TopicName),
    /// No such group on this shard.
    #[error("consumer group {0} does not exist")]
    GroupNotFound(GroupName),
    /// It was declared, or is in use, and is not forgotten.
    #[error("consumer group {0} was declared, or is in use; delete it where it was declared")]
    GroupInUse(GroupName),
    /// Writing is switched off, or the shard holds no queue of it.
    #[error("topic {0} cannot be written to")]
    NotWritable(TopicName),
    /// Reading is switched off, or the shard holds no queue of it.
    #[error("topic {0} cannot be read from")]
    NotReadable(TopicName),
    /// No such queue on this shard.
    #[error("topic {topic} has no queue {queue} on this shard")]
    QueueNotFound {
        /// The topic.
        topic: TopicName,
        /// Queue in this shard.
        queue: u32,
    },
    /// The offset is behind the end of the queue.
    #[error("offset {offset} is beyond the end of the queue, {end}")]
    OffsetOutOfRange {
        /// What was asked.
        offset: u64,
        /// Behind the last message.
        end: u64,
    },
    /// The timed message was delivered or recalled before.
    #[error("the message is not waiting for its time any more: it was delivered or recalled")]
    NotTimed,
    /// The transaction was never begun here.
    #[error("no such transaction; it may have been rolled back after too many checks")]
    TransactionNotFound,
    /// The transaction ended the other way.
    #[error("the transaction has already been {}", if *.is_commit { "committed" } else { "rolled back" })]
    TransactionEnded {
        /// How it ended.
        is_commit: bool,
    },
    /// The delivery is over: acknowledged by another holder, expired and handed out again, or never made.
    #[error("the receipt handle is no longer valid: its message was delivered again or is gone")]
    InvalidHandle,
    /// A reset of this id was carried out, and was another one.
    #[error(
        "the reset {id:?} of consumer group {group} was carried out with another target; give it another id to reset again"
    )]
    ResetDiffers {
        /// The group.
        group: GroupName,
        /// Names the reset.
        id: String,
    },
    /// One more could not be remembered, and would be carried out again when it is asked for again.
    #[error(
        "the reset {id:?} of consumer group {group} is not carried out: as many resets as can be remembered had an id \
         ({OFFSET_RESETS_REMEMBERED_MAX} of one group, {} MiB of all groups of a shard); reset without an id, as \
         pinnace group reset does", OFFSET_RESETS_PER_SHARD_BYTES_MAX >> 20
    )]
    TooManyResets {
        /// The group.
        group: GroupName,
        /// Names the reset.
        id: String,
    },
    /// A receipt handle, recall handle or transaction id whose code is not ours.
    #[error(
        "the handle was not given out by this shard, or is damaged; one of an earlier version of Pinnace is void after the upgrade"
    )]
    ForeignHandle,
    /// A limit was reached; the message names it.
    #[error("too many requests: {0}")]
    TooMany(String),
    /// The messages of one send do not fit in a frame of the log, whose segments are as large as the volume allows.
    #[error(
        "the messages of the request have {bytes} bytes; at most {bytes_max} are allowed on a volume of this size, send them in parts"
    )]
    SendTooLarge {
        /// Of heads and bodies.
        bytes: usize,
        /// What one send may have.
        bytes_max: usize,
    },
    /// The topic has as many lite topics as it may.
    #[error(
        "the topic has {LITE_TOPICS_PER_TOPIC_MAX} lite topics on this shard, its limit; unused ones expire"
    )]
    TooManyLiteTopics,
    /// The disk is nearly full.
    #[error("the disk of the broker is nearly full; sending goes on when space is back")]
    DiskFull,
    /// The disk is full, and what the log had in reserve is used up.
    #[error("the disk of the broker is full; this goes on when space is back")]
    NoRoom,
    /// The log failed for good; what was in flight may or may not be stored.
    #[error("the log of the shard has failed: {0}")]
    LogFailed(String),
    /// The log is damaged, so that nothing can be kept; the text names the damage and what to do.
    #[error("this shard is read-only: {0}")]
    ReadOnly(String),
    /// The shard does not lead, or is stopping.
    #[error("the shard is not available now; try again")]
    Unavailable,
}
