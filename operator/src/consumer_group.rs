//! The controller of ConsumerGroups: the same group in every broker of its cluster, and what runs of it.
//! fetch -> validate -> plan -> push -> reset -> status.

mod delete;
pub mod difference;
pub mod fetch;
pub mod plan;
pub mod progress;
pub mod reset;
pub mod status;
pub mod subscriptions;
pub mod validate;

use std::sync::Arc;

use broker_proto::admin::Group as WireGroup;
use kube::runtime::controller::Action;
use operator_api::ConsumerGroup;
use tokio::time::Instant;

use crate::context::{Context, RESYNC, now};
use crate::deletion;
use crate::error::Error;
use crate::push;
use crate::verdict::Verdict;
use fetch::Observed;

/// Name in metrics and field managers.
pub const CONTROLLER: &str = "consumer-group";

/// Looks at one group.
///
/// # Errors
/// What is worth another attempt by itself.
pub async fn reconcile(group: Arc<ConsumerGroup>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let outcome = if group.metadata.deletion_timestamp.is_some() {
        deletion::delete(group.as_ref(), &context).await
    } else {
        work(&group, &context).await
    };
    context.finished(CONTROLLER, group.as_ref(), started, &outcome);
    outcome
}

/// The pause after an error.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
pub fn on_error(group: Arc<ConsumerGroup>, error: &Error, context: Arc<Context>) -> Action {
    context.retry(group.as_ref(), error)
}

async fn work(group: &Arc<ConsumerGroup>, context: &Context) -> Result<Action, Error> {
    deletion::keep_finalizer(group.as_ref(), context).await?;
    let observed = fetch::fetch(group, context);
    let found = match prepare(&observed, context) {
        Err(verdict) => status::Found::Verdict(verdict),
        Ok(plan) => {
            let (pushed, reset) = bring(&observed, &plan, context).await;
            status::Found::Pushed(pushed, reset)
        }
    };
    report(&observed, found, context).await
}

/// Brings the group into every broker; only then its progress can be set.
async fn bring(
    observed: &Observed,
    plan: &plan::Plan,
    context: &Context,
) -> (push::Outcome, reset::Outcome) {
    let Some(view) = &observed.view else {
        return (push::Outcome::Everywhere, reset::Outcome::NotAsked);
    };
    let key = &observed.cluster_key;
    let pushing = push::push(&context.links, key, view, &plan.group, plan.take_ownership).await;
    let (group, name) = (observed.group.as_ref(), &observed.name);
    push::tell_repairs::<WireGroup, _>(group, name, &pushing.repairs, context).await;
    let pushed = pushing.outcome;
    let reset = match &plan.reset {
        Some(wanted) if pushed == push::Outcome::Everywhere => reset::carry_out(view, wanted).await,
        _ => reset::Outcome::NotAsked,
    };
    (pushed, reset)
}

/// The pure middle.
fn prepare(observed: &Observed, context: &Context) -> Result<plan::Plan, Verdict> {
    let valid = validate::validate(observed, &context.settings.instance)?;
    plan::plan(observed, &valid)
}

async fn report(
    observed: &Observed,
    found: status::Found,
    context: &Context,
) -> Result<Action, Error> {
    let group = observed.group.as_ref();
    let before = context.group_status.before(group, group.status.as_ref());
    let since = before.written_at.map(|at| at.elapsed());
    let outcome = status::status(observed, &found, &before.status, since, &now());
    let written = context.group_status.write(group, &before, outcome.status.clone()).await?;
    if written {
        context.tell(group, &before.status.conditions, &outcome.status.conditions).await;
    }
    Ok(Action::requeue(outcome.again_after.unwrap_or(RESYNC)))
}
