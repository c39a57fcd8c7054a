//! Every record kind with its fixed number and layout; docs/storage-format.md is its picture. A record stands in a
//! frame's payload as: length u32, CRC32C u32 (both of what follows), kind u8, fields. Integers are little-endian.

mod catalog;
mod decode;
mod fields;
mod heads;
mod message;
mod progress;
mod reference;

use broker_model::{ConsumerGroup, HandleKey, Topic};
use bytes::{Buf, Bytes, BytesMut};
use crc32c::{crc32c, crc32c_append};

pub use catalog::NameKind;
pub use fields::record_bytes;
use fields::{Reader, put_text, put_u32, put_u32_u64, put_u32s, put_u64, put_u64s};
pub use heads::{MessageHead, message_heads};
pub use message::{MessageRecord, message_bytes};
pub use progress::{Lease, Place};
pub use reference::{DeadLetterReference, Death, DeathCause, Origin, Reference};

/// Length and checksum in front of every record.
pub const RECORD_HEADER_BYTES: usize = 8;

const KIND_MESSAGE: u8 = 1;
const KIND_LEASE: u8 = 2;
const KIND_ACKNOWLEDGE: u8 = 3;
const KIND_CHANGE_INVISIBLE: u8 = 4;
const KIND_DEAD_LETTER: u8 = 5;
const KIND_PUT_TOPIC: u8 = 6;
const KIND_DELETE_TOPIC: u8 = 7;
const KIND_PUT_GROUP: u8 = 8;
const KIND_DELETE_GROUP: u8 = 9;
const KIND_TIMED: u8 = 10;
const KIND_DUE: u8 = 11;
const KIND_RECALL: u8 = 12;
const KIND_HALF: u8 = 13;
const KIND_END_TRANSACTION: u8 = 14;
const KIND_TRANSACTION_CHECK: u8 = 15;
const KIND_CURSOR: u8 = 16;
const KIND_RESET: u8 = 17;
const KIND_REDRIVE: u8 = 18;
const KIND_PUT_MEMBER: u8 = 19;
const KIND_DELETE_MEMBER: u8 = 20;
const KIND_PUT_LITE_TOPIC: u8 = 21;
const KIND_DELETE_LITE_TOPIC: u8 = 22;
const KIND_CLIENT: u8 = 23;
const KIND_DUE_TO: u8 = 24;
const KIND_COMMIT_TO: u8 = 25;
const KIND_DEAD_LETTER_TO: u8 = 26;
const KIND_REDRIVE_TO: u8 = 27;
const KIND_TRIM: u8 = 28;
const KIND_RELEASE: u8 = 29;
const KIND_PROLONG: u8 = 30;
const KIND_SKIP: u8 = 31;
const KIND_DELETE_NAME: u8 = 32;
const KIND_HANDLE_KEY: u8 = 33;
const KIND_GROUP_USE: u8 = 34;
const KIND_SERVED_HOURS: u8 = 35;
const KIND_OPEN_LAYOUT: u8 = 36;
const KIND_PASS_LAYOUT: u8 = 37;

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
    /// A delivery reached nobody: it does not count, and the message is due at once.
    Release {
        /// The message, for a group.
        place: Place,
        /// The delivery.
        nonce: u32,
    },
    /// What is still in flight of messages handed out together stays so for longer, under the same name.
    Prolong {
        /// As in [`Lease`].
        first: Place,
        /// As in [`Lease`].
        nonce: u32,
        /// Visible again then, Unix time; an earlier time than before changes nothing.
        deadline_ms: u64,
    },
    /// A message is done for a group and stands, by reference, in queue 0 of the group's dead-letter topic, which was
    /// created by an earlier record.
    DeadLetter {
        /// The message, for the group.
        place: Place,
        /// Where it stands as a dead letter. None in logs of format 1: at the next offset there.
        stands: Option<DeadLetterReference>,
    },
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
    /// A message was sent that nobody sees before its time; its offset is given when it is due.
    Timed {
        /// Names it together with its time; never used again on this shard.
        number: u64,
        /// Due then, Unix time.
        due_ms: u64,
        /// The message; its offset says nothing.
        message: MessageRecord,
    },
    /// Who declared a topic or group deleted it: its name does not come back by first use.
    DeleteName {
        /// Of what.
        kind: NameKind,
        /// The name.
        name: String,
    },
    /// A timed message is due: it stands in its queue, by reference, from now on.
    Due {
        /// As in [`Record::Timed`].
        number: u64,
        /// As in [`Record::Timed`].
        due_ms: u64,
        /// Where it stands. None in logs of format 1: at the next offset of its queue.
        stands: Option<Reference>,
    },
    /// A timed message was taken back before its time.
    Recall {
        /// As in [`Record::Timed`].
        number: u64,
        /// As in [`Record::Timed`].
        due_ms: u64,
    },
    /// A message was sent that nobody sees before its transaction is committed.
    Half {
        /// Names the transaction; never used again on this shard.
        number: u64,
        /// After this time without an end the producer is asked.
        check_after_ms: u64,
        /// The message; its offset says nothing.
        message: MessageRecord,
    },
    /// A transaction ended: its message stands in its queue, by reference, or is gone.
    EndTransaction {
        /// As in [`Record::Half`].
        number: u64,
        /// Committed, or rolled back.
        is_commit: bool,
        /// Where the committed message stands. None in logs of format 1: at the next offset of its queue.
        stands: Option<Reference>,
    },
    /// The producer was asked about a transaction.
    TransactionCheck {
        /// As in [`Record::Half`].
        number: u64,
    },
    /// The progress of a group on a queue was set: all before is done, everything from here on is new.
    Cursor(Place),
    /// A reset of offsets was carried out; its cursors are the records before.
    Reset {
        /// Number of the group.
        group: u32,
        /// Names the reset; a group carries out each once.
        id: String,
    },
    /// A dead letter was put back: it is due again for its group where it came from, and gone from the dead letters.
    Redrive {
        /// Number of the dead-letter topic.
        topic: u32,
        /// Its offset there, in queue 0.
        offset: u64,
        /// Where it goes. None in logs of format 1: what the dead letter says.
        back_to: Option<Origin>,
    },
    /// The oldest messages of a queue are gone: everything below an offset.
    Trim {
        /// Number of the topic.
        topic: u32,
        /// The queue in this shard.
        queue: u32,
        /// The first offset that is kept.
        offset: u64,
    },
    /// Messages that follow each other did not pass a group's filter: those of them that were never handed out are done.
    Skip {
        /// The first one, for the group.
        first: Place,
        /// The offset behind the last one.
        end: u64,
    },
    /// A consumer of a broadcasting group has progress of its own, under a group number of its own.
    PutMember {
        /// Its number, never used again for another member or group.
        number: u32,
        /// Number of the group.
        group: u32,
        /// The client.
        client_id: String,
    },
    /// A consumer of a broadcasting group is gone, and its progress.
    DeleteMember {
        /// Its number.
        number: u32,
    },
    /// A lite topic has a queue of its own.
    PutLiteTopic {
        /// Number of the topic.
        topic: u32,
        /// The queue in this shard.
        queue: u32,
        /// Name of the lite topic.
        name: String,
    },
    /// A lite topic and its messages are gone; its queue may be given to another.
    DeleteLiteTopic {
        /// Number of the topic.
        topic: u32,
        /// The queue in this shard.
        queue: u32,
    },
    /// The key of the codes in the shard's handles.
    HandleKey(HandleKey),
    /// A group that nobody declared was used.
    GroupUse {
        /// Number of the group.
        group: u32,
        /// Hours that the shard had served by then.
        hour: u64,
    },
    /// How many hours the shard has served, while there are groups that nobody declared.
    ServedHours {
        /// All of them.
        hours: u64,
    },
    /// Every shard of a FIFO topic that grew is known to have its layout: sends may go by it.
    OpenLayout {
        /// Number of the topic.
        topic: u32,
        /// The layout: queues over all shards.
        queues: u32,
    },
    /// A group has done, on every shard, what was sent to a FIFO topic before it had this layout.
    PassLayout {
        /// Number of the group.
        group: u32,
        /// Number of the topic.
        topic: u32,
        /// The layout: queues over all shards.
        queues: u32,
    },
    /// A number for a client, for use in leases.
    Client {
        /// The number, never used again for another.
        number: u32,
        /// The client.
        id: String,
    },
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
    /// Its segment was condensed, and what says where in there it is does not hold.
    #[error("what is condensed of its segment does not hold: {0}")]
    Unfindable(&'static str),
}

impl Record {
    /// Appends the record to a payload.
    pub fn encode(&self, payload: &mut BytesMut) {
        let start = payload.len();
        payload.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        payload.extend_from_slice(&[self.kind()]);
        self.encode_fields(payload);
        seal(payload, start);
    }

    fn encode_fields(&self, payload: &mut BytesMut) {
        match self {
            Self::Message(message) => message.encode_fields(payload),
            Self::Lease(_)
            | Self::Acknowledge(_)
            | Self::Cursor(_)
            | Self::ChangeInvisible { .. }
            | Self::Release { .. }
            | Self::Prolong { .. }
            | Self::DeadLetter { .. } => self.encode_delivery_fields(payload),
            Self::PutTopic { number, topic } => {
                put_u32(payload, *number);
                catalog::encode_topic(topic, payload);
            }
            Self::PutGroup { number, group } => {
                put_u32(payload, *number);
                catalog::encode_group(group, payload);
            }
            Self::DeleteName { kind, name } => {
                payload.extend_from_slice(&[*kind as u8]);
                put_text(payload, name);
            }
            Self::DeleteTopic { number }
            | Self::DeleteGroup { number }
            | Self::DeleteMember { number } => put_u32(payload, *number),
            Self::Timed { number, due_ms: time_ms, message }
            | Self::Half { number, check_after_ms: time_ms, message } => {
                put_u64s(payload, &[*number, *time_ms]);
                message.encode_fields(payload);
            }
            Self::Recall { number, due_ms } => put_u64s(payload, &[*number, *due_ms]),
            Self::Due { number, due_ms, stands } => {
                put_u64s(payload, &[*number, *due_ms]);
                stands.iter().for_each(|stands| stands.encode_fields(payload));
            }
            Self::EndTransaction { number, stands: Some(stands), .. } => {
                put_u64(payload, *number);
                stands.encode_fields(payload);
            }
            Self::EndTransaction { number, is_commit, stands: None } => {
                put_u64(payload, *number);
                payload.extend_from_slice(&[u8::from(*is_commit)]);
            }
            Self::TransactionCheck { number } => put_u64(payload, *number),
            Self::ServedHours { hours } => put_u64(payload, *hours),
            Self::Reset { group: number, id } | Self::Client { number, id } => {
                put_u32(payload, *number);
                put_text(payload, id);
            }
            Self::Redrive { topic, offset, back_to } => {
                put_u32_u64(payload, *topic, *offset);
                back_to.iter().for_each(|origin| origin.encode_fields(payload));
            }
            Self::Trim { topic, queue, offset } => {
                put_u32s(payload, &[*topic, *queue]);
                put_u64(payload, *offset);
            }
            Self::Skip { first, end } => first.encode_range(*end, payload),
            Self::PutMember { number: first, group: second, client_id: name }
            | Self::PutLiteTopic { topic: first, queue: second, name } => {
                put_u32s(payload, &[*first, *second]);
                put_text(payload, name);
            }
            Self::DeleteLiteTopic { topic, queue } => put_u32s(payload, &[*topic, *queue]),
            Self::HandleKey(HandleKey(bytes)) => payload.extend_from_slice(bytes),
            Self::GroupUse { group, hour } => put_u32_u64(payload, *group, *hour),
            Self::OpenLayout { topic, queues } => put_u32s(payload, &[*topic, *queues]),
            Self::PassLayout { group, topic, queues } => {
                put_u32s(payload, &[*group, *topic, *queues]);
            }
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Message(_) => KIND_MESSAGE,
            Self::Lease(_) => KIND_LEASE,
            Self::Acknowledge(_) => KIND_ACKNOWLEDGE,
            Self::ChangeInvisible { .. } => KIND_CHANGE_INVISIBLE,
            Self::DeadLetter { stands: None, .. } => KIND_DEAD_LETTER,
            Self::DeadLetter { .. } => KIND_DEAD_LETTER_TO,
            Self::PutTopic { .. } => KIND_PUT_TOPIC,
            Self::DeleteTopic { .. } => KIND_DELETE_TOPIC,
            Self::PutGroup { .. } => KIND_PUT_GROUP,
            Self::DeleteGroup { .. } => KIND_DELETE_GROUP,
            Self::Timed { .. } => KIND_TIMED,
            Self::Due { stands: None, .. } => KIND_DUE,
            Self::Due { .. } => KIND_DUE_TO,
            Self::Recall { .. } => KIND_RECALL,
            Self::Half { .. } => KIND_HALF,
            Self::EndTransaction { stands: None, .. } => KIND_END_TRANSACTION,
            Self::EndTransaction { .. } => KIND_COMMIT_TO,
            Self::TransactionCheck { .. } => KIND_TRANSACTION_CHECK,
            Self::Cursor(_) => KIND_CURSOR,
            Self::Reset { .. } => KIND_RESET,
            Self::Redrive { back_to: None, .. } => KIND_REDRIVE,
            Self::Redrive { .. } => KIND_REDRIVE_TO,
            Self::Trim { .. } => KIND_TRIM,
            Self::Release { .. } => KIND_RELEASE,
            Self::Prolong { .. } => KIND_PROLONG,
            Self::Skip { .. } => KIND_SKIP,
            Self::DeleteName { .. } => KIND_DELETE_NAME,
            Self::PutMember { .. } => KIND_PUT_MEMBER,
            Self::DeleteMember { .. } => KIND_DELETE_MEMBER,
            Self::PutLiteTopic { .. } => KIND_PUT_LITE_TOPIC,
            Self::DeleteLiteTopic { .. } => KIND_DELETE_LITE_TOPIC,
            Self::Client { .. } => KIND_CLIENT,
            Self::HandleKey(_) => KIND_HANDLE_KEY,
            Self::GroupUse { .. } => KIND_GROUP_USE,
            Self::ServedHours { .. } => KIND_SERVED_HOURS,
            Self::OpenLayout { .. } => KIND_OPEN_LAYOUT,
            Self::PassLayout { .. } => KIND_PASS_LAYOUT,
        }
    }

    /// The message that the record holds, whenever it becomes visible.
    #[must_use]
    pub fn into_message(self) -> Option<MessageRecord> {
        match self {
            Self::Message(message) | Self::Timed { message, .. } | Self::Half { message, .. } => {
                Some(message)
            }
            _ => None,
        }
    }

    /// Takes the next record off a payload. Head and body of a message are slices of it, not copies.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes are no record.
    pub fn decode(payload: &mut Bytes) -> Result<Self, RecordError> {
        let (record, checksum) = Self::take(payload)?;
        if crc32c(&record) != checksum {
            return Err(RecordError::Checksum);
        }
        Self::decode_fields(&mut Reader::new(record))
    }

    /// As [`Record::decode`], off the payload of a frame that is whole: one that was made here, or whose checksum was
    /// compared. It covers the records, so that theirs need not be compared again.
    ///
    /// # Errors
    /// As [`Record::decode`].
    pub fn decode_of_whole_frame(payload: &mut Bytes) -> Result<Self, RecordError> {
        let (record, _) = Self::take(payload)?;
        Self::decode_fields(&mut Reader::new(record))
    }

    /// The bytes of the next record, and the checksum that they should have.
    fn take(payload: &mut Bytes) -> Result<(Bytes, u32), RecordError> {
        if payload.len() < RECORD_HEADER_BYTES {
            return Err(RecordError::Short);
        }
        let length = payload.get_u32_le() as usize;
        let checksum = payload.get_u32_le();
        if payload.len() < length || length == 0 {
            return Err(RecordError::Short);
        }
        Ok((payload.split_to(length), checksum))
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

#[cfg(test)]
mod tests;
