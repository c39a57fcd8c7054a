//! How often and after which pauses a message is delivered again to a group (protocol section 5.4).

use crate::limits::ATTEMPTS_DEFAULT;

/// The pause before the next delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Backoff {
    /// `min(initial * multiplier^(attempt - 1), max)`.
    Exponential {
        /// First pause.
        initial_ms: u64,
        /// Longest pause.
        max_ms: u64,
        /// Growth per attempt, at least 1.
        multiplier: f64,
    },
    /// The n-th pause after the n-th attempt; the last one for all further attempts. Never empty.
    Customized {
        /// The pauses.
        next_ms: Vec<u64>,
    },
}

/// Attempts and backoff of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Deliveries in all before the dead-letter topic, at least 1.
    pub max_attempts: u32,
    /// Pause between them.
    pub backoff: Backoff,
}

impl RetryPolicy {
    /// The pause after delivery attempt `attempt` (from 1).
    #[must_use]
    pub fn pause_ms(&self, attempt: u32) -> u64 {
        let attempt = attempt.max(1);
        match &self.backoff {
            Backoff::Exponential { initial_ms, max_ms, multiplier } => {
                let exponent = i32::try_from(attempt - 1).unwrap_or(i32::MAX);
                let pause = (*initial_ms as f64) * multiplier.powi(exponent);
                if pause >= *max_ms as f64 { *max_ms } else { pause as u64 }
            }
            Backoff::Customized { next_ms } => {
                let index = (attempt as usize).min(next_ms.len()).saturating_sub(1);
                next_ms.get(index).copied().unwrap_or(0)
            }
        }
    }
}

impl Default for RetryPolicy {
    /// Apache RocketMQ's default: 17 deliveries, pauses from 1 s to 2 h.
    fn default() -> Self {
        let seconds =
            [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
        Self {
            max_attempts: ATTEMPTS_DEFAULT,
            backoff: Backoff::Customized { next_ms: seconds.iter().map(|s| s * 1000).collect() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_maximum_and_stay_there() {
        let policy = RetryPolicy {
            max_attempts: 5,
            backoff: Backoff::Exponential { initial_ms: 5_000, max_ms: 12_000, multiplier: 2.0 },
        };
        let pauses: Vec<_> = (1..=4).map(|a| policy.pause_ms(a)).collect();
        assert_eq!(pauses, [5_000, 10_000, 12_000, 12_000]);
        assert_eq!(policy.pause_ms(u32::MAX), 12_000);
        let default = RetryPolicy::default();
        assert_eq!(
            (default.pause_ms(0), default.pause_ms(1), default.pause_ms(99)),
            (1_000, 1_000, 7_200_000)
        );
    }
}
