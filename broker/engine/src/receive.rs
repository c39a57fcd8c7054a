//! Receive: pick messages that the group may have now, hand them out, or park the poll until there are some.
//!
//! Order of search: messages due again first, up to half of the answer; then new ones, beginning at another queue each
//! time; then the rest of those due again.

use broker_delivery::Batch;
use broker_delivery::leases::offsets;
use broker_model::limits::{
    INFLIGHT_PER_GROUP_QUEUE_MAX, RECEIVE_BATCH_BYTES_MAX, RECEIVE_BATCH_MESSAGES_MAX,
    WAITERS_PER_GROUP_TOPIC_MAX, WAITERS_PER_SHARD_MAX,
};
use broker_model::{Filter, ReceiptHandle};
use broker_store::record::Place;
use broker_store::{Lease, Log, Record};

use crate::command::{Delivery, Outcome, Receive, Refusal, Source};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::index::IndexEntry;
use crate::state::{Expiry, PollEnd, Waiter};

/// What one poll may take, and what it has.
struct Pick<'a> {
    now_ms: u64,
    filter: &'a Filter,
    invisible_ms: u64,
    room_messages: u32,
    room_bytes: usize,
    deliveries: Vec<Delivery>,
}

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn receive(
        &mut self,
        now_ms: u64,
        receive: Receive,
        reply: R,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        let index = match self.receive_index(&receive) {
            Ok(index) => index,
            Err(refusal) => return effects.now.push((reply, Err(refusal))),
        };
        let waiter = Waiter {
            id: self.next_waiter,
            reply,
            filter: receive.filter,
            messages_max: receive.messages_max.clamp(1, RECEIVE_BATCH_MESSAGES_MAX),
            invisible_ms: receive.invisible_ms,
            deadline_ms: receive.poll_until_ms,
        };
        self.next_waiter += 1;
        let deliveries = self.pick(now_ms, index, &waiter, log, effects);
        if !deliveries.is_empty() || waiter.deadline_ms <= now_ms {
            return effects.now.push((waiter.reply, Ok(Outcome::Received(deliveries))));
        }
        self.park(index, waiter, effects);
    }

    fn receive_index(&mut self, receive: &Receive) -> Result<usize, Refusal> {
        let topic = self.topic_number(&receive.topic)?;
        let group = self.state.group_numbers.get(&receive.group).copied();
        let group = group.ok_or_else(|| Refusal::GroupNotFound(receive.group.clone()))?;
        let state = self.state.topics.get(&topic);
        if !state.is_some_and(|t| t.topic.readable && !t.queues.is_empty()) {
            return Err(Refusal::NotReadable(receive.topic.clone()));
        }
        Ok(self.state.group_topic_index(group, topic))
    }

    fn park(&mut self, index: usize, waiter: Waiter<R>, effects: &mut Effects<R>) {
        let waiters = self.state.group_topic(index).map_or(0, |g| g.waiters.len());
        if waiters >= WAITERS_PER_GROUP_TOPIC_MAX || self.state.waiters >= WAITERS_PER_SHARD_MAX {
            let text = format!("{waiters} polls of this group wait already on this topic");
            return effects.now.push((waiter.reply, Err(Refusal::TooMany(text))));
        }
        let end =
            PollEnd { deadline_ms: waiter.deadline_ms, group_topic: index, waiter: waiter.id };
        self.state.poll_ends.insert(end);
        self.state.waiters += 1;
        if let Some(progress) = self.state.group_topic_mut(index) {
            progress.waiters.push_back(waiter);
        }
    }

    /// Gives waiting polls what has become ready since the last call.
    pub fn serve_waiters(&mut self, now_ms: u64, log: &Log, effects: &mut Effects<R>) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        for index in dirty {
            self.serve_group_topic(now_ms, index, log, effects);
        }
    }

    fn serve_group_topic(
        &mut self,
        now_ms: u64,
        index: usize,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        // Each poll looks once; those whose filter lets nothing through wait on, in their order.
        let waiting = self.state.group_topic(index).map_or(0, |g| g.waiters.len());
        for _ in 0..waiting {
            if !self.has_ready(index) {
                return;
            }
            let progress = self.state.group_topic_mut(index);
            let Some(waiter) = progress.and_then(|g| g.waiters.pop_front()) else { return };
            let deliveries = if waiter.reply.is_gone() {
                Vec::new()
            } else {
                self.pick(now_ms, index, &waiter, log, effects)
            };
            if deliveries.is_empty() && !waiter.reply.is_gone() {
                if let Some(progress) = self.state.group_topic_mut(index) {
                    progress.waiters.push_back(waiter);
                }
                continue;
            }
            self.state.waiters -= 1;
            self.state.poll_ends.remove(&PollEnd {
                deadline_ms: waiter.deadline_ms,
                group_topic: index,
                waiter: waiter.id,
            });
            effects.now.push((waiter.reply, Ok(Outcome::Received(deliveries))));
        }
    }

    fn has_ready(&self, index: usize) -> bool {
        let Some(progress) = self.state.group_topic(index) else { return false };
        let Some(topic) = self.state.topics.get(&progress.topic) else { return false };
        progress.queues.iter().zip(&topic.queues).any(|(q, queue)| q.has_ready(queue.end()))
    }

    fn pick(
        &mut self,
        now_ms: u64,
        index: usize,
        waiter: &Waiter<R>,
        log: &Log,
        effects: &mut Effects<R>,
    ) -> Vec<Delivery> {
        let Some(progress) = self.state.group_topic_mut(index) else { return Vec::new() };
        let count = progress.queues.len();
        let start = progress.start;
        progress.start = (start + 1) % count.max(1);
        let mut pick = Pick {
            now_ms,
            filter: &waiter.filter,
            invisible_ms: waiter.invisible_ms,
            room_messages: waiter.messages_max.div_ceil(2),
            room_bytes: RECEIVE_BATCH_BYTES_MAX,
            deliveries: Vec::new(),
        };
        let order = || (0..count).map(|n| (start + n) % count);
        order().for_each(|queue| self.pick_again(index, queue, &mut pick, log, effects));
        pick.room_messages += waiter.messages_max / 2;
        order().for_each(|queue| self.pick_new(index, queue, &mut pick, log, effects));
        order().for_each(|queue| self.pick_again(index, queue, &mut pick, log, effects));
        pick.deliveries
    }

    fn pick_again(
        &mut self,
        index: usize,
        queue: usize,
        pick: &mut Pick<'_>,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        while pick.room_messages > 0 {
            let Some(progress) = self.state.group_topic(index) else { return };
            let Some(topic) = self.state.topics.get(&progress.topic) else { return };
            let entries = &topic.queues[queue];
            let passes =
                |offset| entries.get(offset).is_some_and(|e| pick.filter.matches(e.tag_hash));
            let Some(batch) = progress.queues[queue].select_again(pick.room_messages, passes)
            else {
                return;
            };
            if !self.hand_out(index, queue, batch, pick, log, effects) {
                return;
            }
        }
    }

    fn pick_new(
        &mut self,
        index: usize,
        queue: usize,
        pick: &mut Pick<'_>,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        while pick.room_messages > 0 {
            let Some(progress) = self.state.group_topic(index) else { return };
            let Some(topic) = self.state.topics.get(&progress.topic) else { return };
            let (state, entries) = (&progress.queues[queue], &topic.queues[queue]);
            if state.inflight() >= INFLIGHT_PER_GROUP_QUEUE_MAX as u64 {
                return;
            }
            let passes =
                |offset| entries.get(offset).is_some_and(|e| pick.filter.matches(e.tag_hash));
            let Some(batch) = state.select_new(entries.end(), pick.room_messages, passes) else {
                return;
            };
            if !self.hand_out(index, queue, batch, pick, log, effects) {
                return;
            }
        }
    }

    /// Applies and logs the lease of a batch, cut to the bytes that have room; false when nothing had.
    fn hand_out(
        &mut self,
        index: usize,
        queue: usize,
        batch: Batch,
        pick: &mut Pick<'_>,
        log: &Log,
        effects: &mut Effects<R>,
    ) -> bool {
        let nonce = self.nonce();
        let shard = self.shard;
        let Some(progress) = self.state.group_topics.get_mut(index).and_then(Option::as_mut) else {
            return false;
        };
        let Some(topic) = self.state.topics.get(&progress.topic) else { return false };
        let entries = &topic.queues[queue];
        let batch =
            cut_to_bytes(batch, pick, |offset| entries.get(offset).map_or(0, |e| e.length_bytes));
        if batch.mask == 0 && batch.span == 0 {
            return false;
        }
        let queue_number = u32::try_from(queue).expect("queues of a topic are limited");
        let deadline_ms = pick.now_ms + pick.invisible_ms;
        progress.queues[queue].lease(batch, nonce, deadline_ms);
        let first = Place {
            group: progress.group,
            topic: progress.topic,
            queue: queue_number,
            offset: batch.first,
        };
        let Batch { span, mask, attempt, .. } = batch;
        effects.append(&Record::Lease(Lease { first, span, mask, attempt, nonce, deadline_ms }));
        if batch.mask != 0 {
            let expiry = Expiry {
                deadline_ms,
                group_topic: index,
                queue: queue_number,
                first: batch.first,
                nonce,
            };
            self.state.expiries.insert(expiry);
        }
        for offset in offsets(batch.first, batch.mask) {
            let Some(entry) = entries.get(offset) else { continue };
            let handle = ReceiptHandle {
                shard,
                topic: first.topic,
                group: first.group,
                queue: queue_number,
                offset,
                nonce,
                attempt: batch.attempt,
            };
            pick.deliveries.push(Delivery {
                handle,
                stored_ms: entry.stored_ms,
                invisible_until_ms: deadline_ms,
                origin_topic: self.state.topic_names.get(&entry.origin).cloned(),
                source: source(entry, log),
            });
        }
        true
    }
}

fn source(entry: &IndexEntry, log: &Log) -> Source {
    let in_memory = log.read_tail(entry.position, entry.length_bytes);
    match in_memory.map(|mut bytes| Record::decode(&mut bytes)) {
        Some(Ok(Record::Message(message))) => {
            Source::Memory { head: message.head, body: message.body }
        }
        _ => Source::Log { position: entry.position, length_bytes: entry.length_bytes },
    }
}

/// Cuts a batch where the answer would grow too large; the first message of an answer always fits.
fn cut_to_bytes(mut batch: Batch, pick: &mut Pick<'_>, length: impl Fn(u64) -> u32) -> Batch {
    for offset in offsets(batch.first, batch.mask) {
        let bytes = length(offset) as usize;
        let taken = pick.deliveries.len()
            + (batch.mask & ((1 << (offset - batch.first)) - 1)).count_ones() as usize;
        if bytes > pick.room_bytes && taken > 0 {
            let below = offset - batch.first;
            batch.mask &= (1 << below) - 1;
            batch.span = batch.span.min(u32::try_from(below).unwrap_or(u32::MAX));
            pick.room_bytes = 0;
            pick.room_messages = batch.mask.count_ones();
            break;
        }
        pick.room_bytes = pick.room_bytes.saturating_sub(bytes);
    }
    pick.room_messages -= batch.mask.count_ones();
    batch
}
