//! ConsumerGroups: the same in every broker, and what runs of them in the status.

use broker_proto::admin::reset_offsets_request::To;
use broker_proto::admin::{
    self, Assignment, DeadLetterPolicy, GroupStatus, Member, StartFrom, Subscription, TopicLag,
};
use operator_api::consumer_group::{Model, Order};
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use serde_json::json;

use crate::world::{World, condition, eventually};

fn member(client_id: &str, expression: &str) -> Member {
    Member {
        client_id: client_id.to_owned(),
        client_type: "PUSH_CONSUMER".to_owned(),
        language: "JAVA".to_owned(),
        version: "5.0.7".to_owned(),
        remote_address: "10.0.0.7:4711".to_owned(),
        subscriptions: vec![Subscription {
            topic: "orders".to_owned(),
            filter_type: 1,
            expression: expression.to_owned(),
            start_from: 0,
        }],
        ..Member::default()
    }
}

fn lag(lag_messages: u64, lag_ms: u64) -> TopicLag {
    TopicLag { topic: "orders".to_owned(), lag_messages, lag_ms, ..TopicLag::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_does_not_compile_is_told_with_its_place() {
    let world = World::new().await;
    let _broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    let filter = json!({"type": "Sql92", "expression": "amount >"});
    let spec = json!({"subscriptions": [{"topic": "orders", "filter": filter}]});
    world.apply::<ConsumerGroup>("billing", spec).await;
    let stalled =
        world.wait_condition::<ConsumerGroup>("billing", "Stalled", "True", "InvalidSpec").await;
    let place = "spec.subscriptions[0].filter.expression: the SQL filter is wrong at character 9";
    assert!(stalled.message.contains(place), "{}", stalled.message);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_says_less_leaves_model_and_order_as_they_are() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<ConsumerGroup>("ledger", json!({"order": "Fifo"})).await;
    world.apply::<ConsumerGroup>("prices", json!({"model": "Broadcasting"})).await;
    for name in ["ledger", "prices"] {
        world.wait_condition::<ConsumerGroup>(name, "Ready", "True", "Synced").await;
        world.apply::<ConsumerGroup>(name, json!({"consume": false})).await;
        world.wait_condition::<ConsumerGroup>(name, "Ready", "True", "Synced").await;
    }
    let status = |name: &'static str| async {
        let group = world.api::<ConsumerGroup>().get(name).await.unwrap();
        group.status.map(|status| (status.model, status.order)).unwrap()
    };
    let (clustering, broadcasting) = (Some(Model::Clustering), Some(Model::Broadcasting));
    assert_eq!(status("ledger").await, (clustering, Some(Order::Fifo)));
    assert_eq!(status("prices").await, (broadcasting, Some(Order::Concurrent)));
    let memory = broker.memory().groups.clone();
    assert_eq!(memory["ledger"].order(), admin::Order::Ordered);
    assert_eq!(memory["prices"].model(), admin::Model::Broadcasting);
    let changed = world.try_apply::<ConsumerGroup>("prices", json!({"model": "Clustering"})).await;
    let error = changed.unwrap_err().to_string();
    assert!(error.contains("model cannot be changed"), "{error}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_assignments_and_lag_of_all_brokers_stand_in_the_status() {
    let world = World::new().await;
    let brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({"brokers": 2})).await;
    world.apply::<Topic>("orders", json!({})).await;
    let spec = json!({
        "subscriptions": [{"topic": "orders", "filter": {"expression": "paid || refunded"}}],
        "retry": {"maxAttempts": 5, "backoff": {"exponential": {"initial": "1s", "max": "1m"}}},
    });
    world.apply::<ConsumerGroup>("billing", spec).await;
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
    world.wait_condition::<ConsumerGroup>("billing", "Active", "False", "NoMembers").await;
    let held = brokers[1].memory().groups["billing"].clone();
    assert_eq!(held.retry.unwrap().max_attempts, 5);
    assert_eq!(held.subscriptions[0].expression, "paid || refunded");

    let assignment = |queue_ids: &[u32], shard: &str| Assignment {
        client_id: "pod-a".to_owned(),
        topic: "orders".to_owned(),
        shard: shard.to_owned(),
        queue_ids: queue_ids.to_vec(),
        shared: true,
        inflight: 3,
    };
    for (id, broker) in brokers.iter().enumerate() {
        broker.report(GroupStatus {
            name: "billing".to_owned(),
            members: vec![member("pod-a", "paid")],
            assignments: vec![assignment(&[0, 1, 2, 5], &format!("shard-{id}"))],
            topics: vec![lag(1_000, 42_500)],
        });
    }
    let full = |group: &ConsumerGroup| {
        group.status.as_ref().and_then(|s| s.totals.as_ref()).is_some_and(|t| t.lag == 2_000)
    };
    let group = world.wait::<ConsumerGroup>("billing", "a lag of 2000", full).await;
    let status = group.status.clone().unwrap();
    let members = status.members.unwrap();
    assert_eq!((members.count, members.clients[0].language.as_str()), (1, "JAVA"));
    assert_eq!(status.assignments.len(), 2);
    assert_eq!(
        (status.assignments[0].queues.as_str(), status.assignments[0].shared),
        ("0-2,5", true)
    );
    assert_eq!((status.topics[0].lag, status.topics[0].lag_seconds), (2_000, 40));
    let display = status.display.unwrap();
    assert_eq!((display.lag.as_str(), display.behind.as_str()), ("2.0k", "40s"));
    world.wait_condition::<ConsumerGroup>("billing", "Active", "True", "Consuming").await;
    world.wait_condition::<ConsumerGroup>("billing", "CaughtUp", "False", "Behind").await;
    let topic = |topic: &Topic| topic.status.as_ref().unwrap().groups == ["billing"];
    world.wait::<Topic>("orders", "its group", topic).await;

    brokers[0].report(GroupStatus {
        name: "billing".to_owned(),
        members: vec![member("pod-a", "paid"), member("pod-b", "*")],
        assignments: Vec::new(),
        topics: vec![lag(0, 0)],
    });
    brokers[1].report(GroupStatus { name: "billing".to_owned(), ..GroupStatus::default() });
    let different = world
        .wait_condition::<ConsumerGroup>(
            "billing",
            "SubscriptionsConsistent",
            "False",
            "Inconsistent",
        )
        .await;
    assert!(different.message.contains("pod-a"), "{}", different.message);
    world.wait_condition::<ConsumerGroup>("billing", "CaughtUp", "True", "CaughtUp").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_is_asked_of_every_broker_once_for_each_id() {
    let world = World::new().await;
    let brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({"brokers": 2})).await;
    world.apply::<Topic>("orders", json!({})).await;
    let spec = |consume: bool, reset: serde_json::Value| {
        json!({
            "subscriptions": [{"topic": "orders", "startFrom": "Latest"}],
            "deadLetter": {"policy": "Discard"},
            "liteTopic": "rooms",
            "consume": consume,
            "offsetReset": reset,
        })
    };
    let first = json!({"id": "one", "to": {"time": "1970-01-01T00:00:01Z"}, "topics": ["orders"]});
    world.apply::<ConsumerGroup>("billing", spec(true, first.clone())).await;
    let complete = |id: &'static str| {
        move |group: &ConsumerGroup| {
            let done = group.status.as_ref().and_then(|status| status.offset_reset.as_ref());
            done.is_some_and(|done| done.id == id && !done.completed_at.is_empty())
        }
    };
    world.wait::<ConsumerGroup>("billing", "the first reset", complete("one")).await;
    world
        .wait_condition::<ConsumerGroup>("billing", "OffsetResetComplete", "True", "Completed")
        .await;
    // Another change of the group is no reason to reset again; nor is another operator.
    operator.stop().await;
    let operator = world.operator("b");
    world.apply::<ConsumerGroup>("billing", spec(false, first)).await;
    let paused =
        || async { (brokers[1].memory().groups["billing"].consume == Some(false)).then_some(()) };
    eventually("the group is paused", paused).await;
    for broker in &brokers {
        let memory = broker.memory();
        let held = &memory.groups["billing"];
        assert_eq!(held.dead_letter(), DeadLetterPolicy::Discard);
        assert_eq!(held.lite_topic, "rooms");
        assert_eq!(held.subscriptions[0].start_from(), StartFrom::Latest);
        let [reset] = &memory.resets[..] else { panic!("{:?}", memory.resets) };
        assert_eq!((reset.group.as_str(), reset.id.as_str()), ("billing", "one"));
        assert_eq!(
            (&reset.topics[..], &reset.to),
            (&["orders".to_owned()][..], &Some(To::TimeMs(1_000)))
        );
    }

    brokers[1].change(|memory| memory.resets_fail = true);
    let second = json!({"id": "two", "to": {"shift": -5}});
    world.apply::<ConsumerGroup>("billing", spec(true, second)).await;
    let failed = world
        .wait_condition::<ConsumerGroup>(
            "billing",
            "OffsetResetComplete",
            "False",
            "BrokerNotAnswering",
        )
        .await;
    assert!(failed.message.contains("broker 1"), "{}", failed.message);
    brokers[1].change(|memory| memory.resets_fail = false);
    world.wait::<ConsumerGroup>("billing", "the second reset", complete("two")).await;
    let last = brokers[0].memory().resets.last().cloned().unwrap();
    assert_eq!((last.id.as_str(), last.to), ("two", Some(To::Shift(-5))));
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_back_to_an_earlier_reset_resets_nothing_and_keeps_the_time_of_its_first_run() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    let reset = |id: &str| json!({"offsetReset": {"id": id, "to": {"position": "Latest"}}});
    let mut done = Vec::new();
    for id in ["one", "two"] {
        world.apply::<ConsumerGroup>("billing", reset(id)).await;
        let is_last = |group: &ConsumerGroup| {
            let done = group.status.as_ref().and_then(|status| status.offset_reset.as_ref());
            done.is_some_and(|done| done.id == id)
        };
        let group = world.wait::<ConsumerGroup>("billing", id, is_last).await;
        done.extend(group.status.unwrap().offset_reset);
    }
    // As git revert does.
    world.apply::<ConsumerGroup>("billing", reset("one")).await;
    let complete = ("OffsetResetComplete", "True", "Completed");
    let told =
        world.wait_condition::<ConsumerGroup>("billing", complete.0, complete.1, complete.2).await;
    let said = format!("was carried out at {} and is not carried out again", done[0].completed_at);
    assert!(told.message.contains(&said), "{}", told.message);
    let status = world.api::<ConsumerGroup>().get("billing").await.unwrap().status.unwrap();
    assert_eq!(status.resets_done().cloned().collect::<Vec<_>>(), done);
    let asked: Vec<_> = broker.memory().resets.into_iter().map(|reset| reset.id).collect();
    assert_eq!(asked, ["one", "two"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_on_a_missing_cluster_or_topic_says_what_is_missing() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<ConsumerGroup>("billing", json!({"subscriptions": [{"topic": "orders"}]})).await;
    let waiting =
        world.wait_condition::<ConsumerGroup>("billing", "Ready", "False", "ClusterNotFound").await;
    assert!(waiting.message.contains("there is no BrokerCluster"), "{}", waiting.message);
    let group = world.api::<ConsumerGroup>().get("billing").await.unwrap();
    assert!(condition(&group, "Reconciling").is_some() && condition(&group, "Stalled").is_none());
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "False", "TopicNotFound").await;
    // The group is there already; only its topic is not.
    assert!(broker.memory().groups.contains_key("billing"));
    world.apply::<Topic>("orders", json!({})).await;
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_goes_is_missed_by_topics_and_groups() {
    let world = World::new().await;
    let _broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("orders", json!({})).await;
    world.apply::<ConsumerGroup>("billing", json!({})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
    world.delete::<BrokerCluster>("default").await;
    world.wait_condition::<Topic>("orders", "Ready", "False", "ClusterNotFound").await;
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "False", "ClusterNotFound").await;
    operator.stop().await;
}
