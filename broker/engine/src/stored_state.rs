//! The state of a shard as bytes and back, for snapshots: what applying all records up to the beginning of a segment
//! leaves, without what stands in index files. Items of one kind each, in the order in which they can be taken in again.
//! What is decided and not committed, and who waits, is no part of it.

use std::sync::Arc;

use broker_delivery::GroupQueue;
use broker_model::limits::LITE_TOPICS_PER_TOPIC_MAX;
use broker_model::{MessageType, TopicName};
use broker_store::record::{NameKind, Record};
use broker_store::snapshot::PartFile;
use broker_store::{IndexBuilder, SealedRun};
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::apply::RecordPlace;
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::hidden::{HalfMessage, HiddenMessage};
use crate::index::Queue;
use crate::state::Expiry;

/// A part is handed over when it has this many bytes; the last item may exceed it.
const PART_BYTES: usize = 4 * 1024 * 1024;

/// No offset or number of a message ever gets so far: there is a next one.
const NUMBERS_END: u64 = 1 << 62;

const ITEM_RECORD: u8 = 1;
const ITEM_NUMBERS: u8 = 2;
const ITEM_TOPIC_NAME: u8 = 3;
const ITEM_QUEUE: u8 = 4;
const ITEM_REDRIVEN: u8 = 5;
const ITEM_PROGRESS: u8 = 6;
const ITEM_TIMED: u8 = 7;
const ITEM_HALF: u8 = 8;
const ITEM_ENDED: u8 = 9;
const ITEM_KNOWN_NAME: u8 = 10;
const ITEM_DEAD: u8 = 11;

/// Behind the progress on the first queue when no consumer was ever there.
const NEVER_POLLED: u8 = 1;

/// The bytes are no stored state of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stored state has an illegal {0}")]
pub struct StoredStateError(pub &'static str);

/// Gathers items into parts.
struct Parts<'a, E> {
    bytes: BytesMut,
    part: &'a mut dyn FnMut(&[u8]) -> Result<(), E>,
}

impl<E> Parts<'_, E> {
    fn item(&mut self, kind: u8, fields: impl FnOnce(&mut BytesMut)) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.put_u32_le(0);
        self.bytes.put_u8(kind);
        fields(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - start - 4).expect("items are far smaller");
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        if self.bytes.len() >= PART_BYTES { self.finish() } else { Ok(()) }
    }

    fn record(&mut self, record: &Record) -> Result<(), E> {
        self.item(ITEM_RECORD, |bytes| record.encode(bytes))
    }

    fn finish(&mut self) -> Result<(), E> {
        let part = self.bytes.split();
        if part.is_empty() { Ok(()) } else { (self.part)(&part) }
    }
}

impl<R: ReplyTo> Engine<R> {
    /// Gives the state to `part`, in pieces. Every message must stand in an index file.
    ///
    /// # Errors
    /// What `part` returns.
    pub fn store_state<E>(&self, part: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut parts = Parts { bytes: BytesMut::new(), part };
        self.store_catalog(&mut parts)?;
        self.store_progress(&mut parts)?;
        self.state.timed.store(&mut |bucket, chunk| {
            parts.item(ITEM_TIMED, |bytes| {
                bytes.put_u64_le(bucket);
                bytes.put_slice(chunk);
            })
        })?;
        for (number, half) in self.state.transactions.open() {
            parts.item(ITEM_HALF, |bytes| store_half(number, &half, bytes))?;
        }
        for (number, is_commit) in self.state.transactions.ended() {
            parts.item(ITEM_ENDED, |bytes| {
                bytes.put_u64_le(number);
                bytes.put_u8(u8::from(is_commit));
            })?;
        }
        #[cfg(feature = "simulation")]
        if broker_store::switches::has_bug(broker_store::switches::Bug::UnreadableState) {
            parts.item(u8::MAX, |_| {})?;
        }
        parts.finish()
    }

    fn store_catalog<E>(&self, parts: &mut Parts<'_, E>) -> Result<(), E> {
        let state = &self.state;
        parts.item(ITEM_NUMBERS, |bytes| {
            bytes.put_u32_le(state.next_topic_number);
            bytes.put_u32_le(state.next_group_number);
            bytes.put_u32_le(state.clients.last_number());
            bytes.put_u64_le(state.timed.last_number());
            bytes.put_u64_le(state.transactions.last_number());
        })?;
        let mut names: Vec<_> = state.topic_names.iter().collect();
        names.sort_unstable_by_key(|(number, _)| **number);
        for (number, name) in names {
            parts.item(ITEM_TOPIC_NAME, |bytes| {
                bytes.put_u32_le(*number);
                bytes.put_slice(name.as_str().as_bytes());
            })?;
        }
        for (&number, topic) in sorted(&state.topics) {
            parts.record(&Record::PutTopic { number, topic: Box::new(topic.topic.clone()) })?;
            for (queue, name) in topic.lite.names() {
                let name = name.to_string();
                parts.record(&Record::PutLiteTopic { topic: number, queue, name })?;
            }
            for (queue, entries) in (0u32..).zip(&topic.queues) {
                if entries.end() > 0 {
                    parts.item(ITEM_QUEUE, |bytes| {
                        bytes.put_u32_le(number);
                        bytes.put_u32_le(queue);
                        bytes.put_u64_le(entries.base());
                        bytes.put_u64_le(entries.end());
                    })?;
                }
            }
            for (start, end) in topic.redriven.ranges() {
                parts.item(ITEM_REDRIVEN, |bytes| {
                    bytes.put_u32_le(number);
                    bytes.put_u64_le(start);
                    bytes.put_u64_le(end);
                })?;
            }
        }
        for (&number, group) in sorted(&state.groups) {
            parts.record(&Record::PutGroup { number, group: Box::new(group.clone()) })?;
        }
        for (&number, member) in sorted(&state.members) {
            let client_id = member.client_id.to_string();
            parts.record(&Record::PutMember { number, group: member.group, client_id })?;
        }
        for (&group, id) in sorted(&state.resets) {
            parts.record(&Record::Reset { group, id: id.clone() })?;
        }
        for (kind, name, is_deleted, time_ms) in state.known_names.times() {
            parts.item(ITEM_KNOWN_NAME, |bytes| {
                bytes.put_u8(kind as u8);
                bytes.put_u8(u8::from(is_deleted));
                bytes.put_u64_le(time_ms);
                bytes.put_slice(name.as_bytes());
            })?;
        }
        for (number, id) in state.clients.by_number() {
            parts.record(&Record::Client { number, id: id.to_string() })?;
        }
        Ok(())
    }

    fn store_progress<E>(&self, parts: &mut Parts<'_, E>) -> Result<(), E> {
        for (&(group, topic), &index) in &self.state.group_topic_indexes {
            let Some(progress) = self.state.group_topic(index) else { continue };
            // Without a queue yet it is remembered all the same, in the first one's place.
            let nothing = [GroupQueue::default()];
            let queues = if progress.queues.is_empty() { &nothing[..] } else { &progress.queues };
            for (queue, state) in (0u32..).zip(queues) {
                // The first one also says that the group was here.
                if queue == 0 || !state.is_untouched() {
                    parts.item(ITEM_PROGRESS, |bytes| {
                        bytes.put_u32_le(group);
                        bytes.put_u32_le(topic);
                        bytes.put_u32_le(queue);
                        state.store(bytes);
                        if queue == 0 && !progress.is_polled {
                            bytes.put_u8(NEVER_POLLED);
                        }
                    })?;
                }
                if state.has_dead() {
                    parts.item(ITEM_DEAD, |bytes| {
                        bytes.put_u32_le(group);
                        bytes.put_u32_le(topic);
                        bytes.put_u32_le(queue);
                        state.store_dead(bytes);
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Takes in one part; all of them, in order, into an engine without state.
    ///
    /// # Errors
    /// [`StoredStateError`].
    pub fn load_state(&mut self, mut part: Bytes) -> Result<(), StoredStateError> {
        while !part.is_empty() {
            let (kind, item) = split_item(&mut part).ok_or(StoredStateError("length"))?;
            self.load_item(kind, item)?;
        }
        Ok(())
    }

    /// As [`Engine::load_state`], and leaves timed messages where they are: in `file`, which holds this part. They are
    /// read when they are asked for; that they cannot be is an [`Engine::index_failure`].
    ///
    /// # Errors
    /// [`StoredStateError`].
    pub fn load_state_in_place(
        &mut self,
        part: &Bytes,
        file: &Arc<PartFile>,
    ) -> Result<(), StoredStateError> {
        let mut rest = part.clone();
        while !rest.is_empty() {
            let start = part.len() - rest.len();
            let (kind, mut item) = split_item(&mut rest).ok_or(StoredStateError("length"))?;
            if kind != ITEM_TIMED {
                self.load_item(kind, item)?;
                continue;
            }
            let bucket = item.try_get_u64_le().map_err(|_| StoredStateError("length"))?;
            let place = (file, start as u64, &part[start..part.len() - rest.len()]);
            let inserted = self.state.timed.insert_stored(bucket, item, place);
            self.state.index_entries += inserted.ok_or(StoredStateError("timed message"))?;
        }
        Ok(())
    }

    fn load_item(&mut self, kind: u8, mut item: Bytes) -> Result<(), StoredStateError> {
        let state = &mut self.state;
        let is_whole = match kind {
            ITEM_RECORD => {
                return self.load_record(&mut item);
            }
            ITEM_NUMBERS => load_numbers(&mut item).map(|(topic, group, client, timed, half)| {
                let (timed, half) = (timed.min(NUMBERS_END), half.min(NUMBERS_END));
                // Never behind what was loaded before: a number is given once.
                state.next_topic_number = state.next_topic_number.max(topic);
                state.next_group_number = state.next_group_number.max(group);
                state.clients.set_last_number(client);
                state.timed.set_last_number(timed);
                state.transactions.set_last_number(half);
            }),
            ITEM_TOPIC_NAME => return self.load_topic_name(&mut item),
            ITEM_KNOWN_NAME => return self.load_known_name(&mut item),
            ITEM_QUEUE => return self.load_queue(&mut item),
            ITEM_REDRIVEN => load_three(&mut item).map(|(topic, start, end)| {
                state.topics.get_mut(&topic).map(|topic| topic.redriven.insert(start, end));
            }),
            ITEM_PROGRESS => return self.load_progress(&mut item),
            ITEM_DEAD => return self.load_dead(&mut item),
            ITEM_TIMED => {
                let bucket = item.try_get_u64_le().map_err(|_| StoredStateError("length"))?;
                let inserted = state.timed.insert_packed(bucket, item);
                state.index_entries += inserted.ok_or(StoredStateError("timed message"))?;
                Ok(())
            }
            ITEM_HALF => load_half(&mut item).map(|(number, half)| {
                state.transactions.insert(number.min(NUMBERS_END), half);
                state.index_entries += 1;
            }),
            ITEM_ENDED => item.try_get_u64_le().and_then(|number| {
                let is_commit = item.try_get_u8()? != 0;
                state.transactions.remember_end(number, is_commit);
                Ok(())
            }),
            _ => return Err(StoredStateError("kind of item")),
        };
        is_whole.map_err(|_| StoredStateError("length"))
    }

    fn load_topic_name(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let number = item.try_get_u32_le().map_err(|_| StoredStateError("length"))?;
        let name = std::str::from_utf8(item).ok().and_then(|name| TopicName::parse(name).ok());
        let Some(name) = name else { return Ok(()) };
        self.check_topic_name(number, &name)?;
        let next = &mut self.state.next_topic_number;
        *next = (*next).max(number.saturating_add(1));
        self.state.topic_names.insert(number, name);
        Ok(())
    }

    fn load_known_name(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let length = |_| StoredStateError("length");
        let kind = item.try_get_u8().map_err(length)?;
        let is_deleted = item.try_get_u8().map_err(length)? != 0;
        let time_ms = item.try_get_u64_le().map_err(length)?;
        let name = std::str::from_utf8(item).map_err(|_| StoredStateError("name"))?;
        let kind = NameKind::from_number(kind).ok_or(StoredStateError("kind of name"))?;
        let names = &mut self.state.known_names;
        if is_deleted {
            names.delete(kind, name, time_ms);
        } else {
            names.declare(kind, name, time_ms);
        }
        Ok(())
    }

    /// A number stands for one name for ever.
    fn check_topic_name(&self, number: u32, name: &TopicName) -> Result<(), StoredStateError> {
        let known = self.state.topic_names.get(&number);
        if known.is_some_and(|known| known != name) {
            return Err(StoredStateError("topic name"));
        }
        Ok(())
    }

    fn load_record(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let record = Record::decode(item).map_err(|_| StoredStateError("record"))?;
        #[cfg(feature = "simulation")]
        if broker_store::switches::has_bug(broker_store::switches::Bug::ForgottenResets)
            && matches!(record, Record::Reset { .. })
        {
            return Ok(());
        }
        if let Record::PutTopic { number, topic } = &record {
            self.check_topic_name(*number, &topic.name)?;
        }
        match record {
            Record::PutTopic { .. }
            | Record::PutLiteTopic { .. }
            | Record::PutGroup { .. }
            | Record::PutMember { .. }
            | Record::Reset { .. }
            | Record::Client { .. } => {
                self.apply_record(record, RecordPlace::default(), &mut Effects::default());
                Ok(())
            }
            // What others change is stored as items of its own.
            _ => Err(StoredStateError("record")),
        }
    }

    fn load_queue(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let length = |_| StoredStateError("length");
        let number = item.try_get_u32_le().map_err(length)?;
        let (queue, base, end) = load_three(item).map_err(length)?;
        if base > end || end >= NUMBERS_END {
            return Err(StoredStateError("offset"));
        }
        let Some(topic) = self.state.topics.get_mut(&number) else { return Ok(()) };
        let is_new = topic.queues.len() <= queue as usize;
        if is_new && topic.topic.message_type == MessageType::Lite {
            // Its lite topic is gone, and its offsets go on.
            let count = (queue as usize + 1).min(LITE_TOPICS_PER_TOPIC_MAX);
            topic.queues.resize_with(count, Queue::default);
        }
        if let Some(known) = topic.queues.get_mut(queue as usize) {
            *known = Queue::stored(base, end);
        }
        Ok(())
    }

    fn load_progress(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let mut number = || item.try_get_u32_le().map_err(|_| StoredStateError("length"));
        let (group, topic, queue) = (number()?, number()?, number()?);
        let loaded = GroupQueue::load(item).ok_or(StoredStateError("progress"))?;
        let index = self.state.group_topic_index(group, topic);
        let Some(progress) = self.state.group_topic_mut(index) else { return Ok(()) };
        if queue == 0 {
            progress.is_polled = item.try_get_u8() != Ok(NEVER_POLLED);
        }
        let Some(state) = progress.queues.get_mut(queue as usize) else {
            return Ok(());
        };
        let expiries: Vec<Expiry> = loaded
            .leases()
            .map(|(first, lease)| Expiry {
                deadline_ms: lease.deadline_ms,
                group_topic: index,
                queue,
                first,
                nonce: lease.nonce,
            })
            .collect();
        *state = loaded;
        self.state.expiries.extend(expiries);
        Ok(())
    }

    fn load_dead(&mut self, item: &mut Bytes) -> Result<(), StoredStateError> {
        let mut number = || item.try_get_u32_le().map_err(|_| StoredStateError("length"));
        let (group, topic, queue) = (number()?, number()?, number()?);
        let Some(&index) = self.state.group_topic_indexes.get(&(group, topic)) else {
            return Err(StoredStateError("dead letter"));
        };
        let progress = self.state.group_topic_mut(index);
        let state = progress.and_then(|progress| progress.queues.get_mut(queue as usize));
        let Some(state) = state else { return Ok(()) };
        state.load_dead(item).ok_or(StoredStateError("dead letter"))
    }

    /// All parts are taken in.
    pub fn finish_loading(&mut self) {
        let topics = self.state.topics.values_mut();
        for topic in topics.filter(|topic| topic.topic.message_type == MessageType::Lite) {
            let queues = u32::try_from(topic.queues.len()).expect("queues of a topic are limited");
            topic.lite.free_all_but_named(queues);
        }
    }

    /// Messages that are in memory, or were stored, stand in these runs of an index file now.
    pub fn attach(&mut self, runs: Vec<SealedRun>) {
        for run in runs {
            let topic = self.state.topics.get_mut(&run.topic);
            let queue = topic.and_then(|topic| topic.queues.get_mut(run.queue as usize));
            if let Some(left) = queue.and_then(|queue| queue.attach(run)) {
                self.state.index_entries += 1;
                self.state.index_entries -= left;
            }
        }
    }

    /// A queue whose index files do not hold all of its messages: topic, queue, and the offset from which they miss.
    #[must_use]
    pub fn incomplete_queue(&self) -> Option<(TopicName, u32, u64)> {
        sorted(&self.state.topics).find_map(|(_, topic)| {
            let queues = (0u32..).zip(&topic.queues);
            let (queue, entries) = queues.into_iter().find(|(_, q)| q.is_incomplete())?;
            Some((topic.topic.name.clone(), queue, entries.end()))
        })
    }

    /// The messages that no index file holds yet.
    pub fn unsealed(&self, index: &mut IndexBuilder) {
        for (&number, topic) in sorted(&self.state.topics) {
            for (queue, entries) in (0u32..).zip(&topic.queues) {
                for message in entries.unsealed() {
                    let place = (number, queue, message.offset);
                    index.push(place, message.entry, message.message_group_hash, message.origin);
                }
            }
        }
    }

    /// The runs of index files that hold messages which are kept.
    pub fn sealed_runs(&self) -> impl Iterator<Item = &SealedRun> {
        self.state.topics.values().flat_map(|topic| &topic.queues).flat_map(Queue::sealed)
    }

    /// Log position and length of the records of messages that nobody sees yet.
    pub fn hidden_records(&self) -> impl Iterator<Item = (u64, u32)> {
        let open = self.state.transactions.open();
        let half = open.into_iter().map(|(_, half)| half.message);
        let hidden = self.state.timed.messages().chain(half);
        hidden.map(|message| (message.position, message.length_bytes))
    }
}

/// The kind and the fields of the next item; none when there is no whole one.
pub(crate) fn split_item(part: &mut Bytes) -> Option<(u8, Bytes)> {
    let length = part.try_get_u32_le().ok()? as usize;
    if length == 0 || part.len() < length {
        return None;
    }
    let mut item = part.split_to(length);
    Some((item.get_u8(), item))
}

fn sorted<K: Ord, V>(map: &std::collections::HashMap<K, V>) -> impl Iterator<Item = (&K, &V)> {
    // The same state gives the same bytes.
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries.into_iter()
}

fn load_numbers(item: &mut Bytes) -> Result<(u32, u32, u32, u64, u64), bytes::TryGetError> {
    let (topic, group) = (item.try_get_u32_le()?, item.try_get_u32_le()?);
    Ok((topic, group, item.try_get_u32_le()?, item.try_get_u64_le()?, item.try_get_u64_le()?))
}

fn load_three(item: &mut Bytes) -> Result<(u32, u64, u64), bytes::TryGetError> {
    Ok((item.try_get_u32_le()?, item.try_get_u64_le()?, item.try_get_u64_le()?))
}

fn store_half(number: u64, half: &HalfMessage, bytes: &mut BytesMut) {
    let HiddenMessage { position, tag_hash, length_bytes, topic, queue } = half.message;
    for field in [number, half.stored_ms, half.check_at_ms, position, tag_hash] {
        bytes.put_u64_le(field);
    }
    for field in [half.checks, length_bytes, topic, queue] {
        bytes.put_u32_le(field);
    }
}

fn load_half(item: &mut Bytes) -> Result<(u64, HalfMessage), bytes::TryGetError> {
    let (number, stored_ms, check_at_ms) =
        (item.try_get_u64_le()?, item.try_get_u64_le()?, item.try_get_u64_le()?);
    let (position, tag_hash) = (item.try_get_u64_le()?, item.try_get_u64_le()?);
    let (checks, length_bytes) = (item.try_get_u32_le()?, item.try_get_u32_le()?);
    let (topic, queue) = (item.try_get_u32_le()?, item.try_get_u32_le()?);
    let message = HiddenMessage { position, tag_hash, length_bytes, topic, queue };
    Ok((number, HalfMessage { message, stored_ms, checks, check_at_ms }))
}

#[cfg(test)]
mod tests;
