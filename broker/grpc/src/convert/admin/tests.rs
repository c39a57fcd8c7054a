//! Round trips, and what is refused.

use broker_model::ShardId;

use super::*;

fn asked() -> wire::Topic {
    wire::Topic {
        name: "orders".into(),
        r#type: wire::MessageType::Normal.into(),
        queues: 3,
        placement: vec![
            wire::QueuePlacement { shard: "shard-0".into(), queues: 2 },
            wire::QueuePlacement { shard: "shard-12".into(), queues: 1 },
        ],
        owner: Some(wire::Owner {
            instance: "cli".into(),
            name: "me".into(),
            ..wire::Owner::default()
        }),
        retention: Some(wire::Retention { time: Some(duration(5_000)), bytes: Some(9) }),
        max_message_bytes: Some(1_000),
        write: Some(false),
        ..wire::Topic::default()
    }
}

#[test]
fn a_topic_survives_the_round_trip() {
    let topic = topic_from(asked()).unwrap();
    assert_eq!(topic.placement[1], QueuePlacement { shard: ShardId(12), queues: 1 });
    assert_eq!((topic.readable, topic.writable), (true, false));
    let answered = topic_to(&TopicEntry { topic, version: 4 });
    let expected = wire::Topic { version: 4, read: Some(true), ..asked() };
    assert_eq!(answered, expected);
}

#[test]
fn a_topic_that_names_no_queues_gets_the_default() {
    let queues = |queues, placement: Vec<wire::QueuePlacement>| {
        topic_from(wire::Topic { queues, placement, ..asked() }).unwrap().queues
    };
    assert_eq!(queues(0, Vec::new()), QUEUES_DEFAULT);
    assert_eq!(queues(0, asked().placement), 3);
    assert_eq!(queues(5, Vec::new()), 5);
}

#[test]
fn an_illegal_topic_says_what_is_wrong() {
    let refusal = |change: fn(&mut wire::Topic)| {
        let mut topic = asked();
        change(&mut topic);
        topic_from(topic).unwrap_err()
    };
    assert!(refusal(|t| t.name = "bad topic".into()).contains("illegal character"));
    assert!(refusal(|t| t.name = "%DLQ%g".into()).contains("reserved"));
    assert!(refusal(|t| t.r#type = 0).contains("no type"));
    assert!(refusal(|t| t.placement[0].shard = "broker-a".into()).contains("no shard name"));
    assert!(refusal(|t| t.placement[0].shard = "shard-007".into()).contains("no shard name"));
    assert!(refusal(|t| t.placement[0].queues = 0).contains("no queue"));
    let negative =
        |t: &mut wire::Topic| t.lite_expiry = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    assert!(refusal(negative).contains("negative"));
}

fn group() -> wire::Group {
    wire::Group {
        name: "billing".into(),
        model: wire::Model::Clustering.into(),
        order: wire::Order::Ordered.into(),
        retry: Some(wire::RetryPolicy {
            max_attempts: 5,
            backoff: Some(wire::retry_policy::Backoff::Exponential(wire::ExponentialBackoff {
                initial: Some(duration(100)),
                max: Some(duration(1_000)),
                multiplier: 2.0,
            })),
        }),
        subscriptions: vec![wire::Subscription {
            topic: "orders".into(),
            filter_type: wire::FilterType::Tag.into(),
            expression: "a || b".into(),
            start_from: wire::StartFrom::Latest.into(),
        }],
        lite_topic: "rooms".into(),
        dead_letter: wire::DeadLetterPolicy::Discard.into(),
        consume: Some(false),
        ..wire::Group::default()
    }
}

#[test]
fn a_group_survives_the_round_trip() {
    let model = group_from(group()).unwrap();
    let answered = group_to(&GroupEntry::new(model, 2, true));
    assert_eq!(answered, wire::Group { version: 2, ..group() });
    let plain = wire::Group { name: "g".into(), ..wire::Group::default() };
    let defaults = ConsumerGroup::with_defaults(GroupName::parse("g").unwrap());
    assert_eq!(group_from(plain).unwrap(), defaults);
    assert!(group_to(&GroupEntry::new(defaults, 1, false)).auto_created);
}

#[test]
fn an_illegal_group_says_what_is_wrong() {
    use wire::retry_policy::Backoff as Wire;
    let refusal = |change: fn(&mut wire::Group)| {
        let mut group = group();
        change(&mut group);
        group_from(group).unwrap_err()
    };
    let with_backoff = |backoff| {
        let retry = Some(wire::RetryPolicy { max_attempts: 1, backoff: Some(backoff) });
        group_from(wire::Group { retry, ..group() }).unwrap().validate().unwrap_err().to_string()
    };
    assert!(refusal(|g| g.name = "CID_RMQ_SYS_x".into()).contains("reserved"));
    assert!(refusal(|g| g.lite_topic = "a b".into()).contains("illegal"));
    assert!(refusal(|g| g.subscriptions[0].topic = "bad topic".into()).contains("illegal"));
    let none = wire::CustomizedBackoff::default();
    assert!(with_backoff(Wire::Customized(none)).contains("lists 0 pauses"));
    let shrinking = wire::ExponentialBackoff { multiplier: 0.5, ..Default::default() };
    assert!(with_backoff(Wire::Exponential(shrinking)).contains("use 1 to 100"));
}
