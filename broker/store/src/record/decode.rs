//! From bytes to a record: which fields each kind has, in their order. What is refused here is no record of this format.

use broker_model::HandleKey;

use super::fields::Reader;
use super::{
    KIND_ACKNOWLEDGE, KIND_CHANGE_INVISIBLE, KIND_CLIENT, KIND_CURSOR, KIND_DEAD_LETTER,
    KIND_DELETE_GROUP, KIND_DELETE_LITE_TOPIC, KIND_DELETE_MEMBER, KIND_DELETE_NAME,
    KIND_DELETE_TOPIC, KIND_DUE, KIND_DUE_TO, KIND_END_TRANSACTION, KIND_GROUP_USE, KIND_HALF,
    KIND_HANDLE_KEY, KIND_LEASE, KIND_MESSAGE, KIND_OPEN_LAYOUT, KIND_PASS_LAYOUT, KIND_PROLONG,
    KIND_PUT_GROUP, KIND_PUT_LITE_TOPIC, KIND_PUT_MEMBER, KIND_PUT_TOPIC, KIND_RECALL,
    KIND_REDRIVE, KIND_RELEASE, KIND_RESET, KIND_SERVED_HOURS, KIND_SKIP, KIND_TIMED,
    KIND_TRANSACTION_CHECK, KIND_TRIM,
};
use super::{Lease, MessageRecord, Place, Record, RecordError, catalog};

impl Record {
    pub(super) fn decode_fields(reader: &mut Reader) -> Result<Self, RecordError> {
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
            KIND_DEAD_LETTER => {
                Self::DeadLetter { place: Place::decode_fields(reader)?, stands: None }
            }
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
            KIND_TIMED => Self::Timed {
                number: reader.u64()?,
                due_ms: reader.u64()?,
                message: MessageRecord::decode_fields(reader)?,
            },
            KIND_DUE => Self::Due { number: reader.u64()?, due_ms: reader.u64()?, stands: None },
            KIND_RECALL => Self::Recall { number: reader.u64()?, due_ms: reader.u64()? },
            KIND_HALF => Self::Half {
                number: reader.u64()?,
                check_after_ms: reader.u64()?,
                message: MessageRecord::decode_fields(reader)?,
            },
            KIND_END_TRANSACTION => Self::EndTransaction {
                number: reader.u64()?,
                is_commit: reader.u8()? != 0,
                stands: None,
            },
            KIND_TRANSACTION_CHECK => Self::TransactionCheck { number: reader.u64()? },
            KIND_CURSOR => Self::Cursor(Place::decode_fields(reader)?),
            KIND_RESET => Self::Reset { group: reader.u32()?, id: reader.text()? },
            KIND_REDRIVE => {
                Self::Redrive { topic: reader.u32()?, offset: reader.u64()?, back_to: None }
            }
            kind @ KIND_DUE_TO..=KIND_TRIM => Self::decode_reference_fields(kind, reader)?,
            kind => return Self::decode_member_fields(kind, reader),
        };
        Ok(record)
    }

    /// The kinds about members and lite topics, and what came last.
    fn decode_member_fields(kind: u8, reader: &mut Reader) -> Result<Self, RecordError> {
        let record = match kind {
            KIND_PUT_MEMBER => Self::PutMember {
                number: reader.u32()?,
                group: reader.u32()?,
                client_id: reader.text()?,
            },
            KIND_DELETE_MEMBER => Self::DeleteMember { number: reader.u32()? },
            KIND_PUT_LITE_TOPIC => Self::PutLiteTopic {
                topic: reader.u32()?,
                queue: reader.u32()?,
                name: reader.text()?,
            },
            KIND_DELETE_LITE_TOPIC => {
                Self::DeleteLiteTopic { topic: reader.u32()?, queue: reader.u32()? }
            }
            KIND_RELEASE => {
                Self::Release { place: Place::decode_fields(reader)?, nonce: reader.u32()? }
            }
            KIND_SKIP => Self::Skip { first: Place::decode_fields(reader)?, end: reader.u64()? },
            KIND_PROLONG => Self::Prolong {
                first: Place::decode_fields(reader)?,
                nonce: reader.u32()?,
                deadline_ms: reader.u64()?,
            },
            KIND_DELETE_NAME => {
                Self::DeleteName { kind: catalog::name_kind(reader.u8()?)?, name: reader.text()? }
            }
            KIND_CLIENT => Self::Client { number: reader.u32()?, id: reader.text()? },
            KIND_HANDLE_KEY => Self::HandleKey(HandleKey(reader.array()?)),
            KIND_GROUP_USE => Self::GroupUse { group: reader.u32()?, hour: reader.u64()? },
            KIND_SERVED_HOURS => Self::ServedHours { hours: reader.u64()? },
            KIND_OPEN_LAYOUT => Self::OpenLayout { topic: reader.u32()?, queues: reader.u32()? },
            KIND_PASS_LAYOUT => Self::PassLayout {
                group: reader.u32()?,
                topic: reader.u32()?,
                queues: reader.u32()?,
            },
            kind => return Err(RecordError::UnknownKind(kind)),
        };
        Ok(record)
    }
}
