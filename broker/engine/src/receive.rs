//! Receive: pick messages that the group may have now, hand them out, or park the poll until there are some.
//!
//! Order of search: messages due again first, up to half of the answer; then new ones, beginning at another queue each
//! time; then the rest of those due again.

mod attempts;

use broker_delivery::Batch;
use broker_delivery::leases::offsets;
use broker_model::limits::{
    INFLIGHT_PER_GROUP_QUEUE_MAX, LOOK_AHEAD_MESSAGES_MAX, RECEIVE_BATCH_BYTES_MAX,
    RECEIVE_BATCH_MESSAGES_MAX, WAITERS_PER_GROUP_TOPIC_MAX, WAITERS_PER_SHARD_MAX,
};
use broker_model::{Filter, MessageType, ReceiptHandle};
use broker_store::record::Place;
use broker_store::{Lease, Log, MessageIdentity, Record};

use crate::command::{Delivery, Outcome, Receive, Source};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::refusal::Refusal;
use crate::state::{Expiry, PollEnd, TopicState, Waiter};

/// What one poll may take, and what it has.
struct Pick<'a> {
    now_ms: u64,
    filter: &'a Filter,
    invisible_ms: u64,
    client: u32,
    room_messages: u32,
    room_bytes: usize,
    /// Asks whether this shard is the one that answers the poll.
    claim: &'a dyn Fn() -> bool,
    deliveries: Vec<Delivery>,
}

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn receive(
        &mut self,
        now_ms: u64,
        mut receive: Receive,
        reply: R,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        let index = match self.receive_index(&receive, effects) {
            Ok(index) => index,
            Err(refusal) => return effects.now.push((reply, Err(refusal))),
        };
        receive.messages_max = receive.messages_max.clamp(1, RECEIVE_BATCH_MESSAGES_MAX);
        let waiter = Waiter { id: self.next_waiter, reply, receive };
        self.next_waiter += 1;
        let mut deliveries = self.repeat_attempt(now_ms, index, &waiter, log, effects);
        if deliveries.is_empty() {
            deliveries = self.pick(now_ms, index, &waiter, log, effects);
        }
        let is_over = waiter.receive.poll_until_ms <= now_ms || waiter.reply.is_gone();
        if !deliveries.is_empty() || is_over {
            return effects.now.push((waiter.reply, Ok(Outcome::Received(deliveries))));
        }
        self.park(index, waiter, effects);
    }

    fn receive_index(
        &mut self,
        receive: &Receive,
        effects: &mut Effects<R>,
    ) -> Result<usize, Refusal> {
        let topic = self.topic_number(&receive.topic)?;
        let group = self.group_number(&receive.group)?;
        let state = self.state.topics.get(&topic);
        let is_readable = |state: &TopicState<R>| {
            let has_queues = !state.queues.is_empty();
            state.topic.readable && (has_queues || state.topic.message_type == MessageType::Lite)
        };
        if !state.is_some_and(is_readable) {
            return Err(Refusal::NotReadable(receive.topic.clone()));
        }
        let reader = self.reader(group, &receive.client_id, effects);
        let index = self.begin(reader, topic, effects);
        self.note_poll(index, &receive.client_id, effects);
        Ok(index)
    }

    fn park(&mut self, index: usize, waiter: Waiter<R>, effects: &mut Effects<R>) {
        let waiters = self.state.group_topic(index).map_or(0, |g| g.waiters.len());
        if waiters >= WAITERS_PER_GROUP_TOPIC_MAX || self.state.waiters >= WAITERS_PER_SHARD_MAX {
            let text = format!("{waiters} polls of this group wait already on this topic");
            return effects.now.push((waiter.reply, Err(Refusal::TooMany(text))));
        }
        let end = PollEnd {
            deadline_ms: waiter.receive.poll_until_ms,
            group_topic: index,
            waiter: waiter.id,
        };
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
        for topic in std::mem::take(&mut self.dirty_topics) {
            self.serve_pulls(topic, None, log, effects);
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
                deadline_ms: waiter.receive.poll_until_ms,
                group_topic: index,
                waiter: waiter.id,
            });
            effects.now.push((waiter.reply, Ok(Outcome::Received(deliveries))));
        }
    }

    fn has_ready(&self, index: usize) -> bool {
        let Some(progress) = self.state.group_topic(index) else { return false };
        let Some(topic) = self.state.topics.get(&progress.topic) else { return false };
        progress.cursors_pending == 0
            && progress.queues.iter().zip(&topic.queues).any(|(q, queue)| q.has_ready(queue.end()))
    }

    fn pick(
        &mut self,
        now_ms: u64,
        index: usize,
        waiter: &Waiter<R>,
        log: &Log,
        effects: &mut Effects<R>,
    ) -> Vec<Delivery> {
        let receive = &waiter.receive;
        if !self.has_ready(index) {
            return Vec::new();
        }
        let order = self.queue_order(now_ms, index, receive);
        #[cfg(feature = "simulation")]
        let order = broker_store::switches::order_of_queues(order);
        let Some(progress) = self.state.group_topic(index) else { return Vec::new() };
        let group = self.state.group_of(progress.group);
        if !group.is_some_and(|group| group.is_consuming) {
            return Vec::new();
        }
        let is_in_order = self.state.is_in_order(progress);
        let mut pick = Pick {
            now_ms,
            filter: &receive.filter,
            invisible_ms: receive.invisible_ms,
            client: self.client_number(&receive.client_id, effects),
            room_messages: receive.messages_max,
            room_bytes: RECEIVE_BATCH_BYTES_MAX,
            claim: &|| waiter.reply.claim(),
            deliveries: Vec::new(),
        };
        if is_in_order {
            for queue in order {
                self.pick_in_order(index, queue, &mut pick, log, effects);
            }
            self.remember_attempt(index, receive, &pick.deliveries);
            return pick.deliveries;
        }
        pick.room_messages = receive.messages_max.div_ceil(2);
        for queue in &order {
            self.pick_again(index, *queue, &mut pick, log, effects);
        }
        pick.room_messages += receive.messages_max / 2;
        for queue in &order {
            self.pick_new(index, *queue, &mut pick, log, effects);
        }
        for queue in &order {
            self.pick_again(index, *queue, &mut pick, log, effects);
        }
        pick.deliveries
    }

    /// The queues to look at: beginning at another one each time, or from the highest priority down.
    fn queue_order(&mut self, now_ms: u64, index: usize, receive: &Receive) -> Vec<usize> {
        let Some(progress) = self.state.group_topics.get_mut(index).and_then(Option::as_mut) else {
            return Vec::new();
        };
        let count = progress.queues.len();
        let start = progress.start;
        progress.start = (start + 1) % count.max(1);
        let Some(topic) = self.state.topics.get_mut(&progress.topic) else { return Vec::new() };
        if let Some(names) = &receive.lite_topics {
            let mut queues = topic.lite.queues(names);
            for queue in &queues {
                topic.lite.note_use(u32::try_from(*queue).unwrap_or(u32::MAX), now_ms);
            }
            let first = start % queues.len().max(1);
            queues.rotate_left(first);
            queues.retain(|queue| *queue < count);
            return queues;
        }
        if topic.topic.message_type == MessageType::Priority {
            return (0..count).rev().collect();
        }
        (0..count).map(|n| (start + n) % count).collect()
    }

    fn pick_in_order(
        &mut self,
        index: usize,
        queue: usize,
        pick: &mut Pick<'_>,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        while pick.room_messages > 0 {
            let Some(progress) = self.state.group_topics.get_mut(index).and_then(Option::as_mut)
            else {
                return;
            };
            let (group, number) = (progress.group, progress.topic);
            let Some(topic) = self.state.topics.get(&number) else { return };
            let entries = &topic.queues[queue];
            if progress.queues[queue].inflight() >= INFLIGHT_PER_GROUP_QUEUE_MAX as u64 {
                return;
            }
            let turn = progress.queues[queue].select_in_order(
                entries.end(),
                pick.room_messages,
                LOOK_AHEAD_MESSAGES_MAX,
                |offset| entries.message_group_hash(offset),
                passes(topic, queue, pick.filter),
            );
            let has_skipped = !turn.skipped.is_empty();
            let queue_number = u32::try_from(queue).expect("queues of a topic are limited");
            for offset in turn.skipped {
                let place = Place { group, topic: number, queue: queue_number, offset };
                effects.append(&Record::Acknowledge(place));
                // Known at once, as a lease is; committing it again changes nothing.
                self.apply_done(place);
            }
            match turn.batch {
                Some(batch) => {
                    if !self.hand_out(index, queue, batch, pick, log, effects) {
                        return;
                    }
                }
                None if has_skipped => {}
                None => return,
            }
        }
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
            let passes = passes(topic, queue, pick.filter);
            let batch = progress.queues[queue].select_again(pick.room_messages, passes);
            let Some(batch) = batch else { return };
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
            let passes = passes(topic, queue, pick.filter);
            let Some(batch) = state.select_new(entries.end(), pick.room_messages, passes) else {
                return;
            };
            if !self.hand_out(index, queue, batch, pick, log, effects) {
                return;
            }
        }
    }

    /// Applies and logs the lease of a batch, cut to the bytes that have room; false when nothing had, or when another
    /// shard answers the poll.
    fn hand_out(
        &mut self,
        index: usize,
        queue: usize,
        batch: Batch,
        pick: &mut Pick<'_>,
        log: &Log,
        effects: &mut Effects<R>,
    ) -> bool {
        if batch.mask != 0 && pick.deliveries.is_empty() && !(pick.claim)() {
            pick.room_messages = 0;
            return false;
        }
        let Some(progress) = self.state.group_topic(index) else { return false };
        let queue_number = u32::try_from(queue).expect("queues of a topic are limited");
        let first = Place {
            group: progress.group,
            topic: progress.topic,
            queue: queue_number,
            offset: batch.first,
        };
        let nonce = self.nonce_for(first);
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
        let deadline_ms = pick.now_ms.saturating_add(pick.invisible_ms);
        progress.queues[queue].lease(batch, nonce, deadline_ms);
        let Batch { span, mask, attempt, .. } = batch;
        let client = pick.client;
        effects.append(&Record::Lease(Lease {
            first,
            span,
            mask,
            attempt,
            nonce,
            deadline_ms,
            client,
        }));
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
            let handle = ReceiptHandle {
                shard,
                topic: first.topic,
                group: first.group,
                queue: queue_number,
                offset,
                nonce,
                attempt,
            };
            pick.deliveries.extend(self.delivery(handle, deadline_ms, log));
        }
        true
    }

    /// The message behind a handle; none when nothing is kept there.
    fn delivery(&self, handle: ReceiptHandle, deadline_ms: u64, log: &Log) -> Option<Delivery> {
        let topic = self.state.topics.get(&handle.topic)?;
        let entry = topic.queues.get(handle.queue as usize)?.get(handle.offset)?;
        Some(Delivery {
            handle,
            stored_ms: entry.stored_ms,
            invisible_until_ms: deadline_ms,
            origin_topic: self.state.topic_names.get(&entry.origin).cloned(),
            source: source_at(entry.position, entry.length_bytes, log, || {
                self.identity_of((handle.topic, handle.queue, handle.offset), &entry)
            }),
        })
    }
}

/// Whether a message of this queue is there and passes the filter.
fn passes<R>(topic: &TopicState<R>, queue: usize, filter: &Filter) -> impl Fn(u64) -> bool {
    let entries = &topic.queues[queue];
    move |offset| {
        entries.get(offset).is_some_and(|entry| filter.matches(entry.tag_hash))
            && !topic.is_redriven(offset)
    }
}

/// The message that a handle is for.
pub(crate) fn place_of(handle: &ReceiptHandle) -> Place {
    Place { group: handle.group, topic: handle.topic, queue: handle.queue, offset: handle.offset }
}

/// Where the bytes of a message are: in the tail of the log in memory, or further back.
pub(crate) fn source_at(
    position: u64,
    length_bytes: u32,
    log: &Log,
    identity: impl FnOnce() -> MessageIdentity,
) -> Source {
    let in_memory = log.read_tail(position, length_bytes);
    let record = in_memory.and_then(|mut bytes| Record::decode(&mut bytes).ok());
    match record.and_then(Record::into_message) {
        Some(message) => Source::Memory { head: message.head, body: message.body },
        None => Source::Log { position, length_bytes, identity: identity() },
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
