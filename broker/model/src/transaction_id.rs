//! The transaction id: names one half message, for ending its transaction (protocol sections 3.11 and 5.2).

use crate::ShardId;
use crate::handle_text::{HandleError, TRANSACTION, Writer, read};

/// Longer texts are refused unread.
const TEXT_BYTES_MAX: usize = 128;

/// One transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionId {
    /// The shard that holds the half message.
    pub shard: ShardId,
    /// The topic's number in that shard.
    pub topic: u32,
    /// Its number among the transactions of the shard.
    pub number: u64,
    /// The keyed code of all that; none in one that the broker put together for itself.
    pub code: Option<u64>,
}

impl TransactionId {
    /// The text given to clients.
    #[must_use]
    pub fn encode(&self) -> String {
        let text = Writer::new(TRANSACTION).u32(self.shard.0).u32(self.topic);
        text.u64(self.number).code(self.code).finish()
    }

    /// Reads a client's text back. Whether its code is right is not looked at.
    ///
    /// # Errors
    /// [`HandleError`] for anything that [`TransactionId::encode`] did not make.
    pub fn decode(text: &str) -> Result<Self, HandleError> {
        read(text, TRANSACTION, TEXT_BYTES_MAX, |fields| {
            Ok(Self {
                shard: ShardId(fields.u32()?),
                topic: fields.u32()?,
                number: fields.u64()?,
                code: Some(fields.u64()?),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_id_survives_the_round_trip_and_damage_is_noticed() {
        let id = TransactionId { shard: ShardId(3), topic: 2, number: 7, code: Some(9) };
        let text = id.encode();
        assert_eq!(TransactionId::decode(&text), Ok(id));
        assert_eq!(TransactionId::decode(&format!("{text}A")), Err(HandleError));
        assert_eq!(TransactionId::decode(""), Err(HandleError));
    }
}
