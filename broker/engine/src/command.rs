//! The whole vocabulary of a shard: what can be asked of it and what it answers. Nothing here knows the wire.

use bytes::Bytes;

use broker_model::{ConsumerGroup, Filter, GroupName, ReceiptHandle, Topic, TopicName};

/// One request to a shard.
#[derive(Debug, Clone)]
pub enum Command {
    /// Store messages; answered with [`Outcome::Sent`] once they are durable.
    Send(Send),
    /// Hand out messages, waiting for them if there are none; answered with [`Outcome::Received`].
    Receive(Receive),
    /// Finish deliveries; answered with [`Outcome::Acknowledged`] once durable.
    Acknowledge(Acknowledge),
    /// Move the end of an invisible duration; answered with [`Outcome::InvisibleChanged`] once durable.
    ChangeInvisible(ChangeInvisible),
    /// Put a delivered message into the group's dead-letter topic; answered with [`Outcome::Done`] once durable.
    ForwardToDeadLetter(ForwardToDeadLetter),
    /// Give deliveries back whose answer reached nobody; answered with [`Outcome::Done`] at once.
    Release(Vec<ReceiptHandle>),
    /// Create or change a topic on this shard; answered with [`Outcome::Done`] once durable.
    PutTopic(Box<Topic>),
    /// Delete a topic and all its messages on this shard.
    DeleteTopic(TopicName),
    /// Create or change a group on this shard.
    PutGroup(Box<ConsumerGroup>),
    /// Delete a group and its progress on this shard.
    DeleteGroup(GroupName),
    /// Progress of one group, or of all; answered with [`Outcome::Progress`].
    ReadProgress(Option<GroupName>),
    /// Numbers of all topics; answered with [`Outcome::Topics`].
    ReadTopics,
}

/// Messages for one topic, stored in one piece: all or none.
#[derive(Debug, Clone)]
pub struct Send {
    /// The topic.
    pub topic: TopicName,
    /// The messages, in order.
    pub messages: Vec<NewMessage>,
}

/// A message to store. `head` and `body` come back at delivery exactly as given.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// From [`broker_model::tag_hash`].
    pub tag_hash: u64,
    /// Everything about the message but its body, in a form only the caller reads.
    pub head: Bytes,
    /// The body.
    pub body: Bytes,
}

/// A request for messages. Looks at all queues that the shard holds of the topic.
#[derive(Debug, Clone)]
pub struct Receive {
    /// For this group; created with default settings when unknown.
    pub group: GroupName,
    /// From this topic.
    pub topic: TopicName,
    /// Only messages that pass; others count as done for the group.
    pub filter: Filter,
    /// At most this many.
    pub messages_max: u32,
    /// How long they stay invisible to others.
    pub invisible_ms: u64,
    /// Answer empty at this time (same clock as the shard's).
    pub poll_until_ms: u64,
}

/// Handles to acknowledge, all of one group and topic.
#[derive(Debug, Clone)]
pub struct Acknowledge {
    /// The group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// The deliveries, in order.
    pub handles: Vec<ReceiptHandle>,
}

/// A new end for the invisible duration of one delivery.
#[derive(Debug, Clone)]
pub struct ChangeInvisible {
    /// The group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// The delivery.
    pub handle: ReceiptHandle,
    /// Visible again after this time from now; 0 = at once.
    pub invisible_ms: u64,
}

/// A delivery that the consumer gave up on.
#[derive(Debug, Clone)]
pub struct ForwardToDeadLetter {
    /// The group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// The delivery.
    pub handle: ReceiptHandle,
}

/// What a shard answers.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Nothing to say but that it is so.
    Done,
    /// Where the messages went, in the order of the request.
    Sent(Vec<SentMessage>),
    /// The deliveries; empty when the polling time ended.
    Received(Vec<Delivery>),
    /// One result per handle, in the order of the request.
    Acknowledged(Vec<Result<(), Refusal>>),
    /// The handle that is valid from now on.
    InvisibleChanged(ReceiptHandle),
    /// Progress of groups, one entry per (group, topic) with any.
    Progress(Vec<GroupTopicProgress>),
    /// Numbers of topics.
    Topics(Vec<TopicNumbers>),
}

/// The place of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentMessage {
    /// Queue in this shard.
    pub queue: u32,
    /// Offset in the queue.
    pub offset: u64,
}

/// One message handed out. Its bytes may still have to be read from the log.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// For acknowledging it; holds queue, offset and attempt.
    pub handle: ReceiptHandle,
    /// When it was stored, Unix time.
    pub stored_ms: u64,
    /// When it becomes visible to others, Unix time.
    pub invisible_until_ms: u64,
    /// The topic it was sent to, when it is read from a dead-letter topic.
    pub origin_topic: Option<TopicName>,
    /// Where its bytes are.
    pub source: Source,
}

/// Where the bytes of a message are.
#[derive(Debug, Clone)]
pub enum Source {
    /// In memory.
    Memory {
        /// As given at [`NewMessage`].
        head: Bytes,
        /// As given at [`NewMessage`].
        body: Bytes,
    },
    /// In the log, at a record of this length.
    Log {
        /// Log position of the record.
        position: u64,
        /// Its length.
        length_bytes: u32,
    },
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
}

/// Numbers of one topic on one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNumbers {
    /// The topic.
    pub topic: TopicName,
    /// Messages held.
    pub messages: u64,
    /// Bytes they take in the log.
    pub bytes: u64,
}

/// Why a command was not carried out. Nothing has changed then, unless it is [`Refusal::LogFailed`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such topic on this shard.
    #[error("topic {0} does not exist; create it first")]
    TopicNotFound(TopicName),
    /// No such group on this shard.
    #[error("consumer group {0} does not exist")]
    GroupNotFound(GroupName),
    /// Writing is switched off, or the shard holds no queue of it.
    #[error("topic {0} cannot be written to")]
    NotWritable(TopicName),
    /// Reading is switched off, or the shard holds no queue of it.
    #[error("topic {0} cannot be read from")]
    NotReadable(TopicName),
    /// The delivery is over: acknowledged by another holder, expired and handed out again, or never made.
    #[error("the receipt handle is no longer valid: its message was delivered again or is gone")]
    InvalidHandle,
    /// A limit was reached; the message names it.
    #[error("too many requests: {0}")]
    TooMany(String),
    /// The disk is nearly full.
    #[error("the disk of the broker is nearly full; sending goes on when space is back")]
    DiskFull,
    /// The log failed for good; what was in flight may or may not be stored.
    #[error("the log of the shard has failed: {0}")]
    LogFailed(String),
    /// The shard does not lead, or is stopping.
    #[error("the shard is not available now; try again")]
    Unavailable,
}
