//! Milliseconds <-> the wire's timestamps and durations.
//! Times before 1970 become 0; negative durations are told apart from zero.

use prost_types::{Duration, Timestamp};

/// Unix milliseconds; 0 for times before 1970.
pub(crate) fn timestamp_ms(timestamp: &Timestamp) -> u64 {
    let seconds = u64::try_from(timestamp.seconds).unwrap_or(0);
    let nanos = u64::try_from(timestamp.nanos).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
}

/// From Unix milliseconds.
pub(crate) fn timestamp(ms: u64) -> Timestamp {
    Timestamp { seconds: whole_seconds(ms), nanos: rest_nanos(ms) }
}

/// Milliseconds; none for a negative duration.
pub(crate) fn duration_ms(duration: &Duration) -> Option<u64> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = u64::try_from(duration.nanos).ok()?;
    Some(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

/// From milliseconds.
pub(crate) fn duration(ms: u64) -> Duration {
    Duration { seconds: whole_seconds(ms), nanos: rest_nanos(ms) }
}

fn whole_seconds(ms: u64) -> i64 {
    i64::try_from(ms / 1000).unwrap_or(i64::MAX)
}

fn rest_nanos(ms: u64) -> i32 {
    i32::try_from(ms % 1000).unwrap_or(0).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_survive_the_round_trip() {
        for ms in [0, 1, 999, 1000, 1_700_000_000_123] {
            assert_eq!(timestamp_ms(&timestamp(ms)), ms);
            assert_eq!(duration_ms(&duration(ms)), Some(ms));
        }
        assert_eq!(duration_ms(&Duration { seconds: -1, nanos: 0 }), None);
        assert_eq!(timestamp_ms(&Timestamp { seconds: -5, nanos: 0 }), 0);
        assert_eq!(duration_ms(&Duration { seconds: i64::MAX, nanos: 0 }), Some(u64::MAX));
    }
}
