//! When deliveries of push consumers are prolonged, and by what it is known that a consumer has them and lives. All times
//! follow from one, so that a test may have shorter ones.

use std::time::Duration;

use broker_model::limits::{AUTO_RENEW_SLICE_MS, AUTO_RENEW_SLICES_MAX};

/// Invisible durations of the first, second, ... prolonging, in slices; the last one repeats (protocol section 3.6).
const STEPS: [u64; 6] = [1, 3, 5, 10, 30, 60];

/// The times of deliveries that are prolonged by the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalTiming {
    slice_ms: u64,
}

impl Default for RenewalTiming {
    fn default() -> Self {
        Self::of_slice(AUTO_RENEW_SLICE_MS)
    }
}

impl RenewalTiming {
    /// The times that follow from a slice.
    #[must_use]
    pub const fn of_slice(slice_ms: u64) -> Self {
        Self { slice_ms }
    }

    /// How long a delivery is invisible to others at first.
    pub(crate) const fn slice_ms(self) -> u64 {
        self.slice_ms
    }

    /// How often deliveries are looked at.
    pub(crate) const fn round_ms(self) -> u64 {
        self.slice_ms / 12
    }

    /// A delivery is prolonged when less than this is left of its invisible duration.
    pub(crate) const fn ahead_ms(self) -> u64 {
        self.slice_ms / 6
    }

    /// A connection on which nothing came for so long is asked for a sign of life ...
    #[must_use]
    pub const fn ping_after(self) -> Duration {
        Duration::from_millis(self.slice_ms / 3)
    }

    /// ... and closed when none comes in this time.
    #[must_use]
    pub const fn ping_timeout(self) -> Duration {
        Duration::from_millis(self.slice_ms / 4)
    }

    /// A connection that is open so long after an answer was written has carried it: one that swallows what it is given is
    /// closed before. Less than a slice without its end, in which the first prolonging is decided.
    pub(crate) const fn receipt_ms(self) -> u64 {
        self.slice_ms / 3 + self.slice_ms / 4 + self.round_ms()
    }

    /// What a client has that was silent for so long goes to others. Clients send heartbeats, at least every half of it.
    pub(crate) const fn silence_ms_max(self) -> u64 {
        self.slice_ms
    }

    /// How long the next prolonging is, so many having been before.
    pub(crate) fn step_ms(self, renewals: usize) -> u64 {
        self.slice_ms.saturating_mul(STEPS[renewals.min(STEPS.len() - 1)])
    }

    /// How long a delivery may stay with one consumer.
    pub(crate) const fn total_ms(self) -> u64 {
        self.slice_ms.saturating_mul(AUTO_RENEW_SLICES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_an_answer_arrived_is_known_before_its_delivery_is_first_prolonged() {
        let timing = RenewalTiming::default();
        assert_eq!((timing.slice_ms(), timing.total_ms()), (60_000, 3 * 3_600_000));
        assert!(timing.receipt_ms() < timing.slice_ms() - timing.ahead_ms());
        let closed_after = timing.ping_after() + timing.ping_timeout();
        assert!(closed_after < Duration::from_millis(timing.receipt_ms()));
        assert_eq!(
            [0, 1, 5, 9].map(|n| timing.step_ms(n)),
            [60_000, 180_000, 3_600_000, 3_600_000]
        );
    }
}
