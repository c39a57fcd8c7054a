//! When each topic and group was last declared here, and which names were deleted: so that shards that differ after a stop
//! in the middle of a change can be told which of them knows better, and no name that was deleted comes back by first use.

use std::collections::{BTreeMap, BTreeSet};

use broker_model::limits::DELETED_NAMES_MAX;
use broker_model::{ConsumerGroup, GroupName, Topic, TopicName};

use crate::effects::ReplyTo;
use crate::engine::Engine;

pub use broker_store::record::NameKind;

/// What one shard knows to exist, and when it heard so: the time of the frame, Unix time, 0 when an earlier version
/// did not keep it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// Topics.
    pub topics: Vec<(Topic, u64)>,
    /// Groups.
    pub groups: Vec<(ConsumerGroup, u64)>,
    /// Those of them that nobody declared: they were made by first use.
    pub by_first_use: BTreeSet<GroupName>,
    /// Topics that were deleted and not declared again.
    pub deleted_topics: Vec<(TopicName, u64)>,
    /// Groups that were deleted and not declared again.
    pub deleted_groups: Vec<(GroupName, u64)>,
}

/// Times of names, by kind and name.
#[derive(Debug, Default)]
pub(crate) struct KnownNames {
    declared: BTreeMap<(NameKind, String), u64>,
    deleted: BTreeMap<(NameKind, String), u64>,
}

impl KnownNames {
    /// It was declared; a deletion before that is forgotten.
    pub(crate) fn declare(&mut self, kind: NameKind, name: &str, time_ms: u64) {
        let key = (kind, name.to_owned());
        self.deleted.remove(&key);
        self.declared.insert(key, time_ms);
    }

    /// It was deleted. Of too many the oldest is forgotten.
    pub(crate) fn delete(&mut self, kind: NameKind, name: &str, time_ms: u64) {
        let key = (kind, name.to_owned());
        self.declared.remove(&key);
        self.deleted.insert(key, time_ms);
        if self.deleted.len() > DELETED_NAMES_MAX {
            let oldest = self.deleted.iter().min_by_key(|(_, time_ms)| **time_ms);
            if let Some(key) = oldest.map(|(key, _)| key.clone()) {
                self.deleted.remove(&key);
            }
        }
    }

    /// It is gone, without a trace.
    pub(crate) fn forget(&mut self, kind: NameKind, name: &str) {
        self.declared.remove(&(kind, name.to_owned()));
    }

    fn declared_ms(&self, kind: NameKind, name: &str) -> u64 {
        self.declared.get(&(kind, name.to_owned())).copied().unwrap_or(0)
    }

    /// Every time that is known: kind, name, whether it was deleted then, and the time.
    pub(crate) fn times(&self) -> impl Iterator<Item = (NameKind, &str, bool, u64)> {
        let declared =
            self.declared.iter().map(|((kind, name), ms)| (*kind, name.as_str(), false, *ms));
        let deleted =
            self.deleted.iter().map(|((kind, name), ms)| (*kind, name.as_str(), true, *ms));
        declared.chain(deleted)
    }

    fn deleted<'a>(&'a self, kind: NameKind) -> impl Iterator<Item = (&'a str, u64)> + 'a {
        let of_kind = self.deleted.iter().filter(move |((its, _), _)| *its == kind);
        of_kind.map(|((_, name), time_ms)| (name.as_str(), *time_ms))
    }
}

impl<R: ReplyTo> Engine<R> {
    /// What this shard knows to exist.
    #[must_use]
    pub fn known(&self) -> Known {
        let names = &self.state.known_names;
        let topics = self
            .topics()
            .map(|topic| (topic.clone(), names.declared_ms(NameKind::Topic, topic.name.as_str())));
        let groups = self
            .groups()
            .map(|group| (group.clone(), names.declared_ms(NameKind::Group, group.name.as_str())));
        let deleted_topics = names.deleted(NameKind::Topic);
        let deleted_groups = names.deleted(NameKind::Group);
        Known {
            topics: topics.collect(),
            groups: groups.collect(),
            by_first_use: self.groups_by_first_use().cloned().collect(),
            deleted_topics: deleted_topics
                .filter_map(|(name, ms)| Some((TopicName::parse(name).ok()?, ms)))
                .collect(),
            deleted_groups: deleted_groups
                .filter_map(|(name, ms)| Some((GroupName::parse(name).ok()?, ms)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deleted(names: &KnownNames) -> Vec<&str> {
        names.deleted(NameKind::Group).map(|(name, _)| name).collect()
    }

    #[test]
    fn a_deleted_name_is_remembered_until_it_is_declared_again() {
        let mut names = KnownNames::default();
        names.declare(NameKind::Group, "billing", 5);
        names.declare(NameKind::Topic, "billing", 6);
        assert_eq!(names.declared_ms(NameKind::Group, "billing"), 5);
        names.delete(NameKind::Group, "billing", 7);
        assert_eq!(names.declared_ms(NameKind::Group, "billing"), 0);
        assert_eq!(names.declared_ms(NameKind::Topic, "billing"), 6, "another kind of name");
        assert_eq!(deleted(&names), ["billing"]);
        names.declare(NameKind::Group, "billing", 8);
        assert!(deleted(&names).is_empty());
    }

    #[test]
    fn of_too_many_deleted_names_the_oldest_is_forgotten() {
        let mut names = KnownNames::default();
        for n in 0..=DELETED_NAMES_MAX as u64 {
            names.delete(NameKind::Group, &format!("group-{n}"), 1_000 + n);
        }
        assert_eq!(deleted(&names).len(), DELETED_NAMES_MAX);
        assert!(!deleted(&names).contains(&"group-0") && deleted(&names).contains(&"group-1"));
    }
}
