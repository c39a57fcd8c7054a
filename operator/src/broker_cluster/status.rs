//! What is said of a cluster. Pure: observations in, status out.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use operator_api::broker_cluster::{
    BrokerClusterStatus, BrokerCounts, ClusterDisplay, ShardState, ShardStatus,
};
use operator_api::condition::{Finding, READY, Truth, merge};

use super::fetch::Observed;
use super::halt::again_after;
use super::outside::Outside;
use super::plan::Plan;
use super::rollout::is_ready;
use super::storage;
use super::updates;
use super::volumes::Replaced;
use crate::context::{shorten, stamp};
use crate::links::{BrokerReport, SILENCE_MAX};
use crate::names::{ACCEPT_DISKS_ANNOTATION, BROKER_LABEL, shard_name};
use crate::verdict::{Reason, Verdict};

/// Longest version that the status takes.
const VERSION_BYTES_MAX: usize = 128;

/// When to look again at a cluster with a pod that is not there: it is made within a moment, or there is a reason.
const WITHOUT_POD_AGAIN: Duration = Duration::from_secs(5);

/// Condition and reason: a broker lost its disk.
pub const DISK_REPLACED: &str = "DiskReplaced";

/// What the status is made of.
#[derive(Debug)]
pub struct Input<'a> {
    /// The cluster and its objects.
    pub observed: &'a Observed,
    /// What is to be, or why it cannot be.
    pub plan: Result<&'a Plan, Verdict>,
    /// What brokers say of themselves.
    pub reports: &'a [BrokerReport],
    /// The status before.
    pub before: &'a BrokerClusterStatus,
    /// Listeners and certificate.
    pub outside: &'a Outside,
}

/// The status, and when to look again because time alone may change it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The status.
    pub status: BrokerClusterStatus,
    /// When to look again; none = when something happens.
    pub again_after: Option<Duration>,
}

/// Makes the status.
#[must_use]
pub fn status(input: &Input<'_>, now: Timestamp) -> Outcome {
    let generation = input.observed.cluster.metadata.generation.unwrap_or_default();
    let mut status = match &input.plan {
        Ok(plan) => planned(input, plan),
        // What runs goes on running: everything but the conditions stays as it was.
        Err(_) => input.before.clone(),
    };
    status.observed_generation = Some(generation);
    let (verdict, again_after) = match &input.plan {
        Ok(plan) => judge(input, plan, &status.shards),
        Err(verdict) => (Some(verdict.clone()), again_after(verdict)),
    };
    status.conditions = match verdict {
        Some(verdict) => {
            let mut findings = verdict.findings();
            findings.extend(input.plan.as_ref().ok().and_then(|plan| replaced(plan)).map(
                |found| Finding {
                    type_: DISK_REPLACED,
                    status: Truth::True,
                    reason: DISK_REPLACED,
                    message: found,
                },
            ));
            let now_ms = u64::try_from(now.as_millisecond()).unwrap_or_default();
            findings.extend(storage::finding(input.reports, now_ms));
            let planned = input.plan.as_ref().ok();
            findings.extend(planned.map(|plan| updates::finding(&input.observed.key, plan)));
            findings.extend(input.outside.findings());
            merge(&input.before.conditions, &findings, generation, &stamp(now))
        }
        None => input.before.conditions.clone(),
    };
    Outcome { status, again_after }
}

fn ready_brokers(input: &Input<'_>, plan: &Plan) -> Vec<u32> {
    let pod_is_ready = |id: u32| {
        let number = id.to_string();
        input.observed.stateful_sets.iter().any(|set| {
            let labels = set.metadata.labels.as_ref();
            labels.and_then(|labels| labels.get(BROKER_LABEL)) == Some(&number) && is_ready(set)
        })
    };
    let stays = |id: &u32| !plan.restarting.contains(id);
    plan.brokers
        .iter()
        .map(|broker| broker.id)
        .filter(stays)
        .filter(|&id| pod_is_ready(id))
        .collect()
}

fn shards(input: &Input<'_>, plan: &Plan, ready: &[u32]) -> Vec<ShardStatus> {
    let shard = |record: &super::map::ShardRecord| ShardStatus {
        id: record.id,
        name: record.name.clone(),
        leader: record.leader,
        replicas: record.replicas.clone(),
        state: shard_state(input, record, ready.contains(&record.leader)),
    };
    plan.map.shards.iter().map(shard).collect()
}

fn shard_state(
    input: &Input<'_>,
    record: &super::map::ShardRecord,
    pod_is_ready: bool,
) -> ShardState {
    let before = || input.before.shards.iter().find(|before| before.id == record.id);
    let before = || before().map_or(ShardState::Unknown, |before| before.state);
    let Some(report) = input.reports.iter().find(|report| report.broker == record.leader) else {
        // An operator that has just started has heard nobody yet.
        return if input.reports.is_empty() { before() } else { ShardState::Unknown };
    };
    match &report.silence {
        // A broker that has just become silent is no news, unless its pod is not ready either.
        Some(silence) if pod_is_ready && silence.lasted < SILENCE_MAX => before(),
        Some(_) => ShardState::Unknown,
        None => {
            let told = report.status.iter().flat_map(|status| &status.shards);
            match told.into_iter().find(|shard| shard.id == record.id) {
                None => ShardState::Unknown,
                Some(shard) if shard.failure.is_empty() => ShardState::Leading,
                Some(_) => ShardState::Failed,
            }
        }
    }
}

fn planned(input: &Input<'_>, plan: &Plan) -> BrokerClusterStatus {
    let desired = u32::try_from(plan.brokers.len()).unwrap_or(u32::MAX);
    let ready = ready_brokers(input, plan);
    let shards = shards(input, plan, &ready);
    let ready = u32::try_from(ready.len()).unwrap_or(u32::MAX);
    let leading = shards.iter().filter(|shard| shard.state == ShardState::Leading).count();
    let selector = input.observed.key.selector();
    let selector: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let display = ClusterDisplay {
        brokers: format!("{ready}/{desired}"),
        shards: format!("{leading}/{}", shards.len()),
        updated: format!("{}/{desired}", plan.update.updated(plan.brokers.len())),
    };
    BrokerClusterStatus {
        observed_generation: None,
        replicas: Some(desired),
        selector: Some(selector.join(",")),
        version: running_version(input).or_else(|| input.before.version.clone()),
        brokers: Some(BrokerCounts { desired, ready }),
        shards,
        endpoints: input.outside.endpoints.clone(),
        certificate: input.outside.certificate.status.clone(),
        storage_size: Some(plan.storage_size.clone()),
        map_version: Some(plan.map.version),
        update: updates::status(plan),
        display: Some(display),
        conditions: Vec::new(),
    }
}

/// The verdict, or none when what was said before still stands; and when to look again.
fn judge(
    input: &Input<'_>,
    plan: &Plan,
    shards: &[ShardStatus],
) -> (Option<Verdict>, Option<Duration>) {
    if let Some(trouble) = input.outside.trouble() {
        return (Some(trouble.clone()), again_after(trouble));
    }
    let ready = ready_brokers(input, plan);
    let all = plan.brokers.len();
    let away: Vec<u32> =
        plan.brokers.iter().map(|b| b.id).filter(|id| !ready.contains(id)).collect();
    if !away.is_empty() {
        let message = pods_away(input, plan, shards, &away);
        // Nothing tells why a pod is not made, nor that there is another reason.
        let without_pod = &input.observed.without_pod;
        let again = without_pod.iter().any(|id| away.contains(id)).then_some(WITHOUT_POD_AGAIN);
        return (Some(Verdict::waiting("BrokersNotReady", message)), again);
    }
    if let Some(failure) = failure(input) {
        return (Some(failure), None);
    }
    if let Some(message) = replaced(plan) {
        return (Some(Verdict::stalled(DISK_REPLACED, message)), None);
    }
    let silent = input.reports.iter().filter_map(|r| Some((r.broker, r.silence.as_ref()?)));
    if let Some((broker, silence)) = silent.max_by_key(|(_, silence)| silence.lasted) {
        let was_ready = is_ready_before(input);
        if silence.lasted < SILENCE_MAX && was_ready {
            let rest = SILENCE_MAX.saturating_sub(silence.lasted);
            return (None, Some(rest.max(Duration::from_millis(100))));
        }
        let message = format!("broker {broker} does not answer: {}", silence.error);
        let reason = Reason::new("BrokersUnreachable", message);
        let verdict = if was_ready { Verdict::Unknown(reason) } else { Verdict::Waiting(reason) };
        // A broker that is back wakes this controller.
        return (Some(verdict), None);
    }
    if input.reports.iter().any(|report| report.map_version < plan.map.version) {
        let message = format!(
            "waits until every broker holds version {} of the cluster map",
            plan.map.version
        );
        return (Some(Verdict::waiting("MapNotHeld", message)), Some(Duration::from_secs(5)));
    }
    let unheard = shards.iter().filter(|shard| shard.state == ShardState::Unknown);
    let unheard: Vec<&str> = unheard.map(|shard| shard.name.as_str()).collect();
    if !unheard.is_empty() {
        let message = format!("waits until brokers tell of {}", unheard.join(", "));
        return (Some(Verdict::waiting("ShardsUnknown", message)), Some(Duration::from_secs(5)));
    }
    if !plan.held_back.is_empty() {
        let message =
            format!("restarts brokers one by one; still to come: {}", list(&plan.held_back));
        return (Some(Verdict::waiting("Rolling", message)), None);
    }
    if let Some(verdict) = plan.growth.verdict(&plan.storage_size) {
        // A StorageClass may allow it later, and nothing tells of that.
        return (Some(verdict), Some(Duration::from_secs(60)));
    }
    if storage::refuses_all_sends(input.reports) {
        let message =
            "every shard refuses sends because its volume is nearly full; see StorageHealthy";
        return (Some(Verdict::waiting("SendsRefused", message)), None);
    }
    let message = format!("{all} of {all} brokers serve {} shards", plan.map.shards.len());
    (Some(Verdict::Ready(Reason::new("Serving", message))), None)
}

/// What is to be said of brokers whose pods are not ready.
fn pods_away(input: &Input<'_>, plan: &Plan, shards: &[ShardStatus], away: &[u32]) -> String {
    let all = plan.brokers.len();
    let unserved = shards.iter().filter(|shard| away.contains(&shard.leader));
    let unserved = unserved.filter(|shard| shard.state != ShardState::Leading);
    let unserved: Vec<&str> = unserved.map(|shard| shard.name.as_str()).collect();
    let unserved = match unserved.as_slice() {
        [] => String::new(),
        names => format!("; not served: {}", names.join(", ")),
    };
    let troubles = input.observed.troubles.iter().filter(|t| away.contains(&t.broker));
    let troubles: Vec<String> =
        troubles.map(|t| format!("; broker {}: {}", t.broker, t.message)).collect();
    let still = match plan.held_back.as_slice() {
        [] => String::new(),
        held_back => format!("; brokers {} wait for that", list(held_back)),
    };
    format!(
        "{} of {all} brokers are ready; waits for the pods of broker {}{unserved}{}{still}",
        all - away.len(),
        list(away),
        troubles.concat()
    )
}

/// What brokers run by their own word; one after the other where they differ.
fn running_version(input: &Input<'_>) -> Option<String> {
    let told = input.reports.iter().filter_map(|report| report.status.as_ref());
    let versions: BTreeSet<&str> = told.map(|status| status.version.as_str()).collect();
    let versions: Vec<&str> = versions.into_iter().filter(|text| !text.is_empty()).collect();
    (!versions.is_empty()).then(|| shorten(&versions.join(", "), VERSION_BYTES_MAX))
}

/// What is to be said of disks that came in the place of others.
fn replaced(plan: &Plan) -> Option<String> {
    let Replaced { broker, lost, found } = plan.replaced.first()?;
    let held = plan.brokers.iter().find(|planned| planned.id == *broker);
    let shards: Vec<String> = held?.shards.iter().map(|&shard| shard_name(shard)).collect();
    let others = match plan.replaced.len() {
        1 => String::new(),
        count => format!(" (and {} more brokers)", count - 1),
    };
    Some(format!(
        "broker {broker} runs on disk {found}, and the messages of {} were on disk {lost}: they are lost unless that \
         volume comes back{others}. To go on without them, annotate the BrokerCluster: {ACCEPT_DISKS_ANNOTATION}={}",
        shards.join(", "),
        plan.replaced.iter().map(|one| one.found.as_str()).collect::<Vec<_>>().join(",")
    ))
}

fn is_ready_before(input: &Input<'_>) -> bool {
    let generation = input.observed.cluster.metadata.generation;
    let ready = input.before.conditions.iter().find(|c| c.type_ == READY);
    ready.is_some_and(|c| c.status != Truth::False && Some(c.observed_generation) == generation)
}

fn failure(input: &Input<'_>) -> Option<Verdict> {
    let broken = |report: &BrokerReport| {
        let shards = &report.status.as_ref()?.shards;
        let shard = shards.iter().find(|shard| !shard.failure.is_empty())?;
        let message =
            format!("{} on broker {} stopped: {}", shard.name, report.broker, shard.failure);
        Some(Verdict::stalled("ShardFailed", message))
    };
    input.reports.iter().find_map(broken)
}

fn list(ids: &[u32]) -> String {
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    ids.join(", ")
}

#[cfg(test)]
mod tests;
