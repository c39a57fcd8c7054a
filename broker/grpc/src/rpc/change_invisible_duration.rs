//! ChangeInvisibleDuration: hides a delivery for so long from now on; 0 gives it back (protocol section 3.8). With `suspend`
//! it is no attempt.
//! The answer always carries a handle, also on failure.

use broker_engine::{ChangeInvisible, Command, ForwardToDeadLetter, Outcome, Refusal};
use broker_model::{GroupName, ReceiptHandle, TopicName};
use broker_proto::rocketmq::{
    ChangeInvisibleDurationRequest, ChangeInvisibleDurationResponse, ClientType, Code,
};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::peers;
use crate::status::{self, Failure};
use crate::validate;

/// Some clients take the handle of the answer before they look at its status, so a failure carries the old one.
pub(crate) async fn change_invisible_duration(
    context: &BrokerContext,
    request: Request<ChangeInvisibleDurationRequest>,
) -> ChangeInvisibleDurationResponse {
    let given = request.get_ref().receipt_handle.clone();
    match change(context, request).await {
        Ok(answer) => answer,
        Err(failure) => ChangeInvisibleDurationResponse {
            status: Some(failure.into_status()),
            receipt_handle: given,
        },
    }
}

/// A push consumer changes the invisible duration of what its listener failed on, to the pause before the next delivery, and
/// of nothing else: the broker prolongs for it. After the last delivery there is nothing to wait for.
fn is_push_consumer(context: &BrokerContext, client_id: &str) -> bool {
    let settings = context.sessions.get(client_id).and_then(|session| session.settings());
    settings.is_some_and(|settings| {
        matches!(settings.client_type(), ClientType::PushConsumer | ClientType::LitePushConsumer)
    })
}

async fn change(
    context: &BrokerContext,
    request: Request<ChangeInvisibleDurationRequest>,
) -> Result<ChangeInvisibleDurationResponse, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    let group = context.group_name(request.group.as_ref())?;
    let topic = context.topic_name(request.topic.as_ref())?;
    let invisible_ms = validate::invisible_at_change(request.invisible_duration.as_ref())?;
    let handle = ReceiptHandle::decode(&request.receipt_handle)
        .map_err(|error| Failure::new(Code::InvalidReceiptHandle, error.to_string()))?;
    if peers::is_elsewhere(context, handle.shard, &caller) {
        let (mut peer, request) = peers::pass_on(context, handle.shard, &caller, request)?;
        return peers::answer_of(peer.change_invisible_duration(request).await);
    }
    let shard = context.catalog.shard(handle.shard).ok_or(Refusal::InvalidHandle)?;
    let is_suspended = request.suspend.unwrap_or(false);
    let is_last_failure = is_push_consumer(context, caller.client_id)
        && !is_suspended
        && is_last_attempt(context, &group, &topic, handle);
    let command = if is_last_failure {
        Command::ForwardToDeadLetter(ForwardToDeadLetter { group, topic, handle })
    } else {
        let change = ChangeInvisible { group, topic, handle, invisible_ms };
        if is_suspended { Command::Suspend(change) } else { Command::ChangeInvisible(change) }
    };
    let result = shard.submit(command).await;
    let is_foreign = matches!(result, Err(Refusal::ForeignHandle));
    let result = result.map_err(Failure::settling);
    let is_over = |failure: &Failure| failure.code == Code::InvalidReceiptHandle;
    if !is_foreign && result.as_ref().map_or_else(is_over, |_| true) {
        // From now on the client decides how long it stays hidden.
        context.renewals.settled(&handle);
    }
    let handle = if let Outcome::InvisibleChanged(new) = result? { new } else { handle };
    let (status, receipt_handle) = (Some(status::ok()), handle.encode());
    Ok(ChangeInvisibleDurationResponse { status, receipt_handle })
}

/// Whether the group allows no other delivery. What it reads of its own dead letters comes again however often.
fn is_last_attempt(
    context: &BrokerContext,
    group: &GroupName,
    topic: &TopicName,
    handle: ReceiptHandle,
) -> bool {
    let entry = context.catalog.group(group.as_str());
    *topic != TopicName::dead_letter_of(group)
        && entry.is_some_and(|entry| handle.attempt >= entry.group.retry.max_attempts)
}
