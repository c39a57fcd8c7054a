//! Offsets: read and set the progress of a group, find an offset by time, reset a group, read without delivering
//! (protocol section 3.12).

use broker_delivery::GroupQueue;
use broker_model::{GroupName, TopicName};
use broker_store::Record;
use broker_store::record::Place;

use crate::command::{OffsetAt, Outcome, ResetOffsets, SetOffset};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::index::Queue;
use crate::refusal::Refusal;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn read_offset(
        &self,
        group: &GroupName,
        topic: &TopicName,
        queue: u32,
    ) -> Result<Outcome, Refusal> {
        let number = self.topic_number(topic)?;
        self.queue(topic, queue)?;
        let group = self.group_number(group)?;
        let index = self.state.group_topic_indexes.get(&(group, number));
        let progress = index.and_then(|index| self.state.group_topic(*index));
        let offset = progress.and_then(|p| p.queues.get(queue as usize)).map(GroupQueue::cursor);
        Ok(Outcome::Offset(offset))
    }

    pub(crate) fn query_offset(
        &self,
        topic: &TopicName,
        queue: u32,
        at: OffsetAt,
    ) -> Result<Outcome, Refusal> {
        let queue = self.queue(topic, queue)?;
        Ok(Outcome::Offset(Some(offset_of(queue, at, queue.base()))))
    }

    pub(crate) fn set_offset(&mut self, request: &SetOffset, reply: R, effects: &mut Effects<R>) {
        match self.try_set_offset(request) {
            Ok(place) => {
                self.append_cursor(place, effects);
                // Who keeps its own offsets reads without being handed anything.
                let index = self.state.group_topic_index(place.group, place.topic);
                self.note_poll(index, "", effects);
                effects.on_commit.push((reply, Ok(Outcome::Done)));
            }
            Err(refusal) => effects.now.push((reply, Err(refusal))),
        }
    }

    fn try_set_offset(&self, request: &SetOffset) -> Result<Place, Refusal> {
        let SetOffset { group, topic, queue, offset } = request;
        let end = self.queue(topic, *queue)?.end();
        if *offset > end {
            return Err(Refusal::OffsetOutOfRange { offset: *offset, end });
        }
        let (group, topic) = (self.group_number(group)?, self.topic_number(topic)?);
        Ok(Place { group, topic, queue: *queue, offset: *offset })
    }

    pub(crate) fn reset_offsets(
        &mut self,
        request: &ResetOffsets,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        let before = effects.records;
        match self.try_reset(request, effects) {
            Ok(()) if effects.records > before => {
                effects.on_commit.push((reply, Ok(Outcome::Done)));
            }
            Ok(()) => effects.now.push((reply, Ok(Outcome::Done))),
            Err(refusal) => effects.now.push((reply, Err(refusal))),
        }
    }

    fn try_reset(
        &mut self,
        request: &ResetOffsets,
        effects: &mut Effects<R>,
    ) -> Result<(), Refusal> {
        let number = self.group_number(&request.group)?;
        let is_named = !request.id.is_empty();
        if is_named && self.was_carried_out(number, request)? {
            return Ok(());
        }
        let places = self.reset_places(number, request)?;
        for place in places {
            self.append_cursor(place, effects);
        }
        if is_named {
            effects.append(&Record::Reset { group: number, id: remembered(request) });
        }
        Ok(())
    }

    /// Whether the last reset of the group has this id; another reset under the same id is refused.
    fn was_carried_out(&self, group: u32, request: &ResetOffsets) -> Result<bool, Refusal> {
        let Some(known) = self.state.resets.get(&group) else { return Ok(false) };
        // Earlier versions remembered the id alone.
        let (id, target) =
            known.split_once('\n').map_or((&**known, None), |(id, to)| (id, Some(to)));
        if id != request.id {
            return Ok(false);
        }
        match target {
            Some(target) if target != target_of(request) => {
                Err(Refusal::ResetDiffers { group: request.group.clone(), id: id.to_owned() })
            }
            _ => Ok(true),
        }
    }

    /// The new cursor of every queue, for the group itself or for each of its consumers when it broadcasts.
    fn reset_places(&self, group: u32, request: &ResetOffsets) -> Result<Vec<Place>, Refusal> {
        let mut topics = Vec::new();
        for name in &request.topics {
            topics.push(self.topic_number(name)?);
        }
        let mut readers = self.state.members_of(group);
        if readers.is_empty() {
            readers.push(group);
        }
        let known = self.state.group_topics.iter().flatten();
        let mut pairs: Vec<(u32, u32)> = known
            .filter(|progress| readers.contains(&progress.group))
            .filter(|progress| topics.is_empty() || topics.contains(&progress.topic))
            .map(|progress| (progress.group, progress.topic))
            .collect();
        // A topic that is named gets progress even when the group never received from it.
        pairs.extend(readers.iter().flat_map(|reader| topics.iter().map(|t| (*reader, *t))));
        pairs.sort_unstable();
        pairs.dedup();
        let mut places = Vec::new();
        for (group, topic) in pairs {
            let Some(state) = self.state.topics.get(&topic) else { continue };
            let index = self.state.group_topic_indexes.get(&(group, topic));
            let progress = index.and_then(|index| self.state.group_topic(*index));
            for (number, queue) in (0u32..).zip(&state.queues) {
                let state = progress.and_then(|p| p.queues.get(number as usize));
                let cursor = state.map_or(0, GroupQueue::cursor);
                let offset = offset_of(queue, request.to, cursor);
                places.push(Place { group, topic, queue: number, offset });
            }
        }
        Ok(places)
    }

    /// Logs new progress. Until it is committed nothing is handed out there: it would be forgotten by the commit.
    pub(crate) fn append_cursor(&mut self, place: Place, effects: &mut Effects<R>) {
        let index = self.state.group_topic_index(place.group, place.topic);
        if let Some(progress) = self.state.group_topic_mut(index) {
            progress.cursors_pending += 1;
        }
        effects.append(&Record::Cursor(place));
    }

    pub(crate) fn queue(&self, topic: &TopicName, queue: u32) -> Result<&Queue, Refusal> {
        let state = self.state.topics.get(&self.topic_number(topic)?);
        let state = state.and_then(|state| state.queues.get(queue as usize));
        state.ok_or_else(|| Refusal::QueueNotFound { topic: topic.clone(), queue })
    }
}

fn offset_of(queue: &Queue, at: OffsetAt, cursor: u64) -> u64 {
    match at {
        OffsetAt::Earliest => queue.base(),
        OffsetAt::Latest => queue.end(),
        OffsetAt::TimeMs(time_ms) => queue.offset_at(time_ms),
        OffsetAt::Shift(by) => cursor.saturating_add_signed(by).clamp(queue.base(), queue.end()),
    }
}

/// What is remembered of a reset: its id, and behind a line feed its target.
fn remembered(request: &ResetOffsets) -> String {
    format!("{}\n{}", request.id, target_of(request))
}

fn target_of(request: &ResetOffsets) -> String {
    let mut target = match request.to {
        OffsetAt::Earliest => "earliest".to_owned(),
        OffsetAt::Latest => "latest".to_owned(),
        OffsetAt::TimeMs(time_ms) => format!("time {time_ms}"),
        OffsetAt::Shift(by) => format!("shift {by}"),
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
