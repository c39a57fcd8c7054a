//! One group on one queue. Every offset is in exactly one of these states:
//!
//! done (below the cursor, or in `done`) | in flight (in `leases`) | due (in `again`: once more, or for the first time
//! after others went before it) | leaving (who had it decided its end, which is not committed) | exhausted (on its way to
//! the dead-letter topic) | new (at or above `next`, and none of the others: see `ahead`)
//!
//! Decisions (`select_*`) change nothing that counts; the methods named after records change the state, and do so once:
//! applying what is already applied has no effect, so a leader may apply early what followers apply from the log.

use std::collections::BTreeSet;

use crate::due::{Due, Found};
use crate::leases::{LeaseBatch, Leases, bit, offsets};
use crate::message_groups::MessageGroups;
use crate::range_set::RangeSet;
pub use in_order::Turn;
pub use skipping::Skipped;
use skipping::add_skipped;

const BATCH_SPAN: u64 = 64;
/// No queue ever holds so many messages: what follows an offset below it can be told.
const OFFSETS_END: u64 = 1 << 62;

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
    /// The message became a dead letter.
    Dead,
    /// The delivery is over, it was the last one, and nobody has the message now.
    Expired,
    /// Who had the message decided its end, which is not committed.
    Leaving,
    /// The last delivery expired, and the message is on its way to the dead-letter topic, which is not committed.
    Exhausted,
    /// The message was delivered again, or never under this handle.
    Stale,
}

/// A message that waits for its next delivery.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// That count.
    deliveries: u32,
    /// Names the last one, counted or not, 0 when there was none: its handle counts until the message is delivered again,
    /// and no older one does.
    nonce: u32,
}

/// Progress of one group on one queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupQueue {
    /// Everything below is done.
    cursor: u64,
    /// From here on all is new, but for what was touched ahead of it. It is never done itself.
    next: u64,
    done: RangeSet,
    leases: Leases,
    again: Due,
    /// Acknowledged or given up by who had them, once that is committed. Nobody gets these meanwhile.
    leaving: BTreeSet<u64>,
    /// Their last delivery expired. Apart from `leaving`: an acknowledgement now would be answered, and yet be a dead letter.
    exhausted: BTreeSet<u64>,
    /// Deliveries by offset and name that somebody decided to end without counting them, until that is committed: their leases
    /// are committed before, and must not come back for so long.
    ended: BTreeSet<(u64, u32)>,
    /// Below the cursor or in `done`, and yet not done: put back from the dead-letter topic.
    revived: BTreeSet<u64>,
    /// Done because they became dead letters: the newest of these.
    dead: RangeSet,
    /// Who is behind whom; made when messages are first handed out in order.
    message_groups: Option<Box<MessageGroups>>,
}

impl GroupQueue {
    /// New messages, up to `limit`, that pass the filter; none when no message below `end` is new. A batch may hand out
    /// nothing and still finish messages that did not pass.
    #[must_use]
    pub fn select_new(&self, end: u64, limit: u32, passes: impl Fn(u64) -> bool) -> Option<Batch> {
        let span_end = end.min(self.next.saturating_add(BATCH_SPAN));
        if self.next >= span_end || limit == 0 {
            return None;
        }
        let has_ahead = self.has_ahead();
        let (mut mask, mut taken, mut span) = (0u64, 0u32, 0u32);
        for offset in self.next..span_end {
            if self.is_new(offset, has_ahead) && passes(offset) {
                if taken == limit {
                    break;
                }
                mask |= bit(self.next, offset);
                taken = taken.saturating_add(1);
            }
            span = span.saturating_add(1);
        }
        Some(Batch { first: self.next, span, mask, attempt: 1 })
    }

    /// Messages due again, up to `limit`, that have one of the tags, any without `tags`, and share an attempt number. What it
    /// meets before them that was never handed out and is not wanted is to be finished, as if it were new. Takes what it
    /// looks at from `looks`, and ends when nothing is left of it. `tag_of` says none of a message that nobody may have.
    pub fn select_again(
        &mut self,
        limit: u32,
        tags: Option<&[u64]>,
        looks: &mut u32,
        tag_of: impl Fn(u64) -> Option<u64>,
    ) -> Turn {
        if limit == 0 {
            return Turn::default();
        }
        let Found { wanted, unwanted } = match tags {
            Some(tags) => self.again.with_tags(tags, BATCH_SPAN, looks, tag_of),
            None => self.again.with_any_tag(BATCH_SPAN, looks, tag_of),
        };
        let mut skipped = Vec::new();
        for offset in unwanted.into_iter().filter(|offset| self.was_never_out(*offset)) {
            add_skipped(&mut skipped, offset, true);
        }
        Turn { batch: batch_of(wanted.into_iter(), limit), skipped }
    }

    /// Hands a batch out. Returns false when it had been applied before.
    pub fn lease(&mut self, batch: Batch, nonce: u32, deadline_ms: u64) -> bool {
        if batch.first >= OFFSETS_END - BATCH_SPAN || u64::from(batch.span) > BATCH_SPAN {
            return false;
        }
        let end = batch.first.saturating_add(u64::from(batch.span));
        let before = (self.cursor, self.next, self.done.count());
        let has_ahead = self.has_ahead();
        let mut mask = 0;
        for offset in offsets(batch.first, batch.mask) {
            // What was new when the batch was decided may have been looked at since, by an acknowledgement behind it from
            // before a reset; that has no effect on whom it was handed to.
            let is_free = self.is_new(offset, has_ahead)
                || self
                    .again
                    .get(&offset)
                    .is_some_and(|w| w.deliveries < batch.attempt && w.nonce != nonce)
                || self.leases.find(offset).is_some_and(|(_, l)| l.attempt < batch.attempt);
            let is_of_batch = batch.span == 0 || offset < end;
            if is_free && is_of_batch && !self.ended.contains(&(offset, nonce)) {
                self.again.remove(&offset);
                self.leases.remove(offset);
                self.take_in_order(offset);
                mask |= bit(batch.first, offset);
            }
        }
        for offset in (batch.first..end).filter(|o| batch.mask & bit(batch.first, *o) == 0) {
            if self.is_new(offset, has_ahead) {
                self.done_insert(offset);
            } else if self.was_never_out(offset) {
                // What was put back or given back meanwhile is due.
                self.again.remove(&offset);
                self.in_order(|groups| groups.finish(offset));
                self.done_insert(offset);
            }
        }
        if mask != 0 {
            let lease = LeaseBatch { mask, attempt: batch.attempt, nonce, deadline_ms };
            self.leases.insert(batch.first, lease);
        }
        self.advance();
        if batch.first <= self.next {
            self.pass_to(end);
        }
        mask != 0 || before != (self.cursor, self.next, self.done.count())
    }

    /// What a handle for this offset means.
    #[must_use]
    pub fn handle_state(&self, offset: u64, nonce: u32) -> HandleState {
        if self.is_done(offset) {
            let is_dead = self.dead.contains(offset);
            return if is_dead { HandleState::Dead } else { HandleState::Done };
        }
        match self.leases.find(offset) {
            Some((_, lease)) if lease.nonce == nonce => HandleState::Current,
            Some(_) => HandleState::Stale,
            None if self.was_last(offset, nonce) => HandleState::Expired,
            None if self.leaving.contains(&offset) => HandleState::Leaving,
            None if self.exhausted.contains(&offset) => HandleState::Exhausted,
            None => HandleState::Stale,
        }
    }

    fn was_last(&self, offset: u64, nonce: u32) -> bool {
        let waiting = self.again.get(&offset);
        waiting.is_some_and(|waiting| waiting.nonce != 0 && waiting.nonce == nonce)
    }

    /// The end of a message that somebody has, or had last, is decided: until it is committed its deadline means nothing
    /// and nobody else gets it. Returns the batch it left, when that is empty now, for its timer to be dropped.
    pub fn leave(&mut self, offset: u64) -> Option<(u64, LeaseBatch)> {
        let left = self.leases.remove(offset);
        if left.is_some() || self.again.remove(&offset).is_some() {
            self.in_order(|groups| groups.take(offset));
            self.leaving.insert(offset);
        }
        left.and_then(|(first, batch, is_empty)| is_empty.then_some((first, batch)))
    }

    /// Finishes a message. Returns the batch it left, when that is empty now, for its timer to be dropped.
    pub fn acknowledge(&mut self, offset: u64) -> Option<(u64, LeaseBatch)> {
        if self.is_done(offset) || offset >= OFFSETS_END - 1 {
            return None;
        }
        let left = self.leases.remove(offset);
        self.again.remove(&offset);
        self.leaving.remove(&offset);
        self.exhausted.remove(&offset);
        self.in_order(|groups| groups.finish(offset));
        if !self.revived.remove(&offset) {
            self.done_insert(offset);
            self.advance();
        }
        left.and_then(|(first, batch, is_empty)| is_empty.then_some((first, batch)))
    }

    /// Which delivery of a message a handle stands for, from 1; none when that is over.
    #[must_use]
    pub fn attempt_of(&self, offset: u64, nonce: u32) -> Option<u32> {
        match self.handle_state(offset, nonce) {
            HandleState::Current => self.leases.find(offset).map(|(_, lease)| lease.attempt),
            HandleState::Expired => self.again.get(&offset).map(|waiting| waiting.deliveries),
            _ => None,
        }
    }

    /// Which delivery a batch in flight is.
    #[must_use]
    pub fn attempt_of_batch(&self, first: u64, nonce: u32) -> Option<u32> {
        self.leases.get(first, nonce).map(|batch| batch.attempt)
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
                let waiting = Waiting { deliveries: batch.attempt, nonce: batch.nonce };
                self.again.insert(offset, waiting);
                self.give_back_in_order(offset);
            }
        }
        if is_exhausted { offsets(first, batch.mask).collect() } else { Vec::new() }
    }

    /// A message that is done is due once more, as if it had never been delivered. Has no effect on one that is not done.
    pub fn revive(&mut self, offset: u64, message_group_hash: u64) {
        if !self.is_done(offset) {
            return;
        }
        self.revived.insert(offset);
        self.dead.remove(offset);
        self.again.insert(offset, Waiting::default());
        if offset < self.next {
            self.in_order(|groups| groups.add(offset, message_group_hash));
        }
    }

    /// Messages below this offset are kept no more: they are done. Returns the batches in flight that are empty now, for
    /// their timers to be dropped.
    pub fn trim_below(&mut self, offset: u64) -> Vec<(u64, LeaseBatch)> {
        let offset = offset.min(OFFSETS_END - 1);
        self.dead.forget_below(offset);
        let mut gone = Vec::new();
        if offset <= self.cursor && self.revived.first().is_none_or(|first| *first >= offset) {
            return gone;
        }
        while let Some(lowest) = self.leases.lowest().filter(|lowest| *lowest < offset) {
            if let Some((first, batch, true)) = self.leases.remove(lowest) {
                gone.push((first, batch));
            }
        }
        self.again.forget_below(offset);
        for offsets in [&mut self.leaving, &mut self.exhausted, &mut self.revived] {
            *offsets = offsets.split_off(&offset);
        }
        // Lined up anew when it is needed.
        self.message_groups = None;
        if offset > self.cursor {
            self.done.insert(self.cursor, offset);
            self.next = self.next.max(offset);
            self.advance();
        }
        gone
    }

    /// Sets the progress: all below is done, all from there on is new. Handles given out before mean nothing any more.
    pub fn reset(&mut self, cursor: u64) {
        let cursor = cursor.min(OFFSETS_END - 1);
        *self = Self { cursor, next: cursor, ..Self::default() };
    }

    /// Everything below is done.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The first message that is not done; the end of the queue when all are.
    #[must_use]
    pub fn first_open(&self) -> u64 {
        self.revived.first().map_or(self.cursor, |revived| self.cursor.min(*revived))
    }

    /// Nobody looked at messages from there on, but for single ones; the first one is not done.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Whether a message with one of the tags, any without `tags`, may be due again.
    #[must_use]
    pub fn may_have_due(&self, tags: Option<&[u64]>) -> bool {
        tags.map_or(!self.again.is_empty(), |tags| self.again.may_have(tags))
    }

    /// Whether a receive could find something, messages below `end` being there.
    #[must_use]
    pub fn has_ready(&self, end: u64) -> bool {
        let waits = match &self.message_groups {
            Some(groups) => groups.free_count() > 0,
            None => !self.again.is_empty(),
        };
        self.next < end || waits
    }

    /// Messages below `end` that are not done.
    #[must_use]
    pub fn lag(&self, end: u64) -> u64 {
        let open = end.saturating_sub(self.cursor).saturating_sub(self.done.count());
        open.saturating_add(self.revived.len() as u64)
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

    /// Whether a batch in flight that begins here bears this name.
    #[must_use]
    pub fn is_named(&self, first: u64, nonce: u32) -> bool {
        self.leases.has(first, nonce)
    }

    /// The batch in flight that holds this offset, with its first offset.
    #[must_use]
    pub fn lease_of(&self, offset: u64) -> Option<(u64, LeaseBatch)> {
        self.leases.find(offset)
    }

    fn is_done(&self, offset: u64) -> bool {
        (offset < self.cursor || self.done.contains(offset)) && !self.revived.contains(&offset)
    }

    fn in_order(&mut self, change: impl FnOnce(&mut MessageGroups)) {
        if let Some(groups) = self.message_groups.as_deref_mut() {
            change(groups);
        }
    }

    fn done_insert(&mut self, offset: u64) {
        self.done.insert(offset, offset.saturating_add(1));
    }

    fn advance(&mut self) {
        while let Some(end) = self.done.take_prefix(self.cursor) {
            self.cursor = end;
        }
        self.pass_to(self.cursor);
    }

    /// All before `next` was looked at, and what is done from there on.
    fn pass_to(&mut self, next: u64) {
        let next = self.next.max(next);
        let next = self.done.end_of(next).unwrap_or(next);
        if self.message_groups.is_some() && !self.touched_in(self.next..next).is_empty() {
            // These were ahead: all are lined up anew when it is needed.
            self.message_groups = None;
        }
        self.next = next;
    }
}

mod ahead;
mod dead;
mod in_flight;
/// Of those that wait, the first with others near it that share its attempt number.
fn batch_of(mut waiting: impl Iterator<Item = (u64, Waiting)>, limit: u32) -> Option<Batch> {
    let (first, Waiting { deliveries, .. }) = waiting.next()?;
    let (mut mask, mut taken) = (1u64, 1u32);
    for (offset, _) in waiting
        .take_while(|(offset, _)| *offset < first.saturating_add(BATCH_SPAN))
        .filter(|(_, waiting)| waiting.deliveries == deliveries)
    {
        if taken == limit {
            break;
        }
        mask |= bit(first, offset);
        taken = taken.saturating_add(1);
    }
    Some(Batch { first, span: 0, mask, attempt: deliveries.saturating_add(1) })
}

mod in_order;
mod skipping;
mod stored;

#[cfg(test)]
mod tests;
