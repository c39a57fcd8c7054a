//! What waits for a group for certain: stored, visible, not done, and nobody has it. A receive with room that does not bring
//! it shows that it comes late, one that brings something of a lower priority instead shows that the order is wrong, and
//! one after another that passes its queue over shows that the queue starves. Whatever may be otherwise is left out.

use std::collections::BTreeSet;

use broker_engine::{Command, Delivery, Receive, Visible};
use broker_model::{Model, Order, StartFrom};

use super::requests::place_of;
use super::{Asked, Checker, Place};
use crate::plan::topic_name;

/// A message that waits for one reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    id: u64,
    /// None: nobody has ever seen where it stands.
    place: Option<Place>,
}

/// From whom something is hidden, and since when it is not any more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) due_ms: u64,
    /// The event of its answer.
    pub(super) stored: u64,
}

/// Whom a receive is for.
struct Reader<'a> {
    group: &'a str,
    topic: &'a str,
    /// None: it was never given anything.
    number: Option<u32>,
    /// Messages that were stored before this are perhaps not for it.
    begun: u64,
    attempts_max: u32,
    lost_receives: u64,
}

/// Waiting messages are those from before an event; what ended by this time of the broker's clock is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    pub(super) seq: u64,
    pub(super) now_ms: u64,
}

impl Checker {
    /// Judges what a receive was given, before it is noted.
    pub(super) fn check_choice(
        &mut self,
        asked: &Asked,
        receive: &Receive,
        deliveries: &[Delivery],
        now_ms: u64,
    ) -> Result<(), String> {
        if deliveries.is_empty() {
            self.forget_turns(receive);
        }
        // Whoever looks through little at one time brings something rather than all.
        let is_part = self.looks_are_few && !deliveries.is_empty();
        if self.is_repeat(receive) || is_part || self.are_places_few {
            // What it brought may be what it brought before, and whose turn it is now nobody knows.
            if let Some(Delivery { handle, .. }) = deliveries.first() {
                self.passed_over.remove(&(handle.group, handle.topic));
            }
            return Ok(());
        }
        let before = Before { seq: asked.seq, now_ms: asked.now_ms };
        let mut waiting = self.waiting(receive, before, now_ms);
        let given: BTreeSet<Place> =
            deliveries.iter().map(|delivery| place_of(&delivery.handle)).collect();
        waiting.retain(|waiting| waiting.place.is_none_or(|place| !given.contains(&place)));
        self.check_turns(receive, deliveries, &waiting)?;
        Self::check_priority(receive, deliveries, &waiting)?;
        let has_room = deliveries.len() < receive.messages_max as usize;
        // A place that was never seen before may be that of a message whose place nobody knew.
        let is_known = |place: &Place| self.places.contains_key(place);
        let has_unknown = !given.iter().all(is_known);
        let passed = waiting.iter().find(|waiting| waiting.place.is_some() || !has_unknown);
        match passed {
            Some(passed) if has_room && self.may_be_judged(asked, deliveries) => Err(format!(
                "message {} of {} was there and was not handed out to {}",
                passed.id, receive.topic, receive.group
            )),
            _ => Ok(()),
        }
    }

    /// While the volume is full, nobody who waits is given anything.
    fn may_be_judged(&self, asked: &Asked, deliveries: &[Delivery]) -> bool {
        let Command::Receive(receive) = &asked.command else { return false };
        self.has_room_always || !deliveries.is_empty() || receive.poll_until_ms <= asked.now_ms
    }

    /// Judges the polls that wait, right after a step of the broker at this time.
    ///
    /// # Errors
    /// The first that should have been answered.
    pub fn check_polls(&mut self, now_ms: u64) -> Result<(), String> {
        if self.has_room_always && !self.are_places_few {
            self.check_question_times(now_ms)?;
        }
        let is_awaited = |ticket: &u64| !self.given_up_polls.contains(ticket);
        let awaited = self.asked.iter().filter(|(ticket, _)| is_awaited(ticket));
        let polls: Vec<Receive> = awaited.filter_map(|(_, a)| as_receive(&a.command)).collect();
        for receive in polls {
            if receive.poll_until_ms <= now_ms {
                return Err(format!(
                    "a poll of {} was not answered when its time was over",
                    receive.group
                ));
            }
            self.forget_turns(&receive);
            if !self.has_room_always || self.are_places_few {
                continue;
            }
            let waiting = self.waiting(&receive, Before { seq: self.seq, now_ms }, now_ms);
            if let Some(passed) = waiting.first() {
                return Err(format!(
                    "a poll of {} waits, and message {} of {} was there and was not handed out",
                    receive.group, passed.id, receive.topic
                ));
            }
        }
        Ok(())
    }

    pub(super) fn is_repeat(&self, receive: &Receive) -> bool {
        let (group, topic) = (receive.group.to_string(), receive.topic.to_string());
        self.attempt_ids.contains(&(group, topic, receive.attempt_id.clone()))
    }

    /// A receive that finds nothing takes a turn as well: all queues are empty, or the group pauses. Behind it turns are
    /// counted anew.
    pub(super) fn forget_turns(&mut self, receive: &Receive) {
        let client = self.reader_name(receive.group.as_str(), &receive.client_id);
        let (readers, topics) = (&self.readers, &self.topics);
        let is_reader = |number: &u32| {
            let named = readers.get(number);
            named.is_some_and(|n| n.name == receive.group.as_str() && n.client == client)
        };
        let is_topic =
            |number: &u32| topics.get(number).is_some_and(|n| n.name == receive.topic.as_str());
        self.passed_over.retain(|(reader, topic), _| !is_reader(reader) || !is_topic(topic));
    }

    /// A message at the end of a queue is found when as many receives as there are queues, and one more, brought something.
    fn check_turns(
        &mut self,
        receive: &Receive,
        deliveries: &[Delivery],
        waiting: &[Waiting],
    ) -> Result<(), String> {
        let Some(first) = deliveries.first() else { return Ok(()) };
        let topic = receive.topic.as_str();
        let key = (first.handle.group, first.handle.topic);
        if topic == "priority" || topic == "lite" || receive.messages_max < 2 {
            // One alone may be again what was given back, each time.
            self.passed_over.remove(&key);
            return Ok(());
        }
        let queues = self.queues.get(topic).copied().unwrap_or(u32::MAX);
        let given: BTreeSet<u32> = deliveries.iter().map(|d| d.handle.queue).collect();
        let has_waiting: BTreeSet<u32> =
            waiting.iter().filter_map(|waiting| Some(waiting.place?.1)).collect();
        let counts = self.passed_over.entry(key).or_default();
        counts.retain(|queue, _| has_waiting.contains(queue) && !given.contains(queue));
        for queue in has_waiting.difference(&given) {
            let count = counts.entry(*queue).or_default();
            *count += 1;
            if *count > queues {
                return Err(format!(
                    "queue {queue} of {topic} starves: {count} receives of {} passed it over",
                    receive.group
                ));
            }
        }
        Ok(())
    }

    /// The highest priority comes first, whether it is new or comes once more.
    fn check_priority(
        receive: &Receive,
        deliveries: &[Delivery],
        waiting: &[Waiting],
    ) -> Result<(), String> {
        if receive.topic.as_str() != "priority" {
            return Ok(());
        }
        let Some(lowest) = deliveries.iter().map(|delivery| delivery.handle.queue).min() else {
            return Ok(());
        };
        let is_before = |waiting: &&Waiting| waiting.place.is_some_and(|place| place.1 > lowest);
        match waiting.iter().find(is_before) {
            Some(passed) => Err(format!(
                "{} got a message of priority {lowest}, and message {} of a higher priority waits",
                receive.group, passed.id
            )),
            None => Ok(()),
        }
    }

    /// Everything that a receive finds for certain. What was behind others when it was asked may have been taken by retention
    /// before its turn came: `now_ms` is when it is answered.
    fn waiting(&mut self, receive: &Receive, before: Before, now_ms: u64) -> Vec<Waiting> {
        let Some(topic) = self.steady_topic(receive.topic.as_str()) else { return Vec::new() };
        let Some(reader) = self.steady_reader(receive, before) else { return Vec::new() };
        let places: Vec<(Place, u64)> = self
            .places
            .range((topic, 0, 0)..=(topic, u32::MAX, u64::MAX))
            .filter(|(_, stored)| stored.first_seen < before.seq)
            .map(|(place, stored)| (*place, stored.id))
            .collect();
        if self.is_being_reset(reader.group, reader.topic, before.seq) {
            return Vec::new();
        }
        let order = self.order_of(reader.group, reader.topic, before.seq);
        let Some(is_in_order) = order.map(|order| order == Order::Fifo) else { return Vec::new() };
        let mut waiting = Vec::new();
        for (place, id) in places {
            let progress = self.progress_of(&reader, place);
            if !progress.waits(reader.lost_receives, reader.attempts_max, before) {
                continue;
            }
            let is_for_it = self.is_for(&reader, id) && !self.may_be_taken(place, now_ms);
            if is_for_it && (!is_in_order || self.is_next(&reader, place, id, before)) {
                waiting.push(Waiting { id, place: Some(place) });
            }
        }
        if !is_in_order {
            waiting.extend(self.never_seen(&reader, before));
        }
        waiting
    }

    /// The number of a topic that is there all the time and keeps everything.
    fn steady_topic(&self, name: &str) -> Option<u32> {
        let is_lasting = name != "volatile" && name != "lite" && !name.starts_with('%');
        let mut numbers = self.topics.iter().filter(|(_, named)| named.name == name);
        let (number, named) = numbers.next().filter(|_| is_lasting)?;
        (numbers.next().is_none() && !named.may_be_gone).then_some(*number)
    }

    fn steady_reader<'a>(&self, receive: &'a Receive, before: Before) -> Option<Reader<'a>> {
        let (group, topic) = (receive.group.as_str(), receive.topic.as_str());
        let planned = self.group(group)?;
        if planned.is_volatile || !self.consumes(group, before.seq) {
            return None;
        }
        let client = self.reader_name(group, &receive.client_id);
        let is_it = |named: &super::Named| named.name == group && named.client == client;
        let mut readers = self.readers.iter().filter(|(_, named)| is_it(named));
        let number = readers.next().filter(|(_, named)| !named.may_be_gone);
        let number = number.map(|(number, _)| *number);
        // Who was never given anything, and whose progress was set, has progress that nobody knows.
        let is_unknown = number.is_none() && self.disturbed_groups.contains(group);
        if readers.next().is_some() || is_unknown {
            return None;
        }
        let is_late = planned.settings.model == Model::Broadcasting
            || planned.settings.start_from(&topic_name(topic)) == StartFrom::Latest;
        let key = (group.to_owned(), client, topic.to_owned());
        let begun = self.begun.get(&key).copied();
        let begun = if is_late { begun? } else { 0 };
        let (attempts_max, lost_receives) =
            (self.attempts_least(group), self.lost_receives_of(group, topic));
        Some(Reader { group, topic, number, begun, attempts_max, lost_receives })
    }

    /// Whether a message is for a reader, whatever became of it.
    fn is_for(&self, reader: &Reader<'_>, id: u64) -> bool {
        let asked = self.copies.get(&id).and_then(|copies| copies.first_asked);
        self.is_wanted(reader.group, id) && asked.is_some_and(|(seq, _)| seq > reader.begun)
    }

    fn progress_of(&mut self, reader: &Reader<'_>, place: Place) -> super::Progress {
        match reader.number {
            Some(number) => self.progress_mut(number, place).clone(),
            None => super::Progress::default(),
        }
    }

    /// Whether nothing of its message group, or of the messages without one, is before it.
    fn is_next(&mut self, reader: &Reader<'_>, place: Place, id: u64, before: Before) -> bool {
        let (topic, queue, offset) = place;
        let hash = |checker: &Self, id| checker.message(id).map_or(0, |m| m.message_group_hash);
        let own = hash(self, id);
        let all: Vec<(Place, u64)> = self
            .places
            .range((topic, queue, 0)..=(topic, queue, u64::MAX))
            .map(|(place, stored)| (*place, stored.id))
            .collect();
        let earlier = all.iter().filter(|(other, _)| other.2 < offset).count();
        // Of one that nobody knows it is not known either whether it is done.
        if earlier as u64 != offset {
            return false;
        }
        for (other, id) in all {
            if other == place || hash(self, id) != own {
                continue;
            }
            let is_before = other.2 < offset && self.is_wanted(reader.group, id);
            let progress = self.progress_of(reader, other);
            let is_idle = progress.is_free(reader.lost_receives, before) && progress.attempt == 0;
            if !progress.is_over() && (is_before || !is_idle) {
                return false;
            }
        }
        true
    }

    /// Messages that were hidden, are not any more, and that nobody was given yet.
    fn never_seen(&self, reader: &Reader<'_>, before: Before) -> Vec<Waiting> {
        let is_its = |named: &super::Named| named.name == reader.topic;
        let has_unread = self.unread.keys().any(|place| {
            !self.places.contains_key(place) && self.topics.get(&place.0).is_some_and(is_its)
        });
        if has_unread || self.is_limited(reader.topic) || reader.lost_receives > 0 {
            return Vec::new();
        }
        let shown = self.shown.iter().filter(|(_, since)| **since < before.seq);
        let ids = shown.map(|(id, _)| *id).filter(|id| self.is_never_seen(reader, *id));
        ids.map(|id| Waiting { id, place: None }).collect()
    }

    fn is_never_seen(&self, reader: &Reader<'_>, id: u64) -> bool {
        let Some(copies) = self.copies.get(&id) else { return false };
        let Some((stored, _)) = copies.first_asked else { return false };
        let is_one = copies.asked == 1 && copies.stored == 1 && copies.places.is_empty();
        let may_be_gone = copies
            .hidden
            .iter()
            .any(|number| self.ends.get(number).is_some_and(|ends| ends.gone_asked));
        let was_set = self.resets.iter().any(|reset| {
            let is_before = reset.settled.is_some_and(|settled| settled < stored);
            reset.group == reader.group && !is_before
        });
        let is_its = self.message(id).is_ok_and(|message| message.topic == reader.topic);
        is_its && is_one && !may_be_gone && !was_set && self.is_for(reader, id)
    }

    /// What was asked then and is durable now vouches for the messages that were due when it was asked.
    pub(super) fn note_shown_by(&mut self, asked: &Asked) {
        let seq = self.seq;
        let is_shown =
            |pending: &Pending| pending.stored < asked.seq && pending.due_ms <= asked.wall_ms;
        let shown: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| is_shown(pending))
            .map(|(id, _)| *id)
            .collect();
        for id in shown {
            self.pending.remove(&id);
            self.shown.insert(id, seq);
        }
    }

    /// A timed message was stored.
    pub(super) fn note_pending(&mut self, id: u64) {
        if let Ok(Visible::At { due_ms }) = self.message(id).map(|message| message.visible) {
            self.pending.insert(id, Pending { due_ms, stored: self.seq });
        }
    }
}

fn as_receive(command: &Command) -> Option<Receive> {
    match command {
        Command::Receive(receive) => Some(receive.clone()),
        _ => None,
    }
}
