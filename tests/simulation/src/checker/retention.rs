//! What retention took. The broker says where a queue begins, as it says to anybody who asks; whether it was allowed to take
//! what is below is decided here, from what was asked and answered, the broker's clock and the limits of the topic.

use std::collections::{BTreeMap, BTreeSet};

use broker_store::record::message_bytes;

use super::{Checker, Place};
use crate::plan::Plan;

/// What a topic has to keep.
#[derive(Debug, Clone, Copy)]
struct Limits {
    time_ms: Option<u64>,
    bytes: Option<u64>,
    /// Of messages behind another one, how much may be before it in other queues: messages go by what one segment holds.
    slack_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Retention {
    limits: BTreeMap<String, Limits>,
    /// Where queues begin, by topic and queue.
    oldest: BTreeMap<(String, u32), u64>,
    /// Bytes of all messages whose sends were asked, by topic.
    asked_bytes: BTreeMap<String, u64>,
    /// Gone as far as deliveries tell, before the broker said so.
    presumed: BTreeSet<Place>,
}

impl Retention {
    pub(super) fn new(plan: &Plan) -> Self {
        let limits = plan.limited_topics().into_iter().map(|topic| {
            let slack_bytes = if topic.queues > 1 { plan.segment_bytes } else { 0 };
            let (time_ms, bytes) = (topic.retention_ms, topic.retention_bytes);
            (topic.name.to_string(), Limits { time_ms, bytes, slack_bytes })
        });
        Self { limits: limits.collect(), ..Self::default() }
    }
}

impl Checker {
    /// Messages that retention took so far, as the broker says.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.retention.oldest.values().sum()
    }

    /// The broker says which offset of a queue is the oldest that is kept.
    pub(super) fn oldest_told(
        &mut self,
        topic: &str,
        queue: u32,
        oldest: u64,
        now_ms: u64,
    ) -> Result<(), String> {
        let before = self.retention.oldest.insert((topic.to_owned(), queue), oldest).unwrap_or(0);
        if oldest < before {
            return Err(format!("queue {queue} of {topic} began at {before}, now at {oldest}"));
        }
        let numbers = self.topics.iter().filter(|(_, named)| named.name == topic);
        let numbers: Vec<u32> = numbers.map(|(number, _)| *number).collect();
        for number in numbers {
            let gone = self.places.range((number, queue, before)..(number, queue, oldest));
            if let Some((_, stored)) =
                gone.into_iter().find(|(p, _)| !self.may_be_taken(**p, now_ms))
            {
                return Err(format!("retention took message {} of {topic} too early", stored.id));
            }
        }
        Ok(())
    }

    /// Messages of a topic that retention took, and nobody knew where they stood.
    pub(super) fn taken_unseen(&self, topic: &str) -> u64 {
        let is_its =
            |place: &&Place| self.topics.get(&place.0).is_some_and(|named| named.name == topic);
        let known =
            self.places.keys().chain(self.unread.keys().filter(|p| !self.places.contains_key(p)));
        let known = known.filter(is_its).filter(|place| self.is_below_oldest(**place)).count();
        let oldest = self.retention.oldest.iter().filter(|((name, _), _)| name == topic);
        oldest.map(|(_, oldest)| oldest).sum::<u64>().saturating_sub(known as u64)
    }

    /// Whether a message is gone for certain.
    pub(super) fn is_taken(&self, place: Place) -> bool {
        self.is_below_oldest(place) || self.retention.presumed.contains(&place)
    }

    /// That a message is gone explains what is seen; from now on it must be. False when retention may not have taken it.
    pub(super) fn presume_taken(&mut self, place: Place, now_ms: u64) -> bool {
        if self.is_taken(place) {
            return true;
        }
        let may_be = self.may_be_taken(place, now_ms);
        if may_be {
            self.retention.presumed.insert(place);
        }
        may_be
    }

    /// What had to be gone is gone.
    pub(super) fn check_presumed(&self) -> Result<(), String> {
        match self.retention.presumed.iter().find(|place| !self.is_below_oldest(**place)) {
            Some(place) => Err(format!("{place:?} was passed over and is kept")),
            None => Ok(()),
        }
    }

    /// Whether the topic does not keep everything.
    pub(super) fn is_limited(&self, topic: &str) -> bool {
        self.retention.limits.contains_key(topic)
    }

    fn is_below_oldest(&self, (topic, queue, offset): Place) -> bool {
        let Some(named) = self.topics.get(&topic) else { return false };
        if !self.retention.limits.contains_key(&named.name) {
            return false;
        }
        let oldest = self.retention.oldest.get(&(named.name.clone(), queue));
        oldest.is_some_and(|oldest| offset < *oldest)
    }

    /// Whether the limits of its topic allowed, at some time until now, to take a message.
    pub(super) fn may_be_taken(&self, place: Place, now_ms: u64) -> bool {
        let topic = self.topic_of_number(place.0);
        let Some(limits) = self.retention.limits.get(&topic) else { return false };
        let is_old = limits.time_ms.is_some_and(|kept_ms| self.age_ms_max(place, now_ms) > kept_ms);
        let has_much_behind = limits
            .bytes
            .is_some_and(|kept| self.bytes_behind_max(&topic, place) + limits.slack_bytes >= kept);
        is_old || has_much_behind
    }

    /// How old it may have been by the broker's clock, at most.
    fn age_ms_max(&self, place: Place, now_ms: u64) -> u64 {
        let copies = self.places.get(&place).and_then(|stored| self.copies.get(&stored.id));
        let Some((seq, asked_ms)) = copies.and_then(|copies| copies.first_asked) else { return 0 };
        let since = self.clock_set_back.iter().filter(|back| back.seq > seq);
        let latest_ms = since.clone().map(|back| back.from_ms).fold(self.wall_ms(now_ms), u64::max);
        let stored_ms = since.map(|back| back.to_ms).fold(asked_ms, u64::min);
        latest_ms.saturating_sub(stored_ms)
    }

    /// A send of a message was asked.
    pub(super) fn note_bytes(&mut self, id: u64) {
        let Ok(topic) = self.message(id).map(|message| message.topic.clone()) else { return };
        let bytes = self.record_bytes(id);
        *self.retention.asked_bytes.entry(topic).or_default() += bytes;
    }

    /// How many bytes may have been stored behind it, at most: everything that is not certainly before it.
    fn bytes_behind_max(&self, topic: &str, (number, queue, offset): Place) -> u64 {
        let asked = self.retention.asked_bytes.get(topic).copied().unwrap_or(0);
        let before = self.places.range((number, queue, 0)..=(number, queue, offset));
        let before: u64 = before.map(|(_, stored)| self.record_bytes(stored.id)).sum();
        asked.saturating_sub(before)
    }

    fn record_bytes(&self, id: u64) -> u64 {
        let length = self.message(id).map_or(0, |message| message.length);
        let digits = id.checked_ilog10().unwrap_or(0) as usize + 1;
        // As `Checker::bytes` makes them.
        let named = message_bytes("head of ".len() + digits, "m.".len() + digits);
        named as u64 + length
    }
}
