//! The clocks, read here and nowhere else in this crate: one for durations, one for dates.
//! Shards have a clock of their own, given to them from outside.

use broker_replication::{Clock, SystemClock};

/// Unix time in milliseconds, for what people read: it may jump, so that no duration counts by it.
#[must_use]
pub fn now_ms() -> u64 {
    SystemClock.wall_ms()
}

/// Milliseconds that only the passing of time moves, for durations: sessions, polls, renewals.
#[must_use]
pub(crate) fn monotonic_ms() -> u64 {
    SystemClock.monotonic_ms()
}

/// When that was, Unix time by today's wall clock.
pub(crate) fn unix_ms_of(monotonic: u64) -> u64 {
    now_ms().saturating_sub(monotonic_ms().saturating_sub(monotonic))
}
