//! The messages of one queue that a group has in flight, kept as batches of up to 64 with one deadline each, so that a
//! message in flight costs little memory.

use std::collections::BTreeMap;

const BATCH_SPAN: u64 = 64;

/// Messages handed out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseBatch {
    /// Bit n: message `first + n` is in flight.
    pub mask: u64,
    /// Which delivery it is, from 1.
    pub attempt: u32,
    /// Tells this delivery from others.
    pub nonce: u32,
    /// Visible again then.
    pub deadline_ms: u64,
}

/// All batches in flight, by their first offset and nonce.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    batches: BTreeMap<(u64, u32), LeaseBatch>,
    count: u64,
}

impl Leases {
    /// Adds a batch whose messages are not in flight, and whose first offset and nonce no other has.
    pub fn insert(&mut self, first: u64, batch: LeaseBatch) {
        self.count = self.count.saturating_add(u64::from(batch.mask.count_ones()));
        self.batches.insert((first, batch.nonce), batch);
    }

    /// Whether there is a batch of this first offset and nonce.
    #[must_use]
    pub fn has(&self, first: u64, nonce: u32) -> bool {
        self.batches.contains_key(&(first, nonce))
    }

    /// The batch of this first offset and nonce.
    #[must_use]
    pub fn get(&self, first: u64, nonce: u32) -> Option<&LeaseBatch> {
        self.batches.get(&(first, nonce))
    }

    /// The batch that holds this offset, with its first offset.
    #[must_use]
    pub fn find(&self, offset: u64) -> Option<(u64, LeaseBatch)> {
        let from = offset.saturating_sub(BATCH_SPAN - 1);
        let near = self.batches.range((from, 0)..=(offset, u32::MAX)).rev();
        let holds = |first: u64, batch: &LeaseBatch| batch.mask & bit(first, offset) != 0;
        near.map(|((first, _), batch)| (*first, *batch)).find(|(first, batch)| holds(*first, batch))
    }

    /// Takes one message out; returns its batch as it was, and whether the batch is empty now.
    pub fn remove(&mut self, offset: u64) -> Option<(u64, LeaseBatch, bool)> {
        let (first, batch) = self.find(offset)?;
        let key = (first, batch.nonce);
        let mask = batch.mask & !bit(first, offset);
        self.count = self.count.saturating_sub(1);
        if mask == 0 {
            self.batches.remove(&key);
        } else if let Some(kept) = self.batches.get_mut(&key) {
            kept.mask = mask;
        }
        Some((first, batch, mask == 0))
    }

    /// The batch of this first offset and nonce, to be changed in what does not name it.
    pub fn batch_mut(&mut self, first: u64, nonce: u32) -> Option<&mut LeaseBatch> {
        self.batches.get_mut(&(first, nonce))
    }

    /// Takes a whole batch out.
    pub fn remove_batch(&mut self, first: u64, nonce: u32) -> Option<LeaseBatch> {
        let batch = self.batches.remove(&(first, nonce))?;
        self.count = self.count.saturating_sub(u64::from(batch.mask.count_ones()));
        Some(batch)
    }

    /// Messages in flight.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The lowest offset in flight.
    #[must_use]
    pub fn lowest(&self) -> Option<u64> {
        let near = self.batches.iter().take(BATCH_SPAN as usize);
        near.map(|((first, _), batch)| first.saturating_add(u64::from(batch.mask.trailing_zeros())))
            .min()
    }

    /// Every batch with its first offset.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &LeaseBatch)> {
        self.batches.iter().map(|((first, _), batch)| (*first, batch))
    }
}

/// The bit of an offset in the mask of the batch that begins at `first`; none of the bits when it is none of its 64.
pub(crate) fn bit(first: u64, offset: u64) -> u64 {
    let place = offset.checked_sub(first).and_then(|place| u32::try_from(place).ok());
    place.and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}

/// The offsets of a batch.
pub fn offsets(first: u64, mask: u64) -> impl Iterator<Item = u64> {
    (0..BATCH_SPAN).filter(move |n| mask >> n & 1 == 1).map(move |n| first.saturating_add(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_names_the_64_offsets_from_its_first_one_and_no_others() {
        for first in [0, 7, u64::MAX - 200] {
            for place in 0..BATCH_SPAN {
                let mask = bit(first, first + place);
                assert_eq!(mask, 1 << place);
                assert!(offsets(first, mask).eq([first + place]));
            }
            assert_eq!(bit(first, first + BATCH_SPAN), 0);
            assert_eq!(bit(first + 1, first), 0);
        }
        assert_eq!(bit(0, u64::MAX), 0);
    }
}
