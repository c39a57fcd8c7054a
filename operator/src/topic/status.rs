//! What is said of a topic. Pure: observations in, status out. Also the rule that all kinds inside a cluster share: a
//! short silence of brokers is no news.

use std::time::Duration;

use broker_proto::admin;
use operator_api::condition::merge;
use operator_api::condition::{Condition, READY, Truth};
use operator_api::limits::STATUS_NAMES_MAX;
use operator_api::topic::{QueuePlacement, TopicStatus};

use super::fetch::Observed;
use super::plan::Plan;
use crate::links::{ClusterView, SILENCE_MAX};
use crate::push::Outcome as Pushed;
use crate::verdict::{Reason, Verdict};

/// When brokers that did not answer are asked again, if they do not show up by themselves.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What came of the reconcile.
#[derive(Debug, Clone)]
pub enum Found {
    /// It stopped before anything was asked of brokers.
    Verdict(Verdict),
    /// Brokers were asked.
    Pushed(Box<Plan>, Pushed),
}

/// The status, and when to look again because time alone may change it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The status.
    pub status: TopicStatus,
    /// When to look again; none = when something happens.
    pub again_after: Option<Duration>,
}

/// Makes the status.
#[must_use]
pub fn status(observed: &Observed, found: &Found, before: &TopicStatus, now: &str) -> Outcome {
    let generation = observed.topic.metadata.generation.unwrap_or_default();
    let verdict = match found {
        Found::Verdict(verdict) => verdict.clone(),
        Found::Pushed(_, outcome) => judge(outcome, observed.view.as_ref()),
    };
    let silence = silence(observed.view.as_ref(), observed.uptime);
    let settled = settle(verdict, &before.conditions, generation, silence);
    let mut status = before.clone();
    if settled.verdict.is_some() {
        status.observed_generation = Some(generation);
        status.topic_name = Some(observed.name.clone());
    }
    if let (Found::Pushed(plan, Pushed::Everywhere), Some(view)) = (found, &observed.view) {
        status.queues = Some(plan.topic.queues);
        status.placement = placement(&plan.topic, view);
        status.groups = observed.groups.iter().take(STATUS_NAMES_MAX).cloned().collect();
    }
    if let Some(verdict) = &settled.verdict {
        status.conditions = merge(&before.conditions, &verdict.findings(), generation, now);
    }
    Outcome { status, again_after: settled.again_after }
}

fn placement(topic: &admin::Topic, view: &ClusterView<admin::Topic>) -> Vec<QueuePlacement> {
    let place = |placed: &admin::QueuePlacement| {
        let shard = view.map.shards.iter().find(|shard| shard.name == placed.shard)?;
        Some(QueuePlacement {
            shard: placed.shard.clone(),
            broker: shard.leader_broker,
            queues: placed.queues,
        })
    };
    topic.placement.iter().filter_map(place).collect()
}

/// The verdict on a push.
pub(crate) fn judge<T>(outcome: &Pushed, view: Option<&ClusterView<T>>) -> Verdict {
    match outcome {
        Pushed::Everywhere => {
            let brokers = view.map_or(0, |view| view.brokers.len());
            let message = format!("held by {brokers} of {brokers} brokers");
            Verdict::Ready(Reason::new("Synced", message))
        }
        Pushed::Missing { broker, error } => {
            let message = format!("broker {broker} does not answer: {error}");
            Verdict::waiting("ClusterNotReady", message)
        }
        Pushed::Refused { broker, error } => {
            let word = match error.code {
                tonic::Code::Unimplemented => "NotServed",
                tonic::Code::ResourceExhausted => "LimitReached",
                _ => "RefusedByBroker",
            };
            Verdict::stalled(word, format!("broker {broker} refuses: {}", error.message))
        }
    }
}

/// For how long some broker has been silent; an operator that has just started has heard nobody yet.
pub(crate) fn silence<T>(view: Option<&ClusterView<T>>, uptime: Duration) -> Duration {
    match view {
        Some(view) => view.longest_silence().map(|(_, silence)| silence.lasted).unwrap_or_default(),
        None => uptime,
    }
}

/// What to report, after what was reported before is taken into account.
#[derive(Debug)]
pub(crate) struct Settled {
    /// None: what was said before still stands.
    pub(crate) verdict: Option<Verdict>,
    /// When to look again.
    pub(crate) again_after: Option<Duration>,
}

/// An object that was ready and whose cluster is silent keeps its conditions for a while; then it is unknown.
pub(crate) fn settle(
    verdict: Verdict,
    before: &[Condition],
    generation: i64,
    silence: Duration,
) -> Settled {
    let waits = verdict.reason().word == "ClusterNotReady";
    if !waits {
        let again_after = (!verdict.is_ready()).then_some(Duration::from_secs(60));
        return Settled { verdict: Some(verdict), again_after };
    }
    // A broker that is silent wakes everybody when it is back; only one that just did not answer is asked again.
    let again_after = silence.is_zero().then_some(ASK_AGAIN);
    let ready = before.iter().find(|c| c.type_ == READY && c.observed_generation == generation);
    let was_ready = ready.is_some_and(|c| c.status != Truth::False);
    if !was_ready {
        return Settled { verdict: Some(verdict), again_after };
    }
    if silence < SILENCE_MAX {
        let rest = SILENCE_MAX.saturating_sub(silence).max(Duration::from_millis(100));
        return Settled { verdict: None, again_after: again_after.or(Some(rest)) };
    }
    let message = verdict.reason().message.clone();
    let verdict = Verdict::Unknown(Reason::new("ClusterUnreachable", message));
    Settled { verdict: Some(verdict), again_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: Truth) -> Vec<Condition> {
        let verdict = Verdict::Ready(Reason::new("Synced", ""));
        let mut conditions = merge(&[], &verdict.findings(), 3, "t");
        conditions[0].status = status;
        conditions
    }

    fn missing() -> Verdict {
        judge::<()>(&Pushed::Missing { broker: 1, error: "gone".to_owned() }, None)
    }

    #[test]
    fn a_short_silence_of_a_broker_is_no_news() {
        let settled = settle(missing(), &ready(Truth::True), 3, Duration::from_secs(10));
        assert!(settled.verdict.is_none());
        assert_eq!(settled.again_after, Some(Duration::from_secs(20)));
        let unanswered = settle(missing(), &ready(Truth::True), 3, Duration::ZERO);
        assert_eq!(unanswered.again_after, Some(ASK_AGAIN));
    }

    #[test]
    fn a_long_silence_makes_readiness_unknown_and_not_false() {
        let settled = settle(missing(), &ready(Truth::True), 3, SILENCE_MAX);
        assert_eq!(settled.again_after, None);
        let findings = settled.verdict.unwrap().findings();
        assert_eq!(
            (findings[0].status, findings[0].reason),
            (Truth::Unknown, "ClusterUnreachable")
        );
    }

    #[test]
    fn an_object_that_never_was_ready_says_at_once_what_it_waits_for() {
        for before in [Vec::new(), ready(Truth::False)] {
            let settled = settle(missing(), &before, 3, Duration::ZERO);
            assert_eq!(settled.verdict.unwrap().reason().word, "ClusterNotReady");
        }
        let changed = settle(missing(), &ready(Truth::True), 4, Duration::ZERO);
        assert!(changed.verdict.is_some());
    }

    #[test]
    fn a_refusal_by_a_broker_waits_for_a_person() {
        let error = crate::broker_admin::AdminError {
            code: tonic::Code::Unimplemented,
            message: "this broker is older than the operator".to_owned(),
        };
        let verdict = judge::<()>(&Pushed::Refused { broker: 0, error }, None);
        assert_eq!(verdict.findings()[1].type_, operator_api::condition::STALLED);
        assert_eq!(verdict.reason().word, "NotServed");
    }
}
