//! The controller of BrokerClusters: Kubernetes objects, the cluster map and connections to the brokers.
//! fetch -> validate -> plan -> build -> apply -> status.

pub mod apply;
pub mod build;
pub mod certificate;
pub mod fetch;
pub mod growth;
pub mod halt;
pub mod map;
pub mod missing;
pub mod outside;
pub mod plan;
pub mod pods;
pub mod restarts;
pub mod rollout;
#[cfg(test)]
mod samples;
pub mod standing;
pub mod status;
pub mod storage;
pub mod updates;
pub mod validate;
pub mod volumes;

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use operator_api::BrokerCluster;
use tokio::time::Instant;
use tracing::warn;

use crate::context::{Context, RESYNC};
use crate::error::Error;
use crate::events::Happening;
use crate::names::{CLUSTER_LABEL, ClusterKey};
use crate::status_writer::Kind;
use crate::verdict::Verdict;
use fetch::Observed;
use halt::Halt;
use outside::Outside;
use validate::ValidCluster;

/// Name in metrics and field managers.
pub const CONTROLLER: &str = "broker-cluster";

/// Labels of the pods and volumes of all clusters.
pub const BROKER_LABELS: &str = "app.kubernetes.io/name=pinnace,app.kubernetes.io/component=broker";

/// The cluster by whose name an object is labelled: what outlives a cluster has no owner.
#[must_use]
pub fn of_label<K: Kind>(object: K) -> Option<ObjectRef<BrokerCluster>> {
    let name = object.labels().get(CLUSTER_LABEL)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

/// Looks at one cluster.
///
/// # Errors
/// What is worth another attempt by itself.
pub async fn reconcile(
    cluster: Arc<BrokerCluster>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let started = Instant::now();
    let outcome = Box::pin(work(&cluster, &context)).await;
    context.finished(CONTROLLER, cluster.as_ref(), started, &outcome);
    outcome
}

/// The pause after an error.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
pub fn on_error(cluster: Arc<BrokerCluster>, error: &Error, context: Arc<Context>) -> Action {
    context.retry(cluster.as_ref(), error)
}

async fn work(cluster: &Arc<BrokerCluster>, context: &Context) -> Result<Action, Error> {
    // Children go by their owner references; volumes and the record of what is on them stay.
    if cluster.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let observed = fetch::fetch(cluster, context).await?;
    restarts::tell_back(&observed, context).await;
    match Box::pin(bring_about(&observed, context)).await {
        Ok(Some((plan, outside))) => report(&observed, Ok(&plan), &outside, context).await,
        Ok(None) => Ok(Action::await_change()),
        Err(halt) => report(&observed, Err(halt.verdict()?), &Outside::default(), context).await,
    }
}

/// Brings about what the cluster asks for; answers none when the cluster went meanwhile.
async fn bring_about(
    observed: &Observed,
    context: &Context,
) -> Result<Option<(plan::Plan, Outside)>, Halt> {
    let (valid, mut plan, objects) = prepare(observed, context)?;
    let mut outside = outside::settle(observed, &valid, context).await?;
    outside.refused = apply::apply(observed, outside.hold(objects), context).await?;
    tell_empty_lost(observed, &plan, context).await;
    context.links.set(&observed.key, plan.map.to_proto()).map_err(Error::Connect)?;
    // A cluster that went meanwhile must not leave connections behind: they would speak for its successor.
    let there = context.cluster(&observed.key);
    if there.is_none_or(|cluster| cluster.uid() != observed.cluster.uid()) {
        context.links.remove(&observed.key);
        return Ok(None);
    }
    push_map(&observed.key, &plan.map, context).await;
    let reported = volumes::reported(&context.links.reports(&observed.key));
    let notes = volumes::to_note(&observed.volumes, &reported, &plan.disks);
    apply::note_volumes(observed, &notes, context).await?;
    plan.growth.refused = apply::grow_volumes(observed, &plan, context).await?;
    Ok(Some((plan, outside)))
}

/// Tells of disks that went and took nothing with them, as soon as the new ones are on record.
async fn tell_empty_lost(observed: &Observed, plan: &plan::Plan, context: &Context) {
    for volumes::Replaced { broker, lost, found } in &plan.empty_lost {
        let note = format!(
            "broker {broker} runs on disk {found} in the place of {lost}; no topic had a queue on its shards, so nothing \
             is lost with it"
        );
        let happening = Happening::normal("EmptyDiskReplaced", note);
        context.events.tell(observed.cluster.as_ref(), &happening).await;
    }
}

/// The pure middle.
fn prepare(
    observed: &Observed,
    context: &Context,
) -> Result<(ValidCluster, plan::Plan, build::Objects), Verdict> {
    let valid = validate::validate(observed, &context.settings)?;
    let plan = plan::plan(observed, &valid)?;
    let wanted = build::stateful_sets(&valid, &plan.brokers);
    let rollout = rollout::rollout(observed, &valid, &plan.brokers, wanted);
    let plan = plan.with_rollout(observed, &rollout);
    let objects = build::build(&valid, &plan, rollout.apply);
    Ok((valid, plan, objects))
}

/// Gives the map to every connected broker that has an older one.
async fn push_map(key: &ClusterKey, map: &map::Record, context: &Context) {
    let behind = context.links.reports(key).into_iter();
    let behind = behind.filter(|r| r.silence.is_none() && r.map_version < map.version);
    let push = |report: crate::links::BrokerReport| async move {
        match report.admin.apply_cluster_map(map.to_proto()).await {
            Ok(version) => context.links.note_map(key, report.broker, version),
            // The broker is asked again with the next sign of it; until then it counts as silent.
            Err(error) => {
                warn!(cluster = %key, broker = report.broker, %error, "cannot give the cluster map");
            }
        }
    };
    join_all(behind.map(push)).await;
}

async fn report(
    observed: &Observed,
    plan: Result<&plan::Plan, Verdict>,
    outside: &Outside,
    context: &Context,
) -> Result<Action, Error> {
    let cluster = observed.cluster.as_ref();
    let before = context.cluster_status.before(cluster, cluster.status.as_ref());
    let reports = context.links.reports(&observed.key);
    let input =
        status::Input { observed, plan, reports: &reports, before: &before.status, outside };
    let outcome = status::status(&input, Timestamp::now());
    let written = context.cluster_status.write(cluster, &before, outcome.status.clone()).await?;
    if written {
        context.tell(cluster, &before.status.conditions, &outcome.status.conditions).await;
    }
    // What topics take from the cluster (retention, who may name it) changes with its spec.
    if cluster.metadata.generation != before.status.observed_generation {
        context.signals.all_of(&observed.key);
    }
    let again_after = outcome.again_after.into_iter().chain(outside.again_after()).min();
    Ok(Action::requeue(again_after.unwrap_or(RESYNC)))
}
