//! What is known of a message before its record is read, so that a whole record of another place is not taken for it: its
//! own checksum holds, and nothing in it says where it stands in the log.

use crate::record::Record;

/// What the record of a message must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageIdentity {
    /// Number of the topic that it was sent to.
    pub topic: u32,
    /// Hash of its tag, 0 without one.
    pub tag_hash: u64,
    /// How it was stored.
    pub stored: Stored,
}

/// How a message was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// At this place, where a message that was hidden first came to stand later.
    At {
        /// Queue in this shard.
        queue: u32,
        /// Offset in the queue. The record of a message that was hidden first does not say it.
        offset: u64,
    },
    /// Hidden, under this number.
    Hidden {
        /// Given per shard, each kind on its own.
        number: u64,
    },
    /// Nothing that knows it is kept any more.
    Unknown,
}

impl MessageIdentity {
    /// Whether a record may be that of the message.
    #[must_use]
    pub fn is_of(&self, record: &Record) -> bool {
        let (message, hidden_as) = match record {
            Record::Message(message) => (message, None),
            Record::Timed { number, message, .. } | Record::Half { number, message, .. } => {
                (message, Some(*number))
            }
            _ => return false,
        };
        let is_there = match self.stored {
            Stored::At { queue, offset } => {
                queue == message.queue && (hidden_as.is_some() || offset == message.offset)
            }
            Stored::Hidden { number } => hidden_as == Some(number),
            Stored::Unknown => true,
        };
        is_there && (self.topic, self.tag_hash) == (message.topic, message.tag_hash)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::MessageRecord;

    fn message(queue: u32, offset: u64, tag_hash: u64) -> MessageRecord {
        let (head, body) = (Bytes::from_static(b"head"), Bytes::from_static(b"body"));
        MessageRecord { topic: 3, queue, offset, tag_hash, message_group_hash: 0, head, body }
    }

    fn timed(number: u64) -> Record {
        Record::Timed { number, due_ms: 9, message: message(1, 0, 7) }
    }

    #[test]
    fn a_message_is_told_from_those_of_other_places() {
        let at = |queue, offset| Stored::At { queue, offset };
        let is_of = |stored, record: Record| {
            MessageIdentity { topic: 3, tag_hash: 7, stored }.is_of(&record)
        };
        assert!(is_of(at(1, 5), Record::Message(message(1, 5, 7))));
        assert!(!is_of(at(1, 6), Record::Message(message(1, 5, 7))));
        assert!(!is_of(at(2, 5), Record::Message(message(1, 5, 7))));
        assert!(!is_of(at(1, 5), Record::Message(message(1, 5, 8))));
        let elsewhere = MessageRecord { topic: 4, ..message(1, 5, 7) };
        assert!(!is_of(at(1, 5), Record::Message(elsewhere)));
        assert!(is_of(at(1, 5), timed(8)), "where it stands now is not in the record");
        assert!(!is_of(at(2, 5), timed(8)));
        assert!(is_of(Stored::Hidden { number: 8 }, timed(8)));
        assert!(!is_of(Stored::Hidden { number: 9 }, timed(8)));
        assert!(!is_of(Stored::Hidden { number: 5 }, Record::Message(message(1, 5, 7))));
        assert!(is_of(Stored::Unknown, Record::Message(message(1, 5, 7))));
        assert!(!is_of(Stored::Unknown, Record::DeleteTopic { number: 3 }));
    }
}
