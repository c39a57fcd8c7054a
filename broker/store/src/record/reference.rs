//! References in records: a message that comes to stand in a queue without being stored again. They say everything that
//! the index of the queue needs, so that applying such a record asks nothing and its segment alone tells its index.

use bytes::BytesMut;

use super::fields::{Reader, put_u32, put_u64};
use super::{KIND_COMMIT_TO, KIND_DEAD_LETTER_TO, KIND_DUE_TO, KIND_REDRIVE_TO, KIND_TRIM};
use super::{Place, Record, RecordError};

/// Where a message comes to stand, and where its record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// Number of the topic.
    pub topic: u32,
    /// Queue in this shard.
    pub queue: u32,
    /// Offset in the queue.
    pub offset: u64,
    /// Log position of the record that holds the message.
    pub position: u64,
    /// Length of that record.
    pub length_bytes: u32,
    /// Hash of the tag, 0 without one.
    pub tag_hash: u64,
}

/// Where a dead letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterReference {
    /// Its place in the dead-letter topic.
    pub reference: Reference,
    /// Number of the topic that the message was sent to.
    pub origin_topic: u32,
    /// How it died; none when an earlier version wrote it.
    pub death: Option<Death>,
}

/// How a message became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// Deliveries that it had.
    pub attempts: u32,
    /// Why there is no other.
    pub cause: DeathCause,
}

/// Why a message is not delivered again. Numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DeathCause {
    /// It was delivered as often as the group allows, and never acknowledged.
    AttemptsUsedUp = 1,
    /// A consumer said that it gives up on it.
    GivenUp = 2,
}

impl DeathCause {
    fn of(number: u8) -> Option<Self> {
        [Self::AttemptsUsedUp, Self::GivenUp].into_iter().find(|cause| *cause as u8 == number)
    }
}

/// Where a dead letter came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The message, as its group saw it.
    pub place: Place,
    /// Hash of its message group, 0 without one.
    pub message_group_hash: u64,
}

impl Reference {
    pub(super) fn encode_fields(&self, payload: &mut BytesMut) {
        put_u32(payload, self.topic);
        put_u32(payload, self.queue);
        put_u64(payload, self.offset);
        put_u64(payload, self.position);
        put_u32(payload, self.length_bytes);
        put_u64(payload, self.tag_hash);
    }

    fn decode_fields(reader: &mut Reader) -> Result<Self, RecordError> {
        Ok(Self {
            topic: reader.u32()?,
            queue: reader.u32()?,
            offset: reader.u64()?,
            position: reader.u64()?,
            length_bytes: reader.u32()?,
            tag_hash: reader.u64()?,
        })
    }
}

impl DeadLetterReference {
    pub(super) fn encode_fields(&self, payload: &mut BytesMut) {
        self.reference.encode_fields(payload);
        put_u32(payload, self.origin_topic);
        if let Some(death) = self.death {
            put_u32(payload, death.attempts);
            payload.extend_from_slice(&[death.cause as u8]);
        }
    }

    fn decode_fields(reader: &mut Reader) -> Result<Self, RecordError> {
        let reference = Reference::decode_fields(reader)?;
        let origin_topic = reader.u32()?;
        // Earlier versions did not say it, and pass over it.
        let death = match reader.u32() {
            Err(_) => None,
            Ok(attempts) => DeathCause::of(reader.u8()?).map(|cause| Death { attempts, cause }),
        };
        Ok(Self { reference, origin_topic, death })
    }
}

impl Origin {
    /// No way back: a redrive to there takes a dead letter away for good. Numbers of groups and topics begin with 1.
    pub const NOWHERE: Self =
        Self { place: Place { group: 0, topic: 0, queue: 0, offset: 0 }, message_group_hash: 0 };

    pub(super) fn encode_fields(&self, payload: &mut BytesMut) {
        self.place.encode_fields(payload);
        put_u64(payload, self.message_group_hash);
    }

    fn decode_fields(reader: &mut Reader) -> Result<Self, RecordError> {
        Ok(Self { place: Place::decode_fields(reader)?, message_group_hash: reader.u64()? })
    }
}

impl Record {
    /// Topic, queue and offset where the record makes a message stand, as far as it says.
    #[must_use]
    pub fn stands_at(&self) -> Option<(u32, u32, u64)> {
        let reference = match self {
            Self::Message(message) => {
                return Some((message.topic, message.queue, message.offset));
            }
            Self::Due { stands, .. } | Self::EndTransaction { stands, .. } => stands.as_ref(),
            Self::DeadLetter { stands, .. } => stands.as_ref().map(|stands| &stands.reference),
            _ => None,
        };
        reference.map(|to| (to.topic, to.queue, to.offset))
    }

    /// The kinds that hold a reference, and the one that ends messages.
    pub(super) fn decode_reference_fields(
        kind: u8,
        reader: &mut Reader,
    ) -> Result<Self, RecordError> {
        Ok(match kind {
            KIND_DUE_TO => Self::Due {
                number: reader.u64()?,
                due_ms: reader.u64()?,
                stands: Some(Reference::decode_fields(reader)?),
            },
            KIND_COMMIT_TO => Self::EndTransaction {
                number: reader.u64()?,
                is_commit: true,
                stands: Some(Reference::decode_fields(reader)?),
            },
            KIND_DEAD_LETTER_TO => Self::DeadLetter {
                place: Place::decode_fields(reader)?,
                stands: Some(DeadLetterReference::decode_fields(reader)?),
            },
            KIND_REDRIVE_TO => Self::Redrive {
                topic: reader.u32()?,
                offset: reader.u64()?,
                back_to: Some(Origin::decode_fields(reader)?),
            },
            KIND_TRIM => {
                Self::Trim { topic: reader.u32()?, queue: reader.u32()?, offset: reader.u64()? }
            }
            kind => return Err(RecordError::UnknownKind(kind)),
        })
    }
}
