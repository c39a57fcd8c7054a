//! Which resets of progress a shard has carried out, each once for its id: going back to an earlier manifest asks for an
//! earlier id, and must not move progress again. None is forgotten while its group exists; what cannot be remembered is
//! refused before it is carried out.

use std::collections::HashMap;

use broker_model::limits::{OFFSET_RESETS_PER_SHARD_BYTES_MAX, OFFSET_RESETS_REMEMBERED_MAX};

use crate::command::{OffsetAt, ResetOffsets};
use crate::refusal::Refusal;

/// Resets by group number, the first first: id, and behind a line feed the target, which earlier versions left out.
#[derive(Debug, Default)]
pub(crate) struct KnownResets {
    by_group: HashMap<u32, Vec<String>>,
    bytes: usize,
}

impl KnownResets {
    /// Whether the group was reset under this id before.
    ///
    /// # Errors
    /// [`Refusal::ResetDiffers`] when that had another target, [`Refusal::TooManyResets`] when one more could not be
    /// remembered.
    pub(crate) fn was_carried_out(
        &self,
        group: u32,
        request: &ResetOffsets,
    ) -> Result<bool, Refusal> {
        let known = self.by_group.get(&group).map_or(&[][..], Vec::as_slice);
        let same = known.iter().map(|known| parts(known)).find(|(id, _)| *id == request.id);
        match same {
            Some((id, Some(target))) if target != target_of(request) => {
                Err(Refusal::ResetDiffers { group: request.group.clone(), id: id.to_owned() })
            }
            Some(_) => Ok(true),
            None => {
                let bytes = self.bytes.saturating_add(remembered(request).len());
                let is_full = known.len() >= OFFSET_RESETS_REMEMBERED_MAX
                    || bytes > OFFSET_RESETS_PER_SHARD_BYTES_MAX;
                if is_full {
                    return Err(Refusal::TooManyResets {
                        group: request.group.clone(),
                        id: request.id.clone(),
                    });
                }
                Ok(false)
            }
        }
    }

    /// It was carried out. Of more than a group may have, which only a log of an earlier version holds, the first is
    /// forgotten.
    pub(crate) fn note(&mut self, group: u32, remembered: String) {
        let known = self.by_group.entry(group).or_default();
        let (id, _) = parts(&remembered);
        let same = known.iter().position(|known| parts(known).0 == id);
        let over = (known.len() >= OFFSET_RESETS_REMEMBERED_MAX).then_some(0);
        if let Some(before) = same.or(over) {
            self.bytes = self.bytes.saturating_sub(known.remove(before).len());
        }
        self.bytes = self.bytes.saturating_add(remembered.len());
        known.push(remembered);
    }

    /// The group is gone.
    pub(crate) fn forget(&mut self, group: u32) {
        let bytes: usize = self.by_group.remove(&group).iter().flatten().map(String::len).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// All of them, by group, those of a group in their order.
    pub(crate) fn by_number(&self) -> impl Iterator<Item = (u32, &String)> {
        let mut groups: Vec<_> = self.by_group.iter().collect();
        groups.sort_unstable_by_key(|(group, _)| **group);
        groups.into_iter().flat_map(|(group, known)| known.iter().map(|known| (*group, known)))
    }
}

/// Id and target of what is remembered.
fn parts(known: &str) -> (&str, Option<&str>) {
    known.split_once('\n').map_or((known, None), |(id, target)| (id, Some(target)))
}

/// What is remembered of a reset.
pub(crate) fn remembered(request: &ResetOffsets) -> String {
    format!("{}\n{}", request.id, target_of(request))
}

fn target_of(request: &ResetOffsets) -> String {
    let mut target = match request.to {
        OffsetAt::Earliest => "earliest".to_owned(),
        OffsetAt::Latest => "latest".to_owned(),
        OffsetAt::TimeMs(time_ms) => format!("time {time_ms}"),
        OffsetAt::Shift(by) => format!("shift {by}"),
        OffsetAt::Offset(offset) => format!("offset {offset}"),
        OffsetAt::Last(messages) => format!("last {messages}"),
    };
    // A dead-letter topic may come to the shard between two askings.
    let mut topics: Vec<_> = request.topics.iter().filter(|name| !name.is_dead_letter()).collect();
    topics.sort();
    for topic in topics {
        target.push(' ');
        target.push_str(topic.as_str());
    }
    target
}

#[cfg(test)]
mod tests {
    use broker_model::{GroupName, TopicName};

    use super::*;

    fn reset(id: &str, topics: &[String]) -> ResetOffsets {
        let topics = topics.iter().map(|name| TopicName::parse(name).unwrap()).collect();
        let group = GroupName::parse("billing").unwrap();
        ResetOffsets { group, topics, to: OffsetAt::Latest, id: id.to_owned() }
    }

    #[test]
    fn what_is_remembered_is_counted_and_bounded_and_goes_with_its_group() {
        let mut known = KnownResets::default();
        let topics: Vec<_> = (0..100).map(|n| format!("{n:0>127}")).collect();
        let mut group = 0;
        let refusal = loop {
            let request = reset(&format!("reset-{group}"), &topics);
            match known.was_carried_out(group, &request) {
                Ok(_) => known.note(group, remembered(&request)),
                Err(refusal) => break refusal,
            }
            group += 1;
        };
        assert!(matches!(refusal, Refusal::TooManyResets { .. }), "{refusal:?}");
        let bytes: usize = known.by_number().map(|(_, known)| known.len()).sum();
        assert_eq!(known.bytes, bytes);
        assert!(bytes <= OFFSET_RESETS_PER_SHARD_BYTES_MAX, "{bytes}");
        assert!(bytes > OFFSET_RESETS_PER_SHARD_BYTES_MAX - 13_000, "{bytes}");
        (0..group).for_each(|group| known.forget(group));
        assert_eq!(known.bytes, 0);
    }

    #[test]
    fn a_log_of_an_earlier_version_may_hold_ids_again_without_targets_and_too_many() {
        let mut known = KnownResets::default();
        for id in ["one", "two", "one"] {
            known.note(7, id.to_owned());
        }
        assert_eq!(
            known.by_number().map(|(_, id)| id.as_str()).collect::<Vec<_>>(),
            ["two", "one"]
        );
        assert_eq!(known.was_carried_out(7, &reset("two", &[])), Ok(true));
        assert_eq!(known.was_carried_out(8, &reset("two", &[])), Ok(false));
        for number in 0..OFFSET_RESETS_REMEMBERED_MAX {
            known.note(7, format!("reset-{number}"));
        }
        assert_eq!(known.by_number().count(), OFFSET_RESETS_REMEMBERED_MAX);
        assert_eq!(known.bytes, known.by_number().map(|(_, id)| id.len()).sum::<usize>());
    }
}
