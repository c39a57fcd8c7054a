//! What the logs of several shards say together. They differ when a shard came later, or when the process was stopped between
//! two of them: what was declared or deleted last holds, and the others are to be told. Decides only.

use std::collections::{HashMap, HashSet};

use broker_engine::{Command, Known};
use broker_model::{ConsumerGroup, GroupName, Topic, TopicName};

/// What one shard is to be told.
#[derive(Debug, Clone)]
pub(super) struct Repair {
    /// Its place among the shards.
    pub(super) shard: usize,
    pub(super) command: Command,
    /// Whether it knows nothing of that name.
    pub(super) is_new: bool,
}

/// The catalog, and what shards do not know of it: first what is gone, then groups, then topics. So a group is there before
/// the queues of a topic are, and begins with their first message.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) topics: Vec<Topic>,
    pub(super) groups: Vec<ConsumerGroup>,
    /// Those of the groups that no shard heard a declaration of.
    pub(super) by_first_use: HashSet<GroupName>,
    pub(super) deleted_groups: HashSet<GroupName>,
    pub(super) repairs: Vec<Repair>,
}

/// The last that was heard of a name: what it is since then, or that it is gone.
struct Last<T> {
    time_ms: u64,
    settings: Option<T>,
}

impl Merged {
    pub(super) fn of(known: Vec<Known>) -> Self {
        let mut merged = Self::default();
        let groups = last_of(&known, |known| (&known.groups, &known.deleted_groups), group_name);
        let topics = last_of(&known, |known| (&known.topics, &known.deleted_topics), topic_name);
        for (shard, known) in known.iter().enumerate() {
            merged.tell_what_is_gone(shard, known, &groups, &topics);
        }
        let declared = declared_groups(&known);
        for (shard, known) in known.iter().enumerate() {
            let theirs: HashMap<_, _> = known.groups.iter().map(|(g, _)| (&g.name, g)).collect();
            for group in sorted(&groups, |group: &ConsumerGroup| group.name.as_str()) {
                let is_new = !theirs.contains_key(&group.name);
                let is_declared = declared.contains(&group.name);
                let differs = theirs.get(&group.name) != Some(&group)
                    || (is_declared && known.by_first_use.contains(&group.name));
                if differs {
                    let command = match is_declared {
                        true => Command::PutGroup(Box::new(group.clone())),
                        false => Command::MakeGroup(group.name.clone()),
                    };
                    merged.repairs.push(Repair { shard, command, is_new });
                }
            }
        }
        for (shard, known) in known.iter().enumerate() {
            let theirs: HashMap<_, _> = known.topics.iter().map(|(t, _)| (&t.name, t)).collect();
            for topic in sorted(&topics, |topic: &Topic| topic.name.as_str()) {
                // Each shard makes those by itself, with its own first dead letter.
                let is_common = !topic.name.is_dead_letter();
                if is_common && theirs.get(&topic.name) != Some(&topic) {
                    let command = Command::PutTopic(Box::new(topic.clone()));
                    let is_new = !theirs.contains_key(&topic.name);
                    merged.repairs.push(Repair { shard, command, is_new });
                }
            }
        }
        for (name, last) in groups {
            match last.settings {
                Some(group) => {
                    if !declared.contains(&name) {
                        merged.by_first_use.insert(name);
                    }
                    merged.groups.push(group);
                }
                None => drop(merged.deleted_groups.insert(name)),
            }
        }
        let mut dead_letters = dead_letter_topics(&known);
        dead_letters.retain(|topic| topics[&topic.name].settings.is_some());
        let common = topics.into_values().filter_map(|last| last.settings);
        merged.topics = common.filter(|topic| !topic.name.is_dead_letter()).collect();
        merged.topics.extend(dead_letters);
        merged
    }

    fn tell_what_is_gone(
        &mut self,
        shard: usize,
        known: &Known,
        groups: &HashMap<GroupName, Last<ConsumerGroup>>,
        topics: &HashMap<TopicName, Last<Topic>>,
    ) {
        let gone = known.groups.iter().filter(|(group, _)| groups[&group.name].settings.is_none());
        let groups = gone.map(|(group, _)| Command::DeleteGroup(group.name.clone()));
        let gone = known.topics.iter().filter(|(topic, _)| topics[&topic.name].settings.is_none());
        let topics = gone.map(|(topic, _)| Command::DeleteTopic(topic.name.clone()));
        let commands = groups.chain(topics);
        self.repairs.extend(commands.map(|command| Repair { shard, command, is_new: false }));
    }
}

fn declared_groups(known: &[Known]) -> HashSet<GroupName> {
    let declared = known.iter().flat_map(|known| {
        let names = known.groups.iter().map(|(group, _)| &group.name);
        names.filter(|name| !known.by_first_use.contains(*name))
    });
    declared.cloned().collect()
}

fn group_name(group: &ConsumerGroup) -> &GroupName {
    &group.name
}

fn topic_name(topic: &Topic) -> &TopicName {
    &topic.name
}

/// The last that any shard heard of each name; of two at one time, the first shard, which changes reach first.
fn last_of<'a, T: Clone + 'a, N: Clone + Eq + std::hash::Hash + 'a>(
    known: &'a [Known],
    heard: impl Fn(&'a Known) -> (&'a Vec<(T, u64)>, &'a Vec<(N, u64)>),
    name_of: impl Fn(&T) -> &N,
) -> HashMap<N, Last<T>> {
    let mut last: HashMap<N, Last<T>> = HashMap::new();
    let mut hear = |name: &N, time_ms: u64, settings: Option<T>| {
        let is_news = last.get(name).is_none_or(|known| known.time_ms < time_ms);
        if is_news {
            last.insert(name.clone(), Last { time_ms, settings });
        }
    };
    for shard in known {
        let (declared, deleted) = heard(shard);
        for (settings, time_ms) in declared {
            hear(name_of(settings), *time_ms, Some(settings.clone()));
        }
        for (name, time_ms) in deleted {
            hear(name, *time_ms, None);
        }
    }
    last
}

/// By name, so that what is done does not depend on a hash map.
fn sorted<T, N>(last: &HashMap<N, Last<T>>, name: impl Fn(&T) -> &str) -> Vec<&T> {
    let mut settings: Vec<_> = last.values().filter_map(|last| last.settings.as_ref()).collect();
    settings.sort_by(|a, b| name(a).cmp(name(b)));
    settings
}

/// Over all shards that hold dead letters of a group.
fn dead_letter_topics(known: &[Known]) -> Vec<Topic> {
    let mut topics: HashMap<TopicName, Topic> = HashMap::new();
    for (topic, _) in known.iter().flat_map(|known| &known.topics) {
        if !topic.name.is_dead_letter() {
            continue;
        }
        match topics.get_mut(&topic.name) {
            Some(known) => known.merge_placement(topic),
            None => drop(topics.insert(topic.name.clone(), topic.clone())),
        }
    }
    topics.into_values().collect()
}

#[cfg(test)]
mod tests;
