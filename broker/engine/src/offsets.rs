//! Offsets: read and set the progress of a group, find an offset by time, reset a group, read without delivering
//! (protocol section 3.12).

use std::collections::{BTreeSet, VecDeque};

use broker_delivery::GroupQueue;
use broker_model::limits::SHIFTED_QUEUES_MAX;
use broker_model::{GroupName, Model, TopicName};
use broker_store::Record;
use broker_store::record::Place;

use crate::command::{OffsetAt, Outcome, ResetOffsets, SetLiteOffsets, SetOffset};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::index::Queue;
use crate::known_resets::remembered;
use crate::refusal::Refusal;
use crate::task::Part;

/// Queues whose cursors are logged in one piece: all of a topic, unless it is a LITE topic with more.
const QUEUES_PER_PIECE: usize = 1024;

/// A reset, and how far it is. After a crash in the middle it is done on a part of the topics; doing it again does the rest.
#[derive(Debug)]
pub(crate) struct Resetting {
    request: ResetOffsets,
    group: u32,
    /// Readers and topics that are left; none before it began.
    pairs: Option<VecDeque<(u32, u32)>>,
    /// Where in the first of them it goes on.
    next_queue: usize,
}

impl From<ResetOffsets> for Resetting {
    fn from(request: ResetOffsets) -> Self {
        Self { request, group: 0, pairs: None, next_queue: 0 }
    }
}

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
        self.check_progress_room(group, topic)?;
        Ok(Place { group, topic, queue: *queue, offset: *offset })
    }

    /// Where a consumer wants to go on with lite topics that it subscribes to.
    pub(crate) fn set_lite_offsets(
        &mut self,
        request: &SetLiteOffsets,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        let before = effects.records;
        match self.try_set_lite_offsets(request, effects) {
            Ok(()) if effects.records > before => {
                effects.on_commit.push((reply, Ok(Outcome::Done)));
            }
            Ok(()) => effects.now.push((reply, Ok(Outcome::Done))),
            Err(refusal) => effects.now.push((reply, Err(refusal))),
        }
    }

    fn try_set_lite_offsets(
        &mut self,
        request: &SetLiteOffsets,
        effects: &mut Effects<R>,
    ) -> Result<(), Refusal> {
        let (group, topic) =
            (self.group_number(&request.group)?, self.topic_number(&request.topic)?);
        self.check_progress_room(group, topic)?;
        let Some(state) = self.state.topics.get(&topic) else { return Ok(()) };
        let mut places = Vec::new();
        for number in state.lite.queues(&request.lite_topics) {
            let Some(queue) = state.queues.get(number) else { continue };
            let offset = offset_of(queue, request.to, queue.base());
            let queue = u32::try_from(number).expect("lite topics are limited");
            places.push(Place { group, topic, queue, offset });
        }
        for place in places {
            self.append_cursor(place, effects);
        }
        Ok(())
    }

    /// A part of a reset: whole pairs of a reader and a topic, as far as their queues are not too many.
    pub(crate) fn reset_on(
        &mut self,
        reset: &mut Resetting,
        work: &mut u32,
        effects: &mut Effects<R>,
    ) -> Result<Part, Refusal> {
        let number = self.group_number(&reset.request.group)?;
        let is_named = !reset.request.id.is_empty();
        if reset.pairs.is_none() {
            if is_named && self.state.resets.was_carried_out(number, &reset.request)? {
                return Ok(Part::Finished(Outcome::Done));
            }
            reset.group = number;
            reset.pairs = Some(self.reset_pairs(number, &reset.request)?);
        }
        if reset.group != number {
            // It was deleted, and made again.
            return Err(Refusal::GroupNotFound(reset.request.group.clone()));
        }
        let is_shift = matches!(reset.request.to, OffsetAt::Shift(_));
        let pairs = reset.pairs.get_or_insert_default();
        while let Some((reader, topic)) = pairs.front().copied() {
            if *work == 0 && !is_shift {
                return Ok(Part::Unfinished);
            }
            let queues = self.state.topics.get(&topic).map_or(0, |state| state.queues.len());
            let until = queues.min(reset.next_queue.saturating_add(QUEUES_PER_PIECE));
            for queue in reset.next_queue..until {
                self.reset_to(reader, topic, queue, reset.request.to, effects);
            }
            *work = work.saturating_sub(
                u32::try_from(until.saturating_sub(reset.next_queue)).unwrap_or(1).max(1),
            );
            reset.next_queue = until;
            if until == queues {
                reset.next_queue = 0;
                pairs.pop_front();
            }
            if !is_shift {
                effects.end_piece();
            }
        }
        if is_named {
            effects.append(&Record::Reset { group: number, id: remembered(&reset.request) });
        }
        Ok(Part::Finished(Outcome::Done))
    }

    /// For whom and on which topics progress is set: the group itself, or each of its consumers when it broadcasts.
    fn reset_pairs(
        &self,
        group: u32,
        request: &ResetOffsets,
    ) -> Result<VecDeque<(u32, u32)>, Refusal> {
        let mut topics = BTreeSet::new();
        for name in &request.topics {
            topics.insert(self.topic_number(name)?);
        }
        let is_broadcasting =
            self.state.groups.get(&group).is_some_and(|group| group.model == Model::Broadcasting);
        let readers =
            if is_broadcasting { self.state.members_of(group) } else { Vec::from([group]) };
        let mut pairs = BTreeSet::new();
        for reader in readers {
            let known = self.state.group_topic_indexes.range((reader, 0)..=(reader, u32::MAX));
            let known = known.map(|(pair, _)| *pair);
            pairs.extend(known.filter(|(_, t)| topics.is_empty() || topics.contains(t)));
            // A topic that is named gets progress even when the group never received from it.
            pairs.extend(topics.iter().map(|topic| (reader, *topic)));
        }
        if matches!(request.to, OffsetAt::Shift(_)) {
            let queues = |(_, topic): &(u32, u32)| {
                self.state.topics.get(topic).map_or(0, |state| state.queues.len())
            };
            let queues: usize = pairs.iter().map(queues).sum();
            if queues > SHIFTED_QUEUES_MAX {
                return Err(Refusal::TooMany(format!(
                    "a reset by a number of messages is carried out on all queues at once, and on {SHIFTED_QUEUES_MAX} at \
                     most, not on {queues}: name some of the topics at a time, or reset to a time"
                )));
            }
        }
        Ok(pairs.into_iter().collect())
    }

    fn reset_to(
        &mut self,
        reader: u32,
        topic: u32,
        number: usize,
        to: OffsetAt,
        effects: &mut Effects<R>,
    ) {
        let Some(queue) = self.state.topics.get(&topic).and_then(|t| t.queues.get(number)) else {
            return;
        };
        let index = self.state.group_topic_indexes.get(&(reader, topic));
        let progress = index.and_then(|index| self.state.group_topic(*index));
        let state = progress.and_then(|progress| progress.queues.get(number));
        let offset = offset_of(queue, to, state.map_or(0, GroupQueue::cursor));
        let queue = u32::try_from(number).expect("queues of a topic are limited");
        self.append_cursor(Place { group: reader, topic, queue, offset }, effects);
    }

    /// Logs new progress. Until it is committed nothing is handed out there: it would be forgotten by the commit.
    pub(crate) fn append_cursor(&mut self, place: Place, effects: &mut Effects<R>) {
        let index = self.state.group_topic_index(place.group, place.topic);
        if let Some(progress) = self.state.group_topic_mut(index) {
            progress.cursors_pending = progress.cursors_pending.saturating_add(1);
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
        OffsetAt::Offset(offset) => offset.clamp(queue.base(), queue.end()),
        OffsetAt::Last(messages) => queue.end().saturating_sub(messages).max(queue.base()),
        OffsetAt::Shift(by) => cursor.saturating_add_signed(by).clamp(queue.base(), queue.end()),
    }
}
