//! What is said of restarts that are to come: the condition `Updated` and the plan in the status. Pure.

use operator_api::condition::{Finding, Truth};
use operator_api::update::{BrokerUpdate, UpdateCause, UpdateGate, UpdateStatus};

use super::plan::Plan;
use crate::names::{APPROVE_PLAN_ANNOTATION, ClusterKey};

/// Condition: every broker runs what it is to run.
pub const UPDATED: &str = "Updated";

/// The plan; none when no broker is to restart.
#[must_use]
pub fn status(plan: &Plan) -> Option<UpdateStatus> {
    let update = &plan.update.plan;
    (!update.brokers.is_empty()).then(|| update.clone())
}

/// What is to be said of restarts.
#[must_use]
pub fn finding(key: &ClusterKey, plan: &Plan) -> Finding {
    let update = &plan.update;
    let waiting = |gate| update.plan.brokers.iter().filter(move |one| one.waits_for == gate);
    let finding =
        |reason, message| Finding { type_: UPDATED, status: Truth::False, reason, message };
    if let Some(what) = what(waiting(UpdateGate::Approval)) {
        let hash = &update.plan.plan;
        let ClusterKey { namespace, name } = key;
        let another = update.approves_another.as_ref().map_or_else(String::new, |another| {
            format!(" The annotation names {another}, which is not this plan.")
        });
        let message = format!(
            "The restart of {what} waits for approval; status.update has the whole plan.{another} To restart them one by one: \
             kubectl annotate -n {namespace} brokercluster {name} {APPROVE_PLAN_ANNOTATION}={hash} --overwrite"
        );
        return finding("ApprovalNeeded", message);
    }
    if let Some(what) = what(waiting(UpdateGate::Unpause)) {
        let message = format!(
            "spec.update.strategy is Paused: {what} would restart; status.update has the whole plan. To go on, set it to \
             OnApproval or Automatic, or take it out"
        );
        return finding("Paused", message);
    }
    if let Some(what) = what(waiting(UpdateGate::Turn)) {
        return finding("Rolling", format!("restarts one by one: {what}"));
    }
    if !update.unfinished.is_empty() {
        let brokers = list(&update.unfinished);
        return finding("Rolling", format!("waits until {brokers} run what they are to run"));
    }
    let message = "every broker runs what it is to run".to_owned();
    Finding { type_: UPDATED, status: Truth::True, reason: "AsPlanned", message }
}

/// Brokers, the change of the first and who asks for it; none without brokers.
fn what<'a>(waiting: impl Iterator<Item = &'a BrokerUpdate>) -> Option<String> {
    let waiting: Vec<&BrokerUpdate> = waiting.collect();
    let first = waiting.first()?;
    let brokers: Vec<u32> = waiting.iter().map(|one| one.broker).collect();
    let change = match first.changes.as_slice() {
        [] => String::new(),
        [one] => format!(" ({one})"),
        [one, rest @ ..] => format!(" ({one}, and {} more)", rest.len()),
    };
    let cause = |cause: &UpdateCause| match cause {
        UpdateCause::Spec => "the spec of the BrokerCluster",
        UpdateCause::Operator => "the operator",
    };
    let causes: Vec<&str> = first.because.iter().map(cause).collect();
    Some(format!("{}{change}, asked for by {},", list(&brokers), causes.join(" and ")))
}

fn list(brokers: &[u32]) -> String {
    let ids: Vec<String> = brokers.iter().map(u32::to_string).collect();
    let word = if ids.len() == 1 { "broker" } else { "brokers" };
    format!("{word} {}", ids.join(", "))
}
