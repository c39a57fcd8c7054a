//! What becomes of a delivery that is not over: it gets another name and time, stays for longer, or is given back because it
//! reached nobody.

use super::{GroupQueue, HandleState, Waiting};
use crate::leases::LeaseBatch;

impl GroupQueue {
    /// Gives one delivery a new name and deadline. It counts as `attempt` from now on, and never as more than it was. Returns
    /// the batch it left when that is empty now; none when the delivery is over. A message that nobody has is taken back in
    /// flight under the new name.
    pub fn change_invisible(
        &mut self,
        offset: u64,
        nonce: u32,
        attempt: u32,
        new_nonce: u32,
        deadline_ms: u64,
    ) -> Option<Option<(u64, LeaseBatch)>> {
        // Earlier versions wrote down what clients said.
        let attempt = attempt.min(self.attempt_of(offset, nonce)?);
        let lease = LeaseBatch { mask: 1, attempt, nonce: new_nonce, deadline_ms };
        match self.handle_state(offset, nonce) {
            HandleState::Current => {
                let (first, batch, is_empty) = self.leases.remove(offset)?;
                self.leases.insert(offset, lease);
                Some(is_empty.then_some((first, batch)))
            }
            HandleState::Expired => {
                self.again.remove(&offset);
                self.leases.insert(offset, lease);
                self.take_in_order(offset);
                Some(None)
            }
            HandleState::Done
            | HandleState::Dead
            | HandleState::Stale
            | HandleState::Leaving
            | HandleState::Exhausted => None,
        }
    }

    /// A delivery reached nobody: it does not count, and its message is due at once, the first of its message group. Returns
    /// the batch it left when that is empty now; none when the delivery is over.
    pub fn release(&mut self, offset: u64, nonce: u32) -> Option<Option<(u64, LeaseBatch)>> {
        self.leases.find(offset).filter(|(_, lease)| lease.nonce == nonce)?;
        let (first, batch, is_empty) = self.leases.remove(offset)?;
        let deliveries = batch.attempt.saturating_sub(1);
        self.again.insert(offset, Waiting { deliveries, nonce });
        self.give_back_in_order(offset);
        Some(is_empty.then_some((first, batch)))
    }

    /// That a delivery got another name, or was given back, is decided and was carried out: until [`GroupQueue::end_committed`]
    /// its lease is none.
    pub fn end_decided(&mut self, offset: u64, nonce: u32) {
        self.ended.insert((offset, nonce));
    }

    /// See [`GroupQueue::end_decided`].
    pub fn end_committed(&mut self, offset: u64, nonce: u32) {
        self.ended.remove(&(offset, nonce));
    }

    /// What is in flight of a batch stays so for longer. Returns the deadline that it had; none when the batch is over, or
    /// ends later anyway.
    pub fn prolong(&mut self, first: u64, nonce: u32, deadline_ms: u64) -> Option<u64> {
        let batch = self.leases.batch_mut(first, nonce)?;
        if batch.deadline_ms >= deadline_ms {
            return None;
        }
        Some(std::mem::replace(&mut batch.deadline_ms, deadline_ms))
    }
}
