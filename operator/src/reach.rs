//! Whether a thing is served although brokers are away: only those count that lead a shard with queues of it. Pure. Also
//! the rule that all kinds inside a cluster share: a short silence of brokers is no news.

use std::collections::BTreeSet;
use std::time::Duration;

use operator_api::condition::{Condition, READY, Truth};

use crate::links::{ClusterView, SILENCE_MAX};
use crate::push::{Missing, Outcome as Pushed};
use crate::verdict::{Reason, Verdict};

/// When brokers that did not answer are asked again, if they do not show up by themselves.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Reason: a shard that is needed is not served.
const UNAVAILABLE: &str = "ShardUnavailable";

/// Names of shards.
pub type Shards = BTreeSet<String>;

/// The first of the shards that a broker leads.
fn led_by<'a, T>(view: &'a ClusterView<T>, broker: u32, shards: &Shards) -> Option<&'a str> {
    let mut led = view.map.shards.iter().filter(|shard| shard.leader_broker == broker);
    led.find(|shard| shards.contains(&shard.name)).map(|shard| shard.name.as_str())
}

/// The verdict on a push of a thing with queues on `shards`.
pub(crate) fn judge<T>(
    outcome: &Pushed,
    view: Option<&ClusterView<T>>,
    shards: &Shards,
) -> Verdict {
    let all = view.map_or(0, |view| view.brokers.len());
    match outcome {
        Pushed::Everywhere => {
            let message = format!("held by {all} of {all} brokers");
            Verdict::Ready(Reason::new("Synced", message))
        }
        Pushed::Missing(missing) => without(missing, view, shards),
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

/// The verdict when brokers are away.
fn without<T>(missing: &[Missing], view: Option<&ClusterView<T>>, shards: &Shards) -> Verdict {
    let all = view.map_or(0, |view| view.brokers.len());
    let needed = missing.iter().find_map(|one| Some((one, led_by(view?, one.broker, shards)?)));
    if let Some((Missing { broker, error }, shard)) = needed {
        let message = format!("{shard} on broker {broker} is not served: {error}");
        return Verdict::waiting(UNAVAILABLE, message);
    }
    let held = all.saturating_sub(missing.len());
    let Some(Missing { broker, error }) = missing.first().filter(|_| held == 0) else {
        let away: Vec<String> = missing.iter().map(|one| one.broker.to_string()).collect();
        let message = format!(
            "held by {held} of {all} brokers; its queues are on none of the others: broker {} gets it when it is back",
            away.join(", ")
        );
        return Verdict::Ready(Reason::new("Synced", message));
    };
    Verdict::waiting("ClusterNotReady", format!("broker {broker} does not answer: {error}"))
}

/// For how long a broker has been silent that leads one of the shards, or any broker when none of those is; an operator
/// that has just started has heard nobody yet.
pub(crate) fn silence<T>(
    view: Option<&ClusterView<T>>,
    uptime: Duration,
    shards: &Shards,
) -> Duration {
    let Some(view) = view else { return uptime };
    let lasted = |needed: bool| {
        let silent =
            view.brokers.iter().filter(|b| !needed || led_by(view, b.broker, shards).is_some());
        silent.filter_map(|b| b.silence.as_ref()).map(|silence| silence.lasted).max()
    };
    lasted(true).or_else(|| lasted(false)).unwrap_or_default()
}

/// What to report, after what was reported before is taken into account.
#[derive(Debug)]
pub(crate) struct Settled {
    /// None: what was said before still stands.
    pub(crate) verdict: Option<Verdict>,
    /// When to look again.
    pub(crate) again_after: Option<Duration>,
}

/// An object that was ready keeps its conditions while brokers are silent for a short time; then readiness is unknown
/// when a shard of it is not served.
pub(crate) fn settle(
    verdict: Verdict,
    before: &[Condition],
    generation: i64,
    silence: Duration,
) -> Settled {
    let ready = before.iter().find(|c| c.type_ == READY && c.observed_generation == generation);
    let is_short = silence < SILENCE_MAX;
    let rest = SILENCE_MAX.saturating_sub(silence).max(Duration::from_millis(100));
    if verdict.is_ready() {
        let stands = !silence.is_zero() && is_short;
        let stands = stands && ready.is_some_and(|c| c.status == Truth::True);
        let verdict = (!stands).then_some(verdict);
        return Settled { verdict, again_after: stands.then_some(rest) };
    }
    let waits = ["ClusterNotReady", UNAVAILABLE].contains(&verdict.reason().word);
    if !waits {
        return Settled { verdict: Some(verdict), again_after: Some(Duration::from_secs(60)) };
    }
    // A broker that is silent wakes everybody when it is back; only one that just did not answer is asked again.
    let again_after = silence.is_zero().then_some(ASK_AGAIN);
    let was_ready = ready.is_some_and(|c| c.status != Truth::False);
    if !was_ready {
        return Settled { verdict: Some(verdict), again_after };
    }
    if is_short {
        return Settled { verdict: None, again_after: again_after.or(Some(rest)) };
    }
    let Reason { word, message } = verdict.reason().clone();
    let word = if word == UNAVAILABLE { word } else { "ClusterUnreachable" };
    Settled { verdict: Some(Verdict::Unknown(Reason::new(word, message))), again_after }
}

#[cfg(test)]
mod tests;
