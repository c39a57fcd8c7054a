//! Messages that a filter lets nothing of through: they are done for the group without being handed out, however many they
//! are, in as few steps and records as can be.

use std::ops::Range;

use super::{GroupQueue, OFFSETS_END, Waiting};

/// Messages that follow each other and did not pass the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// The first one.
    pub first: u64,
    /// The offset behind the last one.
    pub end: u64,
    /// Whether none of them was ever handed out. One that was stands alone.
    pub is_new: bool,
}

/// Adds a message behind those before it.
pub(super) fn add_skipped(skipped: &mut Vec<Skipped>, offset: u64, is_new: bool) {
    match skipped.last_mut() {
        Some(last) if last.end == offset && last.is_new && is_new => {
            last.end = offset.saturating_add(1);
        }
        _ => skipped.push(Skipped { first: offset, end: offset.saturating_add(1), is_new }),
    }
}

impl GroupQueue {
    /// New messages that do not pass the filter, before the first one that does. Takes what it looks at from `looks`, and
    /// ends when nothing is left of it.
    pub fn look_for_new(
        &self,
        end: u64,
        looks: &mut u32,
        passes: impl Fn(u64) -> bool,
    ) -> Range<u64> {
        let has_ahead = self.has_ahead();
        let mut offset = self.next;
        while offset < end && *looks > 0 {
            let is_new = self.is_new(offset, has_ahead);
            if is_new && passes(offset) {
                break;
            }
            *looks = looks.saturating_sub(1);
            let done_end = if is_new { None } else { self.done.end_of(offset) };
            offset = done_end.unwrap_or_else(|| offset.saturating_add(1)).min(end);
        }
        self.next..offset
    }

    /// Finishes messages that were never handed out and did not pass the filter: those of a range that nobody looked at, or
    /// that wait for their turn.
    pub fn skip(&mut self, first: u64, end: u64) {
        let end = end.min(OFFSETS_END - 1);
        if end <= first {
            return;
        }
        let waiting = self.again.range(first..end).map(|(offset, _)| *offset);
        let waiting: Vec<u64> = waiting.filter(|offset| self.was_never_out(*offset)).collect();
        for offset in waiting {
            self.again.remove(&offset);
            self.in_order(|groups| groups.finish(offset));
            self.done_insert(offset);
        }
        let mut at = self.next.max(first);
        for touched in self.touched_in(at..end) {
            self.done.insert(at, touched);
            at = touched.saturating_add(1);
        }
        self.done.insert(at, end);
        if first <= self.next {
            self.pass_to(end);
        }
        self.advance();
    }

    /// Whether a message waits for its first delivery.
    pub(super) fn was_never_out(&self, offset: u64) -> bool {
        self.again.get(&offset) == Some(&Waiting::default()) && !self.revived.contains(&offset)
    }
}
