//! Consumers of broadcasting groups: each has progress of its own, under a group number of its own, and begins with what
//! is sent after it came.

use broker_model::limits::{GROUP_QUEUES_BY_FIRST_USE_MAX, GROUP_QUEUES_PER_SHARD_MAX};
use broker_model::{GroupName, Model, StartFrom};
use broker_store::Record;
use broker_store::record::Place;

use crate::command::{Join, Outcome};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::refusal::Refusal;
use crate::task::Part;

/// A consumer that comes, and how far it is.
#[derive(Debug)]
pub(crate) struct Joining {
    join: Join,
    /// The topic that is begun next.
    next: usize,
}

impl From<Join> for Joining {
    fn from(join: Join) -> Self {
        Self { join, next: 0 }
    }
}

impl<R: ReplyTo> Engine<R> {
    /// A part of a join: the next topics are begun.
    pub(crate) fn join_on(
        &mut self,
        joining: &mut Joining,
        work: &mut u32,
        effects: &mut Effects<R>,
    ) -> Result<Part, Refusal> {
        let group = self.group_number(&joining.join.group)?;
        let reader = self.reader(group, &joining.join.client_id, effects);
        while let Some(topic) = joining.join.topics.get(joining.next) {
            if *work == 0 {
                return Ok(Part::Unfinished);
            }
            joining.next = joining.next.saturating_add(1);
            let (topic, before) = (self.topic_number(topic)?, effects.records);
            self.check_progress_room(reader, topic)?;
            self.begin(reader, topic, effects);
            *work = work.saturating_sub(effects.records.saturating_sub(before).max(1));
            effects.end_piece();
        }
        Ok(Part::Finished(Outcome::Done))
    }

    pub(crate) fn leave(
        &mut self,
        group: &GroupName,
        client_id: &str,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        let group = self.state.group_numbers.get(group).copied().unwrap_or(0);
        let number = self.state.member_numbers.get(&(group, client_id.into())).copied();
        if let Some(number) = number {
            effects.append(&Record::DeleteMember { number });
            effects.on_commit.push((reply, Ok(Outcome::Done)));
        } else {
            effects.now.push((reply, Ok(Outcome::Done)));
        }
    }

    pub(crate) fn members(&self) -> Vec<(GroupName, String)> {
        let mut members: Vec<_> = self.state.members.iter().collect();
        members.sort_unstable_by_key(|(number, _)| **number);
        let named = members.into_iter().filter_map(|(_, member)| {
            let group = self.state.groups.get(&member.group)?;
            Some((group.name.clone(), member.client_id.to_string()))
        });
        named.collect()
    }

    /// Whose progress counts: the group's, or the client's own when the group broadcasts.
    pub(crate) fn reader(&mut self, group: u32, client_id: &str, effects: &mut Effects<R>) -> u32 {
        let model = self.state.groups.get(&group).map(|group| group.model);
        if model != Some(Model::Broadcasting) {
            return group;
        }
        if let Some(&number) = self.state.member_numbers.get(&(group, client_id.into())) {
            return number;
        }
        let number = self.state.next_group_number;
        // Known at once, so that the next request of the client finds it; committing it again changes nothing.
        self.apply_put_member(number, group, client_id);
        effects.append(&Record::PutMember { number, group, client_id: client_id.to_owned() });
        number
    }

    /// Whether there is room for the progress of a reader on a topic: on each of its queues.
    pub(crate) fn check_progress_room(&self, reader: u32, topic: u32) -> Result<(), Refusal> {
        if self.state.group_topic_indexes.contains_key(&(reader, topic)) {
            return Ok(());
        }
        let queues = self.state.topics.get(&topic).map_or(0, |topic| topic.queues.len());
        let max = match self.state.group_uses.is_of(reader) {
            true => GROUP_QUEUES_BY_FIRST_USE_MAX,
            false => GROUP_QUEUES_PER_SHARD_MAX,
        };
        if self.state.group_queues.saturating_add(queues) > max {
            return Err(Refusal::TooMany(format!(
                "the shard keeps the progress of groups on {} queues, and a group that begins with {queues} more may have {max} \
                 of all; delete groups that are not used, or declare the group",
                self.state.group_queues
            )));
        }
        Ok(())
    }

    /// The progress of a reader on a topic, made on first use where its group wants to begin.
    pub(crate) fn begin(&mut self, reader: u32, topic: u32, effects: &mut Effects<R>) -> usize {
        if let Some(&index) = self.state.group_topic_indexes.get(&(reader, topic)) {
            return index;
        }
        let index = self.state.group_topic_index(reader, topic);
        let is_member = self.state.members.contains_key(&reader);
        let Some(state) = self.state.topics.get(&topic) else { return index };
        let group = self.state.group_of(reader);
        let start = group.map(|group| group.start_from(&state.topic.name)).unwrap_or_default();
        if !is_member && start == StartFrom::Earliest {
            return index;
        }
        let ends: Vec<u64> = state.queues.iter().map(crate::index::Queue::end).collect();
        // The first queue's is logged even when it is empty: that the reader was here must survive, or it would begin
        // later than it came.
        for (queue, offset) in (0u32..).zip(ends).filter(|(queue, end)| *queue == 0 || *end > 0) {
            self.append_cursor(Place { group: reader, topic, queue, offset }, effects);
        }
        index
    }

    pub(crate) fn group_number(&self, name: &GroupName) -> Result<u32, Refusal> {
        let number = self.state.group_numbers.get(name).copied();
        number.ok_or_else(|| Refusal::GroupNotFound(name.clone()))
    }
}
