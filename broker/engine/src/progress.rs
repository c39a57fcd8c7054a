//! Answers about what is: progress of groups, numbers of topics. Changes nothing.
//!
//! What a declared tag filter lets through of the messages that no consumer looked at yet is counted in the index, up to a
//! number of entries; of longer backlogs evenly spread parts are counted, and the rest is estimated.

use std::ops::Range;

use broker_model::limits::{LAG_ENTRIES_PER_READ_MAX, LAG_SEALED_BLOCKS_PER_READ_MAX};
use broker_model::{Filter, GroupName, Model, Subscription};

use crate::command::{GroupTopicProgress, Outcome, TopicNumbers};
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

impl<R: ReplyTo> Engine<R> {
    pub(crate) fn read_progress(
        &self,
        group: Option<&GroupName>,
        reply: R,
        effects: &mut Effects<R>,
    ) {
        let wanted = group.map(|name| self.state.group_numbers.get(name).copied().unwrap_or(0));
        let all = self.state.group_topics.iter().flatten();
        let owner = |reader: u32| self.state.members.get(&reader).map_or(reader, |m| m.group);
        let asked =
            all.filter(|progress| wanted.is_none_or(|number| number == owner(progress.group)));
        let mut budget = Budget::default();
        let progress =
            asked.filter_map(|progress| self.progress_of(progress, &mut budget)).collect();
        effects.now.push((reply, Ok(Outcome::Progress(progress))));
    }

    /// As many groups and topics as one step may look at.
    pub(crate) fn read_progress_part(&self, first: usize, reply: R, effects: &mut Effects<R>) {
        let (mut budget, mut rows, mut queues) = (Budget::default(), Vec::new(), 0);
        let mut next = None;
        for (index, progress) in self.state.group_topics.iter().enumerate().skip(first) {
            if index >= first.saturating_add(SLOTS_PER_PART) || queues > QUEUES_PER_PART {
                next = Some(index);
                break;
            }
            let Some(progress) = progress else { continue };
            queues = queues.saturating_add(progress.queues.len());
            rows.extend(self.progress_of(progress, &mut budget));
        }
        effects.now.push((reply, Ok(Outcome::ProgressPart(rows, next))));
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
            let seen = all.saturating_sub(end.saturating_sub(next));
            let new = match &filter {
                Filter::Tags(_) => passing(queue, next.max(queue.base())..end, &filter, budget),
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
    pub(crate) fn read_topics(&self, first: u32, reply: R, effects: &mut Effects<R>) {
        let mut topics: Vec<_> =
            self.state.topics.iter().filter(|(number, _)| **number >= first).collect();
        topics.sort_unstable_by_key(|(number, _)| **number);
        let (mut rows, mut queues, mut next) = (Vec::new(), 0, None);
        for (number, topic) in topics {
            if rows.len() >= SLOTS_PER_PART || queues > QUEUES_PER_PART {
                next = Some(*number);
                break;
            }
            queues = queues.saturating_add(topic.queues.len());
            rows.push(TopicNumbers {
                topic: topic.topic.name.clone(),
                messages: held(topic),
                bytes: topic.queues.iter().map(Queue::bytes).sum(),
                dead_lettered: match topic.topic.name.is_dead_letter() {
                    true => topic.queues.first().map_or(0, Queue::end),
                    false => 0,
                },
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
    Passing {
        messages: sealed.messages.saturating_add(memory.messages),
        oldest_ms: sealed.oldest_ms.into_iter().chain(memory.oldest_ms).min(),
        is_estimate: sealed.is_estimate || memory.is_estimate,
    }
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
