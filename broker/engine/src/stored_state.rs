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
use crate::layouts::Layouts;
use crate::state::Expiry;

mod load;

pub(crate) use load::split_item;

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
const ITEM_LAYOUT: u8 = 12;
const ITEM_PASSED_LAYOUT: u8 = 13;

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
        let length = u32::try_from(self.bytes.len().saturating_sub(start).saturating_sub(4))
            .expect("items are far smaller");
        self.bytes[start..start.saturating_add(4)].copy_from_slice(&length.to_le_bytes());
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
        if let Some(key) = state.handle_key {
            parts.record(&Record::HandleKey(key))?;
        }
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
            store_layouts(number, &topic.layouts, parts)?;
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
        self.store_group_uses(parts)?;
        for (group, id) in state.resets.by_number() {
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

    fn store_group_uses<E>(&self, parts: &mut Parts<'_, E>) -> Result<(), E> {
        if let Some(hours) = self.state.group_uses.served_hours() {
            parts.record(&Record::ServedHours { hours })?;
        }
        for (group, hour) in self.state.group_uses.all() {
            parts.record(&Record::GroupUse { group, hour })?;
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
                if queue == 0 && progress.passed_layout > 0 {
                    parts.item(ITEM_PASSED_LAYOUT, |bytes| {
                        bytes.put_u32_le(group);
                        bytes.put_u32_le(topic);
                        bytes.put_u32_le(progress.passed_layout);
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

    /// Messages that are in memory, or were stored, stand in these runs of an index file now.
    pub fn attach(&mut self, runs: Vec<SealedRun>) {
        for run in runs {
            let topic = self.state.topics.get_mut(&run.topic);
            let queue = topic.and_then(|topic| topic.queues.get_mut(run.queue as usize));
            if let Some(left) = queue.and_then(|queue| queue.attach(run)) {
                self.state.index_entries = self.state.index_entries.saturating_add(1);
                self.state.index_entries = self.state.index_entries.saturating_sub(left);
            }
        }
        // Messages go by whole runs: these may.
        self.retention.is_wanted();
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

fn sorted<K: Ord, V>(map: &std::collections::HashMap<K, V>) -> impl Iterator<Item = (&K, &V)> {
    // The same state gives the same bytes.
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries.into_iter()
}

fn store_layouts<E>(topic: u32, layouts: &Layouts, parts: &mut Parts<'_, E>) -> Result<(), E> {
    for layout in layouts.all() {
        parts.item(ITEM_LAYOUT, |bytes| {
            bytes.put_u32_le(topic);
            bytes.put_u32_le(layout.queues);
            bytes.put_u8(u8::from(layouts.is_closed()));
            layout.starts.iter().for_each(|start| bytes.put_u64_le(*start));
        })?;
    }
    Ok(())
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

#[cfg(test)]
mod tests;
