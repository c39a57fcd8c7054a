//! Messages of one topic, as they were stored.

use std::ops::RangeInclusive;

use broker_engine::Refusal;
use broker_model::TopicName;
use broker_store::{LoggedRecord, MessageRecord, Record};
use bytes::Bytes;

use super::search::{Search, Searched};
use super::{FOUND_BYTES_MAX, IsWanted};

/// What to look for.
#[derive(Debug, Clone)]
pub struct FindMessages {
    /// The topic.
    pub topic: TopicName,
    /// When they were stored, Unix milliseconds.
    pub times: RangeInclusive<u64>,
    /// Only those at this log position or behind it: where an answer before said that it goes on.
    pub from: u64,
    /// At most this many.
    pub messages_max: usize,
    /// Hash of a key that every wanted message has, as [`ShardOptions::keys_of_head`] gives it: key tables then spare
    /// reading sealed segments. None when there is no such key.
    ///
    /// [`ShardOptions::keys_of_head`]: crate::ShardOptions::keys_of_head
    pub key_hash: Option<u64>,
}

/// When a message becomes visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appearance {
    /// Once it is stored.
    AtOnce,
    /// At this time, Unix time.
    At(u64),
    /// When its transaction is committed.
    OnCommit,
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMessage {
    /// Log position of its record.
    pub position: u64,
    /// When it was stored, Unix time.
    pub stored_ms: u64,
    /// Queue in this shard.
    pub queue: u32,
    /// Offset in the queue; none while it is not known, because nobody saw the message yet.
    pub offset: Option<u64>,
    /// When it becomes visible.
    pub appearance: Appearance,
    /// As stored.
    pub head: Bytes,
    /// As stored.
    pub body: Bytes,
}

/// The answer to [`FindMessages`].
#[derive(Debug, Clone)]
pub struct FoundMessages {
    /// Oldest first.
    pub messages: Vec<FoundMessage>,
    /// How far the search came.
    pub searched: Searched,
    /// Log position where it goes on.
    pub next_position: u64,
}

pub(super) fn run(
    mut search: Search<'_>,
    topic: u32,
    find: &FindMessages,
    is_wanted: &IsWanted,
) -> Result<FoundMessages, Refusal> {
    let mut messages = Vec::new();
    let mut room_bytes = FOUND_BYTES_MAX;
    while let Some(record) = search.next() {
        let logged = record?;
        let position = logged.position;
        let Some(found) = message(logged, topic).filter(|m| is_wanted(&m.head)) else {
            continue;
        };
        let bytes = found.head.len() + found.body.len();
        let is_full =
            messages.len() >= find.messages_max || (bytes > room_bytes && !messages.is_empty());
        if is_full {
            search.cut_before(position);
            break;
        }
        room_bytes = room_bytes.saturating_sub(bytes);
        messages.push(found);
    }
    let next_position = search.next_position();
    Ok(FoundMessages { messages, searched: search.searched(), next_position })
}

/// The message of a record, when it is one of this topic.
pub(super) fn message(logged: LoggedRecord, topic: u32) -> Option<FoundMessage> {
    let LoggedRecord { record, time_ms: stored_ms, position, .. } = logged;
    let (message, appearance) = match record {
        Record::Message(message) => (message, Appearance::AtOnce),
        Record::Timed { due_ms, message, .. } => (message, Appearance::At(due_ms)),
        Record::Half { message, .. } => (message, Appearance::OnCommit),
        _ => return None,
    };
    let MessageRecord { topic: of, queue, offset, head, body, .. } = message;
    let offset = Some(offset).filter(|_| appearance == Appearance::AtOnce);
    (of == topic).then_some(FoundMessage {
        position,
        stored_ms,
        queue,
        offset,
        appearance,
        head,
        body,
    })
}
