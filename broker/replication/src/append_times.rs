//! How long the durable writes of a shard take: the writer thread notes each, whoever asks gets all since the start.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets, microseconds; a last bucket holds what took longer.
const BUCKETS_MAX_US: [u64; 14] = [
    250, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000,
];

/// See the head of this file.
#[derive(Debug, Default)]
pub(crate) struct AppendTimes {
    counts: [AtomicU64; BUCKETS_MAX_US.len() + 1],
    sum_us: AtomicU64,
}

/// Times of all durable writes since the shard was opened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AppendTimesSeen {
    /// For each bucket its upper end in seconds and how many writes fell into it, and not into one before it; the last
    /// upper end is [`f64::MAX`].
    pub buckets: Vec<(f64, u64)>,
    /// All of them together, seconds.
    pub sum_seconds: f64,
}

impl AppendTimes {
    pub(crate) fn note(&self, time: Duration) {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_MAX_US.partition_point(|max_us| *max_us < time_us);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(time_us, Ordering::Relaxed);
    }

    pub(crate) fn seen(&self) -> AppendTimesSeen {
        let ends = BUCKETS_MAX_US.iter().map(|max_us| *max_us as f64 / 1e6).chain([f64::MAX]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        AppendTimesSeen {
            buckets: ends.zip(counts).collect(),
            sum_seconds: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_bucket_that_ends_at_it() {
        let times = AppendTimes::default();
        for time_us in [0, 250, 251, 5_000_000, 5_000_001] {
            times.note(Duration::from_micros(time_us));
        }
        let seen = times.seen();
        let filled: Vec<(f64, u64)> =
            seen.buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_25, 2), (0.000_5, 1), (5.0, 1), (f64::MAX, 1)]);
        assert!((seen.sum_seconds - 10.000_502).abs() < 1e-9);
    }
}
