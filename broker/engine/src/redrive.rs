//! Redrive: put dead letters back to where they came from, each exactly once, or take them away for good. What is put back
//! is due again for its group, with its deliveries counted from the start; nobody else sees it again.

use broker_model::TopicName;
use broker_store::Record;
use broker_store::record::{Origin, Place};

use crate::command::{Outcome, Redrive, Redriven};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::refusal::Refusal;
use crate::state::TopicState;
use crate::task::Part;

/// A redrive, and how far it is.
#[derive(Debug)]
pub(crate) struct Redriving {
    request: Redrive,
    redriven: Redriven,
    /// The next dead letter to look at.
    next: u64,
    /// Those that come later are not meant; none before it began.
    until: Option<u64>,
}

impl From<Redrive> for Redriving {
    fn from(request: Redrive) -> Self {
        Self { request, redriven: Redriven::default(), next: 0, until: None }
    }
}

impl<R: ReplyTo> Engine<R> {
    /// A part of a redrive: the next dead letters are looked at, and put back while they are wanted.
    pub(crate) fn redrive_on(
        &mut self,
        redrive: &mut Redriving,
        work: &mut u32,
        effects: &mut Effects<R>,
    ) -> Result<Part, Refusal> {
        self.group_number(&redrive.request.group)?;
        let name = TopicName::dead_letter_of(&redrive.request.group);
        let known = self.state.topic_numbers.get(&name).copied();
        // Without a dead letter there is no topic yet.
        let Some(number) = known else {
            return Ok(Part::Finished(Outcome::Redriven(redrive.redriven)));
        };
        let queue = self.state.topics.get(&number).and_then(|topic| topic.queues.first());
        let (base, end) = queue.map_or((0, 0), |queue| (queue.base(), queue.end()));
        let only = redrive.request.only;
        let last = only.map_or(end, |only| end.min(only.saturating_add(1)));
        let until = *redrive.until.get_or_insert(last);
        redrive.next = redrive.next.max(base).max(only.unwrap_or(0));
        while redrive.next < until.min(end) {
            if *work == 0 {
                return Ok(Part::Unfinished);
            }
            *work = work.saturating_sub(1);
            let offset = redrive.next;
            redrive.next = redrive.next.saturating_add(1);
            if !self.leads_back(number, offset, &redrive.request) {
                continue;
            }
            let Redriven { messages, left } = &mut redrive.redriven;
            let is_wanted = *messages < u64::from(redrive.request.messages_max);
            if redrive.request.is_dry_run || !is_wanted {
                *left = left.saturating_add(1);
                continue;
            }
            *messages = messages.saturating_add(1);
            if let Some(topic) = self.state.topics.get_mut(&number) {
                topic.redriving.insert(offset);
            }
            let back_to = match redrive.request.is_purge {
                true => Some(Origin::NOWHERE),
                false => self.origin_of(number, offset),
            };
            effects.append(&Record::Redrive { topic: number, offset, back_to });
            effects.end_piece();
        }
        self.trim_purged(number, redrive, until, effects);
        Ok(Part::Finished(Outcome::Redriven(redrive.redriven)))
    }

    /// When none of a group's dead letters is wanted any more their space comes back, as that of old messages does.
    fn trim_purged(&self, topic: u32, redrive: &Redriving, until: u64, effects: &mut Effects<R>) {
        let Redriving { request, redriven, .. } = redrive;
        let is_all = request.topic.is_none() && request.only.is_none() && redriven.left == 0;
        if request.is_purge && !request.is_dry_run && is_all && redriven.messages > 0 {
            effects.append(&Record::Trim { topic, queue: 0, offset: until });
        }
    }

    /// Whether a dead letter is still there and its way back leads somewhere.
    fn leads_back(&self, number: u32, offset: u64, request: &Redrive) -> bool {
        let Some(topic) = self.state.topics.get(&number) else { return false };
        let Some(queue) = topic.queues.first() else { return false };
        if topic.is_redriven(offset) || topic.redriving.contains(&offset) {
            return false;
        }
        let leads_back = |place: Place| {
            if request.is_purge {
                let origin = self.state.topic_names.get(&place.topic);
                let is_wanted = request.topic.as_ref().is_none_or(|name| origin == Some(name));
                return is_wanted.then_some(());
            }
            let index = self.state.group_topic_indexes.get(&(place.group, place.topic))?;
            self.state.group_topic(*index)?;
            let origin = self.state.topics.get(&place.topic)?;
            let is_wanted = request.topic.as_ref().is_none_or(|name| *name == origin.topic.name);
            let is_kept = origin.queues.get(place.queue as usize)?.contains(place.offset);
            // A dead letter of who reads dead letters leads nowhere once what it is of was put back itself.
            let is_there = is_kept && !origin.is_redriven(place.offset);
            (is_wanted && is_there).then_some(())
        };
        queue.origin(offset).and_then(leads_back).is_some()
    }

    /// Where a dead letter came from.
    fn origin_of(&self, number: u32, offset: u64) -> Option<Origin> {
        let place = self.state.topics.get(&number)?.queues.first()?.origin(offset)?;
        let topic = self.state.topics.get(&place.topic);
        let queue = topic.and_then(|topic| topic.queues.get(place.queue as usize));
        let message_group_hash = queue.map_or(0, |queue| queue.message_group_hash(place.offset));
        Some(Origin { place, message_group_hash })
    }

    pub(crate) fn apply_redrive(&mut self, number: u32, offset: u64, back_to: Option<Origin>) {
        let back_to = back_to.or_else(|| self.origin_of(number, offset));
        let Some(topic) = self.state.topics.get_mut(&number) else { return };
        topic.redriving.remove(&offset);
        let is_first = topic.redriven.insert(offset, offset.saturating_add(1)) > 0;
        #[cfg(feature = "simulation")]
        if broker_store::switches::has_bug(broker_store::switches::Bug::ForgottenRedrive) {
            topic.redriven = broker_delivery::RangeSet::default();
        }
        // Whoever reads the dead letters does not get it any more.
        for index in topic.group_topics.clone() {
            let Some(progress) = self.state.group_topic(index) else { continue };
            let group = progress.group;
            self.apply_done(Place { group, topic: number, queue: 0, offset });
        }
        if let Some(origin) = back_to.filter(|_| is_first) {
            self.revive(origin);
        }
    }

    fn revive(&mut self, origin: Origin) {
        let Origin { place, message_group_hash } = origin;
        let topic = self.state.topics.get(&place.topic);
        let queue = topic.and_then(|topic| topic.queues.get(place.queue as usize));
        let is_there = |topic: &TopicState<R>| !topic.is_redriven(place.offset);
        if !queue.is_some_and(|queue| queue.contains(place.offset)) || !topic.is_some_and(is_there)
        {
            return;
        }
        let index = self.state.group_topic_indexes.get(&(place.group, place.topic)).copied();
        let Some(index) = index else { return };
        let progress = self.state.group_topic_mut(index);
        if let Some(queue) = progress.and_then(|p| p.queues.get_mut(place.queue as usize)) {
            queue.revive(place.offset, message_group_hash);
            self.wake(index, place.queue);
        }
    }
}
