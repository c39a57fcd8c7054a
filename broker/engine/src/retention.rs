//! Retention: the oldest messages of a topic go when they are too old, or too many bytes. They go by whole runs of index
//! files, so that what is kept may exceed the limit by what one segment holds; segments without messages that are kept
//! are dropped elsewhere. A topic that names no limit keeps everything.

use std::collections::BTreeSet;

use broker_model::Now;
use broker_model::limits::{
    CLOCK_STEP_MS_BELIEVED, CLOCK_STEP_MS_LASTING, RETENTION_CHECK_MS, RETENTION_CHECK_MS_MIN,
};
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
    /// When all topics had been looked at last.
    checked_ms: u64,
    /// The topic it goes on with, by number.
    topic: u32,
    date: BelievedDate,
}

/// What retention takes the date for: what goes is gone for good, so that a wall clock that jumps forward is believed when it
/// stays there, and one that jumps back at once.
#[derive(Debug, Default)]
struct BelievedDate {
    /// How far the date is ahead of the steady time.
    ahead_ms: Option<i64>,
    /// The least that the wall clock was ahead since it jumped, and when it did, in steady time.
    jumped: Option<(i64, u64)>,
}

impl BelievedDate {
    fn at(&mut self, now: Now) -> u64 {
        let ahead_ms = now.wall_ms.cast_signed().saturating_sub(now.steady_ms.cast_signed());
        let believed_ms = self.ahead_ms.get_or_insert(ahead_ms);
        if ahead_ms <= believed_ms.saturating_add_unsigned(CLOCK_STEP_MS_BELIEVED) {
            *believed_ms = ahead_ms;
            self.jumped = None;
        } else {
            let (least_ms, since_ms) = self.jumped.get_or_insert((ahead_ms, now.steady_ms));
            *least_ms = ahead_ms.min(*least_ms);
            if now.steady_ms.saturating_sub(*since_ms) >= CLOCK_STEP_MS_LASTING {
                *believed_ms = *least_ms;
                self.jumped = None;
            }
        }
        now.steady_ms.saturating_add_signed(*believed_ms)
    }
}

impl RetentionCheck {
    /// Something may go that was kept at the last look, or is wanted: the next look is not left for long.
    pub(crate) fn is_wanted(&mut self) {
        if let Some(next_ms) = &mut self.next_ms {
            *next_ms = (*next_ms).min(self.checked_ms.saturating_add(RETENTION_CHECK_MS_MIN));
        }
    }
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
        let date_ms = self.retention.date.at(now);
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
                self.retention.next_ms = Some(now_ms.saturating_add(1));
                self.retention.topic = number;
                return;
            }
            let Some(topic) = self.state.topics.get(&number) else { continue };
            looked_at = looked_at.saturating_add(topic.queues.len());
            for Trim { queue, offset } in trims(topic, self.shard, date_ms) {
                #[cfg(feature = "simulation")]
                if has_bug(Bug::UnloggedTrim) {
                    self.apply_trim(number, queue, offset);
                    continue;
                }
                effects.append(&Record::Trim { topic: number, queue, offset });
            }
        }
        let has_limits = self.state.topics.values().any(limited);
        self.retention.next_ms = has_limits.then_some(now_ms.saturating_add(RETENTION_CHECK_MS));
        self.retention.checked_ms = now_ms;
        self.retention.topic = 0;
        if !has_limits {
            // Nobody looks at the clock from now on.
            self.retention.date.jumped = None;
        }
    }

    /// A start: the date is at least that of the newest message, and how long the broker was off only the wall clock says.
    pub fn believe_date(&mut self, newest: Now) {
        let ahead_ms = newest.wall_ms.cast_signed().saturating_sub(newest.steady_ms.cast_signed());
        self.retention.date = BelievedDate { ahead_ms: Some(ahead_ms), jumped: None };
    }

    pub(crate) fn apply_trim(&mut self, topic: u32, queue: u32, offset: u64) {
        let Some(state) = self.state.topics.get_mut(&topic) else { return };
        let Some(entries) = state.queues.get_mut(queue as usize) else { return };
        self.state.index_entries =
            self.state.index_entries.saturating_sub(entries.trim_below(offset));
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
fn trims<R>(topic: &TopicState<R>, shard: broker_model::ShardId, date_ms: u64) -> Vec<Trim> {
    let (retention_ms, bytes_max) = limits_of(topic, shard);
    let oldest_ms = retention_ms.map_or(0, |kept_ms| date_ms.saturating_sub(kept_ms));
    let mut kept: Vec<_> = topic.queues.iter().map(|queue| queue.sealed().peekable()).collect();
    let mut offsets = vec![0; kept.len()];
    let mut bytes: u64 = topic.queues.iter().map(crate::index::Queue::bytes).sum();
    for (runs, offset) in kept.iter_mut().zip(&mut offsets) {
        while let Some(run) = runs.next_if(|run| run.last_ms < oldest_ms) {
            bytes = bytes.saturating_sub(run.bytes);
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
        && let Some(run) = kept[queue].next_if(|run| bytes.saturating_sub(run.bytes) >= bytes_max)
    {
        bytes = bytes.saturating_sub(run.bytes);
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
    let share = u128::from(bytes).saturating_mul(u128::from(here)).checked_div(u128::from(all));
    share.and_then(|share| u64::try_from(share).ok()).unwrap_or(u64::MAX)
}
