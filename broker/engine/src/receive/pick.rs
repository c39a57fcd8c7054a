//! Picking messages for a poll from the queues of a topic, within what one poll may have, and may look at in one turn.
//!
//! Order of search: messages due again first, up to half of the answer; then new ones, beginning at another queue each
//! time; then the rest of those due again. By priority each level for itself, from the highest down.

use std::ops::Range;

use broker_delivery::leases::offsets;
use broker_delivery::{Batch, Skipped};
use broker_model::limits::RECEIVE_BATCH_BYTES_MAX;
use broker_model::{Filter, MessageType, ReceiptHandle};
use broker_store::record::Place;
use broker_store::{Lease, Log, Record};

use crate::command::{Delivery, Receive};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::limits::limits;
use crate::state::{Expiry, TopicState};
use crate::waiting::Waiter;

/// So many messages that do not pass have a record of their own; fewer are told by the lease of those behind them.
const FAR_MESSAGES: u64 = 64;

/// What one poll may take, and what it has.
struct Pick<'a> {
    now_ms: u64,
    filter: &'a Filter,
    invisible_ms: u64,
    client: u32,
    room_messages: u32,
    room_bytes: usize,
    /// Messages that it may look at yet, without getting one.
    looks: u32,
    /// Asks whether this shard is the one that answers the poll.
    claim: &'a dyn Fn() -> bool,
    deliveries: Vec<Delivery>,
}

/// What was found among new messages.
enum New {
    /// None that passes, from a place on up to an offset.
    Skipped(Place, u64),
    Found(Batch),
}

/// What a poll got.
pub(crate) struct Picked {
    pub(crate) deliveries: Vec<Delivery>,
    /// It looked at as much as it may in one turn, and there is more.
    pub(crate) is_cut: bool,
}

impl<R: ReplyTo> Engine<R> {
    /// Hands out what a poll may have of these queues, of all without any; looks at no more messages than a turn allows.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a poll wants, and with what it is carried out"
    )]
    pub(crate) fn pick(
        &mut self,
        now_ms: u64,
        index: usize,
        waiter: &Waiter<R>,
        queues: Option<&[usize]>,
        looks_max: u32,
        log: &Log,
        effects: &mut Effects<R>,
    ) -> Picked {
        let receive = &waiter.receive;
        let order = self.queue_order(now_ms, index, receive, queues);
        #[cfg(feature = "simulation")]
        let order = broker_store::switches::order_of_queues(order);
        let nothing = Picked { deliveries: Vec::new(), is_cut: false };
        if !self.has_ready(index, &order) {
            return nothing;
        }
        let Some(progress) = self.state.group_topic(index) else { return nothing };
        let group = self.state.group_of(progress.group);
        if !group.is_some_and(|group| group.is_consuming) {
            return nothing;
        }
        let is_in_order = self.state.is_in_order(progress);
        let looks = self.looks.min(looks_max);
        let mut pick = Pick {
            now_ms,
            filter: &receive.filter,
            invisible_ms: receive.invisible_ms,
            client: self.client_number(&receive.client_id, effects),
            room_messages: receive.messages_max,
            room_bytes: RECEIVE_BATCH_BYTES_MAX,
            looks,
            claim: &|| waiter.reply.claim(),
            deliveries: Vec::new(),
        };
        if looks > 0 {
            self.pick_from(index, &order, is_in_order, &mut pick, log, effects);
        }
        self.looks = self.looks.saturating_sub(looks.saturating_sub(pick.looks));
        if is_in_order {
            self.remember_attempt(index, receive, &pick.deliveries);
        }
        Picked { is_cut: pick.looks == 0, deliveries: pick.deliveries }
    }

    fn pick_from(
        &mut self,
        index: usize,
        order: &[usize],
        is_in_order: bool,
        pick: &mut Pick<'_>,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        if is_in_order {
            for queue in order {
                self.pick_in_order(index, *queue, pick, log, effects);
            }
            return;
        }
        let is_by_level = self.is_by_priority(index);
        #[cfg(feature = "simulation")]
        let is_by_level = is_by_level
            && !broker_store::switches::has_bug(broker_store::switches::Bug::DueBeforeLevel);
        if is_by_level {
            // The level first: what is due again is no reason to come before a higher one.
            for queue in order {
                self.pick_mixed(index, &[*queue], pick, log, effects);
            }
        } else {
            self.pick_mixed(index, order, pick, log, effects);
        }
    }

    /// Messages due again up to half of what has room, then new ones, then the rest of those due again.
    fn pick_mixed(
        &mut self,
        index: usize,
        queues: &[usize],
        pick: &mut Pick<'_>,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        let room_messages = pick.room_messages;
        pick.room_messages = room_messages.div_ceil(2);
        for queue in queues {
            self.pick_again(index, *queue, pick, log, effects);
        }
        pick.room_messages = pick.room_messages.saturating_add(room_messages / 2);
        for queue in queues {
            self.pick_new(index, *queue, pick, log, effects);
        }
        for queue in queues {
            self.pick_again(index, *queue, pick, log, effects);
        }
    }

    fn is_by_priority(&self, index: usize) -> bool {
        let topic = self.state.group_topic(index).and_then(|p| self.state.topics.get(&p.topic));
        topic.is_some_and(|state| state.topic.message_type == MessageType::Priority)
    }

    /// The queues to look at, of these or of all: beginning at another one each time, or from the highest priority down.
    fn queue_order(
        &mut self,
        now_ms: u64,
        index: usize,
        receive: &Receive,
        queues: Option<&[usize]>,
    ) -> Vec<usize> {
        let Some(progress) = self.state.group_topics.get_mut(index).and_then(Option::as_mut) else {
            return Vec::new();
        };
        let count = progress.queues.len();
        let start = progress.start;
        progress.start = start.saturating_add(1).checked_rem(count).unwrap_or(0);
        let Some(topic) = self.state.topics.get_mut(&progress.topic) else { return Vec::new() };
        let is_priority = topic.topic.message_type == MessageType::Priority;
        if let Some(queues) = queues {
            let is_wanted = |queue: &usize| {
                let names = receive.lite_topics.as_ref();
                *queue < count && names.is_none_or(|names| topic.lite.is_of(*queue, names))
            };
            let mut wanted: Vec<usize> = queues.iter().copied().filter(is_wanted).collect();
            let first = start.checked_rem(wanted.len()).unwrap_or(0);
            wanted.rotate_left(first);
            if is_priority {
                wanted.sort_unstable_by(|one, other| other.cmp(one));
            }
            return wanted;
        }
        if let Some(names) = &receive.lite_topics {
            let mut queues = topic.lite.queues(names);
            for queue in &queues {
                topic.lite.note_use(u32::try_from(*queue).unwrap_or(u32::MAX), now_ms);
            }
            let first = start.checked_rem(queues.len()).unwrap_or(0);
            queues.rotate_left(first);
            queues.retain(|queue| *queue < count);
            return queues;
        }
        if is_priority {
            return (0..count).rev().collect();
        }
        let start = start.min(count);
        (start..count).chain(0..start).collect()
    }

    fn pick_in_order(
        &mut self,
        index: usize,
        queue: usize,
        pick: &mut Pick<'_>,
        log: &Log,
        effects: &mut Effects<R>,
    ) {
        while pick.room_messages > 0 && pick.looks > 0 {
            let Some(progress) = self.state.group_topics.get_mut(index).and_then(Option::as_mut)
            else {
                return;
            };
            let (group, number) = (progress.group, progress.topic);
            let Some(topic) = self.state.topics.get(&number) else { return };
            let entries = &topic.queues[queue];
            if progress.queues[queue].inflight() >= limits().inflight_per_group_queue as u64 {
                return;
            }
            let end = topic.end_for(progress, true, queue);
            let turn = progress.queues[queue].select_in_order(
                end,
                pick.room_messages,
                limits().look_ahead_messages,
                &mut pick.looks,
                |offset| entries.message_group_hash(offset),
                passes(topic, queue, pick.filter),
            );
            let has_skipped = !turn.skipped.is_empty();
            self.skip((group, number, queue), turn.skipped, effects);
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

    /// Finishes what did not pass on a queue of a group and topic.
    fn skip(
        &mut self,
        (group, topic, queue): (u32, u32, usize),
        skipped: Vec<Skipped>,
        effects: &mut Effects<R>,
    ) {
        let queue = u32::try_from(queue).expect("queues of a topic are limited");
        for Skipped { first: offset, end, is_new } in skipped {
            let place = Place { group, topic, queue, offset };
            // Known at once, as a lease is; committing it again changes nothing.
            if is_new {
                effects.append(&Record::Skip { first: place, end });
                self.apply_skip(place, end);
            } else {
                effects.append(&Record::Acknowledge(place));
                self.apply_done(place);
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
        while pick.room_messages > 0 && pick.looks > 0 {
            let Some(progress) = self.state.group_topics.get_mut(index).and_then(Option::as_mut)
            else {
                return;
            };
            let (group, number) = (progress.group, progress.topic);
            let Some(topic) = self.state.topics.get(&number) else { return };
            let entries = &topic.queues[queue];
            let tag_of = |offset| {
                let entry = entries.get(offset).filter(|_| !topic.is_redriven(offset));
                entry.map(|entry| entry.tag_hash)
            };
            let turn = progress.queues[queue].select_again(
                pick.room_messages,
                pick.filter.tags(),
                &mut pick.looks,
                tag_of,
            );
            self.skip((group, number, queue), turn.skipped, effects);
            let Some(batch) = turn.batch else { return };
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
        while pick.room_messages > 0 && pick.looks > 0 {
            match self.look_for_new(index, queue, pick) {
                Some(New::Skipped(first, end)) => {
                    effects.append(&Record::Skip { first, end });
                    // Known at once, as a lease is; committing it again changes nothing.
                    self.apply_skip(first, end);
                }
                Some(New::Found(batch)) => {
                    if !self.hand_out(index, queue, batch, pick, log, effects) {
                        return;
                    }
                }
                None => return,
            }
        }
    }

    fn look_for_new(&self, index: usize, queue: usize, pick: &mut Pick<'_>) -> Option<New> {
        let progress = self.state.group_topic(index)?;
        let topic = self.state.topics.get(&progress.topic)?;
        let (state, entries) = (progress.queues.get(queue)?, topic.queues.get(queue)?);
        if state.inflight() >= limits().inflight_per_group_queue as u64 {
            return None;
        }
        let passes = passes(topic, queue, pick.filter);
        let Range { start, end } = state.look_for_new(entries.end(), &mut pick.looks, &passes);
        let is_all = end == entries.end() || pick.looks == 0;
        if end.saturating_sub(start) < FAR_MESSAGES && !is_all {
            let batch = state.select_new(entries.end(), pick.room_messages, passes);
            return batch.map(New::Found);
        }
        let (group, topic) = (progress.group, progress.topic);
        let queue = u32::try_from(queue).expect("queues of a topic are limited");
        (end > start).then_some(New::Skipped(Place { group, topic, queue, offset: start }, end))
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
                code: None,
            };
            let handle = self.coded(handle, effects);
            pick.deliveries.extend(self.delivery(handle, deadline_ms, log));
        }
        true
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

/// Cuts a batch where the answer would grow too large; the first message of an answer always fits.
fn cut_to_bytes(mut batch: Batch, pick: &mut Pick<'_>, length: impl Fn(u64) -> u32) -> Batch {
    for offset in offsets(batch.first, batch.mask) {
        let bytes = length(offset) as usize;
        let below = u32::try_from(offset.saturating_sub(batch.first)).unwrap_or(u32::MAX);
        let bits_below = 1_u64.checked_shl(below).map_or(u64::MAX, |bit| bit.saturating_sub(1));
        let earlier = batch.mask & bits_below;
        let taken = pick.deliveries.len().saturating_add(earlier.count_ones() as usize);
        if bytes > pick.room_bytes && taken > 0 {
            batch.mask = earlier;
            batch.span = batch.span.min(below);
            pick.room_bytes = 0;
            pick.room_messages = batch.mask.count_ones();
            break;
        }
        pick.room_bytes = pick.room_bytes.saturating_sub(bytes);
    }
    pick.room_messages = pick.room_messages.saturating_sub(batch.mask.count_ones());
    batch
}
