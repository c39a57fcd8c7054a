//! The controller of BrokerClusters: Kubernetes objects, the cluster map and connections to the brokers.
//! fetch -> validate -> plan -> build -> apply -> status.

pub mod apply;
pub mod build;
pub mod fetch;
pub mod map;
pub mod plan;
pub mod status;
pub mod validate;

use std::sync::Arc;

use futures::future::join_all;
use kube::runtime::controller::Action;
use operator_api::BrokerCluster;
use tokio::time::Instant;
use tracing::warn;

use crate::context::{Context, RESYNC, now};
use crate::error::Error;
use crate::names::ClusterKey;
use crate::verdict::Verdict;
use fetch::Observed;

/// Name in metrics and field managers.
pub const CONTROLLER: &str = "broker-cluster";

/// Looks at one cluster.
///
/// # Errors
/// What is worth another attempt by itself.
pub async fn reconcile(
    cluster: Arc<BrokerCluster>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let started = Instant::now();
    let outcome = work(&cluster, &context).await;
    context.finished(CONTROLLER, cluster.as_ref(), started, &outcome);
    outcome
}

/// The pause after an error.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
pub fn on_error(cluster: Arc<BrokerCluster>, error: &Error, context: Arc<Context>) -> Action {
    context.retry(cluster.as_ref(), error)
}

async fn work(cluster: &Arc<BrokerCluster>, context: &Context) -> Result<Action, Error> {
    // Children go by their owner references and volumes stay: there is nothing to do on deletion.
    if cluster.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let observed = fetch::fetch(cluster, context).await?;
    let verdict = match prepare(&observed, context) {
        Err(refusal) => refusal,
        Ok((plan, objects)) => {
            if let Err(refusal) = apply::apply(&observed, objects, context).await? {
                refusal
            } else {
                context.links.set(&observed.key, plan.map.to_proto()).map_err(Error::Connect)?;
                push_map(&observed.key, &plan.map, context).await;
                return report(&observed, Ok(&plan), context).await;
            }
        }
    };
    report(&observed, Err(verdict), context).await
}

/// The pure middle.
fn prepare(
    observed: &Observed,
    context: &Context,
) -> Result<(plan::Plan, build::Objects), Verdict> {
    let valid = validate::validate(observed, &context.settings)?;
    let plan = plan::plan(observed, &valid)?;
    let objects = build::build(&valid, &plan);
    let rollout = plan::rollout(observed, &objects.stateful_sets);
    Ok((plan.with_rollout(&rollout), objects.only(&rollout)))
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
    context: &Context,
) -> Result<Action, Error> {
    let cluster = observed.cluster.as_ref();
    let before = context.cluster_status.before(cluster, cluster.status.as_ref());
    let reports = context.links.reports(&observed.key);
    let input = status::Input { observed, plan, reports: &reports, before: &before.status };
    let outcome = status::status(&input, &now());
    let written = context.cluster_status.write(cluster, &before, outcome.status.clone()).await?;
    if written {
        context.tell(cluster, &before.status.conditions, &outcome.status.conditions).await;
    }
    // What topics take from the cluster (retention, who may name it) changes with its spec.
    if cluster.metadata.generation != before.status.observed_generation {
        context.signals.all_of(&observed.key);
    }
    Ok(Action::requeue(outcome.again_after.unwrap_or(RESYNC)))
}
