//! Messages that wait for their next delivery, by offset. Once a filter looks through many of them they are sorted by tag as
//! well, each one time, so that who wants none of them does not look at all of them again and again. The tags are derived:
//! they are made when first needed, and are no part of what two states are compared by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeBounds;

use crate::group_queue::Waiting;

/// So few are looked through as they are.
const UNSORTED_MAX: usize = 256;

/// All that wait.
#[derive(Debug, Clone, Default)]
pub(crate) struct Due {
    waiting: BTreeMap<u64, Waiting>,
    tags: Option<Box<Tags>>,
}

/// What a look at those that wait brought.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The first that is wanted, and others near it, ascending.
    pub(crate) wanted: Vec<(u64, Waiting)>,
    /// Looked at on the way and not wanted, ascending.
    pub(crate) unwanted: Vec<u64>,
}

/// The same by tag.
#[derive(Debug, Clone, Default)]
struct Tags {
    /// The tag of each that is sorted; none of one that nobody may have.
    of: HashMap<u64, Option<u64>>,
    by_tag: HashMap<u64, BTreeSet<u64>>,
    /// From here on none is sorted yet.
    sorted_until: u64,
    /// Below that, and not sorted yet.
    fresh: BTreeSet<u64>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.waiting == other.waiting
    }
}

impl Eq for Due {}

impl Due {
    pub(crate) fn insert(&mut self, offset: u64, waiting: Waiting) {
        let before = self.waiting.insert(offset, waiting);
        if let Some(tags) = self.tags.as_deref_mut()
            && before.is_none()
            && offset < tags.sorted_until
        {
            tags.fresh.insert(offset);
        }
    }

    pub(crate) fn remove(&mut self, offset: &u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(offset);
        if waiting.is_some()
            && let Some(tags) = self.tags.as_deref_mut()
        {
            tags.forget(*offset);
            if self.waiting.is_empty() {
                self.tags = None;
            }
        }
        waiting
    }

    /// Forgets those below an offset.
    pub(crate) fn forget_below(&mut self, offset: u64) {
        self.waiting = self.waiting.split_off(&offset);
        // Sorted anew when it is needed.
        self.tags = None;
    }

    pub(crate) fn get(&self, offset: &u64) -> Option<&Waiting> {
        self.waiting.get(offset)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The highest offset that waits.
    pub(crate) fn last(&self) -> Option<u64> {
        self.waiting.last_key_value().map(|(offset, _)| *offset)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &u64> {
        self.waiting.keys()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&u64, &Waiting)> {
        self.waiting.iter()
    }

    pub(crate) fn range(
        &self,
        range: impl RangeBounds<u64>,
    ) -> impl Iterator<Item = (&u64, &Waiting)> {
        self.waiting.range(range)
    }

    /// Whether one of these tags may be among them.
    pub(crate) fn may_have(&self, wanted: &[u64]) -> bool {
        match &self.tags {
            None => !self.waiting.is_empty(),
            Some(tags) => {
                self.has_unsorted(tags) || wanted.iter().any(|tag| tags.by_tag.contains_key(tag))
            }
        }
    }

    /// Those that have one of these tags, from the first one on, as far as they are sorted.
    pub(crate) fn with_tags(
        &mut self,
        wanted: &[u64],
        span: u64,
        looks: &mut u32,
        tag_of: impl Fn(u64) -> Option<u64>,
    ) -> Found {
        let is_wanted = |tag: Option<u64>| tag.is_some_and(|tag| wanted.contains(&tag));
        if self.tags.is_none() && self.waiting.len() <= UNSORTED_MAX {
            let mut looks = u32::MAX;
            return self.first_wanted(span, &mut looks, |offset| is_wanted(tag_of(offset)));
        }
        let unwanted = self.sort(looks, is_wanted, tag_of);
        let Some(tags) = &self.tags else { return Found::default() };
        let of_wanted = wanted.iter().filter_map(|tag| tags.by_tag.get(tag));
        let Some(first) = of_wanted.clone().filter_map(BTreeSet::first).min().copied() else {
            return Found { wanted: Vec::new(), unwanted };
        };
        let near = of_wanted.flat_map(|offsets| offsets.range(first..first.saturating_add(span)));
        let mut near: Vec<u64> = near.copied().collect();
        near.sort_unstable();
        let found =
            near.into_iter().filter_map(|offset| Some((offset, *self.waiting.get(&offset)?)));
        Found { wanted: found.collect(), unwanted }
    }

    /// Those that somebody may have, from the first one on.
    pub(crate) fn with_any_tag(
        &self,
        span: u64,
        looks: &mut u32,
        tag_of: impl Fn(u64) -> Option<u64>,
    ) -> Found {
        self.first_wanted(span, looks, |offset| tag_of(offset).is_some())
    }

    fn first_wanted(&self, span: u64, looks: &mut u32, is_wanted: impl Fn(u64) -> bool) -> Found {
        let mut found = Found::default();
        for (&offset, waiting) in &self.waiting {
            let first = found.wanted.first().map(|(first, _)| *first);
            if *looks == 0 || first.is_some_and(|first| offset.saturating_sub(first) >= span) {
                break;
            }
            if is_wanted(offset) {
                found.wanted.push((offset, *waiting));
            } else if first.is_none() {
                *looks = looks.saturating_sub(1);
                found.unwanted.push(offset);
            }
        }
        found
    }

    fn has_unsorted(&self, tags: &Tags) -> bool {
        !tags.fresh.is_empty() || self.waiting.range(tags.sorted_until..).next().is_some()
    }

    /// Sorts as many as may be looked at; those of them that are not wanted, ascending.
    fn sort(
        &mut self,
        looks: &mut u32,
        is_wanted: impl Fn(Option<u64>) -> bool,
        tag_of: impl Fn(u64) -> Option<u64>,
    ) -> Vec<u64> {
        let tags = self.tags.get_or_insert_default();
        let mut unwanted = Vec::new();
        let mut put = |tags: &mut Tags, offset| {
            let tag = tag_of(offset);
            tags.put(offset, tag);
            if !is_wanted(tag) {
                unwanted.push(offset);
            }
        };
        while *looks > 0
            && let Some(offset) = tags.fresh.pop_first()
        {
            *looks = looks.saturating_sub(1);
            put(tags, offset);
        }
        let later = self.waiting.range(tags.sorted_until..).map(|(offset, _)| *offset);
        for offset in later.take(*looks as usize) {
            *looks = looks.saturating_sub(1);
            tags.sorted_until = offset.saturating_add(1);
            put(tags, offset);
        }
        unwanted
    }
}

impl Tags {
    fn put(&mut self, offset: u64, tag: Option<u64>) {
        self.of.insert(offset, tag);
        if let Some(tag) = tag {
            self.by_tag.entry(tag).or_default().insert(offset);
        }
    }

    fn forget(&mut self, offset: u64) {
        let Some(tag) = self.of.remove(&offset) else {
            self.fresh.remove(&offset);
            return;
        };
        if let Some(tag) = tag
            && let Some(offsets) = self.by_tag.get_mut(&tag)
        {
            offsets.remove(&offset);
            if offsets.is_empty() {
                self.by_tag.remove(&tag);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag_of(offset: u64) -> Option<u64> {
        (!offset.is_multiple_of(11)).then_some(offset % 5)
    }

    proptest! {
        /// Against a walk over all of them, whatever comes and goes in between.
        #[test]
        fn those_with_a_tag_are_found_as_if_all_had_been_looked_at(
            steps in proptest::collection::vec((0u64..1_200, 0u32..4, 0u64..4), 100..200),
        ) {
            let mut due = Due::default();
            for (offset, action, tag) in steps {
                match action {
                    0 | 1 => (offset..offset + 40).for_each(|o| due.insert(o, Waiting::default())),
                    2 => drop(due.remove(&offset)),
                    _ => {
                        let mut looks = 10_000;
                        let found = due.with_tags(&[tag, 4], 64, &mut looks, tag_of).wanted;
                        let found: Vec<u64> = found.into_iter().map(|(offset, _)| offset).collect();
                        let wanted = |offset: &u64| matches!(tag_of(*offset), Some(of) if of == tag || of == 4);
                        let all: Vec<u64> = due.keys().copied().filter(wanted).collect();
                        let first = all.first().copied().unwrap_or(0);
                        let near: Vec<u64> = all.into_iter().filter(|o| *o < first + 64).collect();
                        prop_assert_eq!(found, near);
                    }
                }
            }
        }
    }

    #[test]
    fn each_is_looked_at_once_for_whatever_number_of_filters() {
        let mut due = Due::default();
        (0..10_000).for_each(|offset| due.insert(offset, Waiting::default()));
        for tag in 10..2_000 {
            let mut looks = 100;
            let found = due.with_tags(&[tag], 64, &mut looks, tag_of);
            assert!(found.wanted.is_empty() && found.unwanted.len() <= 100);
            assert_eq!(looks, if tag < 110 { 0 } else { 100 });
        }
        assert!(!due.may_have(&[70]) && due.may_have(&[3]));
        due.remove(&500);
        due.insert(500, Waiting::default());
        let mut looks = 100;
        assert!(due.with_tags(&[70], 64, &mut looks, tag_of).wanted.is_empty());
        assert_eq!(looks, 99, "only what is due anew");
    }
}
