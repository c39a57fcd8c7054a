//! The heads of the messages in a payload, and where their records begin: for tables that are made of heads alone. Nothing
//! else is decoded, and nothing is checked that the checksum of the frame covers.

use super::{KIND_HALF, KIND_MESSAGE, KIND_TIMED, RECORD_HEADER_BYTES};

/// Number and time in front of the fields of a message that is hidden first.
const HIDDEN_BYTES: usize = 16;
/// Topic, queue, offset and hashes in front of the lengths of head and body.
const PLACE_BYTES: usize = 32;
const LENGTHS_BYTES: usize = 8;

/// A message in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageHead<'a> {
    /// Where its record begins in the payload.
    pub at: usize,
    /// Number of its topic.
    pub topic: u32,
    /// Its head, opaque here.
    pub head: &'a [u8],
}

/// The messages in the payload of a whole frame, in order; ends where no record follows.
pub fn message_heads(payload: &[u8]) -> impl Iterator<Item = MessageHead<'_>> {
    let mut at = 0;
    let records = std::iter::from_fn(move || {
        let begin = at;
        let (header, rest) = payload.get(begin..)?.split_at_checked(RECORD_HEADER_BYTES)?;
        let record = rest.get(..u32_at(header, 0)? as usize)?;
        at += RECORD_HEADER_BYTES + record.len();
        Some((begin, record))
    });
    records.filter_map(|(at, record)| {
        let (kind, fields) = record.split_first()?;
        let message = match *kind {
            KIND_MESSAGE => fields,
            KIND_TIMED | KIND_HALF => fields.get(HIDDEN_BYTES..)?,
            _ => return None,
        };
        let head_bytes = u32_at(message, PLACE_BYTES)? as usize;
        let head = message.get(PLACE_BYTES + LENGTHS_BYTES..)?.get(..head_bytes)?;
        Some(MessageHead { at, topic: u32_at(message, 0)?, head })
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_le_bytes(*four))
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::record::{MessageRecord, Record};

    fn message(topic: u32, head: &'static [u8]) -> MessageRecord {
        let (head, body) = (Bytes::from_static(head), Bytes::from_static(b"a body"));
        let (queue, offset, tag_hash, message_group_hash) = (1, 2, 3, 4);
        MessageRecord { topic, queue, offset, tag_hash, message_group_hash, head, body }
    }

    fn records() -> Vec<Record> {
        vec![
            Record::Reset { group: 1, id: "reset".into() },
            Record::Message(message(7, b"plain")),
            Record::Timed { number: 1, due_ms: 2, message: message(8, b"timed") },
            Record::TransactionCheck { number: 1 },
            Record::Half { number: 1, check_after_ms: 2, message: message(9, b"half") },
            Record::Message(message(7, b"")),
        ]
    }

    #[test]
    fn the_messages_of_a_payload_are_those_that_decoding_gives() {
        let mut payload = BytesMut::new();
        let places: Vec<usize> = records()
            .iter()
            .map(|record| {
                let at = payload.len();
                record.encode(&mut payload);
                at
            })
            .collect();
        let expected: Vec<_> = places
            .into_iter()
            .zip(records())
            .filter_map(|(at, record)| Some((at, record.into_message()?)))
            .map(|(at, message)| (at, message.topic, message.head))
            .collect();
        let found = message_heads(&payload);
        let found: Vec<_> = found
            .map(|found| (found.at, found.topic, Bytes::copy_from_slice(found.head)))
            .collect();
        assert_eq!(found, expected);
        for length in 0..payload.len() {
            assert!(message_heads(&payload[..length]).count() < found.len());
        }
    }

    #[test]
    fn a_record_whose_lengths_do_not_hold_is_passed_over() {
        let mut payload = BytesMut::new();
        Record::Message(message(7, b"plain")).encode(&mut payload);
        let length_of_head = RECORD_HEADER_BYTES + 1 + PLACE_BYTES;
        payload[length_of_head..length_of_head + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        Record::Message(message(7, b"next")).encode(&mut payload);
        let heads: Vec<_> = message_heads(&payload).map(|found| found.head).collect();
        assert_eq!(heads, [b"next"]);
    }
}
