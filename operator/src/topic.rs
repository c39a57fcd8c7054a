//! The controller of Topics: the same topic in every broker of its cluster, with its queues placed.
//! fetch -> validate -> plan -> push -> status.

mod delete;
pub mod difference;
pub mod fetch;
pub mod plan;
pub mod status;
pub mod validate;

use std::sync::Arc;

use broker_proto::admin::Topic as WireTopic;
use kube::runtime::controller::Action;
use operator_api::Topic;
use tokio::time::Instant;

use crate::context::{Context, RESYNC, now};
use crate::deletion;
use crate::error::Error;
use crate::push;
use crate::verdict::Verdict;
use fetch::Observed;

/// Name in metrics and field managers.
pub const CONTROLLER: &str = "topic";

/// Looks at one topic.
///
/// # Errors
/// What is worth another attempt by itself.
pub async fn reconcile(topic: Arc<Topic>, context: Arc<Context>) -> Result<Action, Error> {
    let started = Instant::now();
    let outcome = if topic.metadata.deletion_timestamp.is_some() {
        deletion::delete(topic.as_ref(), &context).await
    } else {
        work(&topic, &context).await
    };
    context.finished(CONTROLLER, topic.as_ref(), started, &outcome);
    outcome
}

/// The pause after an error.
#[expect(clippy::needless_pass_by_value, reason = "the signature is the controller's")]
pub fn on_error(topic: Arc<Topic>, error: &Error, context: Arc<Context>) -> Action {
    context.retry(topic.as_ref(), error)
}

async fn work(topic: &Arc<Topic>, context: &Context) -> Result<Action, Error> {
    deletion::keep_finalizer(topic.as_ref(), context).await?;
    let observed = fetch::fetch(topic, context);
    let found = match prepare(&observed, context) {
        Err(verdict) => status::Found::Verdict(verdict),
        Ok(plan) => {
            let outcome = match &observed.view {
                Some(view) => {
                    let key = &observed.cluster_key;
                    let take = plan.take_ownership;
                    let pushing = push::push(&context.links, key, view, &plan.topic, take).await;
                    let (name, repairs) = (&observed.name, &pushing.repairs);
                    push::tell_repairs::<WireTopic, _>(topic.as_ref(), name, repairs, context)
                        .await;
                    pushing.outcome
                }
                None => push::Outcome::Everywhere,
            };
            status::Found::Pushed(Box::new(plan), outcome)
        }
    };
    report(&observed, found, context).await
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
    let topic = observed.topic.as_ref();
    let before = context.topic_status.before(topic, topic.status.as_ref());
    let outcome = status::status(observed, &found, &before.status, &now());
    let written = context.topic_status.write(topic, &before, outcome.status.clone()).await?;
    if written {
        context.tell(topic, &before.status.conditions, &outcome.status.conditions).await;
    }
    Ok(Action::requeue(outcome.again_after.unwrap_or(RESYNC)))
}
