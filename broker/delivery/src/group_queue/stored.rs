//! The progress of a group on a queue as bytes, for snapshots. What is decided and not committed is no part of it.

use bytes::{Buf, BufMut};

use super::{GroupQueue, OFFSETS_END, Waiting};
use crate::leases::{LeaseBatch, offsets};

impl GroupQueue {
    /// Whether nothing happened yet, so that there is nothing to store.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.cursor == 0
            && self.next == 0
            && self.done.count() == 0
            && self.leases.count() == 0
            && self.again.is_empty()
            && self.revived.is_empty()
    }

    /// Appends the state: cursor, next, then with their counts done ranges, batches in flight, waiting messages, revived ones.
    /// All numbers are little-endian.
    pub fn store(&self, bytes: &mut impl BufMut) {
        bytes.put_u64_le(self.cursor);
        bytes.put_u64_le(self.next);
        bytes.put_u64_le(self.done.ranges().len() as u64);
        for (start, end) in self.done.ranges() {
            bytes.put_u64_le(start);
            bytes.put_u64_le(end);
        }
        bytes.put_u64_le(self.leases.iter().count() as u64);
        for (first, batch) in self.leases.iter() {
            bytes.put_u64_le(first);
            bytes.put_u64_le(batch.mask);
            bytes.put_u32_le(batch.attempt);
            bytes.put_u32_le(batch.nonce);
            bytes.put_u64_le(batch.deadline_ms);
        }
        bytes.put_u64_le(self.again.len() as u64);
        for (offset, waiting) in self.again.iter() {
            bytes.put_u64_le(*offset);
            bytes.put_u32_le(waiting.deliveries);
            bytes.put_u32_le(waiting.nonce);
        }
        bytes.put_u64_le(self.revived.len() as u64);
        self.revived.iter().for_each(|offset| bytes.put_u64_le(*offset));
    }

    /// The state that [`GroupQueue::store`] appended; none when the bytes are no such.
    pub fn load(bytes: &mut impl Buf) -> Option<Self> {
        let mut queue = Self {
            cursor: bytes.try_get_u64_le().ok()?,
            next: bytes.try_get_u64_le().ok()?,
            ..Self::default()
        };
        if queue.cursor > queue.next || queue.next >= OFFSETS_END {
            return None;
        }
        // What is finished is finished once: the ranges do not overlap, and the first new message is in none.
        let mut known_end = queue.cursor;
        for _ in 0..bytes.try_get_u64_le().ok()? {
            let (start, end) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
            if start <= known_end || end <= start || end >= OFFSETS_END {
                return None;
            }
            queue.done.insert(start, end);
            known_end = end;
        }
        for _ in 0..bytes.try_get_u64_le().ok()? {
            let first = bytes.try_get_u64_le().ok()?;
            let batch = LeaseBatch {
                mask: bytes.try_get_u64_le().ok()?,
                attempt: bytes.try_get_u32_le().ok()?,
                nonce: bytes.try_get_u32_le().ok()?,
                deadline_ms: bytes.try_get_u64_le().ok()?,
            };
            if first >= OFFSETS_END || batch.mask == 0 || queue.leases.has(first, batch.nonce) {
                return None;
            }
            // Nobody else has one of them.
            let mut held = offsets(first, batch.mask);
            if held.any(|offset| offset >= OFFSETS_END || queue.leases.find(offset).is_some()) {
                return None;
            }
            queue.leases.insert(first, batch);
        }
        for _ in 0..bytes.try_get_u64_le().ok()? {
            let offset = bytes.try_get_u64_le().ok()?;
            let (deliveries, nonce) = (bytes.try_get_u32_le().ok()?, bytes.try_get_u32_le().ok()?);
            if offset >= OFFSETS_END {
                return None;
            }
            queue.again.insert(offset, Waiting { deliveries, nonce });
        }
        for _ in 0..bytes.try_get_u64_le().ok()? {
            queue.revived.insert(bytes.try_get_u64_le().ok()?);
        }
        queue.is_consistent().then_some(queue)
    }

    /// Whether nothing that is done is in flight or waits, and nothing in flight waits.
    fn is_consistent(&self) -> bool {
        let mut in_flight = self.leases.iter().flat_map(|(first, b)| offsets(first, b.mask));
        let mut waiting = self.again.keys();
        let mut revived = self.revived.iter();
        self.done.end_of(self.next).is_none()
            && in_flight.all(|offset| !self.is_done(offset))
            && waiting.all(|offset| !self.is_done(*offset) && self.leases.find(*offset).is_none())
            && revived.all(|offset| *offset < self.cursor || self.done.contains(*offset))
    }
}

#[cfg(test)]
mod tests;
