//! A delivery: it is of a message that was sent, as it was sent, to who may have it, when and as often as they may.

use broker_engine::{Command, Delivery, Receive, Source, Visible};
use broker_model::{Model, Order, StartFrom};

use super::requests::place_of;
use super::times::Between;
use super::{Checker, Named, Place, Stored};
use crate::plan::topic_name;

impl Checker {
    /// Messages were handed out and nobody can say which bytes: they could not be read, or nobody waited any more.
    ///
    /// # Errors
    /// What is wrong.
    pub fn handed_out(
        &mut self,
        ticket: u64,
        deliveries: &[Delivery],
        now_ms: u64,
    ) -> Result<(), String> {
        self.seq += 1;
        let asked = self.asked.remove(&ticket).ok_or("an answer to nothing")?;
        let Command::Receive(receive) = &asked.command else {
            return Err("messages for who asked for none".to_owned());
        };
        self.check_choice(&asked, receive, deliveries, now_ms)?;
        for delivery in deliveries {
            self.delivered(asked.seq, receive, delivery, false, now_ms)?;
        }
        self.note_attempt_id(receive);
        Ok(())
    }

    pub(super) fn note_attempt_id(&mut self, receive: &Receive) {
        if !receive.attempt_id.is_empty() {
            let (group, topic) = (receive.group.to_string(), receive.topic.to_string());
            self.attempt_ids.insert((group, topic, receive.attempt_id.clone()));
        }
    }

    pub(super) fn delivered(
        &mut self,
        asked: u64,
        receive: &Receive,
        delivery: &Delivery,
        is_readable: bool,
        now_ms: u64,
    ) -> Result<(), String> {
        self.deliveries += 1;
        let handle = delivery.handle;
        let place = place_of(&handle);
        self.given.insert((handle.group, place, handle.nonce));
        let (group, topic) = (receive.group.to_string(), receive.topic.to_string());
        self.name_topic(handle.topic, &topic)?;
        self.name_reader(handle.group, &group, &receive.client_id)?;
        // Who repeats a receive is told what that brought, and gets nothing.
        let held = self.progress.get(&(handle.group, place)).map_or(0, |progress| progress.attempt);
        let is_told_again = self.is_repeat(receive) && held == handle.attempt;
        if self.is_paused(&group) && !is_told_again {
            return Err(format!("{place:?} of {topic} for {group}, which is paused"));
        }
        if self.is_taken(place) {
            return Err(format!("{place:?} for {group} after retention took it from {topic}"));
        }
        if is_readable {
            self.check_bytes(place, &topic, delivery)?;
        }
        let Some(id) = self.places.get(&place).map(|stored| stored.id) else {
            // Unreadable, and never seen before: counted all the same.
            self.unread.entry(place).or_insert(self.seq);
            return self.count(receive, delivery, now_ms);
        };
        let at = || format!("message {id} for {group} from {topic}");
        self.check_time(id, now_ms).map_err(|what| format!("{}: {what}", at()))?;
        if !self.is_wanted(&group, id) {
            return Err(format!("{} does not pass its filter", at()));
        }
        if self.topics.get(&handle.topic).is_some_and(|named| named.is_gone) {
            return Err(format!("{} after the topic was deleted", at()));
        }
        if self.readers.get(&handle.group).is_some_and(|named| named.is_gone) {
            return Err(format!("{} after the group was deleted", at()));
        }
        self.count(receive, delivery, now_ms).map_err(|what| format!("{}: {what}", at()))?;
        if self.order_of(&group, &topic, asked) == Some(Order::Fifo) {
            self.check_order(handle.group, place, now_ms)
                .map_err(|what| format!("{}: {what}", at()))?;
        }
        Ok(())
    }

    fn check_bytes(
        &mut self,
        place: Place,
        topic: &str,
        delivery: &Delivery,
    ) -> Result<(), String> {
        let Source::Memory { head, body } = &delivery.source else {
            return Err("a delivery without bytes".to_owned());
        };
        let id = Self::id_of(body).ok_or_else(|| format!("{topic}: a body that nobody sent"))?;
        let message = self.message(id)?.clone();
        if self.bytes(id) != (head.clone(), body.clone()) {
            return Err(format!("message {id} was delivered with other bytes"));
        }
        let is_dead_letter = topic.starts_with("%DLQ%");
        let from = delivery.origin_topic.as_ref().map(ToString::to_string);
        let sent_to = if is_dead_letter { from.unwrap_or_default() } else { topic.to_owned() };
        if sent_to != message.topic {
            return Err(format!("message {id} of {} was delivered from {topic}", message.topic));
        }
        let first_seen = self.unread.get(&place).copied().unwrap_or(self.seq);
        let stored_ms = Between::at(delivery.stored_ms);
        let stored =
            self.places.entry(place).or_insert(Stored { id, sent: None, first_seen, stored_ms });
        if stored.id != id {
            return Err(format!("message {id} stands where message {} stood", stored.id));
        }
        self.note_stored_ms(place, stored_ms)?;
        if is_dead_letter {
            let group = topic.trim_start_matches("%DLQ%").to_owned();
            self.dead_places.entry((group, id)).or_default().insert(place);
            return Ok(());
        }
        let (_, most) = self.copies_visible(id);
        let copies = self.copies.entry(id).or_default();
        copies.places.insert(place);
        let seen = copies.places.len() as u64;
        if seen > most {
            return Err(format!("message {id} is visible {seen} times, and may be {most} times"));
        }
        Ok(())
    }

    /// How many copies of a message must be visible in the end, and how many may be.
    pub(super) fn copies_visible(&self, id: u64) -> (u64, u64) {
        let copies = self.copies.get(&id).cloned().unwrap_or_default();
        let ends = copies.hidden.iter().filter_map(|number| self.ends.get(number));
        let count = |wanted: fn(&super::Ends) -> bool| {
            ends.clone().filter(|ends| wanted(ends)).count() as u64
        };
        match self.message(id).map(|message| message.visible) {
            Ok(Visible::OnCommit { .. }) => {
                (count(|e| e.shown && !e.gone), count(|e| e.shown_asked && !e.gone))
            }
            Ok(Visible::At { .. }) => {
                let taken_back = count(|e| e.gone_asked);
                (copies.stored.saturating_sub(taken_back), copies.asked - count(|e| e.gone))
            }
            _ => (copies.stored, copies.asked),
        }
    }

    fn check_time(&self, id: u64, now_ms: u64) -> Result<(), String> {
        let wall_ms = self.wall_ms(now_ms);
        match self.message(id)?.visible {
            Visible::At { due_ms } if due_ms > wall_ms && !self.was_due.contains(&id) => {
                Err(format!("{} ms early", due_ms - wall_ms))
            }
            _ => Ok(()),
        }
    }

    /// The name of a reader beside its group's: its client's when the group broadcasts.
    pub(super) fn reader_name(&self, group: &str, client: &str) -> String {
        let model = self.group(group).map(|group| group.settings.model);
        if model == Some(Model::Broadcasting) { client.to_owned() } else { String::new() }
    }

    fn name_reader(&mut self, number: u32, group: &str, client: &str) -> Result<(), String> {
        let client = self.reader_name(group, client);
        if let Some(known) = self.readers.get(&number) {
            if known.name != group || known.client != client {
                return Err(format!(
                    "{group} {client} reads with the progress of {} {}",
                    known.name, known.client
                ));
            }
            return Ok(());
        }
        let is_same = |named: &&Named| named.name == group && named.client == client;
        if self.readers.values().filter(is_same).any(|named| !named.may_be_gone) {
            return Err(format!("{group} {client} has lost its progress"));
        }
        let is_unsure = self.unsure_names.contains(&format!("{group} {client}"))
            || self.unsure_names.contains(&format!("{group} "));
        let named =
            Named { name: group.to_owned(), client, may_be_gone: is_unsure, is_gone: false };
        self.readers.insert(number, named);
        Ok(())
    }

    /// Attempts follow each other, nobody else has it, and it is not done.
    fn count(&mut self, receive: &Receive, delivery: &Delivery, now_ms: u64) -> Result<(), String> {
        let handle = delivery.handle;
        let (reader, place) = (handle.group, place_of(&handle));
        let (group, topic) = (receive.group.to_string(), receive.topic.to_string());
        let (attempts_least, attempts_most) =
            (self.attempts_least(&group), self.attempts_most(&group));
        let (attempt, seq) = (handle.attempt, self.seq);
        let extra = self.extra_attempts(reader, place);
        let lost = self.lost_receives_of(&group, &topic);
        let is_repeat = self.attempt_ids.contains(&(group, topic, receive.attempt_id.clone()));
        let progress = self.progress_mut(reader, place);
        let is_first = u64::from(attempt) <= 1 + extra;
        let comes_back = progress.may_revive && is_first && !progress.is_held(now_ms);
        if comes_back && (progress.is_done || progress.is_dead || progress.attempt >= attempt) {
            progress.renew(seq);
            progress.may_revive = false;
            progress.revivals += 1;
        } else if progress.is_dead {
            return Err("delivered after it became a dead letter".to_owned());
        } else if progress.is_done && !progress.is_unsure {
            return Err("delivered after its acknowledgement, with no reset beside it".to_owned());
        }
        // With one, nobody can know which of both came first.
        let is_after_reset = std::mem::take(&mut progress.is_beside_reset);
        let is_same_again = is_repeat && attempt == progress.attempt;
        if progress.is_held(now_ms) && !is_same_again {
            return Err("handed out while somebody has it".to_owned());
        }
        let (low, high) = progress.next_attempts(extra);
        if !(low..=high).contains(&attempt) && !is_same_again {
            return Err(format!("attempt {attempt}, expected {low} to {high}"));
        }
        if attempt > attempts_most {
            return Err(format!("attempt {attempt} of {attempts_most}"));
        }
        progress.is_done = false;
        progress.lost_receives = lost;
        progress.deliver(attempt, handle.nonce, delivery.invisible_until_ms, seq);
        if attempt >= attempts_least && !is_same_again {
            progress.was_last();
        }
        self.beside_resets += u64::from(is_after_reset);
        Ok(())
    }

    /// Of its message group everything before it is over, and nothing else is handed out.
    fn check_order(&mut self, reader: u32, place: Place, now_ms: u64) -> Result<(), String> {
        let (topic, queue, offset) = place;
        let group = self.group_of_reader(reader);
        let attempts_max = self.attempts_least(&group);
        let hash_of = |checker: &Self, id| checker.message(id).map_or(0, |m| m.message_group_hash);
        let is_late = self.group(&group).is_some_and(|planned| {
            planned.settings.start_from(&topic_name(&self.topic_of_number(topic)))
                == StartFrom::Latest
        });
        let own = self.places.get(&place).map_or(0, |stored| hash_of(self, stored.id));
        let alike: Vec<(Place, u64)> = self
            .places
            .range((topic, queue, 0)..=(topic, queue, u64::MAX))
            .filter(|(other, stored)| **other != place && hash_of(self, stored.id) == own)
            .map(|(other, stored)| (*other, stored.id))
            .collect();
        for (other, id) in alike {
            let extra = self.extra_attempts(reader, other);
            let is_wanted = self.is_wanted(&group, id);
            let progress = self.progress_mut(reader, other);
            let is_held = progress.is_held(now_ms);
            // Who begins with what is new was never given what is before that.
            let may_be_before = is_late && progress.attempt == 0 && !progress.is_owed;
            let is_open = progress.is_open()
                && !may_be_before
                && !progress.may_be_exhausted(extra, attempts_max);
            let is_overtaken = other.2 < offset && is_wanted && is_open;
            if (is_held || is_overtaken) && self.presume_taken(other, now_ms) {
                continue;
            }
            if is_held {
                return Err(format!("message {id} of its message group is in flight"));
            }
            if is_overtaken {
                return Err(format!("overtakes message {id} of its message group"));
            }
        }
        Ok(())
    }
}
