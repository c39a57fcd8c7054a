//! The record that holds a message: visible at once, at its time, or after its transaction's commit.

use bytes::{Bytes, BytesMut};

use super::fields::{Reader, put_u32, put_u64};
use super::{RECORD_HEADER_BYTES, RecordError};

const FIXED_BYTES: usize = 1 + 4 + 4 + 8 + 8 + 8 + 4 + 4;

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRecord {
    /// Number of the topic.
    pub topic: u32,
    /// Queue in this shard.
    pub queue: u32,
    /// Offset in the queue.
    pub offset: u64,
    /// Hash of the tag, 0 without one.
    pub tag_hash: u64,
    /// Hash of the message group, 0 without one.
    pub message_group_hash: u64,
    /// All about the message but its body, opaque here.
    pub head: Bytes,
    /// The body.
    pub body: Bytes,
}

/// Bytes that a message with this head and body, visible at once, takes in a payload.
#[must_use]
pub fn message_bytes(head_bytes: usize, body_bytes: usize) -> usize {
    RECORD_HEADER_BYTES + FIXED_BYTES + head_bytes + body_bytes
}

impl MessageRecord {
    pub(super) fn encode_fields(&self, payload: &mut BytesMut) {
        payload.reserve(FIXED_BYTES + self.head.len() + self.body.len());
        put_u32(payload, self.topic);
        put_u32(payload, self.queue);
        put_u64(payload, self.offset);
        put_u64(payload, self.tag_hash);
        put_u64(payload, self.message_group_hash);
        for part in [&self.head, &self.body] {
            put_u32(payload, u32::try_from(part.len()).expect("parts of a frame are below 4 GiB"));
        }
        payload.extend_from_slice(&self.head);
        payload.extend_from_slice(&self.body);
    }

    pub(super) fn decode_fields(reader: &mut Reader) -> Result<Self, RecordError> {
        let (topic, queue) = (reader.u32()?, reader.u32()?);
        let (offset, tag_hash, message_group_hash) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (head_bytes, body_bytes) = (reader.u32()? as usize, reader.u32()? as usize);
        let (head, body) = (reader.bytes(head_bytes)?, reader.bytes(body_bytes)?);
        Ok(Self { topic, queue, offset, tag_hash, message_group_hash, head, body })
    }
}
