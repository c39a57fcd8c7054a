//! ListSubscription: which group takes what from which topic: what connected consumers say, what is declared, and what a
//! group has progress on although nobody is connected.

use std::collections::BTreeMap;

use broker_model::GroupName;
use broker_proto::rocketmq::{
    FilterExpression, ListSubscriptionRequest, ListSubscriptionResponse, SubscriptionInfo,
};

use super::consumers::{Restriction, consumers, declared, message_model};
use super::resource;
use crate::context::BrokerContext;
use crate::status::{self, Failure};

/// By group and topic.
type Subscriptions = BTreeMap<(String, String), SubscriptionInfo>;

pub(super) async fn list_subscription(
    context: &BrokerContext,
    request: &ListSubscriptionRequest,
) -> Result<ListSubscriptionResponse, Failure> {
    let of = Restriction::of(context, request.topic.as_ref(), request.group.as_ref())?;
    let mut found = Subscriptions::new();
    for row in context.catalog.progress(of.group.clone()).await? {
        add_offline(context, &mut found, &row.group, row.topic.as_str(), None);
    }
    for entry in context.catalog.groups() {
        let group = &entry.group;
        if of.group.as_ref().is_none_or(|wanted| *wanted == group.name) {
            for subscription in &group.subscriptions {
                let filter = Some(declared(subscription));
                let topic = subscription.topic.as_str();
                add_offline(context, &mut found, &group.name, topic, filter);
            }
        }
    }
    for consumer in consumers(context, of.group.as_ref()) {
        for (topic, expression) in consumer.subscriptions() {
            let info = consumer.subscription_info(context, topic, expression);
            add_online(&mut found, (consumer.group.to_string(), topic.to_owned()), info);
        }
    }
    found.retain(|(_, topic), _| of.allows_topic(topic));
    let subscription_info = found.into_values().collect();
    Ok(ListSubscriptionResponse { status: Some(status::ok()), subscription_info })
}

fn add_offline(
    context: &BrokerContext,
    found: &mut Subscriptions,
    group: &GroupName,
    topic: &str,
    expression: Option<FilterExpression>,
) {
    let info = SubscriptionInfo {
        group: Some(resource(group.as_str())),
        topic: Some(resource(topic)),
        expression,
        online: false,
        last_update_timestamp: None,
        message_model: message_model(context, group).into(),
        subscription_consistency: true,
    };
    found.insert((group.to_string(), topic.to_owned()), info);
}

/// What connected clients say replaces what is known otherwise; among them the first counts, and others may differ.
fn add_online(found: &mut Subscriptions, key: (String, String), info: SubscriptionInfo) {
    match found.get_mut(&key).filter(|held| held.online) {
        Some(held) => {
            held.subscription_consistency &= held.expression == info.expression;
            let seconds = |info: &SubscriptionInfo| info.last_update_timestamp.map(|at| at.seconds);
            if seconds(&info) > seconds(held) {
                held.last_update_timestamp = info.last_update_timestamp;
            }
        }
        None => drop(found.insert(key, info)),
    }
}
