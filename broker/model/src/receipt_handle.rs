//! The receipt handle: names one delivery of one message to one group. Self-contained, so that any broker can route it
//! and a new leader understands it; opaque text for clients (protocol section 5.5).

use crate::ShardId;
use crate::handle_text::{HandleError, RECEIPT, Writer, read};

/// Longer texts are refused unread.
const TEXT_BYTES_MAX: usize = 128;

/// One delivery. A later delivery of the same message has another nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiptHandle {
    /// The shard that holds the message.
    pub shard: ShardId,
    /// The topic's number in that shard.
    pub topic: u32,
    /// The group's number in that shard.
    pub group: u32,
    /// The queue's number in that shard.
    pub queue: u32,
    /// The message's offset in the queue.
    pub offset: u64,
    /// Tells deliveries of one message apart.
    pub nonce: u32,
    /// Which delivery it was, from 1.
    pub attempt: u32,
    /// The keyed code of all that; none in one that the broker put together for itself.
    pub code: Option<u64>,
}

impl ReceiptHandle {
    /// The text given to clients.
    #[must_use]
    pub fn encode(&self) -> String {
        let places = [self.shard.0, self.topic, self.group, self.queue];
        let text = places.into_iter().fold(Writer::new(RECEIPT), Writer::u32);
        text.u64(self.offset).u32(self.nonce).u32(self.attempt).code(self.code).finish()
    }

    /// Reads a client's text back. Whether its code is right is not looked at.
    ///
    /// # Errors
    /// [`HandleError`] for anything that [`ReceiptHandle::encode`] did not make.
    pub fn decode(text: &str) -> Result<Self, HandleError> {
        read(text, RECEIPT, TEXT_BYTES_MAX, |fields| {
            Ok(Self {
                shard: ShardId(fields.u32()?),
                topic: fields.u32()?,
                group: fields.u32()?,
                queue: fields.u32()?,
                offset: fields.u64()?,
                nonce: fields.u32()?,
                attempt: fields.u32()?,
                code: Some(fields.u64()?),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_handle_survives_the_round_trip(
            (shard, topic, group, queue) in any::<(u32, u32, u32, u32)>(),
            (offset, nonce, attempt, code) in any::<(u64, u32, u32, u64)>(),
        ) {
            let code = Some(code);
            let shard = ShardId(shard);
            let handle = ReceiptHandle { shard, topic, group, queue, offset, nonce, attempt, code };
            prop_assert_eq!(ReceiptHandle::decode(&handle.encode()), Ok(handle));
        }

        #[test]
        fn no_other_text_is_taken_for_a_handle(text in ".{0,60}") {
            prop_assert_eq!(ReceiptHandle::decode(&text), Err(HandleError));
        }
    }
}
