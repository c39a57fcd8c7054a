//! ListSubscription: which group takes what from which topic: what connected consumers say, what is declared, and what a
//! group has progress on although nobody is connected.

use std::collections::BTreeMap;

use broker_model::GroupName;
use broker_proto::rocketmq::{
    Code, FilterExpression, ListSubscriptionRequest, ListSubscriptionResponse, MessageModel,
    SubscriptionInfo,
};

use super::consumers::{Restriction, consumers, declared, message_model, model_of};
use super::resource;
use crate::context::BrokerContext;
use crate::limits::LISTED_SUBSCRIPTIONS_MAX;
use crate::status::{self, Failure};

/// Rows of a list that are made before others on the thread have a turn.
const ROWS_PER_TURN: usize = 512;

/// By group and topic.
type Subscriptions = BTreeMap<(String, String), SubscriptionInfo>;

pub(super) async fn list_subscription(
    context: &BrokerContext,
    request: &ListSubscriptionRequest,
) -> Result<ListSubscriptionResponse, Failure> {
    let of = Restriction::of(context, request.topic.as_ref(), request.group.as_ref())?;
    let mut found = Subscriptions::new();
    for row in context.catalog.progress(of.group.clone()).await? {
        let model = message_model(context, &row.group);
        add_offline(&mut found, &row.group, row.topic.as_str(), None, model);
        pause(&found).await?;
    }
    for entry in context.catalog.groups() {
        let group = &entry.group;
        if of.group.as_ref().is_none_or(|wanted| *wanted == group.name) {
            let model = model_of(group);
            for subscription in &group.subscriptions {
                let filter = Some(declared(subscription));
                let topic = subscription.topic.as_str();
                add_offline(&mut found, &group.name, topic, filter, model);
                pause(&found).await?;
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

/// Others on this thread have a turn now and then, and the list has an end.
async fn pause(found: &Subscriptions) -> Result<(), Failure> {
    if found.len() > LISTED_SUBSCRIPTIONS_MAX {
        let text = format!(
            "there are more than {LISTED_SUBSCRIPTIONS_MAX} subscriptions; ask for those of one group or topic"
        );
        return Err(Failure::new(Code::PayloadTooLarge, text));
    }
    if found.len().is_multiple_of(ROWS_PER_TURN) {
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn add_offline(
    found: &mut Subscriptions,
    group: &GroupName,
    topic: &str,
    expression: Option<FilterExpression>,
    model: MessageModel,
) {
    let info = SubscriptionInfo {
        group: Some(resource(group.as_str())),
        topic: Some(resource(topic)),
        expression,
        online: false,
        last_update_timestamp: None,
        message_model: model.into(),
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
