//! Applying committed records: the only place where state changes for good. Runs the same on a leader, a follower and in
//! recovery; whatever the records say, it never panics.

use std::sync::Arc;

use broker_delivery::{Batch, GroupQueue, LeaseBatch};
use broker_model::Now;
use broker_store::record::{DeadLetterReference, NameKind, Place, Reference};
use broker_store::{IndexEntry, Lease, MessageRecord, Record, RecordError};
use bytes::Bytes;

use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::hidden::HiddenMessage;
use crate::limits::limits;
use crate::refusal::Refusal;
use crate::serve::ANY_QUEUE;
use crate::state::{Expiry, Member};

mod catalog;
mod hidden;

impl<R: ReplyTo> Engine<R> {
    /// Applies the records of one committed frame, whose payload is whole: made here, or of the checksum of the frame.
    /// `time` is that of the frame: the wall clock's part is the time stored in it, which never goes back; when it is read
    /// back from the log, the steady part is the same.
    ///
    /// # Errors
    /// [`RecordError`] when the payload cannot be read; records before the bad one are applied.
    pub fn apply(
        &mut self,
        time: Now,
        payload_position: u64,
        mut payload: Bytes,
        effects: &mut Effects<R>,
    ) -> Result<(), RecordError> {
        let total = payload.len();
        while !payload.is_empty() {
            let start = total.saturating_sub(payload.len());
            let record = Record::decode_of_whole_frame(&mut payload)?;
            let length = total.saturating_sub(payload.len()).saturating_sub(start);
            let source = RecordPlace {
                position: payload_position.saturating_add(start as u64),
                length_bytes: u32::try_from(length).unwrap_or(u32::MAX),
                time,
            };
            self.apply_record(record, source, effects);
        }
        Ok(())
    }

    /// What was applied is news to nobody: for work without clients, which would note it without end.
    pub fn forget_news(&mut self) {
        self.dirty.clear();
        self.dirty_topics.clear();
    }

    pub(crate) fn apply_record(
        &mut self,
        record: Record,
        at: RecordPlace,
        effects: &mut Effects<R>,
    ) {
        match record {
            Record::Message(message) => self.apply_message(&message, at),
            Record::Lease(lease) => self.apply_lease(&lease),
            Record::Acknowledge(place) => self.apply_done(place),
            Record::ChangeInvisible { place, nonce, new_nonce, attempt, deadline_ms } => {
                let lease = LeaseBatch { mask: 1, attempt, nonce: new_nonce, deadline_ms };
                self.apply_change(place, nonce, lease);
                self.end_committed(place, nonce);
            }
            Record::Release { place, nonce } => {
                self.apply_release(place, nonce);
                self.end_committed(place, nonce);
            }
            Record::Prolong { first, nonce, deadline_ms } => {
                self.apply_prolong(first, nonce, deadline_ms);
            }
            Record::DeadLetter { place, stands } => {
                self.apply_dead_letter(place, stands, at.time.wall_ms);
            }
            Record::PutTopic { number, topic } => {
                if topic.name.is_dead_letter() {
                    effects.new_topics.push((*topic).clone());
                }
                self.note_declared(NameKind::Topic, topic.name.as_str(), at.time.wall_ms);
                self.apply_put_topic(number, topic.bounded());
            }
            Record::DeleteTopic { number } => self.apply_delete_topic(number, effects),
            Record::PutGroup { number, group } => {
                self.note_declared(NameKind::Group, group.name.as_str(), at.time.wall_ms);
                self.apply_put_group(number, group.bounded());
            }
            Record::DeleteName { kind, name } => {
                self.state.known_names.delete(kind, &name, at.time.wall_ms);
            }
            Record::DeleteGroup { number } => self.apply_delete_group(number, effects),
            Record::Timed { .. }
            | Record::Due { .. }
            | Record::Recall { .. }
            | Record::Half { .. }
            | Record::EndTransaction { .. }
            | Record::TransactionCheck { .. } => self.apply_hidden(record, at),
            Record::Cursor(place) => self.apply_cursor(place),
            Record::Reset { group, id } => self.state.resets.note(group, id),
            Record::Redrive { topic, offset, back_to } => {
                self.apply_redrive(topic, offset, back_to)
            }
            Record::Trim { topic, queue, offset } => self.apply_trim(topic, queue, offset),
            Record::Skip { first, end } => self.apply_skip(first, end),
            Record::PutMember { number, group, client_id } => {
                self.apply_put_member(number, group, &client_id);
            }
            Record::DeleteMember { number } => self.apply_delete_member(number, effects),
            Record::PutLiteTopic { topic, queue, name } => {
                self.apply_put_lite_topic(topic, queue, &name);
            }
            Record::DeleteLiteTopic { topic, queue } => self.apply_delete_lite_topic(topic, queue),
            Record::Client { number, id } => self.apply_client(number, &id),
            Record::HandleKey(key) => self.state.handle_key = Some(key),
            Record::GroupUse { group, hour } => self.apply_group_use(group, hour),
            Record::ServedHours { hours } => self.state.group_uses.serve(hours),
            Record::OpenLayout { topic, queues } => self.apply_open_layout(topic, queues),
            Record::PassLayout { group, topic, queues } => {
                self.apply_pass_layout(group, topic, queues);
            }
        }
    }

    fn note_declared(&mut self, kind: NameKind, name: &str, time_ms: u64) {
        self.state.known_names.declare(kind, name, time_ms);
    }

    fn apply_message(&mut self, message: &MessageRecord, at: RecordPlace) {
        let message_group_hash = message.message_group_hash;
        let is_kept = self.push(hidden(message, at), message_group_hash, at.time);
        self.state.index_entries = self.state.index_entries.saturating_add(u64::from(is_kept));
    }

    /// A message that was counted before takes its place in its queue.
    fn show(&mut self, message: HiddenMessage, time: Now) {
        if !self.push(message, 0, time) {
            self.state.index_entries = self.state.index_entries.saturating_sub(1);
        }
    }

    /// Puts a message at the end of its queue and wakes who waits; false when the queue is gone.
    fn push(&mut self, message: HiddenMessage, message_group_hash: u64, time: Now) -> bool {
        let HiddenMessage { position, tag_hash, length_bytes, topic: number, queue } = message;
        let Some(topic) = self.state.topics.get_mut(&number) else { return false };
        let Some(entries) = topic.queues.get_mut(queue as usize) else { return false };
        let stored_ms = time.wall_ms;
        let entry = IndexEntry { position, tag_hash, stored_ms, length_bytes, origin: 0 };
        entries.push(entry, message_group_hash);
        topic.lite.note_use(queue, time.steady_ms);
        for index in &topic.group_topics {
            let progress = self.state.group_topics.get(*index).and_then(Option::as_ref);
            if progress.is_some_and(|progress| !progress.waiters.is_empty()) {
                self.dirty.push((*index, queue));
            }
        }
        if !topic.pulls.is_empty() {
            self.dirty_topics.push(number);
        }
        true
    }

    fn apply_cursor(&mut self, place: Place) {
        let is_known = self.state.group_of(place.group).is_some();
        if !is_known || !self.state.topics.contains_key(&place.topic) {
            return;
        }
        let index = self.state.group_topic_index(place.group, place.topic);
        self.state.reset_queue(index, place.queue, place.offset);
        if let Some(progress) = self.state.group_topic_mut(index) {
            progress.cursors_pending = progress.cursors_pending.saturating_sub(1);
            progress.attempts.clear();
            progress.cursors_set = progress.cursors_set.saturating_add(1);
            // It may be behind what was sent before the topic grew, here or on another shard.
            progress.passed_layout = 0;
            if progress.cursors_pending == 0 {
                let passed = std::mem::take(&mut progress.passed);
                self.state.expiries.extend(passed);
            }
        }
        self.wake(index, ANY_QUEUE);
    }

    pub(crate) fn apply_put_member(&mut self, number: u32, group: u32, client_id: &str) {
        self.state.next_group_number = self.state.next_group_number.max(number.saturating_add(1));
        if !self.state.groups.contains_key(&group) {
            return;
        }
        let client_id: Arc<str> = client_id.into();
        self.state.member_numbers.insert((group, client_id.clone()), number);
        self.state.members.insert(number, Member { group, client_id });
    }

    fn apply_delete_member(&mut self, number: u32, effects: &mut Effects<R>) {
        let Some(member) = self.state.members.remove(&number) else { return };
        let group = self.state.groups.get(&member.group).map(|group| group.name.clone());
        self.state.member_numbers.remove(&(member.group, member.client_id));
        if let Some(group) = group {
            self.forget_group_progress(number, &Refusal::GroupNotFound(group), effects);
        }
    }

    fn apply_lease(&mut self, lease: &Lease) {
        let Place { group, topic, queue, offset } = lease.first;
        let is_known = self.state.group_of(group).is_some();
        if !is_known || !self.state.topics.contains_key(&topic) {
            return;
        }
        let index = self.state.group_topic_index(group, topic);
        let Some(progress) = self.state.group_topic_mut(index) else { return };
        progress.is_polled = true;
        let Some(state) = progress.queues.get_mut(queue as usize) else { return };
        let batch =
            Batch { first: offset, span: lease.span, mask: lease.mask, attempt: lease.attempt };
        let is_news = state.lease(batch, lease.nonce, lease.deadline_ms);
        if is_news && lease.mask != 0 {
            self.state.expiries.insert(Expiry {
                deadline_ms: lease.deadline_ms,
                group_topic: index,
                queue,
                first: offset,
                nonce: lease.nonce,
            });
        }
    }

    pub(crate) fn apply_done(&mut self, place: Place) {
        self.finish(place, GroupQueue::acknowledge);
    }

    fn finish(&mut self, place: Place, how: fn(&mut GroupQueue, u64) -> Option<(u64, LeaseBatch)>) {
        let Some(&index) = self.state.group_topic_indexes.get(&(place.group, place.topic)) else {
            return;
        };
        let Some(progress) = self.state.group_topic_mut(index) else { return };
        let was_behind = progress.ends_behind.remove(&(place.queue, place.offset));
        let is_open_again = was_behind && progress.ends_behind.is_empty();
        let Some(queue) = progress.queues.get_mut(place.queue as usize) else { return };
        let was_full = queue.inflight() >= limits().inflight_per_group_queue as u64;
        let left = how(queue, place.offset);
        // The next message of its message group may go out now, or the next one of all.
        if was_full || queue.is_in_order() {
            self.wake(index, place.queue);
        }
        if is_open_again {
            self.wake(index, ANY_QUEUE);
        }
        if let Some((first, batch)) = left {
            self.drop_expiry(index, place.queue, first, &batch);
        }
    }

    pub(crate) fn apply_skip(&mut self, first: Place, end: u64) {
        let Place { group, topic, queue: number, offset } = first;
        let is_known = self.state.group_of(group).is_some();
        if !is_known || !self.state.topics.contains_key(&topic) {
            return;
        }
        let index = self.state.group_topic_index(group, topic);
        let progress = self.state.group_topic_mut(index);
        let Some(queue) = progress.and_then(|p| p.queues.get_mut(number as usize)) else { return };
        queue.skip(offset, end);
        if queue.is_in_order() {
            self.wake(index, number);
        }
    }

    pub(crate) fn apply_change(&mut self, place: Place, nonce: u32, lease: LeaseBatch) {
        let Some(&index) = self.state.group_topic_indexes.get(&(place.group, place.topic)) else {
            return;
        };
        let progress = self.state.group_topic_mut(index);
        let Some(queue) = progress.and_then(|p| p.queues.get_mut(place.queue as usize)) else {
            return;
        };
        let LeaseBatch { attempt, nonce: new_nonce, deadline_ms, .. } = lease;
        let changed = queue.change_invisible(place.offset, nonce, attempt, new_nonce, deadline_ms);
        let Some(left) = changed else { return };
        if let Some((first, batch)) = left {
            self.drop_expiry(index, place.queue, first, &batch);
        }
        self.state.expiries.insert(Expiry {
            deadline_ms,
            group_topic: index,
            queue: place.queue,
            first: place.offset,
            nonce: new_nonce,
        });
    }

    pub(crate) fn drop_expiry(
        &mut self,
        group_topic: usize,
        queue: u32,
        first: u64,
        batch: &LeaseBatch,
    ) {
        let LeaseBatch { deadline_ms, nonce, .. } = *batch;
        self.state.expiries.remove(&Expiry { deadline_ms, group_topic, queue, first, nonce });
    }

    fn apply_dead_letter(
        &mut self,
        place: Place,
        stands: Option<DeadLetterReference>,
        time_ms: u64,
    ) {
        if let Some((number, entry)) = self.dead_letter_entry(place, stands, time_ms)
            && let Some(topic) = self.state.topics.get_mut(&number)
            && let Some(queue) = topic.queues.first_mut()
        {
            queue.push_dead_letter(entry, place);
            self.state.index_entries = self.state.index_entries.saturating_add(1);
            if !topic.pulls.is_empty() {
                self.dirty_topics.push(number);
            }
            for index in topic.group_topics.clone() {
                self.wake(index, 0);
            }
        }
        self.finish(place, GroupQueue::bury);
    }

    /// The dead-letter topic, and the entry of the message there.
    fn dead_letter_entry(
        &self,
        place: Place,
        stands: Option<DeadLetterReference>,
        stored_ms: u64,
    ) -> Option<(u32, IndexEntry)> {
        if let Some(DeadLetterReference { reference, origin_topic: origin, .. }) = stands {
            let Reference { topic, position, length_bytes, tag_hash, .. } = reference;
            return Some((
                topic,
                IndexEntry { position, tag_hash, stored_ms, length_bytes, origin },
            ));
        }
        // As format 1 had it.
        let topic = self.state.topics.get(&place.topic)?;
        let entry = topic.queues.get(place.queue as usize)?.get(place.offset)?;
        let group = self.state.group_of(place.group)?;
        let name = broker_model::TopicName::dead_letter_of(&group.name);
        let number = self.state.topic_numbers.get(&name).copied()?;
        Some((number, IndexEntry { stored_ms, origin: entry.origin_or(place.topic), ..entry }))
    }
}

/// Where a record stands, and the time of its frame.
#[derive(Clone, Copy, Default)]
pub(crate) struct RecordPlace {
    position: u64,
    length_bytes: u32,
    time: Now,
}

fn hidden(message: &MessageRecord, at: RecordPlace) -> HiddenMessage {
    HiddenMessage {
        position: at.position,
        tag_hash: message.tag_hash,
        length_bytes: at.length_bytes,
        topic: message.topic,
        queue: message.queue,
    }
}
