//! What is said of a group. Pure: observations in, status out, with the pace at which moving numbers are written.

use std::time::Duration;

use operator_api::condition::{Finding, Truth, merge};
use operator_api::consumer_group::ConsumerGroupStatus;

use super::fetch::Observed;
use super::plan;
use super::progress::{CAUGHT_UP_SECONDS_MAX, fill};
use super::reset;
use super::subscriptions::inconsistent_members;
use crate::push::Outcome as Pushed;
use crate::reach::{judge, settle, silence};
use crate::verdict::Verdict;

/// Condition: somebody consumes.
const ACTIVE: &str = "Active";
/// Condition: nothing waits for long.
const CAUGHT_UP: &str = "CaughtUp";
/// Condition: all members ask for the same.
const CONSISTENT: &str = "SubscriptionsConsistent";

/// When a broker that did not carry out a reset is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// Lag alone is written at most this often.
pub const LAG_INTERVAL: Duration = Duration::from_secs(5);

/// What came of the reconcile.
#[derive(Debug, Clone)]
pub enum Found {
    /// It stopped before anything was asked of brokers.
    Verdict(Verdict),
    /// Brokers were asked for the group, and for the reset of its progress.
    Pushed(Pushed, reset::Outcome),
}

/// The status, and when to look again because time alone may change it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The status.
    pub status: ConsumerGroupStatus,
    /// When to look again; none = when something happens.
    pub again_after: Option<Duration>,
}

/// Makes the status. `since` is the time since it was written last.
#[must_use]
pub fn status(
    observed: &Observed,
    found: &Found,
    before: &ConsumerGroupStatus,
    since: Option<Duration>,
    now: &str,
) -> Outcome {
    let generation = observed.group.metadata.generation.unwrap_or_default();
    let verdict = match found {
        Found::Verdict(verdict) => verdict.clone(),
        Found::Pushed(outcome, _) => judge(outcome, observed.view.as_ref(), &observed.shards),
    };
    let is_held = matches!(found, Found::Pushed(..)) && verdict.is_ready();
    let verdict = if is_held { with_topics(verdict, observed) } else { verdict };
    let silence = silence(observed.view.as_ref(), observed.uptime, &observed.shards);
    let settled = settle(verdict, &before.conditions, generation, silence);
    let Some(verdict) = settled.verdict else {
        return Outcome { status: before.clone(), again_after: settled.again_after };
    };
    let mut status = before.clone();
    status.observed_generation = Some(generation);
    status.group_name = Some(observed.name.clone());
    let mut findings = verdict.findings();
    let reset = match found {
        Found::Pushed(_, reset) => reset,
        Found::Verdict(_) => &reset::Outcome::NotAsked,
    };
    reset::note(&mut status, reset, now);
    findings.extend(reset::finding(&observed.group.spec, &status, reset));
    if is_held {
        status.model = Some(plan::model(observed));
        status.order = Some(plan::order(observed));
        fill(&mut status, &observed.parts);
        findings.extend(consumption(&status, observed));
    }
    status.conditions = merge(&before.conditions, &findings, generation, now);
    let again_after =
        settled.again_after.or_else(|| reset.is_worth_another_try().then_some(ASK_AGAIN));
    pace(status, before, since, again_after)
}

/// A declared topic that does not exist is expected to come.
fn with_topics(verdict: Verdict, observed: &Observed) -> Verdict {
    if !verdict.is_ready() || observed.missing_topics.is_empty() {
        return verdict;
    }
    let message = format!(
        "the cluster has no topic {:?}; apply it, or correct spec.subscriptions",
        observed.missing_topics.join("\", \"")
    );
    Verdict::waiting("TopicNotFound", message)
}

/// Conditions about what runs. Their messages carry no numbers: those stand in the status and would only move.
fn consumption(status: &ConsumerGroupStatus, observed: &Observed) -> Vec<Finding> {
    let finding = |type_, holds: bool, reason, message: &str| Finding {
        type_,
        status: if holds { Truth::True } else { Truth::False },
        reason,
        message: message.to_owned(),
    };
    let is_active = status.members.as_ref().is_some_and(|members| members.count > 0);
    let behind = status.totals.as_ref().map_or(0, |totals| totals.lag_seconds);
    let mut findings = vec![
        if is_active {
            finding(ACTIVE, true, "Consuming", "consumers of the group are connected")
        } else {
            finding(ACTIVE, false, "NoMembers", "no consumer of the group is connected")
        },
        if behind < CAUGHT_UP_SECONDS_MAX {
            finding(CAUGHT_UP, true, "CaughtUp", "no message has waited for 10 s or more")
        } else {
            finding(CAUGHT_UP, false, "Behind", "some message has waited for 10 s or more")
        },
    ];
    if is_active {
        let declared = &observed.group.spec.subscriptions;
        findings.push(match inconsistent_members(declared, &observed.parts) {
            None => finding(CONSISTENT, true, "Consistent", "all members ask for the same"),
            Some(difference) => finding(CONSISTENT, false, "Inconsistent", &difference),
        });
    }
    findings
}

/// Leaves moving numbers as they were when they were written a moment ago, and says when they may be written.
fn pace(
    status: ConsumerGroupStatus,
    before: &ConsumerGroupStatus,
    since: Option<Duration>,
    again_after: Option<Duration>,
) -> Outcome {
    let Some(since) = since.filter(|since| *since < LAG_INTERVAL) else {
        return Outcome { status, again_after };
    };
    if standing(&status) != standing(before) || status == *before {
        return Outcome { status, again_after };
    }
    let rest = LAG_INTERVAL.saturating_sub(since).max(Duration::from_millis(100));
    Outcome { status: before.clone(), again_after: Some(rest) }
}

/// The part of a status that is worth a write at once.
fn standing(status: &ConsumerGroupStatus) -> ConsumerGroupStatus {
    let mut standing = status.clone();
    standing.topics.clear();
    standing.totals = None;
    standing.display = None;
    standing.conditions.retain(|condition| condition.type_ != CAUGHT_UP);
    standing
}

#[cfg(test)]
mod tests {
    use operator_api::consumer_group::{Members, Totals};

    use super::*;

    fn with(lag: i64, members: u32) -> ConsumerGroupStatus {
        ConsumerGroupStatus {
            totals: Some(Totals { lag, ..Totals::default() }),
            members: Some(Members { count: members, clients: Vec::new() }),
            ..ConsumerGroupStatus::default()
        }
    }

    #[test]
    fn lag_alone_waits_for_its_interval() {
        let recently = Some(Duration::from_secs(2));
        let outcome = pace(with(7, 1), &with(3, 1), recently, None);
        assert_eq!(outcome.status, with(3, 1));
        assert_eq!(outcome.again_after, Some(Duration::from_secs(3)));
        let outcome = pace(with(7, 1), &with(3, 1), Some(LAG_INTERVAL), None);
        assert_eq!(outcome.status, with(7, 1));
        assert_eq!(pace(with(7, 1), &with(3, 1), None, None).status, with(7, 1));
    }

    #[test]
    fn a_new_member_is_written_at_once() {
        let recently = Some(Duration::from_secs(1));
        let outcome = pace(with(7, 2), &with(3, 1), recently, None);
        assert_eq!((outcome.status, outcome.again_after), (with(7, 2), None));
    }
}
