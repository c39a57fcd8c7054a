//! Retention: the oldest messages of a topic go when they are too old, or too many bytes. They go by whole runs of index
//! files, so that what is kept may exceed the limit by what one segment holds; segments without messages that are kept
//! are dropped elsewhere. A topic that names no limit keeps everything.

use std::collections::BTreeSet;

use broker_model::Now;
use broker_model::limits::RETENTION_CHECK_MS;
use broker_store::Record;
#[cfg(feature = "simulation")]
use broker_store::switches::{Bug, has_bug};

use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::state::TopicState;

/// Queues looked at in one step; the others come in the next.
const QUEUES_PER_STEP: usize = 16 * 1024;

/// How far the look at all topics has come.
#[derive(Debug, Default)]
pub(crate) struct RetentionCheck {
    /// When it goes on; none while no topic has a limit.
    pub(crate) next_ms: Option<u64>,
    /// The topic it goes on with, by number.
    topic: u32,
}

/// Everything below `offset` of a queue goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trim {
    queue: u32,
    offset: u64,
}

impl<R: ReplyTo> Engine<R> {
    /// Looks at the next topics, and trims those that hold too much.
    pub(crate) fn trim_topics(&mut self, now: Now, effects: &mut Effects<R>) {
        let now_ms = now.steady_ms;
        let limited = |topic: &TopicState<R>| {
            topic.topic.retention_ms.is_some() || topic.topic.retention_bytes.is_some()
        };
        let topics = self
            .state
            .topics
            .iter()
            .filter(|(number, topic)| **number >= self.retention.topic && limited(topic));
        let mut numbers: Vec<u32> = topics.map(|(number, _)| *number).collect();
        // What is decided must not depend on the order of a hash map.
        numbers.sort_unstable();
        let mut looked_at = 0;
        for number in numbers {
            if looked_at >= QUEUES_PER_STEP {
                self.retention = RetentionCheck { next_ms: Some(now_ms + 1), topic: number };
                return;
            }
            let Some(topic) = self.state.topics.get(&number) else { continue };
            looked_at += topic.queues.len();
            for Trim { queue, offset } in trims(topic, self.shard, now.wall_ms) {
                #[cfg(feature = "simulation")]
                if has_bug(Bug::UnloggedTrim) {
                    self.apply_trim(number, queue, offset);
                    continue;
                }
                effects.append(&Record::Trim { topic: number, queue, offset });
            }
        }
        let has_limits = self.state.topics.values().any(limited);
        let next_ms = has_limits.then_some(now_ms + RETENTION_CHECK_MS);
        self.retention = RetentionCheck { next_ms, topic: 0 };
    }

    pub(crate) fn apply_trim(&mut self, topic: u32, queue: u32, offset: u64) {
        let Some(state) = self.state.topics.get_mut(&topic) else { return };
        let Some(entries) = state.queues.get_mut(queue as usize) else { return };
        self.state.index_entries -= entries.trim_below(offset);
        if queue == 0 {
            // Of dead letters that are kept no more, nobody asks which were put back.
            state.redriven.forget_below(offset);
        }
        for index in state.group_topics.clone() {
            let progress = self.state.group_topic_mut(index);
            let Some(state) = progress.and_then(|p| p.queues.get_mut(queue as usize)) else {
                continue;
            };
            let gone = state.trim_below(offset);
            #[cfg(feature = "simulation")]
            forget(state, offset);
            for (first, batch) in gone {
                self.drop_expiry(index, queue, first, &batch);
            }
            self.wake(index, queue);
        }
    }
}

/// What of a topic goes now: by time first, then the oldest runs of all queues while the rest is as much as may be kept.
fn trims<R>(topic: &TopicState<R>, shard: broker_model::ShardId, wall_ms: u64) -> Vec<Trim> {
    let (retention_ms, bytes_max) = limits_of(topic, shard);
    let oldest_ms = retention_ms.map_or(0, |kept_ms| wall_ms.saturating_sub(kept_ms));
    let mut kept: Vec<_> = topic.queues.iter().map(|queue| queue.sealed().peekable()).collect();
    let mut offsets = vec![0; kept.len()];
    let mut bytes: u64 = topic.queues.iter().map(crate::index::Queue::bytes).sum();
    for (runs, offset) in kept.iter_mut().zip(&mut offsets) {
        while let Some(run) = runs.next_if(|run| run.last_ms < oldest_ms) {
            bytes -= run.bytes;
            *offset = run.end();
        }
    }
    let mut by_age: BTreeSet<(u64, usize)> = BTreeSet::new();
    if bytes > bytes_max {
        let fronts = kept.iter_mut().enumerate();
        by_age.extend(fronts.filter_map(|(queue, runs)| Some((runs.peek()?.base(), queue))));
    }
    // A run goes only when what is left is as much as the topic may keep: none of it was beyond that otherwise.
    while let Some((_, queue)) = by_age.pop_first()
        && let Some(run) = kept[queue].next_if(|run| bytes - run.bytes >= bytes_max)
    {
        bytes -= run.bytes;
        offsets[queue] = run.end();
        by_age.extend(kept[queue].peek().map(|run| (run.base(), queue)));
    }
    let trims = (0u32..).zip(offsets).map(|(queue, offset)| Trim { queue, offset });
    trims.filter(|trim| trim.offset > 0).collect()
}

/// For how long, and how many bytes, a topic keeps here.
fn limits_of<R>(topic: &TopicState<R>, shard: broker_model::ShardId) -> (Option<u64>, u64) {
    let kept_ms = topic.topic.retention_ms;
    let bytes_max = topic.topic.retention_bytes.map_or(u64::MAX, |all| share(topic, shard, all));
    #[cfg(feature = "simulation")]
    if has_bug(Bug::GreedyRetention) {
        return (kept_ms.map(|kept_ms| kept_ms / 2), bytes_max / 2);
    }
    (kept_ms, bytes_max)
}

/// The planted bugs that forget more than what went.
#[cfg(feature = "simulation")]
fn forget(state: &mut broker_delivery::GroupQueue, offset: u64) {
    if has_bug(Bug::ForgottenProgress) {
        state.reset(offset);
    }
    if has_bug(Bug::ForgottenLeases) {
        let leases: Vec<_> = state.leases().map(|(first, lease)| (first, lease.nonce)).collect();
        for (first, nonce) in leases {
            state.expire(first, nonce, u32::MAX);
        }
    }
}

/// This shard's part of the bytes that a topic may keep.
fn share<R>(topic: &TopicState<R>, shard: broker_model::ShardId, bytes: u64) -> u64 {
    let (here, all) = (topic.topic.queues_on(shard), topic.topic.queues.max(1));
    let share = u128::from(bytes) * u128::from(here) / u128::from(all);
    u64::try_from(share).unwrap_or(u64::MAX)
}
