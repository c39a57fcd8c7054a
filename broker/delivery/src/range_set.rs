//! A set of offsets kept as ranges: what a group has finished ahead of its cursor.

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint, not touching, half-open ranges of offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Start to end of each range.
    ranges: BTreeMap<u64, u64>,
    count: u64,
}

impl RangeSet {
    /// Adds `from..to`; returns how many of them are new.
    pub fn insert(&mut self, from: u64, to: u64) -> u64 {
        if from >= to {
            return 0;
        }
        let (mut start, mut end, mut known) = (from, to, 0);
        // Ranges that touch or overlap, from the last one that begins at or before `to` backwards.
        while let Some((&s, &e)) = self.ranges.range(..=to).next_back() {
            if e < from {
                break;
            }
            known = e.min(to).saturating_sub(s.max(from)).saturating_add(known);
            start = start.min(s);
            end = end.max(e);
            self.ranges.remove(&s);
        }
        self.ranges.insert(start, end);
        let added = to.saturating_sub(from).saturating_sub(known);
        self.count = self.count.saturating_add(added);
        added
    }

    /// Whether the offset is in the set.
    #[must_use]
    pub fn contains(&self, offset: u64) -> bool {
        self.end_of(offset).is_some()
    }

    /// The end of the range that holds the offset; none when it is not in the set.
    #[must_use]
    pub fn end_of(&self, offset: u64) -> Option<u64> {
        let (_, end) = self.ranges.range(..=offset).next_back()?;
        Some(*end).filter(|end| offset < *end)
    }

    /// The end of the last range; none when the set is empty.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.ranges.last_key_value().map(|(_, end)| *end)
    }

    /// The parts of a range that are not in the set, ascending.
    pub fn gaps_in(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let first = self.end_of(range.start).unwrap_or(range.start);
        let behind = first..range.end.max(first);
        let inside = self.ranges.range(behind.clone()).map(|(start, end)| (*start, *end));
        let ends = inside.chain([(behind.end, behind.end)]);
        ends.scan(first, |at, (start, end)| Some(std::mem::replace(at, end)..start))
            .filter(|gap| !gap.is_empty())
    }

    /// Takes the range that begins at or before `offset` and reaches beyond it, and returns its end.
    pub fn take_prefix(&mut self, offset: u64) -> Option<u64> {
        let (&start, &end) = self.ranges.first_key_value()?;
        if start > offset {
            return None;
        }
        self.ranges.remove(&start);
        self.count = self.count.saturating_sub(end.saturating_sub(start));
        Some(end.max(offset))
    }

    /// Takes out everything below `offset`.
    pub fn forget_below(&mut self, offset: u64) {
        while let Some((&start, &end)) = self.ranges.first_key_value() {
            if start >= offset {
                return;
            }
            self.ranges.remove(&start);
            self.count = self.count.saturating_sub(end.min(offset).saturating_sub(start));
            if end > offset {
                self.ranges.insert(offset, end);
            }
        }
    }

    /// Takes out one offset.
    pub fn remove(&mut self, offset: u64) {
        let Some((&start, &end)) = self.ranges.range(..=offset).next_back() else { return };
        if offset >= end {
            return;
        }
        self.count = self.count.saturating_sub(1);
        self.ranges.remove(&start);
        if start < offset {
            self.ranges.insert(start, offset);
        }
        let behind = offset.saturating_add(1);
        if behind < end {
            self.ranges.insert(behind, end);
        }
    }

    /// Takes out the first range.
    pub fn forget_lowest(&mut self) {
        if let Some((start, end)) = self.ranges.pop_first() {
            self.count = self.count.saturating_sub(end.saturating_sub(start));
        }
    }

    /// Start and end of each range, ascending.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(start, end)| (*start, *end))
    }

    /// Offsets in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Ranges kept: the measure of memory.
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_as_a_set_of_numbers(
            inserts in proptest::collection::vec((0u64..100, 0u64..20), 0..50), take in 0u64..40,
            forgotten in 0u64..60, removed in proptest::collection::vec(0u64..130, 0..20),
        ) {
            let (mut ranges, mut model) = (RangeSet::default(), BTreeSet::new());
            for (from, length) in inserts {
                let before = model.len();
                model.extend(from..from + length);
                let added = ranges.insert(from, from + length);
                prop_assert_eq!(added as usize, model.len() - before);
            }
            prop_assert_eq!(ranges.count() as usize, model.len());
            for offset in 0..130 {
                prop_assert_eq!(ranges.contains(offset), model.contains(&offset));
                let end = (offset..130).find(|offset| !model.contains(offset));
                prop_assert_eq!(ranges.end_of(offset), end.filter(|end| *end > offset));
            }
            prop_assert_eq!(ranges.end(), model.last().map(|last| last + 1));
            let gaps: Vec<_> = ranges.gaps_in(take..forgotten).collect();
            let not_touching = gaps.windows(2).all(|pair| pair[0].end < pair[1].start);
            prop_assert!(gaps.iter().all(|gap| gap.start < gap.end) && not_touching);
            let outside = (take..forgotten).filter(|offset| !model.contains(offset));
            prop_assert!(gaps.into_iter().flatten().eq(outside));
            let mut touching = ranges.ranges.iter().zip(ranges.ranges.iter().skip(1));
            prop_assert!(touching.all(|((_, end), (start, _))| end < start));
            for offset in removed {
                ranges.remove(offset);
                model.remove(&offset);
                prop_assert_eq!(ranges.count() as usize, model.len());
            }
            prop_assert!((0..130).all(|offset| ranges.contains(offset) == model.contains(&offset)));
            let mut without_first = ranges.clone();
            without_first.forget_lowest();
            let first_end = ranges.ranges().next().map_or(0, |(_, end)| end);
            prop_assert_eq!(
                without_first.count() as usize,
                model.iter().filter(|offset| **offset >= first_end).count()
            );
            ranges.forget_below(forgotten);
            model.retain(|offset| *offset >= forgotten);
            prop_assert_eq!(ranges.count() as usize, model.len());
            prop_assert!((0..130).all(|offset| ranges.contains(offset) == model.contains(&offset)));
            let mut cursor = take;
            while let Some(end) = ranges.take_prefix(cursor) {
                cursor = end;
            }
            prop_assert!(!model.contains(&cursor), "the cursor stops before what is not done");
            model.retain(|offset| *offset >= cursor);
            prop_assert_eq!(ranges.count() as usize, model.len());
        }
    }
}
