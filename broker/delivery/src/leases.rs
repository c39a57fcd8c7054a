//! The messages of one queue that a group has in flight, kept as batches of up to 64 with one deadline each, so that a
//! message in flight costs little memory.

use std::collections::BTreeMap;
use std::ops::Range;

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

    /// The highest offset in flight.
    #[must_use]
    pub(crate) fn highest(&self) -> Option<u64> {
        let (last_first, _) = *self.batches.last_key_value()?.0;
        let near = self.batches.range((last_first.saturating_sub(BATCH_SPAN - 1), 0)..);
        let last_bit = |mask: u64| u64::from(mask.checked_ilog2().unwrap_or(0));
        near.map(|((first, _), batch)| first.saturating_add(last_bit(batch.mask))).max()
    }

    /// The offsets in flight of a range, not in order.
    pub(crate) fn in_range(&self, range: Range<u64>) -> impl Iterator<Item = u64> {
        let from = range.start.saturating_sub(BATCH_SPAN - 1);
        let near = self.batches.range((from, 0)..(range.end.max(from), 0));
        near.flat_map(|((first, _), batch)| offsets(*first, batch.mask))
            .filter(move |offset| range.contains(offset))
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_in_flight_is_found_by_its_place(
            batches in proptest::collection::vec((0u64..200, any::<u64>(), 1u32..9), 0..20),
            range in (0u64..280, 0u64..80),
        ) {
            let (mut leases, mut model) = (Leases::default(), std::collections::BTreeSet::new());
            for (first, mask, nonce) in batches {
                let held = offsets(first, mask).any(|offset| model.contains(&offset));
                if held || mask == 0 || leases.has(first, nonce) {
                    continue;
                }
                model.extend(offsets(first, mask));
                leases.insert(first, LeaseBatch { mask, attempt: 1, nonce, deadline_ms: 1 });
            }
            prop_assert_eq!(leases.highest(), model.last().copied());
            prop_assert_eq!(leases.lowest(), model.first().copied());
            let range = range.0..range.0 + range.1;
            let mut in_range: Vec<_> = leases.in_range(range.clone()).collect();
            in_range.sort_unstable();
            prop_assert!(in_range.iter().eq(model.range(range)));
        }
    }

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
