//! Redrive: put dead letters back to where they came from, each exactly once. The message is due again for its group,
//! with its deliveries counted from the start; nobody else sees it again.

use broker_model::TopicName;
use broker_store::Record;
use broker_store::record::{Origin, Place};

use crate::command::{Outcome, Redrive, Redriven};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::refusal::Refusal;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn redrive(&mut self, request: &Redrive, reply: R, effects: &mut Effects<R>) {
        let before = effects.records;
        match self.try_redrive(request, effects) {
            Ok(redriven) if effects.records > before => {
                effects.on_commit.push((reply, Ok(Outcome::Redriven(redriven))));
            }
            Ok(redriven) => effects.now.push((reply, Ok(Outcome::Redriven(redriven)))),
            Err(refusal) => effects.now.push((reply, Err(refusal))),
        }
    }

    fn try_redrive(
        &mut self,
        request: &Redrive,
        effects: &mut Effects<R>,
    ) -> Result<Redriven, Refusal> {
        self.group_number(&request.group)?;
        let name = TopicName::dead_letter_of(&request.group);
        // Without a dead letter there is no topic yet.
        let Some(&number) = self.state.topic_numbers.get(&name) else {
            return Ok(Redriven::default());
        };
        let offsets = self.matching_dead_letters(number, request);
        let total = offsets.len() as u64;
        let taken = if request.is_dry_run { 0 } else { request.messages_max as usize };
        let mut redriven = Redriven::default();
        for offset in offsets.into_iter().take(taken) {
            let Some(topic) = self.state.topics.get_mut(&number) else { break };
            topic.redriving.insert(offset);
            let back_to = self.origin_of(number, offset);
            effects.append(&Record::Redrive { topic: number, offset, back_to });
            redriven.messages += 1;
        }
        redriven.left = total - redriven.messages;
        Ok(redriven)
    }

    /// Dead letters that are still there and whose way back leads somewhere.
    fn matching_dead_letters(&self, number: u32, request: &Redrive) -> Vec<u64> {
        let Some(topic) = self.state.topics.get(&number) else { return Vec::new() };
        let Some(queue) = topic.queues.first() else { return Vec::new() };
        let leads_back = |place: Place| {
            let index = self.state.group_topic_indexes.get(&(place.group, place.topic))?;
            self.state.group_topic(*index)?;
            let origin = self.state.topics.get(&place.topic)?;
            let is_wanted = request.topic.as_ref().is_none_or(|name| *name == origin.topic.name);
            let is_kept = origin.queues.get(place.queue as usize)?.contains(place.offset);
            (is_wanted && is_kept).then_some(())
        };
        (queue.base()..queue.end())
            .filter(|offset| !topic.is_redriven(*offset) && !topic.redriving.contains(offset))
            .filter(|offset| queue.origin(*offset).and_then(leads_back).is_some())
            .collect()
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
        let is_first = topic.redriven.insert(offset, offset + 1) > 0;
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
        if !queue.is_some_and(|queue| queue.contains(place.offset)) {
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
