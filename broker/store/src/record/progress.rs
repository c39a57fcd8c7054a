//! The fields of records about deliveries: a message as one group sees it, and messages handed out together.

use bytes::BytesMut;

use super::fields::{Reader, put_u32, put_u64};
use super::{Record, RecordError, put_u32s};

/// A message, seen by a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the group, or of the member of a broadcasting group.
    pub group: u32,
    /// Number of the topic.
    pub topic: u32,
    /// Queue in this shard.
    pub queue: u32,
    /// Offset in the queue.
    pub offset: u64,
}

/// Up to 64 messages of one queue handed out at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The first message looked at; its bit is the lowest of `mask`.
    pub first: Place,
    /// Messages looked at for the first time: those among them whose bit is not set did not pass the filter and are
    /// done. 0 when the messages had been handed out before, or are handed out in order of message groups: then those
    /// before them that are neither done nor handed out wait for their turn.
    pub span: u32,
    /// Bit n is set when message `first.offset + n` was handed out.
    pub mask: u64,
    /// Which delivery it is, from 1.
    pub attempt: u32,
    /// Tells this delivery from others.
    pub nonce: u32,
    /// Visible again then, Unix time.
    pub deadline_ms: u64,
    /// Number of the client that got them, 0 when it is not known.
    pub client: u32,
}

impl Place {
    pub(super) fn encode_fields(&self, payload: &mut BytesMut) {
        for field in [self.group, self.topic, self.queue] {
            put_u32(payload, field);
        }
        put_u64(payload, self.offset);
    }

    /// The messages from this one to the offset behind the last one.
    pub(super) fn encode_range(&self, end: u64, payload: &mut BytesMut) {
        self.encode_fields(payload);
        put_u64(payload, end);
    }

    pub(super) fn decode_fields(reader: &mut Reader) -> Result<Self, RecordError> {
        Ok(Self {
            group: reader.u32()?,
            topic: reader.u32()?,
            queue: reader.u32()?,
            offset: reader.u64()?,
        })
    }
}

impl Lease {
    pub(super) fn encode_fields(&self, payload: &mut BytesMut) {
        self.first.encode_fields(payload);
        put_u32(payload, self.span);
        put_u64(payload, self.mask);
        put_u32(payload, self.attempt);
        put_u32(payload, self.nonce);
        put_u64(payload, self.deadline_ms);
        put_u32(payload, self.client);
    }

    pub(super) fn decode_fields(reader: &mut Reader) -> Result<Self, RecordError> {
        let lease = Self {
            first: Place::decode_fields(reader)?,
            span: reader.u32()?,
            mask: reader.u64()?,
            attempt: reader.u32()?,
            nonce: reader.u32()?,
            deadline_ms: reader.u64()?,
            client: reader.u32()?,
        };
        if lease.span > 64 {
            return Err(RecordError::IllegalField("span of a lease"));
        }
        Ok(lease)
    }
}

impl Record {
    /// The fields of the kinds about deliveries and progress.
    pub(super) fn encode_delivery_fields(&self, payload: &mut BytesMut) {
        match self {
            Self::Lease(lease) => lease.encode_fields(payload),
            Self::Acknowledge(place) | Self::Cursor(place) => place.encode_fields(payload),
            Self::DeadLetter { place, stands } => {
                place.encode_fields(payload);
                stands.iter().for_each(|stands| stands.encode_fields(payload));
            }
            Self::ChangeInvisible { place, nonce, new_nonce, attempt, deadline_ms } => {
                place.encode_fields(payload);
                put_u32s(payload, &[*nonce, *new_nonce, *attempt]);
                put_u64(payload, *deadline_ms);
            }
            Self::Release { place, nonce } => {
                place.encode_fields(payload);
                put_u32(payload, *nonce);
            }
            Self::Prolong { first, nonce, deadline_ms } => {
                first.encode_fields(payload);
                put_u32(payload, *nonce);
                put_u64(payload, *deadline_ms);
            }
            _ => {}
        }
    }
}
