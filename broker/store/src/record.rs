//! Every record kind with its fixed number and layout; docs/storage-format.md is its picture. A record stands in a
//! frame's payload as: length u32, CRC32C u32 (both of what follows), kind u8, fields. Integers are little-endian.

mod catalog;
mod fields;

use broker_model::{ConsumerGroup, Topic};
use bytes::{Buf, Bytes, BytesMut};
use crc32c::{crc32c, crc32c_append};

use fields::{Reader, put_u32, put_u64};

/// Length and checksum in front of every record.
pub const RECORD_HEADER_BYTES: usize = 8;
const MESSAGE_FIXED_BYTES: usize = 1 + 4 + 4 + 8 + 8 + 4 + 4;

const KIND_MESSAGE: u8 = 1;
const KIND_LEASE: u8 = 2;
const KIND_ACKNOWLEDGE: u8 = 3;
const KIND_CHANGE_INVISIBLE: u8 = 4;
const KIND_DEAD_LETTER: u8 = 5;
const KIND_PUT_TOPIC: u8 = 6;
const KIND_DELETE_TOPIC: u8 = 7;
const KIND_PUT_GROUP: u8 = 8;
const KIND_DELETE_GROUP: u8 = 9;

/// One fact of the log. Numbers of topics and groups are the shard's own, given by the Put records.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A message was sent.
    Message(MessageRecord),
    /// Messages were handed out.
    Lease(Lease),
    /// A message is done for a group.
    Acknowledge(Place),
    /// The end of one delivery's invisible duration moved.
    ChangeInvisible {
        /// The message, for a group.
        place: Place,
        /// The delivery it was.
        nonce: u32,
        /// The delivery as it is called now.
        new_nonce: u32,
        /// Which delivery it is, from 1.
        attempt: u32,
        /// Visible again then, Unix time.
        deadline_ms: u64,
    },
    /// A message is done for a group and stands, by reference, in queue 0 of the group's dead-letter topic, which was
    /// created by an earlier record; its offset there is the next one.
    DeadLetter(Place),
    /// A topic was created or changed.
    PutTopic {
        /// Its number, never used again for another.
        number: u32,
        /// Its settings.
        topic: Box<Topic>,
    },
    /// A topic and its messages are gone.
    DeleteTopic {
        /// Its number.
        number: u32,
    },
    /// A group was created or changed.
    PutGroup {
        /// Its number, never used again for another.
        number: u32,
        /// Its settings.
        group: Box<ConsumerGroup>,
    },
    /// A group and its progress are gone.
    DeleteGroup {
        /// Its number.
        number: u32,
    },
}

/// A message, seen by a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the group.
    pub group: u32,
    /// Number of the topic.
    pub topic: u32,
    /// Queue in this shard.
    pub queue: u32,
    /// Offset in the queue.
    pub offset: u64,
}

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
    /// All about the message but its body, opaque here.
    pub head: Bytes,
    /// The body.
    pub body: Bytes,
}

/// Up to 64 messages of one queue handed out at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The first message looked at; its bit is the lowest of `mask`.
    pub first: Place,
    /// Messages looked at for the first time: those among them whose bit is not set did not pass the filter and are
    /// done. 0 when the messages had been handed out before.
    pub span: u32,
    /// Bit n is set when message `first.offset + n` was handed out.
    pub mask: u64,
    /// Which delivery it is, from 1.
    pub attempt: u32,
    /// Tells this delivery from others.
    pub nonce: u32,
    /// Visible again then, Unix time.
    pub deadline_ms: u64,
}

/// The bytes are no record of this format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Fewer bytes than the record says.
    #[error("the record ends too early")]
    Short,
    /// The checksum differs.
    #[error("the record's checksum does not match")]
    Checksum,
    /// Written by a newer version, or garbage.
    #[error("unknown record kind {0}")]
    UnknownKind(u8),
    /// A field has a value that is not allowed.
    #[error("the record has an illegal field: {0}")]
    IllegalField(&'static str),
}

/// Bytes that a message with this head and body takes in a payload.
#[must_use]
pub fn message_bytes(head_bytes: usize, body_bytes: usize) -> usize {
    RECORD_HEADER_BYTES + MESSAGE_FIXED_BYTES + head_bytes + body_bytes
}

impl Record {
    /// Appends the record to a payload.
    pub fn encode(&self, payload: &mut BytesMut) {
        let start = payload.len();
        payload.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        match self {
            Self::Message(message) => message.encode_fields(payload),
            Self::Lease(lease) => lease.encode_fields(payload),
            Self::Acknowledge(place) => {
                payload.extend_from_slice(&[KIND_ACKNOWLEDGE]);
                place.encode_fields(payload);
            }
            Self::ChangeInvisible { place, nonce, new_nonce, attempt, deadline_ms } => {
                payload.extend_from_slice(&[KIND_CHANGE_INVISIBLE]);
                place.encode_fields(payload);
                for field in [*nonce, *new_nonce, *attempt] {
                    put_u32(payload, field);
                }
                put_u64(payload, *deadline_ms);
            }
            Self::DeadLetter(place) => {
                payload.extend_from_slice(&[KIND_DEAD_LETTER]);
                place.encode_fields(payload);
            }
            Self::PutTopic { number, topic } => {
                payload.extend_from_slice(&[KIND_PUT_TOPIC]);
                put_u32(payload, *number);
                catalog::encode_topic(topic, payload);
            }
            Self::PutGroup { number, group } => {
                payload.extend_from_slice(&[KIND_PUT_GROUP]);
                put_u32(payload, *number);
                catalog::encode_group(group, payload);
            }
            Self::DeleteTopic { number } => {
                payload.extend_from_slice(&[KIND_DELETE_TOPIC]);
                put_u32(payload, *number);
            }
            Self::DeleteGroup { number } => {
                payload.extend_from_slice(&[KIND_DELETE_GROUP]);
                put_u32(payload, *number);
            }
        }
        seal(payload, start);
    }

    /// Takes the next record off a payload. Head and body of a message are slices of it, not copies.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes are no record.
    pub fn decode(payload: &mut Bytes) -> Result<Self, RecordError> {
        if payload.len() < RECORD_HEADER_BYTES {
            return Err(RecordError::Short);
        }
        let length = payload.get_u32_le() as usize;
        let checksum = payload.get_u32_le();
        if payload.len() < length || length == 0 {
            return Err(RecordError::Short);
        }
        let record = payload.split_to(length);
        if crc32c(&record) != checksum {
            return Err(RecordError::Checksum);
        }
        Self::decode_fields(&mut Reader::new(record))
    }

    fn decode_fields(reader: &mut Reader) -> Result<Self, RecordError> {
        let record = match reader.u8()? {
            KIND_MESSAGE => Self::Message(MessageRecord::decode_fields(reader)?),
            KIND_LEASE => Self::Lease(Lease::decode_fields(reader)?),
            KIND_ACKNOWLEDGE => Self::Acknowledge(Place::decode_fields(reader)?),
            KIND_CHANGE_INVISIBLE => Self::ChangeInvisible {
                place: Place::decode_fields(reader)?,
                nonce: reader.u32()?,
                new_nonce: reader.u32()?,
                attempt: reader.u32()?,
                deadline_ms: reader.u64()?,
            },
            KIND_DEAD_LETTER => Self::DeadLetter(Place::decode_fields(reader)?),
            KIND_PUT_TOPIC => Self::PutTopic {
                number: reader.u32()?,
                topic: Box::new(catalog::decode_topic(reader)?),
            },
            KIND_DELETE_TOPIC => Self::DeleteTopic { number: reader.u32()? },
            KIND_PUT_GROUP => Self::PutGroup {
                number: reader.u32()?,
                group: Box::new(catalog::decode_group(reader)?),
            },
            KIND_DELETE_GROUP => Self::DeleteGroup { number: reader.u32()? },
            kind => return Err(RecordError::UnknownKind(kind)),
        };
        Ok(record)
    }
}

/// Fills in length and checksum of the record that begins at `start`.
fn seal(payload: &mut BytesMut, start: usize) {
    let body = start + RECORD_HEADER_BYTES;
    let length = u32::try_from(payload.len() - body).expect("a frame's payload is far below 4 GiB");
    let checksum = crc32c_append(0, &payload[body..]);
    payload[start..start + 4].copy_from_slice(&length.to_le_bytes());
    payload[start + 4..body].copy_from_slice(&checksum.to_le_bytes());
}

impl Place {
    fn encode_fields(&self, payload: &mut BytesMut) {
        for field in [self.group, self.topic, self.queue] {
            put_u32(payload, field);
        }
        put_u64(payload, self.offset);
    }

    fn decode_fields(reader: &mut Reader) -> Result<Self, RecordError> {
        Ok(Self {
            group: reader.u32()?,
            topic: reader.u32()?,
            queue: reader.u32()?,
            offset: reader.u64()?,
        })
    }
}

impl MessageRecord {
    fn encode_fields(&self, payload: &mut BytesMut) {
        payload.reserve(MESSAGE_FIXED_BYTES + self.head.len() + self.body.len());
        payload.extend_from_slice(&[KIND_MESSAGE]);
        put_u32(payload, self.topic);
        put_u32(payload, self.queue);
        put_u64(payload, self.offset);
        put_u64(payload, self.tag_hash);
        for part in [&self.head, &self.body] {
            put_u32(payload, u32::try_from(part.len()).expect("parts of a frame are below 4 GiB"));
        }
        payload.extend_from_slice(&self.head);
        payload.extend_from_slice(&self.body);
    }

    fn decode_fields(reader: &mut Reader) -> Result<Self, RecordError> {
        let (topic, queue) = (reader.u32()?, reader.u32()?);
        let (offset, tag_hash) = (reader.u64()?, reader.u64()?);
        let (head_bytes, body_bytes) = (reader.u32()? as usize, reader.u32()? as usize);
        let (head, body) = (reader.bytes(head_bytes)?, reader.bytes(body_bytes)?);
        Ok(Self { topic, queue, offset, tag_hash, head, body })
    }
}

impl Lease {
    fn encode_fields(&self, payload: &mut BytesMut) {
        payload.extend_from_slice(&[KIND_LEASE]);
        self.first.encode_fields(payload);
        put_u32(payload, self.span);
        put_u64(payload, self.mask);
        put_u32(payload, self.attempt);
        put_u32(payload, self.nonce);
        put_u64(payload, self.deadline_ms);
    }

    fn decode_fields(reader: &mut Reader) -> Result<Self, RecordError> {
        let lease = Self {
            first: Place::decode_fields(reader)?,
            span: reader.u32()?,
            mask: reader.u64()?,
            attempt: reader.u32()?,
            nonce: reader.u32()?,
            deadline_ms: reader.u64()?,
        };
        if lease.span > 64 {
            return Err(RecordError::IllegalField("span of a lease"));
        }
        Ok(lease)
    }
}

#[cfg(test)]
mod tests;
