//! Differences between a group in a broker and its declaration. Pure.

use std::collections::{BTreeMap, BTreeSet};

use broker_proto::admin::{self, retry_policy::Backoff};

use super::subscriptions::tags;
use crate::difference::{Differences, optional, span};

/// Deliveries that brokers take for a group that names none.
const ATTEMPTS_DEFAULT: u32 = 17;
/// Pauses in seconds that brokers take for a group that names none.
const PAUSES_DEFAULT_SECONDS: [i64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

/// Every declared field that differs. An absent value is compared as the default that brokers have for it.
#[must_use]
pub fn differences(held: &admin::Group, wanted: &admin::Group) -> Differences {
    let mut found = Differences::default();
    found.compare("model", model(held), model(wanted));
    found.compare("order", order(held), order(wanted));
    found.compare("retry.maxAttempts", attempts(held), attempts(wanted));
    found.compare("retry.backoff", backoff(held), backoff(wanted));
    found.compare("deadLetter.policy", dead_letter(held), dead_letter(wanted));
    let lite = |group: &admin::Group| {
        let topic = Some(group.lite_topic.as_str()).filter(|topic| !topic.is_empty());
        optional(topic, str::to_owned)
    };
    found.compare("liteTopic", lite(held), lite(wanted));
    let consume = |group: &admin::Group| group.consume.unwrap_or(true).to_string();
    found.compare("consume", consume(held), consume(wanted));
    let (has, wants) = (subscriptions(held), subscriptions(wanted));
    let topics: BTreeSet<&str> = has.keys().chain(wants.keys()).copied().collect();
    for topic in topics {
        let of = |subscriptions: &BTreeMap<&str, String>| {
            optional(subscriptions.get(topic), String::clone)
        };
        found.compare(&format!("subscriptions[{topic}]"), of(&has), of(&wants));
    }
    found
}

/// The model as specs write it.
#[must_use]
pub fn model(group: &admin::Group) -> &'static str {
    match group.model() {
        admin::Model::Broadcasting => "Broadcasting",
        admin::Model::Clustering | admin::Model::Unspecified => "Clustering",
    }
}

fn order(group: &admin::Group) -> &'static str {
    match group.order() {
        admin::Order::Ordered => "Fifo",
        admin::Order::Concurrent | admin::Order::Unspecified => "Concurrent",
    }
}

fn dead_letter(group: &admin::Group) -> &'static str {
    match group.dead_letter() {
        admin::DeadLetterPolicy::Discard => "Discard",
        admin::DeadLetterPolicy::Store | admin::DeadLetterPolicy::Unspecified => "Store",
    }
}

fn attempts(group: &admin::Group) -> String {
    let asked = group.retry.as_ref().map(|retry| retry.max_attempts).filter(|asked| *asked > 0);
    asked.unwrap_or(ATTEMPTS_DEFAULT).to_string()
}

fn backoff(group: &admin::Group) -> String {
    let list =
        |pauses: &[prost_types::Duration]| pauses.iter().map(span).collect::<Vec<_>>().join(" ");
    match group.retry.as_ref().and_then(|retry| retry.backoff.as_ref()) {
        None => {
            let pause = |seconds| prost_types::Duration { seconds, nanos: 0 };
            list(&PAUSES_DEFAULT_SECONDS.map(pause))
        }
        Some(Backoff::Customized(pauses)) => list(&pauses.next),
        Some(Backoff::Exponential(curve)) => {
            let initial = optional(curve.initial.as_ref(), span);
            let max = optional(curve.max.as_ref(), span);
            format!("{initial} to {max} times {}", curve.multiplier)
        }
    }
}

fn subscriptions(group: &admin::Group) -> BTreeMap<&str, String> {
    let text = |subscription: &admin::Subscription| {
        let filter = match subscription.filter_type() {
            admin::FilterType::Sql92 => format!("SQL {}", subscription.expression.trim()),
            admin::FilterType::Tag | admin::FilterType::Unspecified => {
                tags(&subscription.expression)
            }
        };
        let from = match subscription.start_from() {
            admin::StartFrom::Latest => "Latest",
            admin::StartFrom::Earliest | admin::StartFrom::Unspecified => "Earliest",
        };
        format!("{filter} from {from}")
    };
    group.subscriptions.iter().map(|wish| (wish.topic.as_str(), text(wish))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(topic: &str, expression: &str) -> admin::Subscription {
        let (topic, expression) = (topic.to_owned(), expression.to_owned());
        admin::Subscription { topic, expression, ..Default::default() }
    }

    #[test]
    fn every_declared_field_is_compared() {
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let curve =
            admin::ExponentialBackoff { initial: seconds(1), max: seconds(60), multiplier: 2.0 };
        let held = admin::Group {
            model: admin::Model::Broadcasting.into(),
            order: admin::Order::Ordered.into(),
            retry: Some(admin::RetryPolicy {
                max_attempts: 3,
                backoff: Some(Backoff::Exponential(curve)),
            }),
            dead_letter: admin::DeadLetterPolicy::Discard.into(),
            lite_topic: "chats".to_owned(),
            consume: Some(false),
            subscriptions: vec![subscription("orders", "paid"), subscription("refunds", "*")],
            ..Default::default()
        };
        let latest = admin::Subscription {
            start_from: admin::StartFrom::Latest.into(),
            ..subscription("orders", "paid")
        };
        let wanted = admin::Group { subscriptions: vec![latest], ..Default::default() };
        let told = differences(&held, &wanted).told().unwrap();
        for part in [
            "model (has Broadcasting, wanted Clustering)",
            "order (has Fifo, wanted Concurrent)",
            "retry.maxAttempts (has 3, wanted 17)",
            "retry.backoff (has 1s to 1m times 2, wanted 1s 5s 10s 30s 1m",
            "deadLetter.policy (has Discard, wanted Store)",
            "liteTopic (has chats, wanted none)",
            "consume (has false, wanted true)",
            "subscriptions[orders] (has paid from Earliest, wanted paid from Latest)",
            "subscriptions[refunds] (has * from Earliest, wanted none)",
        ] {
            assert!(told.contains(part), "{part} is missing in {told}");
        }
    }

    #[test]
    fn the_same_in_other_words_is_no_difference() {
        let held = admin::Group {
            model: admin::Model::Clustering.into(),
            order: admin::Order::Concurrent.into(),
            consume: Some(true),
            subscriptions: vec![subscription("orders", "paid||refunded")],
            version: 7,
            ..Default::default()
        };
        let wanted = admin::Group {
            subscriptions: vec![subscription("orders", "refunded || paid")],
            ..Default::default()
        };
        assert_eq!(differences(&held, &wanted).told(), None);
    }
}
