//! The table of the settings answer, per kind of client and language.

use broker_model::Backoff;
use broker_proto::rocketmq::{
    FilterExpression, Publishing, Resource, SubscriptionEntry, Ua, retry_policy::Strategy,
};

use super::*;
use crate::convert::time::duration_ms;

fn named(name: &str) -> Resource {
    Resource { resource_namespace: "eu".into(), name: name.into() }
}

fn user_agent(language: Language) -> Option<Ua> {
    Some(Ua { language: language.into(), version: "5.1.0".into(), ..Ua::default() })
}

fn producer() -> Settings {
    Settings {
        client_type: Some(ClientType::Producer.into()),
        user_agent: user_agent(Language::Java),
        request_timeout: Some(duration(3_000)),
        pub_sub: Some(PubSub::Publishing(Publishing {
            topics: vec![named("orders")],
            ..Publishing::default()
        })),
        ..Settings::default()
    }
}

fn consumer(
    client_type: ClientType,
    language: Language,
    kind: FilterType,
    expression: &str,
) -> Settings {
    let expression = FilterExpression { r#type: kind.into(), expression: expression.into() };
    let entry = SubscriptionEntry { topic: Some(named("orders")), expression: Some(expression) };
    Settings {
        client_type: Some(client_type.into()),
        user_agent: user_agent(language),
        pub_sub: Some(PubSub::Subscription(Subscription {
            group: Some(named("billing")),
            subscriptions: vec![entry],
            ..Subscription::default()
        })),
        ..Settings::default()
    }
}

fn push(language: Language) -> Settings {
    consumer(ClientType::PushConsumer, language, FilterType::Tag, "*")
}

fn subscription(settings: &Settings) -> &Subscription {
    match &settings.pub_sub {
        Some(PubSub::Subscription(subscription)) => subscription,
        other => panic!("not a subscription: {other:?}"),
    }
}

#[test]
fn a_producer_gets_its_limits_and_the_exponential_policy() {
    let sent = producer();
    let got = answer(&sent, None);
    let Some(PubSub::Publishing(publishing)) = &got.pub_sub else { panic!("not publishing") };
    assert_eq!((publishing.max_body_size, publishing.validate_message_type), (4_194_304, true));
    assert_eq!(publishing.topics, vec![named("orders")], "echoed with its namespace");
    let policy = got.backoff_policy.unwrap();
    assert!(matches!(policy.strategy, Some(Strategy::ExponentialBackoff(_))));
    assert_eq!((got.request_timeout, got.user_agent), (sent.request_timeout, sent.user_agent));
    assert_eq!(got.metric, Some(Metric { on: false, endpoints: None }));
}

#[test]
fn a_consumer_gets_batch_polling_order_and_a_policy_its_language_knows() {
    let is_list = |language| {
        let policy = answer(&push(language), None).backoff_policy.unwrap();
        assert_eq!(policy.max_attempts, 17);
        matches!(policy.strategy, Some(Strategy::CustomizedBackoff(_)))
    };
    for language in [
        Language::Java,
        Language::Golang,
        Language::Python,
        Language::Rust,
        Language::Cpp,
        Language::DotNet,
        Language::Unspecified,
    ] {
        assert!(is_list(language), "{language:?}");
    }
    assert!(!is_list(Language::NodeJs));
    let got = answer(&push(Language::Golang), None);
    let subscription = subscription(&got);
    assert_eq!(subscription.receive_batch_size, Some(32));
    assert_eq!(subscription.long_polling_timeout.as_ref().and_then(duration_ms), Some(20_000));
    assert_eq!(subscription.fifo, Some(false));
    assert_eq!(subscription.lite_subscription_quota, None);
    assert_eq!(subscription.group, Some(named("billing")));
}

#[test]
fn the_groups_own_settings_win_over_the_defaults() {
    let mut group = ConsumerGroup::with_defaults(GroupName::parse("billing").unwrap());
    group.order = Order::Fifo;
    group.retry =
        RetryPolicy { max_attempts: 6, backoff: Backoff::Customized { next_ms: vec![7_000] } };
    let got = answer(&push(Language::Java), Some(&group));
    assert_eq!(subscription(&got).fifo, Some(true));
    assert_eq!(got.backoff_policy.unwrap().max_attempts, 6);
}

#[test]
fn light_consumers_get_a_quota() {
    let sent = consumer(ClientType::LitePushConsumer, Language::Java, FilterType::Tag, "*");
    let got = answer(&sent, None);
    let subscription = subscription(&got);
    assert_eq!(subscription.lite_subscription_quota, Some(2_000));
    assert_eq!(subscription.max_lite_topic_size, Some(64));
}

#[test]
fn illegal_settings_have_the_code_of_their_rule() {
    let simple = |kind, text| consumer(ClientType::SimpleConsumer, Language::Rust, kind, text);
    let mut bad_topic = producer();
    bad_topic.pub_sub = Some(PubSub::Publishing(Publishing {
        topics: vec![named("bad topic")],
        ..Publishing::default()
    }));
    let mut no_group = push(Language::Java);
    no_group.pub_sub = Some(PubSub::Subscription(Subscription::default()));
    let mut huge = producer();
    huge.client_properties.insert("a".into(), "x".repeat(SETTINGS_BYTES_MAX));
    let rows = [
        (producer(), None),
        (push(Language::Java), None),
        (simple(FilterType::Tag, "a || b"), None),
        (simple(FilterType::Sql, "a > 1"), None),
        (simple(FilterType::Sql, ""), Some(Code::IllegalFilterExpression)),
        (simple(FilterType::Tag, "||"), Some(Code::IllegalFilterExpression)),
        (Settings::default(), Some(Code::BadRequest)),
        (bad_topic, Some(Code::IllegalTopic)),
        (no_group, Some(Code::IllegalConsumerGroup)),
        (huge, Some(Code::BadRequest)),
    ];
    for (settings, expected) in rows {
        assert_eq!(check(&settings).map_err(|f| f.code).err(), expected, "{settings:?}");
    }
}
