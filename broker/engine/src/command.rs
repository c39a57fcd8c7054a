//! The whole vocabulary of a shard: what can be asked of it and what it answers. Nothing here knows the wire.

mod dead_letters;
mod layouts;
mod offsets;
mod progress;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use broker_model::{
    ConsumerGroup, Filter, GroupName, RecallHandle, ReceiptHandle, Topic, TopicName, TransactionId,
};
use broker_store::MessageIdentity;

pub use self::dead_letters::{DeadLetter, DeadLetters, ListDeadLetters, Redrive, Redriven};
pub use self::layouts::{HeldGroup, LayoutCommand, PassLayout};
pub use self::offsets::{OffsetAt, ResetOffsets, SetLiteOffsets, SetOffset};
pub use self::progress::{GroupTopicProgress, ProgressPlace, ProgressQuery};
use crate::lookup::{Names, NamesOf};
use crate::refusal::Refusal;

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
    /// Keep deliveries in flight for longer, under the handles that they have; answered with [`Outcome::Done`] once durable,
    /// or [`Refusal::InvalidHandle`] when all of them are over.
    Prolong(Prolong),
    /// As [`Command::ChangeInvisible`], of a delivery that does not count: the next one has the same number.
    Suspend(ChangeInvisible),
    /// Put a delivered message into the group's dead-letter topic; answered with [`Outcome::Done`] once durable.
    ForwardToDeadLetter(ForwardToDeadLetter),
    /// Give deliveries back whose answer reached nobody: they do not count. Answered with [`Outcome::Done`] at once.
    Release(Vec<ReceiptHandle>),
    /// Take back a timed message; answered with [`Outcome::Done`] once durable.
    Recall(Recall),
    /// Commit or roll back a transaction; answered with [`Outcome::Done`] once durable.
    EndTransaction(EndTransaction),
    /// The producer was asked about this transaction; answered with [`Outcome::Done`] once durable.
    NoteTransactionCheck(TransactionId),
    /// Read messages from an offset on without delivering them; answered with [`Outcome::Pulled`].
    Pull(Pull),
    /// Set the progress of a group on one queue; answered with [`Outcome::Done`] once durable.
    SetOffset(SetOffset),
    /// The progress of a group on one queue; answered with [`Outcome::Offset`], none without progress.
    ReadOffset {
        /// The group.
        group: GroupName,
        /// The topic.
        topic: TopicName,
        /// Queue in this shard.
        queue: u32,
    },
    /// An offset of a queue; answered with [`Outcome::Offset`].
    QueryOffset {
        /// The topic.
        topic: TopicName,
        /// Queue in this shard.
        queue: u32,
        /// Which one.
        at: OffsetAt,
    },
    /// Set the progress of a group on all queues of topics, once per id; answered with [`Outcome::Done`] once durable.
    ResetOffsets(ResetOffsets),
    /// Set the progress of a group on lite topics; answered with [`Outcome::Done`] once durable.
    SetLiteOffsets(SetLiteOffsets),
    /// Look at dead letters; answered with [`Outcome::DeadLetters`].
    ListDeadLetters(ListDeadLetters),
    /// Put dead letters back to where they came from; answered with [`Outcome::Redriven`] once durable.
    Redrive(Redrive),
    /// A consumer of a broadcasting group is here and gets messages from now on; answered with [`Outcome::Done`] once
    /// durable.
    Join(Join),
    /// A consumer of a broadcasting group is gone for good; answered with [`Outcome::Done`].
    Leave {
        /// The group.
        group: GroupName,
        /// The client.
        client_id: String,
    },
    /// Consumers of broadcasting groups; answered with [`Outcome::Members`].
    ReadMembers,
    /// Create or change a topic on this shard; answered with [`Outcome::Done`] once durable.
    PutTopic(Box<Topic>),
    /// Delete a topic and all its messages on this shard.
    DeleteTopic(TopicName),
    /// Create or change a group on this shard.
    PutGroup(Box<ConsumerGroup>),
    /// Delete a group and its progress on this shard; its name does not come back by first use.
    DeleteGroup(GroupName),
    /// Make a group with default settings that nobody declared, unless it exists; answered with [`Outcome::Done`] once durable.
    MakeGroup(GroupName),
    /// These groups were used since the last time; those that nobody declared are kept for that. Answered with
    /// [`Outcome::Done`] once durable.
    NoteGroupUse {
        /// The groups.
        groups: Vec<GroupName>,
        /// Whether the shard has served another hour.
        is_hour_over: bool,
    },
    /// Which of these groups nobody declared, and nobody used for long; answered with [`Outcome::Groups`].
    ReadUnusedGroups(Vec<GroupName>),
    /// Forget such a group and its progress; its name may come back by first use. Answered with [`Outcome::Done`] once durable, or
    /// [`Refusal::GroupInUse`].
    ForgetGroup(GroupName),
    /// Progress of one group, or of all, a part at a time; answered with [`Outcome::Progress`].
    ReadProgress(ProgressQuery),
    /// About the layouts of a FIFO topic that grows.
    Layout(LayoutCommand),
    /// Numbers of all topics, a part at a time: from 0, then from where the part before ended; answered with
    /// [`Outcome::Topics`].
    ReadTopics(u32),
    /// Names for numbers in records; answered with [`Outcome::Names`].
    ReadNames(NamesOf),
}

/// Messages for one topic, stored in one piece: all or none.
#[derive(Debug, Clone)]
pub struct Send {
    /// The topic.
    pub topic: TopicName,
    /// The messages, in order.
    pub messages: Vec<NewMessage>,
    /// Where they go.
    pub target: Target,
}

/// The queue for the messages of one send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The queues take turns.
    AnyQueue,
    /// This queue of the shard.
    Queue(u32),
    /// This queue of a FIFO topic, as the layout of so many queues over all shards has it.
    QueueOf {
        /// The queue in this shard.
        queue: u32,
        /// The layout.
        layout: u32,
    },
    /// The queue of this lite topic, made on first use.
    LiteTopic(Arc<str>),
}

/// When a message becomes visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visible {
    /// Once it is stored.
    AtOnce,
    /// At this time, Unix time.
    At {
        /// Due then.
        due_ms: u64,
    },
    /// When its transaction is committed.
    OnCommit {
        /// The producer is asked after this time without an end.
        check_after_ms: u64,
    },
}

/// A message to store. `head` and `body` come back at delivery exactly as given.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// From [`broker_model::tag_hash`].
    pub tag_hash: u64,
    /// From [`broker_model::message_group_hash`].
    pub message_group_hash: u64,
    /// When it becomes visible.
    pub visible: Visible,
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
    /// Answer empty at this time, in steady time ([`broker_model::Now`]).
    pub poll_until_ms: u64,
    /// The client that asks: the consumer of a broadcasting group, and who a trace names.
    pub client_id: Arc<str>,
    /// Names this receive: a group that consumes in order gives the same messages to a repetition. Empty = no name.
    pub attempt_id: String,
    /// For a LITE topic: look at these lite topics only.
    pub lite_topics: Option<Arc<BTreeSet<String>>>,
}

/// A timed message to take back.
#[derive(Debug, Clone)]
pub struct Recall {
    /// The topic.
    pub topic: TopicName,
    /// The message.
    pub handle: RecallHandle,
}

/// The end of a transaction.
#[derive(Debug, Clone)]
pub struct EndTransaction {
    /// The topic.
    pub topic: TopicName,
    /// The transaction.
    pub id: TransactionId,
    /// Commit, or roll back.
    pub is_commit: bool,
}

/// A request for messages that are not delivered, only read.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The topic.
    pub topic: TopicName,
    /// Queue in this shard.
    pub queue: u32,
    /// The first message wanted.
    pub offset: u64,
    /// Only messages that pass.
    pub filter: Filter,
    /// At most this many.
    pub messages_max: u32,
    /// Answer empty at this time, in steady time ([`broker_model::Now`]).
    pub poll_until_ms: u64,
}

/// A consumer of a broadcasting group.
#[derive(Debug, Clone)]
pub struct Join {
    /// The group.
    pub group: GroupName,
    /// The topics it wants messages of from now on.
    pub topics: Vec<TopicName>,
    /// The client.
    pub client_id: String,
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

/// Deliveries whose consumer is at work.
#[derive(Debug, Clone)]
pub struct Prolong {
    /// The group.
    pub group: GroupName,
    /// The topic.
    pub topic: TopicName,
    /// The deliveries: handed out together, of which some may be over.
    pub handles: Vec<ReceiptHandle>,
    /// Visible again after this time from now; an earlier time than before changes nothing.
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
    /// Progress of groups, one entry per (group, topic) with any, and where the next part begins; none after the last.
    Progress(Vec<GroupTopicProgress>, Option<ProgressPlace>),
    /// Whether it has.
    Passed(bool),
    /// What waits for other shards, and where the next part begins; none after the last.
    Held {
        /// Topics and their layouts that take no sends yet; all of them in each part.
        closed: Vec<(TopicName, u32)>,
        /// Groups that may not have what was sent since their topic grew.
        held: Vec<HeldGroup>,
        /// From where on the next part is.
        next: Option<ProgressPlace>,
    },
    /// Numbers of topics, and where the next part begins; none after the last.
    Topics(Vec<TopicNumbers>, Option<u32>),
    /// Messages read.
    Pulled(Pulled),
    /// An offset.
    Offset(Option<u64>),
    /// Dead letters.
    DeadLetters(DeadLetters),
    /// Dead letters put back.
    Redriven(Redriven),
    /// Consumers of broadcasting groups.
    Members(Vec<(GroupName, String)>),
    /// Some of the groups asked about.
    Groups(Vec<GroupName>),
    /// Names and numbers.
    Names(Box<Names>),
}

/// Messages read from a queue.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The messages; their handles name only their place.
    pub messages: Vec<Delivery>,
    /// Where to read on.
    pub next_offset: u64,
    /// Whether the offset asked for is beyond the queue; `next_offset` is then the nearest that is not.
    pub is_out_of_range: bool,
}

/// The place of a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentMessage {
    /// Queue in this shard.
    pub queue: u32,
    /// Offset in the queue; 0 while nobody sees it.
    pub offset: u64,
    /// Number of the topic in this shard.
    pub topic: u32,
    /// What names it until it becomes visible.
    pub hidden: Option<Hidden>,
}

/// A stored message that nobody sees yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hidden {
    /// Waits for its time.
    Timed {
        /// Its number among the timed messages.
        number: u64,
        /// Due then, Unix time.
        due_ms: u64,
        /// The code of its recall handle.
        code: u64,
    },
    /// Waits for the end of its transaction.
    Half {
        /// Number of the transaction.
        number: u64,
        /// The code of its transaction id.
        code: u64,
    },
}

/// A transaction whose producer is to be asked.
#[derive(Debug, Clone)]
pub struct TransactionCheck {
    /// The topic.
    pub topic: TopicName,
    /// The transaction.
    pub id: TransactionId,
    /// When the half message was stored, Unix time.
    pub stored_ms: u64,
    /// Where its bytes are.
    pub source: Source,
}

/// One message handed out. Its bytes may still have to be read from the log.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// For acknowledging it; holds queue, offset and attempt.
    pub handle: ReceiptHandle,
    /// When it was stored, Unix time.
    pub stored_ms: u64,
    /// When it becomes visible to others, in steady time ([`broker_model::Now`]).
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
        /// What the record must say.
        identity: MessageIdentity,
    },
}

/// Numbers of one topic on one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNumbers {
    /// The topic.
    pub topic: TopicName,
    /// Messages held; dead letters that were put back or purged no more.
    pub messages: u64,
    /// Bytes they take in the log.
    pub bytes: u64,
    /// Dead letters that ever came here; 0 elsewhere.
    pub dead_lettered: u64,
    /// When the oldest message held was stored, Unix time; of one in an index file maybe too late, until a later answer.
    pub oldest_ms: Option<u64>,
}
