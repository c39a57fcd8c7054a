//! The recall handle: names one timed message, for taking it back before its time (protocol section 3.5).

use crate::ShardId;
use crate::handle_text::{HandleError, RECALL, Writer, read};

/// Longer texts are refused unread.
const TEXT_BYTES_MAX: usize = 4096;

/// One timed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecallHandle {
    /// The shard that holds it.
    pub shard: ShardId,
    /// The topic's number in that shard.
    pub topic: u32,
    /// Its number among the timed messages of the shard.
    pub number: u64,
    /// Due then, Unix time.
    pub due_ms: u64,
    /// The id that the producer gave it.
    pub message_id: String,
    /// The keyed code of all but the message id; none in one that the broker put together for itself.
    pub code: Option<u64>,
}

impl RecallHandle {
    /// The text given to clients.
    #[must_use]
    pub fn encode(&self) -> String {
        let text = Writer::new(RECALL).u32(self.shard.0).u32(self.topic);
        text.u64(self.number).u64(self.due_ms).code(self.code).text(&self.message_id).finish()
    }

    /// Reads a client's text back. Whether its code is right is not looked at.
    ///
    /// # Errors
    /// [`HandleError`] for anything that [`RecallHandle::encode`] did not make.
    pub fn decode(text: &str) -> Result<Self, HandleError> {
        read(text, RECALL, TEXT_BYTES_MAX, |fields| {
            Ok(Self {
                shard: ShardId(fields.u32()?),
                topic: fields.u32()?,
                number: fields.u64()?,
                due_ms: fields.u64()?,
                code: Some(fields.u64()?),
                message_id: fields.text()?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recall_handle_survives_the_round_trip_and_is_no_other_handle() {
        let handle = RecallHandle {
            shard: ShardId(3),
            topic: 2,
            number: u64::MAX,
            due_ms: 1_900_000_000_000,
            message_id: "01AB".to_owned(),
            code: Some(9),
        };
        let text = handle.encode();
        assert_eq!(RecallHandle::decode(&text), Ok(handle));
        assert_eq!(RecallHandle::decode(&text[1..]), Err(HandleError));
        assert_eq!(crate::ReceiptHandle::decode(&text), Err(HandleError));
    }
}
