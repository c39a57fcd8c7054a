//! DescribeSubscription: what each connected consumer takes from which topic.

use broker_proto::rocketmq::describe_subscription_response::ClientSubscriptionInfo;
use broker_proto::rocketmq::{DescribeSubscriptionRequest, DescribeSubscriptionResponse};

use super::consumers::{Restriction, consumers};
use crate::context::BrokerContext;
use crate::status::{self, Failure};

pub(super) fn describe_subscription(
    context: &BrokerContext,
    request: &DescribeSubscriptionRequest,
) -> Result<DescribeSubscriptionResponse, Failure> {
    let of = Restriction::of(context, request.topic.as_ref(), request.group.as_ref())?;
    let mut infos = Vec::new();
    for consumer in consumers(context, of.group.as_ref()) {
        let subscriptions = consumer.subscriptions().filter(|(topic, _)| of.allows_topic(topic));
        infos.extend(subscriptions.map(|(topic, expression)| ClientSubscriptionInfo {
            client_info: Some(consumer.info(context)),
            subscription_info: Some(consumer.subscription_info(context, topic, expression)),
        }));
    }
    let client_subscription_info = infos;
    Ok(DescribeSubscriptionResponse { status: Some(status::ok()), client_subscription_info })
}
