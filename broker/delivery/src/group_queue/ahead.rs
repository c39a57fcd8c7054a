//! What was touched ahead of the first new message: deliveries from before a reset, messages in order that a start finds in the
//! log, dead letters put back before their readers got there. However far ahead it is, nothing in between is written down.

use std::collections::BTreeSet;
use std::ops::Range;

use super::{BATCH_SPAN, GroupQueue};

impl GroupQueue {
    /// The parts of a range of offsets that are not done, ascending, whether somebody has them or not.
    pub fn not_done_in(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        self.done.gaps_in(range.start.max(self.cursor)..range.end)
    }

    /// The first new message, or one before it when more than 63 lie between that somebody has.
    #[must_use]
    pub fn first_new(&self) -> u64 {
        let has_ahead = self.has_ahead();
        let mut near = self.next..self.next.saturating_add(BATCH_SPAN - 1);
        near.find(|offset| self.is_new(*offset, has_ahead)).unwrap_or(self.next)
    }

    /// Whether a message is new; `has_ahead` as [`GroupQueue::has_ahead`] says.
    pub(super) fn is_new(&self, offset: u64, has_ahead: bool) -> bool {
        offset >= self.next
            && !(has_ahead
                && (self.done.contains(offset)
                    || self.again.get(&offset).is_some()
                    || self.leases.find(offset).is_some()
                    || self.leaving.contains(&offset)
                    || self.exhausted.contains(&offset)))
    }

    /// Whether something may have been touched ahead; what is new can be told by its offset alone otherwise.
    pub(super) fn has_ahead(&self) -> bool {
        let highest = [
            self.done.end(),
            self.again.last(),
            self.leases.highest(),
            self.leaving.last().copied(),
            self.exhausted.last().copied(),
        ];
        highest.into_iter().flatten().any(|offset| offset >= self.next)
    }

    /// The messages of a range that somebody has or that are due, ascending.
    pub(super) fn touched_in(&self, range: Range<u64>) -> BTreeSet<u64> {
        if range.is_empty() {
            return BTreeSet::new();
        }
        let due = self.again.range(range.clone()).map(|(offset, _)| *offset);
        let ending = self.leaving.range(range.clone()).chain(self.exhausted.range(range.clone()));
        due.chain(ending.copied()).chain(self.leases.in_range(range)).collect()
    }

    /// A message that was lined up is in flight. Of one that is ahead nobody knew: all are lined up anew when it is needed.
    pub(super) fn take_in_order(&mut self, offset: u64) {
        if offset >= self.next {
            self.message_groups = None;
        }
        self.in_order(|groups| groups.take(offset));
    }

    /// A message in flight waits. One that is ahead is not lined up before those between are, which it must not overtake.
    pub(super) fn give_back_in_order(&mut self, offset: u64) {
        let is_ahead = offset >= self.next;
        self.in_order(|groups| match is_ahead {
            true => groups.finish(offset),
            false => groups.give_back(offset),
        });
    }
}
