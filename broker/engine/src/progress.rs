//! Answers about what is: progress of groups, numbers of topics. Changes nothing that is decided by.
//!
//! What a declared tag filter lets through of the messages that no consumer looked at yet is counted in the index, up to a
//! number of entries; of longer backlogs evenly spread parts are counted, and the rest is estimated.

use std::ops::Range;

use broker_delivery::GroupQueue;
use broker_model::limits::{LAG_ENTRIES_PER_READ_MAX, LAG_SEALED_BLOCKS_PER_READ_MAX};
use broker_model::{Filter, GroupName, Model, Subscription};

use crate::command::{GroupTopicProgress, Outcome, ProgressPlace, ProgressQuery, TopicNumbers};
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::index::Queue;
use crate::state::{GroupTopic, TopicState};

/// Entries of the index that are looked at together: as many as an index file has in a block.
const BLOCK_ENTRIES: u64 = 64;

/// Topics, or pairs of group and topic, in one part of an answer ...
const SLOTS_PER_PART: usize = 1_024;
/// ... unless they have so many queues before.
const QUEUES_PER_PART: usize = 16 * 1_024;
/// Index files that one part of an answer reads to tell the oldest messages. Each is read once until that message goes.
const OLDEST_LOOKUPS_PER_PART: u32 = 256;

/// Messages of one queue that are done ahead of others part those in so many pieces at most; what lies behind counts as one.
const PARTS_PER_QUEUE: usize = 64;

/// What one answer may still look at.
struct Budget {
    memory_blocks: u64,
    sealed_blocks: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            memory_blocks: LAG_ENTRIES_PER_READ_MAX / BLOCK_ENTRIES,
            sealed_blocks: LAG_SEALED_BLOCKS_PER_READ_MAX,
        }
    }
}

/// Messages that pass a filter.
#[derive(Default)]
struct Passing {
    messages: u64,
    oldest_ms: Option<u64>,
    is_estimate: bool,
}

impl Passing {
    fn add(&mut self, other: Self) {
        self.messages = self.messages.saturating_add(other.messages);
        self.oldest_ms = self.oldest_ms.into_iter().chain(other.oldest_ms).min();
        self.is_estimate |= other.is_estimate;
    }
}

impl<R: ReplyTo> Engine<R> {
    /// As many groups and topics as one step may look at.
    pub(crate) fn read_progress(&self, query: &ProgressQuery, reply: R, effects: &mut Effects<R>) {
        let indexes = &self.state.group_topic_indexes;
        let from = (query.from.reader, query.from.topic);
        let asked: Box<dyn Iterator<Item = _>> = match &query.group {
            None => Box::new(indexes.range(from..)),
            Some(name) => {
                let readers = self.readers_of(name).into_iter();
                let of_reader = |reader| indexes.range((reader, 0).max(from)..=(reader, u32::MAX));
                Box::new(readers.filter(|reader| *reader >= from.0).flat_map(of_reader))
            }
        };
        let (mut budget, mut rows, mut queues) = (Budget::default(), Vec::new(), 0);
        let mut next = None;
        for (slots, (&(reader, topic), index)) in asked.enumerate() {
            if slots >= SLOTS_PER_PART || queues > QUEUES_PER_PART {
                next = Some(ProgressPlace { reader, topic });
                break;
            }
            let Some(progress) = self.state.group_topic(*index) else { continue };
            queues = queues.saturating_add(progress.queues.len());
            rows.extend(self.progress_of(progress, &mut budget));
        }
        effects.now.push((reply, Ok(Outcome::Progress(rows, next))));
    }

    /// A group and its members that have progress of their own, ascending; none when nobody knows it.
    fn readers_of(&self, name: &GroupName) -> Vec<u32> {
        let Some(&group) = self.state.group_numbers.get(name) else { return Vec::new() };
        let mut readers = self.state.members_of(group);
        readers.push(group);
        readers.sort_unstable();
        readers
    }

    fn progress_of(
        &self,
        progress: &GroupTopic<R>,
        budget: &mut Budget,
    ) -> Option<GroupTopicProgress> {
        let group = self.state.group_of(progress.group)?;
        let topic = self.state.topics.get(&progress.topic)?;
        let name = &topic.topic.name;
        let declared = group.subscriptions.iter().find(|declared| declared.topic == *name);
        let is_member = self.state.members.contains_key(&progress.group);
        let is_polled = progress.is_polled || is_member;
        let is_missed = match group.model {
            // Its consumers have progress, and it has none of its own but what an earlier version set for nobody.
            Model::Broadcasting => false,
            // What was declared once and never used is missed by nobody.
            Model::Clustering => declared.is_some() || group.subscriptions.is_empty(),
        };
        if !is_polled && !is_missed {
            return None;
        }
        let filter = declared.map_or(Filter::All, tag_filter);
        let mut sum = GroupTopicProgress {
            group: group.name.clone(),
            topic: name.clone(),
            lag_messages: 0,
            inflight_messages: 0,
            oldest_ms: None,
            waiters: progress.waiters.len(),
            is_polled,
            is_estimate: false,
        };
        for (state, queue) in progress.queues.iter().zip(&topic.queues) {
            let (all, next, end) = (state.lag(queue.end()), state.next(), queue.end());
            sum.inflight_messages = sum.inflight_messages.saturating_add(state.inflight());
            let (parts, has_more) = not_done(state, next..end);
            let parts_messages = parts.iter().map(|part| part.end.saturating_sub(part.start));
            let seen = all.saturating_sub(parts_messages.fold(0, u64::saturating_add));
            let new = match &filter {
                Filter::Tags(_) => {
                    let mut new = Passing { is_estimate: has_more, ..Passing::default() };
                    for part in parts {
                        new.add(passing(
                            queue,
                            part.start.max(queue.base())..part.end,
                            &filter,
                            budget,
                        ));
                    }
                    new
                }
                Filter::All | Filter::Sql(_) => Passing {
                    messages: all.saturating_sub(seen),
                    oldest_ms: queue.get(next).map(|entry| entry.stored_ms),
                    is_estimate: false,
                },
            };
            let oldest_seen = queue.get(state.first_open()).filter(|_| seen > 0);
            let oldest = oldest_seen.map(|entry| entry.stored_ms).into_iter().chain(new.oldest_ms);
            sum.oldest_ms = sum.oldest_ms.into_iter().chain(oldest).min();
            sum.lag_messages = sum.lag_messages.saturating_add(seen.saturating_add(new.messages));
            sum.is_estimate |= new.is_estimate;
        }
        Some(sum)
    }

    /// As many topics as one step may look at.
    pub(crate) fn read_topics(&mut self, first: u32, reply: R, effects: &mut Effects<R>) {
        let topics = self.state.topics.keys().copied();
        let mut topics: Vec<u32> = topics.filter(|number| *number >= first).collect();
        topics.sort_unstable();
        let (mut rows, mut queues, mut next) = (Vec::new(), 0, None);
        let mut lookups = OLDEST_LOOKUPS_PER_PART;
        for number in topics {
            if rows.len() >= SLOTS_PER_PART || queues > QUEUES_PER_PART {
                next = Some(number);
                break;
            }
            let Some(topic) = self.state.topics.get_mut(&number) else { continue };
            queues = queues.saturating_add(topic.queues.len());
            let messages = held(topic);
            // Of dead letters that were all put back none is kept for anybody.
            let kept = topic.queues.iter_mut().filter(|_| messages > 0);
            let oldest_ms = kept.filter_map(|queue| queue.oldest_ms(&mut lookups)).min();
            rows.push(TopicNumbers {
                topic: topic.topic.name.clone(),
                messages,
                bytes: topic.queues.iter().map(Queue::bytes).sum(),
                dead_lettered: match topic.topic.name.is_dead_letter() {
                    true => topic.queues.first().map_or(0, Queue::end),
                    false => 0,
                },
                oldest_ms,
            });
        }
        effects.now.push((reply, Ok(Outcome::Topics(rows, next))));
    }
}

/// Messages that are kept, and were not put back.
pub(crate) fn held<R>(topic: &TopicState<R>) -> u64 {
    let all: u64 = topic.queues.iter().map(Queue::len).sum();
    all.saturating_sub(topic.redriven.count())
}

/// What the shard can tell of a declared filter: tags. Of an SQL expression it knows nothing, and takes all to pass.
fn tag_filter(declared: &Subscription) -> Filter {
    let tags = (!declared.is_sql).then(|| Filter::parse_tags(&declared.expression));
    // What is no expression was declared by an earlier version; consumers are refused by it.
    tags.and_then(Result::ok).unwrap_or_default()
}

/// Messages of a queue that pass, counted as far as the budget goes.
fn passing(queue: &Queue, offsets: Range<u64>, filter: &Filter, budget: &mut Budget) -> Passing {
    let border = queue.memory_base().clamp(offsets.start, offsets.end.max(offsets.start));
    let sealed = passing_in(queue, offsets.start..border, filter, &mut budget.sealed_blocks);
    let memory = passing_in(queue, border..offsets.end, filter, &mut budget.memory_blocks);
    let mut both = sealed;
    both.add(memory);
    both
}

/// What is not done of these messages, in parts; whether the last one has done ones in it.
fn not_done(state: &GroupQueue, offsets: Range<u64>) -> (Vec<Range<u64>>, bool) {
    let mut parts: Vec<_> = state.not_done_in(offsets.clone()).take(PARTS_PER_QUEUE + 1).collect();
    let has_more = parts.len() > PARTS_PER_QUEUE;
    parts.truncate(PARTS_PER_QUEUE);
    if let Some(last) = parts.last_mut().filter(|_| has_more) {
        last.end = offsets.end;
    }
    (parts, has_more)
}

fn passing_in(queue: &Queue, offsets: Range<u64>, filter: &Filter, blocks: &mut u64) -> Passing {
    let mut passing = Passing::default();
    let count = offsets.end.saturating_sub(offsets.start);
    if count == 0 {
        return passing;
    }
    // One queue takes half of what is left, so that those behind it get something too.
    let all_blocks = count.div_ceil(BLOCK_ENTRIES);
    let taken = all_blocks.min(blocks.div_ceil(2));
    if taken == 0 {
        let oldest_ms = queue.get(offsets.start).map(|entry| entry.stored_ms);
        return Passing { messages: count, oldest_ms, is_estimate: true };
    }
    *blocks = blocks.saturating_sub(taken);
    let mut looked_at = 0_u64;
    for block in (0..taken).map(|n| scaled(n, all_blocks, taken)) {
        let start = offsets.start.saturating_add(block.saturating_mul(BLOCK_ENTRIES));
        for offset in start..offsets.end.min(start.saturating_add(BLOCK_ENTRIES)) {
            looked_at = looked_at.saturating_add(1);
            if let Some(entry) = queue.get(offset).filter(|entry| filter.matches(entry.tag_hash)) {
                passing.messages = passing.messages.saturating_add(1);
                passing.oldest_ms.get_or_insert(entry.stored_ms);
            }
        }
    }
    if looked_at < count {
        passing.messages = scaled(passing.messages, count, looked_at);
        passing.is_estimate = true;
    }
    passing
}

/// As many of `all` as `value` is of `of`.
fn scaled(value: u64, all: u64, of: u64) -> u64 {
    let product = u128::from(value).saturating_mul(u128::from(all));
    let scaled = product.checked_div(u128::from(of)).unwrap_or_default();
    u64::try_from(scaled).unwrap_or(u64::MAX)
}
