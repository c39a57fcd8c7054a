//! Which of the messages that are done became dead letters: who acknowledges one of those comes too late. The newest of them
//! are remembered, as runs of offsets, and stand in snapshots; what retention takes, or a reset forgets, is forgotten.

use bytes::{Buf, BufMut};

use super::GroupQueue;
use crate::leases::LeaseBatch;

/// Runs of offsets that are remembered. A queue of which every message dies has one.
pub(super) const DEAD_RUNS_MAX: usize = 4_096;

impl GroupQueue {
    /// Finishes a message that is a dead letter now. Returns the batch it left, when that is empty now, for its timer to be
    /// dropped. Has no effect on one that was done before.
    pub fn bury(&mut self, offset: u64) -> Option<(u64, LeaseBatch)> {
        let was_done = self.is_done(offset);
        let left = self.acknowledge(offset);
        if !was_done && self.is_done(offset) {
            self.dead.insert(offset, offset.saturating_add(1));
            while self.dead.range_count() > DEAD_RUNS_MAX {
                self.dead.forget_lowest();
            }
        }
        left
    }

    /// Whether there are dead letters to be stored.
    #[must_use]
    pub fn has_dead(&self) -> bool {
        self.dead.count() > 0
    }

    /// Appends the runs of dead letters: start and end of each, both u64 and little-endian.
    pub fn store_dead(&self, bytes: &mut impl BufMut) {
        for (start, end) in self.dead.ranges() {
            bytes.put_u64_le(start);
            bytes.put_u64_le(end);
        }
    }

    /// Takes in all that [`GroupQueue::store_dead`] appended; none when the bytes are no such.
    pub fn load_dead(&mut self, bytes: &mut impl Buf) -> Option<()> {
        let mut known_end = None;
        while bytes.has_remaining() {
            let (start, end) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
            let follows = known_end.is_none_or(|known_end| start > known_end);
            if !follows
                || end <= start
                || !self.is_done(start)
                || !self.is_done(end.saturating_sub(1))
                || self.dead.range_count() >= DEAD_RUNS_MAX
            {
                return None;
            }
            self.dead.insert(start, end);
            known_end = Some(end);
        }
        Some(())
    }
}
