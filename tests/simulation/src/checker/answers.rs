//! Taking note of what was answered: from here on it has happened, and stays so.

use broker_engine::{
    Acknowledge, ChangeInvisible, Command, Delivery, Hidden, OffsetAt, Outcome, Receive, Refusal,
    Reply, Send, SentMessage, Target,
};
use broker_model::{ReceiptHandle, ShardId};

use super::requests::place_of;
use super::times::Between;
use super::{Asked, Checker, Named, Stored};

impl Checker {
    /// An answer left the shard.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn answered(&mut self, ticket: u64, reply: &Reply, now_ms: u64) -> Result<(), String> {
        self.seq += 1;
        let seq = self.seq;
        let asked = self.asked.remove(&ticket).ok_or("an answer to nothing")?;
        if matches!(reply, Err(Refusal::LogFailed(_))) {
            // May or may not have happened: as if there were no answer.
            self.lose(asked);
            return Ok(());
        }
        self.end_settled(Some(ticket));
        self.note_durable(&asked, reply);
        match (&asked.command, reply) {
            (Command::SetOffset(_) | Command::ResetOffsets(_), reply) => {
                self.reset_answered(ticket, seq, reply.is_ok());
                if let (Command::ResetOffsets(request), Ok(_)) = (&asked.command, reply) {
                    let known = self.reset_ids.entry(request.group.to_string()).or_default();
                    known.insert(request.id.clone());
                }
                Ok(())
            }
            (Command::PutGroup(group), reply) => {
                self.settings_answered(asked.seq, group.name.as_str(), reply);
                Ok(())
            }
            (Command::DeleteTopic(name), reply) => {
                self.topic_deleted(&name.to_string(), reply.is_ok());
                Ok(())
            }
            (Command::DeleteGroup(name), reply) => {
                self.readers_deleted(&name.to_string(), None, reply.is_ok());
                Ok(())
            }
            (Command::Leave { group, client_id }, reply) => {
                self.readers_deleted(&group.to_string(), Some(client_id), reply.is_ok());
                Ok(())
            }
            (Command::Join(join), Ok(_)) => {
                let topics: Vec<String> = join.topics.iter().map(ToString::to_string).collect();
                self.note_begun(&asked, &join.group.to_string(), &join.client_id, &topics);
                Ok(())
            }
            _ => self.answered_about_messages(&asked, reply, now_ms),
        }
    }

    fn answered_about_messages(
        &mut self,
        asked: &Asked,
        reply: &Reply,
        now_ms: u64,
    ) -> Result<(), String> {
        match (&asked.command, reply) {
            (Command::Send(send), Ok(Outcome::Sent(sent))) => self.sent(asked, send, sent, now_ms),
            (Command::Receive(receive), Ok(Outcome::Received(deliveries))) => {
                self.received(asked, receive, deliveries, now_ms)
            }
            (Command::Acknowledge(request), reply) => self.acknowledged(asked, request, reply),
            (Command::ChangeInvisible(change), Ok(Outcome::InvisibleChanged(handle))) => {
                self.invisible_changed(asked, change, handle, now_ms)
            }
            (Command::ForwardToDeadLetter(forward), Ok(_)) if self.is_given(&forward.handle) => {
                self.given_up(&forward.handle);
                Ok(())
            }
            (Command::EndTransaction(end), reply) => self.ended(end, reply, now_ms),
            (Command::NoteTransactionCheck(id), Ok(_)) => {
                self.question_counted(id.number);
                Ok(())
            }
            (Command::Recall(recall), Ok(_)) => {
                self.ends.entry(u64::MAX - recall.handle.number).or_default().gone = true;
                Ok(())
            }
            (Command::Redrive(redrive), Ok(Outcome::Redriven(redriven))) => {
                let messages = if redrive.is_dry_run { 0 } else { redriven.messages };
                *self.redriven.entry(redrive.group.to_string()).or_default() += messages;
                Ok(())
            }
            (Command::ReadOffset { group, topic, queue }, Ok(Outcome::Offset(Some(cursor)))) => {
                self.cursor_read(asked, group.as_str(), topic.as_str(), *queue, *cursor)
            }
            (Command::QueryOffset { topic, queue, at }, Ok(Outcome::Offset(Some(told)))) => {
                let topic = topic.as_str();
                if *at == OffsetAt::Earliest {
                    return self.oldest_told(topic, *queue, *told, now_ms);
                }
                self.offset_told(asked, (topic, *queue), *at, *told)
            }
            (_, Ok(Outcome::Sent(_) | Outcome::Received(_))) => {
                Err(format!("{:?} was answered with {reply:?}", asked.command))
            }
            _ => Ok(()),
        }
    }

    fn received(
        &mut self,
        asked: &Asked,
        receive: &Receive,
        deliveries: &[Delivery],
        now_ms: u64,
    ) -> Result<(), String> {
        self.check_choice(asked, receive, deliveries, now_ms)?;
        let client = receive.client_id.to_string();
        self.note_begun(asked, &receive.group.to_string(), &client, &[receive.topic.to_string()]);
        for delivery in deliveries {
            self.delivered(asked.seq, receive, delivery, true, now_ms)?;
        }
        self.note_attempt_id(receive);
        Ok(())
    }

    fn invisible_changed(
        &mut self,
        asked: &Asked,
        change: &ChangeInvisible,
        handle: &ReceiptHandle,
        now_ms: u64,
    ) -> Result<(), String> {
        if !self.is_given(&change.handle) {
            return Err(format!("{:?} was changed, and nobody was given it", change.handle));
        }
        self.given.insert((handle.group, place_of(handle), handle.nonce));
        let until_ms = asked.now_ms + change.invisible_ms;
        let mut back = self.steady_set_back.iter();
        let is_over = back.any(|(seq, last_ms)| *seq > asked.seq && until_ms <= *last_ms);
        // A reset at the same time may have come in between.
        let is_disturbed = self.disturbed_groups.contains(change.group.as_str());
        // Asked before a reset was answered, it may mean what was before that.
        let (group, topic) = (change.group.as_str(), change.topic.as_str());
        let is_overtaken = self.is_overtaken(group, topic, handle.queue, asked.seq);
        let progress = self.progress_mut(handle.group, place_of(handle));
        if is_overtaken {
            progress.unsettle();
            return Ok(());
        }
        if !progress.may_be_called(change.handle.nonce) {
            return if until_ms > now_ms && !is_over && !is_disturbed {
                Err("an invisible duration was changed of what somebody else has".to_owned())
            } else {
                Ok(())
            };
        }
        // When the last delivery was lost in a crash, this may be one before it.
        let is_older = handle.attempt < progress.attempt;
        progress.is_unsure |= is_older;
        progress.renamed(handle.nonce, until_ms, asked.seq, is_over);
        Ok(())
    }

    fn given_up(&mut self, handle: &ReceiptHandle) {
        // One that was not valid any more is answered in the same way; nobody may have seen the delivery after it.
        let is_last = self.extra_attempts(handle.group, place_of(handle)) == 0;
        let progress = self.progress_mut(handle.group, place_of(handle));
        let is_certain = is_last && progress.nonce == handle.nonce && !progress.is_renaming;
        progress.is_dead |= is_certain && progress.is_open_to_death();
    }

    /// Nobody will ever know.
    fn lose(&mut self, asked: Asked) {
        if let Command::Receive(receive) = asked.command {
            let key = (receive.group.to_string(), receive.topic.to_string());
            *self.lost_receives.entry(key).or_default() += 1;
        }
    }

    /// What is answered only once it is stored vouches for everything that was decided before it was asked.
    fn note_durable(&mut self, asked: &Asked, reply: &Reply) {
        let vouches = matches!(reply, Ok(Outcome::Sent(_) | Outcome::InvisibleChanged(_)))
            || (reply.is_ok()
                && matches!(asked.command, Command::PutTopic(_) | Command::PutGroup(_)));
        if vouches {
            self.durable = self.durable.max(asked.seq);
            self.note_shown_by(asked);
        }
    }

    fn sent(
        &mut self,
        asked: &Asked,
        send: &Send,
        sent: &[SentMessage],
        now_ms: u64,
    ) -> Result<(), String> {
        let stored_ms = self.between(asked, now_ms);
        if sent.len() != send.messages.len() {
            return Err("a send was answered with another number of places".to_owned());
        }
        for (message, place) in send.messages.iter().zip(sent) {
            let id = Self::id_of(&message.body).ok_or("a send without a number")?;
            self.name_topic(place.topic, &send.topic.to_string())?;
            if matches!(send.target, Target::Queue(queue) if queue != place.queue) {
                return Err(format!("message {id} went to queue {}", place.queue));
            }
            let copies = self.copies.entry(id).or_default();
            copies.stored += 1;
            match place.hidden {
                Some(Hidden::Half { number, .. }) => {
                    copies.hidden.insert(number);
                    let since = Between { earliest_ms: asked.now_ms, latest_ms: now_ms };
                    self.half_stored(id, number, since);
                }
                Some(Hidden::Timed { number, .. }) => {
                    copies.hidden.insert(u64::MAX - number);
                    self.note_pending(id);
                }
                None => self.stored_at(asked, id, place, stored_ms)?,
            }
        }
        Ok(())
    }

    fn stored_at(
        &mut self,
        asked: &Asked,
        id: u64,
        at: &SentMessage,
        stored_ms: Between,
    ) -> Result<(), String> {
        let (place, seq) = ((at.topic, at.queue, at.offset), self.seq);
        let offsets = self.sent_offsets.entry((at.topic, at.queue)).or_default();
        let is_behind =
            |(answered, offset): &(u64, u64)| *answered < asked.seq && *offset >= at.offset;
        if offsets.iter().any(is_behind) {
            return Err(format!("message {id} stands before one that was answered earlier"));
        }
        offsets.push((seq, at.offset));
        self.copies.entry(id).or_default().places.insert(place);
        let new = Stored { id, sent: None, first_seen: seq, stored_ms };
        let stored = self.places.entry(place).or_insert(new);
        if stored.id != id {
            return Err(format!("messages {id} and {} stand at the same place", stored.id));
        }
        stored.sent = Some((asked.seq, seq));
        self.note_stored_ms(place, stored_ms)
    }

    /// A topic bears one number until it is deleted, and no number stands for two.
    pub(super) fn name_topic(&mut self, number: u32, name: &str) -> Result<(), String> {
        if let Some(known) = self.topics.get(&number) {
            if known.name != name {
                return Err(format!("topics {name} and {} have the same number", known.name));
            }
            return Ok(());
        }
        if self.topics.values().any(|t| t.name == name && !t.may_be_gone) {
            return Err(format!("topic {name} has two numbers"));
        }
        let may_be_gone = self.unsure_names.contains(name);
        let named =
            Named { name: name.to_owned(), client: String::new(), may_be_gone, is_gone: false };
        self.topics.insert(number, named);
        Ok(())
    }

    fn topic_deleted(&mut self, name: &str, is_done: bool) {
        // Sends that were asked before the deletion was answered may have met the old topic.
        let is_under_way = self.asked.values().any(
            |other| matches!(&other.command, Command::Send(send) if send.topic.as_str() == name),
        );
        if !is_under_way {
            self.unsure_names.remove(name);
        }
        if is_done && !self.overlapping.remove(name) {
            self.topics.values_mut().filter(|t| t.name == name).for_each(|topic| {
                topic.may_be_gone = true;
                topic.is_gone = true;
            });
        }
    }

    fn readers_deleted(&mut self, group: &str, client: Option<&str>, is_done: bool) {
        self.unsure_names.remove(&format!("{group} {}", client.unwrap_or_default()));
        let seq = self.seq;
        self.left.insert((group.to_owned(), client.unwrap_or_default().to_owned()), seq);
        let is_them = |named: &&mut Named| {
            named.name == group && client.is_none_or(|client| client == named.client)
        };
        if is_done && !self.overlapping.remove(group) {
            self.readers.values_mut().filter(is_them).for_each(|reader| reader.is_gone = true);
        }
    }

    fn acknowledged(
        &mut self,
        asked: &Asked,
        request: &Acknowledge,
        reply: &Reply,
    ) -> Result<(), String> {
        for (at, handle) in request.handles.iter().enumerate() {
            let result = match reply {
                Ok(Outcome::Acknowledged(results)) => results.get(at).is_some_and(Result::is_ok),
                _ => false,
            };
            let place = place_of(handle);
            let (is_given, may_be_taken) =
                (self.is_given(handle), self.may_be_taken(place, asked.now_ms));
            let attempts_max = self.attempts_least(&self.group_of_reader(handle.group));
            if !is_given {
                // What is done is done, whatever the handle. Progress is not begun by one: of a place that nobody knows, resets
                // say nothing yet.
                let is_open = self.progress.get(&(handle.group, place)).is_some_and(|progress| {
                    (1..attempts_max).contains(&progress.attempt)
                        && progress.is_open()
                        && progress.unknown == 0
                });
                if result && is_open && !may_be_taken {
                    return Err(format!("{handle:?} was acknowledged, and nobody was given it"));
                }
                continue;
            }
            let progress = self.progress_mut(handle.group, place);
            progress.unknown = progress.unknown.saturating_sub(1);
            if result {
                progress.acknowledged(asked.seq);
            }
        }
        Ok(())
    }

    /// Whether somebody was given the delivery that a handle names.
    pub(super) fn is_given(&self, handle: &ReceiptHandle) -> bool {
        let name = (handle.group, place_of(handle), handle.nonce);
        handle.shard == ShardId(0) && self.given.contains(&name)
    }

    fn note_begun(&mut self, asked: &Asked, group: &str, client: &str, topics: &[String]) {
        let left = |client: &str| self.left.get(&(group.to_owned(), client.to_owned())).copied();
        if left(client).max(left("")) > Some(asked.seq) {
            return;
        }
        for topic in topics {
            let key = (group.to_owned(), self.reader_name(group, client), topic.clone());
            self.begun.entry(key).or_insert(asked.seq);
        }
    }

    fn cursor_read(
        &mut self,
        asked: &Asked,
        group: &str,
        topic: &str,
        queue: u32,
        cursor: u64,
    ) -> Result<(), String> {
        let is_plain = self.group(group).is_some_and(|g| g.tag.is_none() && !g.is_volatile);
        let is_overtaken = self.is_overtaken(group, topic, queue, asked.seq);
        if !is_plain || topic == "volatile" || is_overtaken {
            return Ok(());
        }
        let key = (group.to_owned(), topic.to_owned(), queue);
        let before = self.cursors.insert(key, cursor).unwrap_or(0);
        if cursor < before {
            return Err(format!("progress of {group} on {topic} went back: {before} to {cursor}"));
        }
        Ok(())
    }
}
