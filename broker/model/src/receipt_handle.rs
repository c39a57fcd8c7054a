//! The receipt handle: names one delivery of one message to one group. Self-contained, so that any broker can route it
//! and a new leader understands it; opaque text for clients (protocol section 5.5).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::ShardId;

const VERSION: u8 = 1;
const BYTES: usize = 1 + 4 + 4 + 4 + 4 + 8 + 4 + 4 + 4;

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
}

/// The text is no handle of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the receipt handle was not made by this system, or is damaged")]
pub struct HandleError;

impl ReceiptHandle {
    /// The text given to clients.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        for field in [self.shard.0, self.topic, self.group, self.queue] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&self.offset.to_le_bytes());
        bytes.extend_from_slice(&self.nonce.to_le_bytes());
        bytes.extend_from_slice(&self.attempt.to_le_bytes());
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a client's text back.
    ///
    /// # Errors
    /// [`HandleError`] for anything that [`ReceiptHandle::encode`] did not make.
    pub fn decode(text: &str) -> Result<Self, HandleError> {
        let mut bytes = [0u8; BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).map_err(|_| HandleError)?;
        let (body, sum) = bytes.split_at(BYTES - 4);
        if length != BYTES || crc32c::crc32c(body).to_le_bytes() != sum || body[0] != VERSION {
            return Err(HandleError);
        }
        let u32_at = |at: usize| {
            let mut field = [0u8; 4];
            field.copy_from_slice(&body[at..at + 4]);
            u32::from_le_bytes(field)
        };
        let mut offset = [0u8; 8];
        offset.copy_from_slice(&body[17..25]);
        Ok(Self {
            shard: ShardId(u32_at(1)),
            topic: u32_at(5),
            group: u32_at(9),
            queue: u32_at(13),
            offset: u64::from_le_bytes(offset),
            nonce: u32_at(25),
            attempt: u32_at(29),
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
            (offset, nonce, attempt) in any::<(u64, u32, u32)>(),
        ) {
            let shard = ShardId(shard);
            let handle = ReceiptHandle { shard, topic, group, queue, offset, nonce, attempt };
            prop_assert_eq!(ReceiptHandle::decode(&handle.encode()), Ok(handle));
        }

        #[test]
        fn no_other_text_is_taken_for_a_handle(text in ".{0,60}") {
            prop_assert_eq!(ReceiptHandle::decode(&text), Err(HandleError));
        }
    }
}
