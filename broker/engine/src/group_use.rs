//! Groups that nobody declared: they are made by first use, and are forgotten when nobody used them for long, so that nobody
//! fills their places for good. Time is counted in hours of service, told from outside and kept in the log: neither a step of
//! a clock nor a time in which the broker was off makes a group look unused. What is forgotten is progress, never a message.

use std::collections::BTreeMap;

use broker_model::limits::{
    GROUP_PROGRESS_UNUSED_HOURS_CROWDED, GROUP_PROGRESS_UNUSED_HOURS_MAX, GROUP_UNUSED_HOURS_MAX,
    GROUP_USE_NOTED_HOURS, GROUPS_BY_FIRST_USE_CROWDED,
};
use broker_model::{ConsumerGroup, GroupName, TopicName};
use broker_store::Record;

use crate::command::Outcome;
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::refusal::Refusal;
use crate::state::GroupTopic;

/// When groups that nobody declared were used last.
#[derive(Debug, Default)]
pub(crate) struct GroupUses {
    served_hours: u64,
    /// By number of the group.
    used: BTreeMap<u32, u64>,
}

impl GroupUses {
    pub(crate) fn serve(&mut self, hours: u64) {
        self.served_hours = self.served_hours.max(hours);
    }

    /// None before the first one is over.
    pub(crate) fn served_hours(&self) -> Option<u64> {
        (self.served_hours > 0).then_some(self.served_hours)
    }

    pub(crate) fn forget(&mut self, group: u32) {
        self.used.remove(&group);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, u64)> {
        self.used.iter().map(|(group, hour)| (*group, *hour))
    }

    /// Whether nobody declared it.
    pub(crate) fn is_of(&self, group: u32) -> bool {
        self.used.contains_key(&group)
    }

    fn unused_hours(&self, group: u32) -> Option<u64> {
        self.used.get(&group).map(|hour| self.served_hours.saturating_sub(*hour))
    }
}

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn groups_by_first_use(&self) -> impl Iterator<Item = &GroupName> {
        let uses = self.state.group_uses.used.keys();
        uses.filter_map(|number| self.state.groups.get(number)).map(|group| &group.name)
    }

    pub(crate) fn make_group(&mut self, name: GroupName, reply: R, effects: &mut Effects<R>) {
        let known = self.state.group_numbers.get(&name);
        if known.is_some_and(|number| !self.deleting_groups.contains(number)) {
            return effects.now.push((reply, Ok(Outcome::Done)));
        }
        let number = self.append_group(ConsumerGroup::with_defaults(name), effects);
        let hour = self.state.group_uses.served_hours;
        effects.append(&Record::GroupUse { group: number, hour });
        effects.on_commit.push((reply, Ok(Outcome::Done)));
    }

    pub(crate) fn note_group_use(
        &mut self,
        groups: &[GroupName],
        is_hour_over: bool,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        let before = effects.records;
        let hour = self.state.group_uses.served_hours;
        for name in groups {
            let Some(&group) = self.state.group_numbers.get(name) else { continue };
            let unused_hours = self.state.group_uses.unused_hours(group);
            if unused_hours.is_some_and(|hours| hours >= GROUP_USE_NOTED_HOURS) {
                effects.append(&Record::GroupUse { group, hour });
            }
        }
        if is_hour_over && !self.state.group_uses.used.is_empty() {
            effects.append(&Record::ServedHours { hours: hour.saturating_add(1) });
        }
        let done = (reply, Ok(Outcome::Done));
        if effects.records > before {
            effects.on_commit.push(done);
        } else {
            effects.now.push(done);
        }
    }

    pub(crate) fn apply_group_use(&mut self, group: u32, hour: u64) {
        if self.state.groups.contains_key(&group) {
            let used = self.state.group_uses.used.entry(group).or_default();
            *used = hour.max(*used);
        }
    }

    pub(crate) fn read_unused_groups(
        &self,
        mut names: Vec<GroupName>,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        names.retain(|name| {
            self.state.group_numbers.get(name).is_none_or(|number| self.is_unused(*number))
        });
        effects.now.push((reply, Ok(Outcome::Groups(names))));
    }

    pub(crate) fn forget_group(&mut self, name: GroupName, reply: R, effects: &mut Effects<R>) {
        let known = self.state.group_numbers.get(&name).copied();
        let Some(number) = known.filter(|number| !self.deleting_groups.contains(number)) else {
            return effects.now.push((reply, Err(Refusal::GroupNotFound(name))));
        };
        if !self.is_unused(number) {
            return effects.now.push((reply, Err(Refusal::GroupInUse(name))));
        }
        // Without a record of its name, so that it may come back.
        effects.append(&Record::DeleteGroup { number });
        self.deleting_groups.push(number);
        effects.on_commit.push((reply, Ok(Outcome::Done)));
    }

    fn is_unused(&self, number: u32) -> bool {
        let uses = &self.state.group_uses;
        let Some(hours) = uses.unused_hours(number) else { return false };
        if hours < GROUP_UNUSED_HOURS_MAX || self.has_dead_letters(number) {
            return false;
        }
        let is_crowded = uses.used.len() > GROUPS_BY_FIRST_USE_CROWDED;
        let progress_hours = match is_crowded {
            true => GROUP_PROGRESS_UNUSED_HOURS_CROWDED,
            false => GROUP_PROGRESS_UNUSED_HOURS_MAX,
        };
        let mut progress = self.progress_of_group(number);
        progress.all(|progress| {
            let is_served = !progress.waiters.is_empty() || progress.cursors_pending > 0;
            let holds = progress.queues.iter().any(|queue| queue.inflight() > 0);
            !is_served && !holds && (hours >= progress_hours || !self.is_begun(progress))
        })
    }

    fn progress_of_group(&self, number: u32) -> impl Iterator<Item = &GroupTopic<R>> {
        let indexes = self.state.group_topic_indexes.range((number, 0)..=(number, u32::MAX));
        indexes.filter_map(|(_, index)| self.state.group_topic(*index))
    }

    /// Whether the group would get messages again that it looked at, if it began anew.
    fn is_begun(&self, progress: &GroupTopic<R>) -> bool {
        let topic = self.state.topics.get(&progress.topic);
        let queues = topic.map_or(&[][..], |topic| &topic.queues);
        progress.queues.iter().zip(queues).any(|(state, queue)| state.next() > queue.base())
    }

    /// Whether there are dead letters of the group that were neither put back nor purged.
    fn has_dead_letters(&self, number: u32) -> bool {
        let group = self.state.groups.get(&number);
        let name = group.map(|group| TopicName::dead_letter_of(&group.name));
        let topic = name.and_then(|name| self.state.topic_numbers.get(&name));
        let topic = topic.and_then(|number| self.state.topics.get(number));
        topic.is_some_and(|topic| crate::progress::held(topic) > 0)
    }
}
