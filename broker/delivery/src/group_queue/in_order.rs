//! Handing out in order of message groups: who is next, and what is passed over for good because of a filter.

use std::ops::Range;

use super::skipping::add_skipped;
use super::{BATCH_SPAN, Batch, GroupQueue, Skipped, Waiting};
use crate::leases::{bit, offsets};
use crate::message_groups::MessageGroups;

/// What may be handed out in order of message groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// To hand out together; none when every message group has to wait.
    pub batch: Option<Batch>,
    /// Messages that did not pass the filter, ascending: they are to be finished before the batch is handed out.
    pub skipped: Vec<Skipped>,
}

impl GroupQueue {
    /// Messages that may be handed out in order: of each message group the first that is not done, while none of the group
    /// is in flight. Looks at new messages until there are `limit` of these or `look_ahead_max` messages wait. Takes what it
    /// looks at from `looks`, and ends when nothing is left of it.
    pub fn select_in_order(
        &mut self,
        end: u64,
        limit: u32,
        look_ahead_max: usize,
        looks: &mut u32,
        hash_of: impl Fn(u64) -> u64,
        passes: impl Fn(u64) -> bool,
    ) -> Turn {
        let mut groups = self.message_groups.take().unwrap_or_else(|| self.line_up(&hash_of));
        let mut skipped = Vec::new();
        let has_ahead = self.has_ahead();
        while self.next < end
            && groups.free_count() < limit as usize
            && groups.waiting_count() < look_ahead_max
            && *looks > 0
        {
            *looks = looks.saturating_sub(1);
            let offset = self.next;
            if self.is_new(offset, has_ahead) {
                self.again.insert(offset, Waiting::default());
                groups.add(offset, hash_of(offset));
            }
            self.next = offset.saturating_add(1);
            self.advance();
            if has_ahead {
                self.line_up_passed(offset..self.next, &mut groups, &hash_of);
            }
        }
        let mut batch: Option<Batch> = None;
        let mut at = 0;
        while let Some(offset) = groups.free_from(at) {
            let first = batch.map_or(offset, |batch| batch.first);
            let taken = batch.map_or(0, |batch| batch.mask.count_ones());
            if taken >= limit || offset >= first.saturating_add(BATCH_SPAN) || *looks == 0 {
                break;
            }
            *looks = looks.saturating_sub(1);
            at = offset.saturating_add(1);
            if !passes(offset) {
                // The next one of its group may be free now; it comes later in this loop.
                groups.finish(offset);
                add_skipped(&mut skipped, offset, self.was_never_out(offset));
                continue;
            }
            let deliveries = self.again.get(&offset).map_or(0, |waiting| waiting.deliveries);
            let attempt = deliveries.saturating_add(1);
            let batch = batch.get_or_insert(Batch { first, span: 0, mask: 0, attempt });
            if batch.attempt == attempt {
                batch.mask |= bit(first, offset);
            }
        }
        self.message_groups = Some(groups);
        Turn { batch, skipped }
    }

    /// Whether messages were last handed out in order.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        self.message_groups.is_some()
    }

    /// Messages are handed out without order from now on.
    pub fn forget_order(&mut self) {
        self.message_groups = None;
    }

    /// Lines up what was touched ahead, now that all before it are. What is in flight there may have been before.
    fn line_up_passed(
        &self,
        passed: Range<u64>,
        groups: &mut MessageGroups,
        hash_of: &impl Fn(u64) -> u64,
    ) {
        for offset in self.touched_in(passed) {
            if !groups.knows(offset) {
                groups.add(offset, hash_of(offset));
                if self.again.get(&offset).is_none() {
                    groups.take(offset);
                }
            }
        }
    }

    fn line_up(&self, hash_of: &impl Fn(u64) -> u64) -> Box<MessageGroups> {
        let mut groups = Box::<MessageGroups>::default();
        let behind_next = self.again.range(..self.next).map(|(offset, _)| *offset);
        behind_next.for_each(|offset| groups.add(offset, hash_of(offset)));
        let leased = self.leases.iter().flat_map(|(first, lease)| offsets(first, lease.mask));
        let ending = self.leaving.iter().chain(&self.exhausted).copied();
        for offset in leased.chain(ending) {
            groups.add(offset, hash_of(offset));
            groups.take(offset);
        }
        groups
    }
}
