//! The keyed code in receipt, recall and transaction handles: whoever has the key of a shard tells the handles that the shard
//! gave out from all others, before anything else of them is looked at. SipHash-2-4 with 128 bits, of which 64 are kept
//! (docs/adr/0020).

use std::fmt;
use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::handle_text::{RECALL, RECEIPT, TRANSACTION};
use crate::{RecallHandle, ReceiptHandle, TransactionId};

/// Bytes of a key.
pub const HANDLE_KEY_BYTES: usize = 16;

/// The key of one shard. Whoever has it can make handles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HandleKey(pub [u8; HANDLE_KEY_BYTES]);

impl fmt::Debug for HandleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandleKey(not shown)")
    }
}

impl HandleKey {
    /// The code of a receipt handle, of all that it says.
    #[must_use]
    pub fn of_receipt(&self, handle: &ReceiptHandle) -> u64 {
        let ReceiptHandle { shard, topic, group, queue, offset, nonce, attempt, code: _ } = *handle;
        self.code(RECEIPT, &[shard.0, topic, group, queue, nonce, attempt], &[offset])
    }

    /// The code of a recall handle: of all but the message id, which is the producer's own and only told back.
    #[must_use]
    pub fn of_recall(&self, handle: &RecallHandle) -> u64 {
        let RecallHandle { shard, topic, number, due_ms, message_id: _, code: _ } = handle;
        self.code(RECALL, &[shard.0, *topic], &[*number, *due_ms])
    }

    /// The code of a transaction id, of all that it says.
    #[must_use]
    pub fn of_transaction(&self, id: &TransactionId) -> u64 {
        let TransactionId { shard, topic, number, code: _ } = *id;
        self.code(TRANSACTION, &[shard.0, topic], &[number])
    }

    fn code(&self, kind: u8, small: &[u32], large: &[u64]) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        // Each kind has fields of one number and length, so that no two handles give the same bytes.
        hasher.write(&[kind]);
        small.iter().for_each(|field| hasher.write(&field.to_le_bytes()));
        large.iter().for_each(|field| hasher.write(&field.to_le_bytes()));
        hasher.finish128().h1
    }
}

/// Whether a handle may be taken for ours. One without a code was put together by the broker itself: a client's always has
/// one. Two words are compared in one step, whatever they hold.
#[must_use]
pub fn is_code(code: Option<u64>, expected: impl FnOnce() -> u64) -> bool {
    code.is_none_or(|code| code ^ expected() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ShardId;
    use proptest::prelude::*;

    fn handle(fields: [u32; 6], offset: u64) -> ReceiptHandle {
        let [shard, topic, group, queue, nonce, attempt] = fields;
        let shard = ShardId(shard);
        ReceiptHandle { shard, topic, group, queue, offset, nonce, attempt, code: None }
    }

    proptest! {
        #[test]
        fn every_field_and_every_bit_of_the_key_changes_the_code(
            key in any::<[u8; HANDLE_KEY_BYTES]>(), fields in any::<[u32; 6]>(), offset in any::<u64>(),
            field in 0usize..7, bit in 0u32..32, key_bit in 0usize..128,
        ) {
            let code = HandleKey(key).of_receipt(&handle(fields, offset));
            let (mut other, mut other_offset) = (fields, offset);
            match other.get_mut(field) {
                Some(field) => *field ^= 1 << bit,
                None => other_offset ^= 1 << bit,
            }
            prop_assert_ne!(HandleKey(key).of_receipt(&handle(other, other_offset)), code);
            let mut other_key = key;
            other_key[key_bit / 8] ^= 1 << (key_bit % 8);
            prop_assert_ne!(HandleKey(other_key).of_receipt(&handle(fields, offset)), code);
        }
    }

    #[test]
    fn the_codes_are_those_of_siphash_and_stay_the_same_for_ever() {
        // From an implementation of its own.
        const KNOWN: [u64; 3] =
            [16_844_060_718_544_994_165, 9_850_382_118_607_377_300, 12_146_286_874_222_304_207];
        let key = HandleKey(std::array::from_fn(|n| u8::try_from(n).unwrap()));
        let shard = ShardId(3);
        let receipt = key.of_receipt(&handle([3, 2, 5, 1, 0xdead_beef, 4], 1 << 40));
        let transaction =
            key.of_transaction(&TransactionId { shard, topic: 2, number: 7, code: None });
        let message_id = "01AB".to_owned();
        let recall = RecallHandle { shard, topic: 2, number: 7, due_ms: 9, message_id, code: None };
        assert_eq!([receipt, transaction, key.of_recall(&recall)], KNOWN);
        let renamed = RecallHandle { message_id: "another".to_owned(), ..recall };
        assert_eq!(key.of_recall(&renamed), key.of_recall(&recall));
        assert_eq!(format!("{key:?}"), "HandleKey(not shown)");
    }

    #[test]
    fn only_the_right_code_and_what_has_none_is_taken() {
        for (code, is_taken) in [(None, true), (Some(7), true), (Some(6), false), (Some(0), false)]
        {
            assert_eq!(is_code(code, || 7), is_taken, "{code:?}");
        }
    }
}
