//! How often and after which pauses a message is delivered again to a group (protocol section 5.4).

use crate::limits::{
    ATTEMPTS_DEFAULT, ATTEMPTS_MAX, RETRY_MULTIPLIER_MAX, RETRY_PAUSE_MS_MAX, RETRY_PAUSES_MAX,
};

/// Why a retry policy is not legal.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RetryError {
    /// No attempt, or too many.
    #[error("{0} attempts are not possible; use 1 to {ATTEMPTS_MAX}")]
    Attempts(u32),
    /// No pause, or too many.
    #[error("the backoff lists {0} pauses; use 1 to {RETRY_PAUSES_MAX}")]
    Pauses(usize),
    /// A pause that no message should wait for.
    #[error("a pause of the backoff is {0} ms; at most {RETRY_PAUSE_MS_MAX} ms are allowed")]
    Pause(u64),
    /// It shrinks, grows too fast, or is no number.
    #[error("the multiplier of the backoff is {0}; use 1 to {RETRY_MULTIPLIER_MAX}")]
    Multiplier(f64),
    /// The first pause is longer than the longest.
    #[error(
        "the backoff begins with {initial_ms} ms, which is more than its longest pause of {max_ms} ms"
    )]
    Shrinks {
        /// First pause.
        initial_ms: u64,
        /// Longest pause.
        max_ms: u64,
    },
}

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
    /// Checks every number against its limit.
    ///
    /// # Errors
    /// [`RetryError`] naming what is wrong.
    pub fn validate(&self) -> Result<(), RetryError> {
        if !(1..=ATTEMPTS_MAX).contains(&self.max_attempts) {
            return Err(RetryError::Attempts(self.max_attempts));
        }
        match &self.backoff {
            Backoff::Exponential { initial_ms, max_ms, multiplier } => {
                // Also refuses what is not a number.
                if !(1.0..=RETRY_MULTIPLIER_MAX).contains(multiplier) {
                    return Err(RetryError::Multiplier(*multiplier));
                }
                if initial_ms > max_ms {
                    return Err(RetryError::Shrinks { initial_ms: *initial_ms, max_ms: *max_ms });
                }
                check_pause(*max_ms)
            }
            Backoff::Customized { next_ms } => {
                if !(1..=RETRY_PAUSES_MAX).contains(&next_ms.len()) {
                    return Err(RetryError::Pauses(next_ms.len()));
                }
                next_ms.iter().try_for_each(|&pause_ms| check_pause(pause_ms))
            }
        }
    }

    /// The policy as an earlier version stored it, which let any number pass: what is too large becomes the largest.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let bound = |ms: &mut u64| *ms = (*ms).min(RETRY_PAUSE_MS_MAX);
        match &mut self.backoff {
            Backoff::Exponential { initial_ms, max_ms, .. } => {
                [initial_ms, max_ms].into_iter().for_each(bound);
            }
            Backoff::Customized { next_ms } => next_ms.iter_mut().for_each(bound),
        }
        self
    }

    /// The pause after delivery attempt `attempt` (from 1).
    #[must_use]
    pub fn pause_ms(&self, attempt: u32) -> u64 {
        let attempt = attempt.max(1);
        match &self.backoff {
            Backoff::Exponential { initial_ms, max_ms, multiplier } => {
                let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
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

fn check_pause(pause_ms: u64) -> Result<(), RetryError> {
    if pause_ms > RETRY_PAUSE_MS_MAX { Err(RetryError::Pause(pause_ms)) } else { Ok(()) }
}

impl Default for RetryPolicy {
    /// Apache RocketMQ's default: 17 deliveries, pauses from 1 s to 2 h.
    fn default() -> Self {
        let seconds = [
            1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600,
            7200u64,
        ];
        Self {
            max_attempts: ATTEMPTS_DEFAULT,
            backoff: Backoff::Customized {
                next_ms: seconds.iter().map(|s| s.saturating_mul(1000)).collect(),
            },
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

    #[test]
    fn a_pause_beyond_its_limit_is_refused_and_bounded_when_it_was_stored() {
        let list = |next_ms: Vec<u64>| Backoff::Customized { next_ms };
        let growing = |initial_ms, max_ms, multiplier| Backoff::Exponential {
            initial_ms,
            max_ms,
            multiplier,
        };
        let policy = |backoff| RetryPolicy { max_attempts: 3, backoff };
        assert_eq!(policy(growing(1, RETRY_PAUSE_MS_MAX, 2.0)).validate(), Ok(()));
        for (backoff, words) in [
            (list(vec![u64::MAX]), "at most 604800000 ms"),
            (list(vec![]), "lists 0 pauses"),
            (list(vec![1; 33]), "lists 33 pauses"),
            (growing(1, u64::MAX, 2.0), "at most 604800000 ms"),
            (growing(2, 1, 2.0), "more than its longest"),
            (growing(1, 2, f64::NAN), "multiplier"),
            (growing(1, 2, f64::INFINITY), "multiplier"),
        ] {
            let text = policy(backoff).validate().unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        }
        for stored in [list(vec![5, u64::MAX]), growing(u64::MAX, u64::MAX, 2.0)] {
            assert_eq!(policy(stored).bounded().validate(), Ok(()));
        }
        assert!(RetryPolicy { max_attempts: 0, ..RetryPolicy::default() }.validate().is_err());
    }
}
