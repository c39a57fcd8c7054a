//! The memory that the process may spend on what clients hand over or do not take away: requests that arrive, answers nobody
//! read yet, commands that wait, sessions. One budget, cut into parts, so that no kind of load takes the place of another.
//! Whoever keeps such bytes holds a [`Share`] as long. The share of the machine that this is lies in `broker_model::limits`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use broker_model::limits::{MEMORY_BUDGET_BYTES_MIN, MEMORY_BUDGET_PERCENT};

/// The budget of a process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Requests while they arrive and are decoded.
    pub requests: Part,
    /// Answers that the network has not taken yet.
    pub answers: Part,
    /// Sends that wait for a shard or its disk.
    pub sends: Part,
    /// Receives and pulls that wait.
    pub polls: Part,
    /// Acknowledgements and other commands that wait.
    pub commands: Part,
    /// What is remembered of clients: settings, lite topics.
    pub sessions: Part,
}

impl Memory {
    /// The budget of a process that may have so many bytes in all. The rest is for what the broker needs itself: the tails of
    /// the logs, the index of messages, progress, threads.
    #[must_use]
    pub fn of_process(process_bytes: u64) -> Self {
        let budget = process_bytes / 100 * MEMORY_BUDGET_PERCENT;
        let budget = usize::try_from(budget.max(MEMORY_BUDGET_BYTES_MIN)).unwrap_or(usize::MAX);
        let percent = |part: usize| budget / 100 * part;
        Self {
            requests: Part::new(percent(25)),
            answers: Part::new(percent(25)),
            sends: Part::new(percent(25)),
            polls: Part::new(percent(10)),
            commands: Part::new(percent(5)),
            sessions: Part::new(percent(10)),
        }
    }
}

impl Default for Memory {
    /// As on a machine of 4 GiB.
    fn default() -> Self {
        Self::of_process(4 << 30)
    }
}

/// One part of the budget; cheap to clone.
#[derive(Debug, Clone)]
pub struct Part(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    max: usize,
    used: AtomicUsize,
}

impl Part {
    /// With so many bytes.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Counter { max, used: AtomicUsize::new(0) }))
    }

    /// Bytes that may be used.
    #[must_use]
    pub fn max(&self) -> usize {
        self.0.max
    }

    /// Bytes that are used.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Takes bytes; none when they are more than is left. Nothing waits here.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Option<Share> {
        self.try_add(bytes, self.0.max).then(|| Share { part: self.clone(), bytes })
    }

    /// Counts bytes that are there already, also beyond what may be used.
    #[must_use]
    pub fn count(&self, bytes: usize) -> Share {
        self.0.used.fetch_add(bytes, Ordering::Relaxed);
        Share { part: self.clone(), bytes }
    }

    fn try_add(&self, bytes: usize, max: usize) -> bool {
        let add = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= max);
        self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }
}

/// Bytes of a part; given back when dropped.
#[derive(Debug)]
pub struct Share {
    part: Part,
    bytes: usize,
}

impl Share {
    /// Takes more of the same part as long as no more than `max` bytes of it are used then; whether they were there.
    #[must_use]
    pub fn grow(&mut self, bytes: usize, max: usize) -> bool {
        let is_there = self.part.try_add(bytes, max.min(self.part.max()));
        if is_there {
            self.bytes += bytes;
        }
        is_there
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.part.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more_than_there_is() {
        let part = Part::new(100);
        let mut first = part.take(60).unwrap();
        assert!(part.take(41).is_none());
        assert!(first.grow(20, 80) && !first.grow(1, 80), "it leaves something to others");
        let second = part.take(20).unwrap();
        assert_eq!((part.used(), first.bytes()), (100, 80));
        assert!(part.take(usize::MAX).is_none(), "nothing overflows");
        let beyond = part.count(50);
        drop(first);
        assert!(part.take(31).is_none() && part.take(30).is_some());
        drop((second, beyond));
        assert_eq!(part.used(), 0);
    }

    #[test]
    fn the_parts_are_no_more_than_the_budget_and_a_small_process_has_a_least_one() {
        for process_bytes in [0, 64 << 20, 256 << 20, 1 << 30, 64 << 30, u64::MAX] {
            let memory = Memory::of_process(process_bytes);
            let parts = [
                &memory.requests,
                &memory.answers,
                &memory.sends,
                &memory.polls,
                &memory.commands,
                &memory.sessions,
            ];
            let sum: u64 = parts.iter().map(|part| part.max() as u64).sum();
            let budget = (process_bytes / 100 * MEMORY_BUDGET_PERCENT).max(MEMORY_BUDGET_BYTES_MIN);
            assert!(sum <= budget && sum > budget / 100 * 98, "{sum} of {budget}");
        }
    }
}
