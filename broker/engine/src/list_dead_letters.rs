//! Looking at dead letters: those that are kept and were not put back, a bounded number at a time. Changes nothing.

use broker_model::TopicName;
use broker_store::Log;
use broker_store::record::Place;

use crate::command::{DeadLetter, DeadLetters, ListDeadLetters, Outcome};
use crate::effects::ReplyTo;
use crate::engine::Engine;
use crate::receive::source_at;
use crate::refusal::Refusal;

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn list_dead_letters(
        &self,
        request: &ListDeadLetters,
        log: &Log,
    ) -> Result<Outcome, Refusal> {
        self.group_number(&request.group)?;
        let nothing = DeadLetters { letters: Vec::new(), next: None };
        let name = TopicName::dead_letter_of(&request.group);
        // Without a dead letter there is no topic yet.
        let number = self.state.topic_numbers.get(&name).copied().unwrap_or(0);
        let topic = self.state.topics.get(&number);
        let Some((topic, queue)) = topic.and_then(|topic| Some((topic, topic.queues.first()?)))
        else {
            return Ok(Outcome::DeadLetters(nothing));
        };
        let from = request.from.max(queue.base());
        let until = from.saturating_add(u64::from(request.looked_at_max)).min(queue.end());
        let mut letters = Vec::new();
        for offset in (from..until).filter(|offset| !topic.is_redriven(*offset)) {
            let (Some(entry), Some(place)) = (queue.get(offset), queue.origin(offset)) else {
                continue;
            };
            let identity = || self.identity_of((number, 0, offset), &entry);
            letters.push(DeadLetter {
                offset,
                died_ms: entry.stored_ms,
                origin_topic: self.state.topic_names.get(&entry.origin_or(number)).cloned(),
                place,
                stored_ms: self.stored_ms(place),
                source: source_at(entry.position, entry.length_bytes, log, identity),
            });
        }
        let next = (until < queue.end()).then_some(until);
        Ok(Outcome::DeadLetters(DeadLetters { letters, next }))
    }

    fn stored_ms(&self, place: Place) -> Option<u64> {
        let topic = self.state.topics.get(&place.topic)?;
        Some(topic.queues.get(place.queue as usize)?.get(place.offset)?.stored_ms)
    }
}
