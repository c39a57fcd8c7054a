//! A retry policy in the form that a client's language understands (protocol sections 3.2 and 7): Node knows only the
//! exponential form, Python only a list of pauses in whole seconds, the others know both.

use broker_model::{Backoff, RetryPolicy};
use broker_proto::rocketmq::{
    self as wire, CustomizedBackoff, ExponentialBackoff, Language, retry_policy::Strategy,
};

use crate::convert::time::duration;
use crate::limits::BACKOFF_PAUSES_MAX;

/// The policy for producers, the same for every client: 3 attempts, 10 ms to 1 s (protocol section 3.2).
pub(crate) fn for_producer() -> wire::RetryPolicy {
    wire::RetryPolicy { max_attempts: 3, strategy: Some(exponential(10, 1_000, 2.0)) }
}

/// The policy of a group for a consumer written in this language.
pub(crate) fn for_consumer(policy: &RetryPolicy, language: Language) -> wire::RetryPolicy {
    let strategy = match language {
        Language::NodeJs => as_exponential(&policy.backoff),
        Language::Python => as_pauses(policy, |ms| ms.div_ceil(1000).max(1).saturating_mul(1000)),
        _ => as_pauses(policy, |ms| ms),
    };
    let max_attempts = i32::try_from(policy.max_attempts).unwrap_or(i32::MAX);
    wire::RetryPolicy { max_attempts, strategy: Some(strategy) }
}

fn exponential(initial_ms: u64, max_ms: u64, multiplier: f64) -> Strategy {
    Strategy::ExponentialBackoff(ExponentialBackoff {
        initial: Some(duration(initial_ms)),
        max: Some(duration(max_ms)),
        multiplier: multiplier as f32,
    })
}

fn as_exponential(backoff: &Backoff) -> Strategy {
    match backoff {
        Backoff::Exponential { initial_ms, max_ms, multiplier } => {
            exponential(*initial_ms, *max_ms, *multiplier)
        }
        // From the first pause to the longest, doubling: close to every list that grows.
        Backoff::Customized { next_ms } => {
            let first = next_ms.first().copied().unwrap_or(1_000);
            let longest = next_ms.iter().copied().max().unwrap_or(first);
            exponential(first, longest, 2.0)
        }
    }
}

/// One pause per attempt after which another may follow; the list ends early where the pause no longer changes.
fn as_pauses(policy: &RetryPolicy, rounded: impl Fn(u64) -> u64) -> Strategy {
    let count = match &policy.backoff {
        Backoff::Customized { next_ms } => next_ms.len(),
        Backoff::Exponential { .. } => policy.max_attempts as usize,
    };
    let count = u32::try_from(count.clamp(1, BACKOFF_PAUSES_MAX)).unwrap_or(1);
    let mut pauses: Vec<u64> =
        (1..=count).map(|attempt| rounded(policy.pause_ms(attempt))).collect();
    if matches!(policy.backoff, Backoff::Exponential { .. }) {
        pauses.dedup();
    }
    let next = pauses.into_iter().map(duration).collect();
    Strategy::CustomizedBackoff(CustomizedBackoff { next })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::time::duration_ms;

    fn pauses(policy: &RetryPolicy, language: Language) -> Vec<u64> {
        match for_consumer(policy, language).strategy {
            Some(Strategy::CustomizedBackoff(list)) => {
                list.next.iter().filter_map(duration_ms).collect()
            }
            other => panic!("not a list of pauses: {other:?}"),
        }
    }

    fn curve(policy: &RetryPolicy) -> (u64, u64, f32) {
        match for_consumer(policy, Language::NodeJs).strategy {
            Some(Strategy::ExponentialBackoff(ExponentialBackoff {
                initial: Some(initial),
                max: Some(max),
                multiplier,
            })) => (duration_ms(&initial).unwrap(), duration_ms(&max).unwrap(), multiplier),
            other => panic!("not exponential: {other:?}"),
        }
    }

    #[test]
    fn the_default_policy_is_apaches_list_except_for_node() {
        let policy = RetryPolicy::default();
        for language in [Language::Java, Language::Golang, Language::Python, Language::Rust] {
            let list = pauses(&policy, language);
            assert_eq!((list.len(), list[0], list[17]), (18, 1_000, 7_200_000), "{language:?}");
        }
        assert_eq!(curve(&policy), (1_000, 7_200_000, 2.0));
        assert_eq!(for_consumer(&policy, Language::Java).max_attempts, 17);
    }

    #[test]
    fn an_exponential_policy_becomes_its_pauses_and_stays_a_curve_for_node() {
        let backoff = Backoff::Exponential { initial_ms: 500, max_ms: 3_000, multiplier: 2.0 };
        let policy = RetryPolicy { max_attempts: 6, backoff };
        assert_eq!(pauses(&policy, Language::Java), [500, 1_000, 2_000, 3_000]);
        assert_eq!(pauses(&policy, Language::Python), [1_000, 2_000, 3_000]);
        assert_eq!(curve(&policy), (500, 3_000, 2.0));
    }

    #[test]
    fn python_gets_whole_seconds_of_at_least_one() {
        let backoff = Backoff::Customized { next_ms: vec![10, 1_200, 2_000] };
        let policy = RetryPolicy { max_attempts: 3, backoff };
        assert_eq!(pauses(&policy, Language::Python), [1_000, 2_000, 2_000]);
        assert_eq!(pauses(&policy, Language::Cpp), [10, 1_200, 2_000]);
    }

    #[test]
    fn no_pause_is_too_long_for_any_language() {
        let list = Backoff::Customized { next_ms: vec![u64::MAX] };
        let curve =
            Backoff::Exponential { initial_ms: u64::MAX, max_ms: u64::MAX, multiplier: f64::MAX };
        for backoff in [list, curve] {
            let policy = RetryPolicy { max_attempts: u32::MAX, backoff };
            for language in [Language::Java, Language::Python, Language::NodeJs] {
                assert!(for_consumer(&policy, language).strategy.is_some(), "{language:?}");
            }
        }
    }

    #[test]
    fn producers_always_get_the_exponential_form() {
        let policy = for_producer();
        assert_eq!(policy.max_attempts, 3);
        assert!(matches!(policy.strategy, Some(Strategy::ExponentialBackoff(_))));
    }
}
