//! One group on one queue. Every offset is in exactly one of these states:
//!
//! done (below the cursor, or in `done`) | in flight (in `leases`) | due again (in `again`) | exhausted (on its way to
//! the dead-letter topic) | new (at or above `next`)
//!
//! Decisions (`select_*`) change nothing; the methods named after records change the state, and do so once: applying
//! what is already applied has no effect, so a leader may apply early what followers apply from the log.

use std::collections::{BTreeMap, BTreeSet};

use crate::leases::{LeaseBatch, Leases, offsets};
use crate::range_set::RangeSet;

const BATCH_SPAN: u64 = 64;

/// Messages that can be handed out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// The first offset looked at.
    pub first: u64,
    /// New messages looked at; 0 when all had been handed out before.
    pub span: u32,
    /// Bit n: `first + n` is handed out.
    pub mask: u64,
    /// Which delivery it will be, from 1.
    pub attempt: u32,
}

/// What a receipt handle means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandleState {
    /// The delivery is in flight.
    Current,
    /// The message is done for the group.
    Done,
    /// The delivery is over, and nobody has the message now.
    Expired,
    /// The message was delivered again, or never under this handle.
    Stale,
}

/// Progress of one group on one queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupQueue {
    /// Everything below is done.
    cursor: u64,
    /// Never looked at from here on.
    next: u64,
    done: RangeSet,
    leases: Leases,
    /// Offset to deliveries so far.
    again: BTreeMap<u64, u32>,
    exhausted: BTreeSet<u64>,
}

impl GroupQueue {
    /// New messages, up to `limit`, that pass the filter; none when no message below `end` is new. A batch may hand out
    /// nothing and still finish messages that did not pass.
    #[must_use]
    pub fn select_new(&self, end: u64, limit: u32, passes: impl Fn(u64) -> bool) -> Option<Batch> {
        let span_end = end.min(self.next + BATCH_SPAN);
        if self.next >= span_end || limit == 0 {
            return None;
        }
        let (mut mask, mut taken, mut span) = (0u64, 0, 0);
        for offset in self.next..span_end {
            if passes(offset) {
                if taken == limit {
                    break;
                }
                mask |= 1 << (offset - self.next);
                taken += 1;
            }
            span += 1;
        }
        Some(Batch { first: self.next, span, mask, attempt: 1 })
    }

    /// Messages due again, up to `limit`, that pass the filter and share an attempt number.
    #[must_use]
    pub fn select_again(&self, limit: u32, passes: impl Fn(u64) -> bool) -> Option<Batch> {
        let mut due = self.again.iter().filter(|(offset, _)| passes(**offset));
        let (&first, &deliveries) = due.next()?;
        if limit == 0 {
            return None;
        }
        let (mut mask, mut taken) = (1u64, 1);
        for (offset, _) in due
            .take_while(|(offset, _)| **offset < first + BATCH_SPAN)
            .filter(|(_, count)| **count == deliveries)
        {
            if taken == limit {
                break;
            }
            mask |= 1 << (offset - first);
            taken += 1;
        }
        Some(Batch { first, span: 0, mask, attempt: deliveries + 1 })
    }

    /// Hands a batch out. Returns false when it had been applied before.
    pub fn lease(&mut self, batch: Batch, nonce: u32, deadline_ms: u64) -> bool {
        let end = batch.first + u64::from(batch.span);
        let is_new = batch.span > 0;
        let mut mask = 0;
        for offset in offsets(batch.first, batch.mask) {
            let is_free = if is_new {
                offset >= self.next
            } else {
                self.again.get(&offset).is_some_and(|count| *count < batch.attempt)
                    || self.leases.find(offset).is_some_and(|(_, l)| l.attempt < batch.attempt)
            };
            if is_free {
                self.again.remove(&offset);
                self.leases.remove(offset);
                mask |= 1 << (offset - batch.first);
            }
        }
        let changes = mask != 0 || (is_new && end > self.next);
        if is_new && end > self.next {
            let skipped = (self.next.max(batch.first)..end)
                .filter(|offset| batch.mask >> (offset - batch.first) & 1 == 0);
            skipped.for_each(|offset| self.done_insert(offset));
            self.next = end;
            self.advance();
        }
        if mask != 0 {
            let lease = LeaseBatch { mask, attempt: batch.attempt, nonce, deadline_ms };
            self.leases.insert(batch.first, lease);
        }
        changes
    }

    /// What a handle for this offset means.
    #[must_use]
    pub fn handle_state(&self, offset: u64, nonce: u32) -> HandleState {
        if self.is_done(offset) {
            return HandleState::Done;
        }
        match self.leases.find(offset) {
            Some((_, lease)) if lease.nonce == nonce => HandleState::Current,
            Some(_) => HandleState::Stale,
            None if self.again.contains_key(&offset) => HandleState::Expired,
            None => HandleState::Stale,
        }
    }

    /// Finishes a message. Returns the batch it left, when that is empty now, for its timer to be dropped.
    pub fn acknowledge(&mut self, offset: u64) -> Option<(u64, LeaseBatch)> {
        if self.is_done(offset) {
            return None;
        }
        let left = self.leases.remove(offset);
        self.again.remove(&offset);
        self.exhausted.remove(&offset);
        self.next = self.next.max(offset + 1);
        self.done_insert(offset);
        self.advance();
        left.and_then(|(first, batch, is_empty)| is_empty.then_some((first, batch)))
    }

    /// Gives one delivery a new name and deadline. Returns the batch it left when that is empty now; none when the
    /// delivery is over. A message that nobody has is taken back in flight under the new name.
    pub fn change_invisible(
        &mut self,
        offset: u64,
        nonce: u32,
        attempt: u32,
        new_nonce: u32,
        deadline_ms: u64,
    ) -> Option<Option<(u64, LeaseBatch)>> {
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
                Some(None)
            }
            HandleState::Done | HandleState::Stale => None,
        }
    }

    /// Ends a batch whose deadline passed: its messages are due again, or exhausted when they had `attempts_max`
    /// deliveries. Returns the exhausted ones.
    pub fn expire(&mut self, first: u64, nonce: u32, attempts_max: u32) -> Vec<u64> {
        let Some(batch) = self.leases.remove_batch(first, nonce) else { return Vec::new() };
        let is_exhausted = batch.attempt >= attempts_max;
        for offset in offsets(first, batch.mask) {
            if is_exhausted {
                self.exhausted.insert(offset);
            } else {
                self.again.insert(offset, batch.attempt);
            }
        }
        if is_exhausted { offsets(first, batch.mask).collect() } else { Vec::new() }
    }

    /// Everything below is done.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Whether a receive could find something, messages below `end` being there.
    #[must_use]
    pub fn has_ready(&self, end: u64) -> bool {
        self.next < end || !self.again.is_empty()
    }

    /// Messages below `end` that are not done.
    #[must_use]
    pub fn lag(&self, end: u64) -> u64 {
        end.saturating_sub(self.cursor).saturating_sub(self.done.count())
    }

    /// Messages in flight.
    #[must_use]
    pub fn inflight(&self) -> u64 {
        self.leases.count()
    }

    /// Every batch in flight, with its first offset.
    pub fn leases(&self) -> impl Iterator<Item = (u64, &LeaseBatch)> {
        self.leases.iter()
    }

    /// The batch in flight that holds this offset, with its first offset.
    #[must_use]
    pub fn lease_of(&self, offset: u64) -> Option<(u64, LeaseBatch)> {
        self.leases.find(offset)
    }

    fn is_done(&self, offset: u64) -> bool {
        offset < self.cursor || self.done.contains(offset)
    }

    fn done_insert(&mut self, offset: u64) {
        self.done.insert(offset, offset + 1);
    }

    fn advance(&mut self) {
        while let Some(end) = self.done.take_prefix(self.cursor) {
            self.cursor = end;
        }
    }
}

#[cfg(test)]
mod tests;
