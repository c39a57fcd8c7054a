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
use crate::task::Part;

/// To look at so many queues is counted as one record is: it takes less time than to write it.
const QUEUES_PER_WORK: u64 = 64;

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

/// How far the look at the progress of a group is.
#[derive(Debug)]
struct Look {
    group: u32,
    topic: u32,
    /// The one to be looked at next.
    queue: usize,
}

/// A group that is looked at part by part, and whether its progress changed since the first one.
#[derive(Debug)]
pub(crate) struct WatchedGroup {
    group: u32,
    is_used: bool,
}

impl WatchedGroup {
    /// The progress of a group is about to change.
    pub(crate) fn note(&mut self, group: u32) {
        self.is_used |= self.group == group;
    }

    fn is_left_alone(&self, group: u32) -> bool {
        self.group == group && !self.is_used
    }
}

/// Which of some groups are unused, and how far the look is.
#[derive(Debug)]
pub(crate) struct ReadingUnused {
    /// Those to be looked at yet, the next one last.
    names: Vec<GroupName>,
    unused: Vec<GroupName>,
    look: Option<Look>,
}

impl From<Vec<GroupName>> for ReadingUnused {
    fn from(mut names: Vec<GroupName>) -> Self {
        names.reverse();
        Self { names, unused: Vec::new(), look: None }
    }
}

/// A group that is to be forgotten if it is unused, and how far the look is.
#[derive(Debug)]
pub(crate) struct Forgetting {
    name: GroupName,
    look: Option<Look>,
}

impl From<GroupName> for Forgetting {
    fn from(name: GroupName) -> Self {
        Self { name, look: None }
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

    /// A part of the look at groups for whether they are unused: the next queues are looked at.
    pub(crate) fn read_unused_on(&mut self, read: &mut ReadingUnused, work: &mut u32) -> Part {
        while let Some(name) = read.names.last() {
            let known = self.state.group_numbers.get(name).copied();
            let is_unused = match known {
                Some(number) => match self.look_at_use(number, &mut read.look, work) {
                    Some(is_unused) => is_unused,
                    None => return Part::Unfinished,
                },
                None => true,
            };
            read.look = None;
            read.unused.extend(read.names.pop().filter(|_| is_unused));
        }
        Part::Finished(Outcome::Groups(std::mem::take(&mut read.unused)))
    }

    /// A part of the look at one group, which is forgotten when all of it was looked at and nothing is in use.
    pub(crate) fn forget_on(
        &mut self,
        forget: &mut Forgetting,
        work: &mut u32,
        effects: &mut Effects<R>,
    ) -> Result<Part, Refusal> {
        let name = &forget.name;
        let known = self.state.group_numbers.get(name).copied();
        let Some(number) = known.filter(|number| !self.deleting_groups.contains(number)) else {
            return Err(Refusal::GroupNotFound(name.clone()));
        };
        match self.look_at_use(number, &mut forget.look, work) {
            None => Ok(Part::Unfinished),
            Some(false) => Err(Refusal::GroupInUse(name.clone())),
            Some(true) => {
                // Without a record of its name, so that it may come back.
                effects.append(&Record::DeleteGroup { number });
                self.deleting_groups.push(number);
                Ok(Part::Finished(Outcome::Done))
            }
        }
    }

    /// Whether nobody used the group for long; none when the work ends before all of its queues were looked at. What
    /// happens to its progress between two parts makes it a group in use.
    fn look_at_use(
        &mut self,
        number: u32,
        look: &mut Option<Look>,
        work: &mut u32,
    ) -> Option<bool> {
        let watched = self.state.watched_group.take();
        let was_left_alone = watched.is_some_and(|watched| watched.is_left_alone(number));
        let mut at = match look.take() {
            None => Look { group: number, topic: 0, queue: 0 },
            Some(at) if at.group == number && was_left_alone => at,
            Some(_) => return Some(false),
        };
        let Some(is_progress_kept) = self.is_progress_kept(number) else { return Some(false) };
        let mut queues = u64::from(*work).saturating_mul(QUEUES_PER_WORK);
        let is_unused = self.is_progress_unused(&mut at, is_progress_kept, &mut queues);
        *work = u32::try_from(queues / QUEUES_PER_WORK).unwrap_or(*work);
        if is_unused.is_none() {
            *look = Some(at);
            self.state.watched_group = Some(WatchedGroup { group: number, is_used: false });
        }
        is_unused
    }

    /// Whether messages that the group looked at count as something to lose; none when it is in use in any case.
    fn is_progress_kept(&self, number: u32) -> Option<bool> {
        let uses = &self.state.group_uses;
        let hours = uses.unused_hours(number)?;
        if hours < GROUP_UNUSED_HOURS_MAX || self.has_dead_letters(number) {
            return None;
        }
        let is_crowded = uses.used.len() > GROUPS_BY_FIRST_USE_CROWDED;
        let progress_hours = match is_crowded {
            true => GROUP_PROGRESS_UNUSED_HOURS_CROWDED,
            false => GROUP_PROGRESS_UNUSED_HOURS_MAX,
        };
        Some(hours < progress_hours)
    }

    /// Looks at the progress of a group from `at` on, at so many queues; a topic counts as one more. None when there are
    /// more.
    fn is_progress_unused(
        &self,
        at: &mut Look,
        is_progress_kept: bool,
        queues_left: &mut u64,
    ) -> Option<bool> {
        let indexes =
            self.state.group_topic_indexes.range((at.group, at.topic)..=(at.group, u32::MAX));
        for (&(_, topic), index) in indexes {
            if topic != at.topic {
                (at.topic, at.queue) = (topic, 0);
            }
            let Some(progress) = self.state.group_topic(*index) else { continue };
            *queues_left = queues_left.checked_sub(1)?;
            if !progress.waiters.is_empty() || progress.cursors_pending > 0 {
                return Some(false);
            }
            let kept = self.state.topics.get(&topic).map_or(&[][..], |topic| &topic.queues);
            for (number, state) in progress.queues.iter().enumerate().skip(at.queue) {
                *queues_left = queues_left.checked_sub(1)?;
                at.queue = number.saturating_add(1);
                let is_begun = kept.get(number).is_some_and(|queue| state.next() > queue.base());
                if state.inflight() > 0 || (is_progress_kept && is_begun) {
                    return Some(false);
                }
            }
        }
        Some(true)
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
