//! ListConsumerConnection: the connected consumers of a group.

use broker_proto::rocketmq::{ListConsumerConnectionRequest, ListConsumerConnectionResponse};

use super::consumers::{Consumer, Restriction, consumers};
use super::existing_group;
use crate::context::BrokerContext;
use crate::status::{self, Failure};

pub(super) fn list_consumer_connection(
    context: &BrokerContext,
    request: &ListConsumerConnectionRequest,
) -> Result<ListConsumerConnectionResponse, Failure> {
    let entry = existing_group(context, request.group.as_ref())?;
    let of = Restriction::of(context, request.topic.as_ref(), None)?;
    let is_of_topic = |consumer: &Consumer| {
        of.topic.is_none() || consumer.subscriptions().any(|(topic, _)| of.allows_topic(topic))
    };
    let is_of_lite_topic = |consumer: &Consumer| {
        request.lite_topic.as_ref().is_none_or(|name| {
            consumer.session.lite().is_some_and(|lite| lite.names.contains(name))
        })
    };
    let mut found = consumers(context, Some(&entry.group.name));
    found.retain(|consumer| is_of_topic(consumer) && is_of_lite_topic(consumer));
    let client_info = found.iter().map(|consumer| consumer.info(context)).collect();
    Ok(ListConsumerConnectionResponse { status: Some(status::ok()), client_info })
}
