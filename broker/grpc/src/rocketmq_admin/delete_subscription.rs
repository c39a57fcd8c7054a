//! DeleteSubscription: takes a declared subscription out of a group. What a connected consumer says cannot be deleted,
//! and what a manifest or a custom resource declares is changed there.

use broker_proto::rocketmq::{Code, DeleteSubscriptionRequest, DeleteSubscriptionResponse};
use broker_replication::ApplyOptions;

use super::consumers::{consumers, declared};
use super::existing_group;
use crate::context::BrokerContext;
use crate::status::{self, Failure};

pub(super) async fn delete_subscription(
    context: &BrokerContext,
    request: &DeleteSubscriptionRequest,
) -> Result<DeleteSubscriptionResponse, Failure> {
    let entry = existing_group(context, request.group.as_ref())?;
    let name = &entry.group.name;
    let topic = context.topic_name(request.topic.as_ref())?;
    let is_of_topic = |consumer: &super::consumers::Consumer| {
        consumer.subscriptions().any(|(t, _)| t == topic.as_str())
    };
    if consumers(context, Some(name)).iter().any(is_of_topic) {
        let text =
            format!("clients of group {name} are subscribed to topic {topic}; stop them first");
        return Err(Failure::new(Code::PreconditionFailed, text));
    }
    let mut group = entry.group.clone();
    let before = group.subscriptions.len();
    group.subscriptions.retain(|subscription| {
        let is_meant = request.expression.as_ref().is_none_or(|e| *e == declared(subscription));
        subscription.topic != topic || !is_meant
    });
    if group.subscriptions.len() == before {
        let text = format!("group {name} declares no such subscription to topic {topic}");
        return Err(Failure::new(Code::NotFound, text));
    }
    // Whoever asks here is no owner, so that what somebody declared is refused by name.
    group.owner = None;
    let options = ApplyOptions { if_version: Some(entry.version), ..ApplyOptions::default() };
    context.catalog.apply_group(group, options).await?;
    Ok(DeleteSubscriptionResponse { status: Some(status::ok()) })
}
