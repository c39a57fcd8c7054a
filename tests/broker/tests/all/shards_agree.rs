//! Shards that do not know the same: one that came later, and one that a stop in the middle of a change left behind. The
//! next start makes them agree. What was deleted does not come back by first use.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use broker_proto::admin::{
    ApplyGroupRequest, ApplyTopicRequest, DeleteGroupRequest, Group, ListGroupsRequest,
    MessageType, Order, RetryPolicy, StartFrom, Subscription, Topic,
};
use broker_proto::rocketmq::{Code, QueryRouteRequest};
use tests_broker::Client;
use tests_broker::broker::{Broker, Options, Place};
use tests_broker::client::{message, message_id, receive_request, resource, span};

use crate::rpcs::code;

async fn apply_topic(broker: &Broker, name: &str, queues: u32) {
    let kind = MessageType::Normal.into();
    let topic = Topic { name: name.to_owned(), r#type: kind, queues, ..Topic::default() };
    let request = ApplyTopicRequest { topic: Some(topic), ..ApplyTopicRequest::default() };
    broker.admin().await.apply_topic(request).await.expect("the topic is applied");
}

async fn apply_group(broker: &Broker, group: Group) {
    let request = ApplyGroupRequest { group: Some(group), ..ApplyGroupRequest::default() };
    broker.admin().await.apply_group(request).await.expect("the group is applied");
}

fn group(name: &str) -> Group {
    Group { name: name.to_owned(), ..Group::default() }
}

async fn delete_group(broker: &Broker, name: &str) {
    let request = DeleteGroupRequest { name: name.to_owned(), ..DeleteGroupRequest::default() };
    broker.admin().await.delete_group(request).await.expect("the group is deleted");
}

async fn groups(broker: &Broker) -> Vec<Group> {
    let answer = broker.admin().await.list_groups(ListGroupsRequest::default()).await.unwrap();
    answer.into_inner().groups
}

async fn send(broker: &Broker, ids: &[String]) {
    let mut producer = broker.client("producer").await;
    for id in ids {
        let answer = producer.send(vec![message("orders", id, b"x")]).await.unwrap();
        assert_eq!(code(&answer.status), Code::Ok);
    }
}

fn ids(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("message-{n}")).collect()
}

/// All that a group gets, acknowledged, until there is nothing more.
async fn drain(client: &mut Client, topic: &str, group: &str) -> HashSet<String> {
    let mut seen = HashSet::new();
    loop {
        let received = client.receive(topic, group, 32).await.unwrap();
        if received.messages.is_empty() {
            assert_eq!(received.status.code(), Code::MessageNotFound, "{:?}", received.status);
            return seen;
        }
        seen.extend(received.messages.iter().map(|message| message_id(message).to_owned()));
        client.acknowledge(topic, group, &received.messages).await.unwrap();
    }
}

#[tokio::test]
async fn a_shard_that_came_later_serves_the_groups_that_were_there() {
    let place = Place::new();
    let broker = place.start(&Options::shards(1));
    apply_topic(&broker, "orders", 2).await;
    apply_group(&broker, group("billing")).await;
    let latest = Subscription {
        topic: "orders".to_owned(),
        expression: "*".to_owned(),
        start_from: StartFrom::Latest.into(),
        ..Subscription::default()
    };
    apply_group(&broker, Group { subscriptions: vec![latest], ..group("news") }).await;
    assert!(drain(&mut broker.client("consumer").await, "orders", "news").await.is_empty());
    broker.terminate();
    assert!(broker.exit().success());

    let broker = place.start(&Options::shards(2));
    apply_topic(&broker, "orders", 4).await;
    let sent = ids(0..8);
    send(&broker, &sent).await;
    let mut client = broker.client("consumer").await;
    for group in ["billing", "news"] {
        assert_eq!(drain(&mut client, "orders", group).await, sent.iter().cloned().collect());
    }
}

#[tokio::test]
async fn dead_letters_of_all_shards_can_be_received_after_a_restart() {
    let place = Place::new();
    let broker = place.start(&Options::shards(2));
    apply_topic(&broker, "orders", 2).await;
    let retry = Some(RetryPolicy { max_attempts: 1, backoff: None });
    apply_group(&broker, Group { retry, ..group("billing") }).await;
    let sent = ids(0..4);
    send(&broker, &sent).await;
    let mut client = broker.client("consumer").await;
    let mut given_up = 0;
    while given_up < sent.len() {
        for message in client.receive("orders", "billing", 32).await.unwrap().messages {
            let request = broker_proto::rocketmq::ChangeInvisibleDurationRequest {
                group: Some(resource("billing")),
                topic: Some(resource("orders")),
                receipt_handle: tests_broker::client::receipt_handle(&message).to_owned(),
                invisible_duration: Some(span(std::time::Duration::ZERO)),
                ..Default::default()
            };
            client.service.change_invisible_duration(request).await.unwrap();
            given_up += 1;
        }
    }
    broker.kill();
    let broker = place.start(&Options::shards(2));
    let mut client = broker.client("undertaker").await;
    let request =
        QueryRouteRequest { topic: Some(resource("%DLQ%billing")), ..QueryRouteRequest::default() };
    let route = client.service.query_route(request).await.unwrap().into_inner();
    let shards: HashSet<_> =
        route.message_queues.iter().map(|q| q.broker.as_ref().unwrap().name.clone()).collect();
    assert_eq!(shards.len(), 2, "{route:?}");
    let dead = drain(&mut client, "%DLQ%billing", "undertakers").await;
    assert_eq!(dead, sent.into_iter().collect());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// As if a kill had come between the two shards: one of them is as it was before the change.
async fn the_newer_change_wins_when_only_one_shard_has_it(left_behind: &str) {
    let place = Place::new();
    let broker = place.start(&Options::shards(2));
    apply_topic(&broker, "orders", 2).await;
    apply_group(&broker, group("billing")).await;
    apply_group(&broker, group("gone")).await;
    send(&broker, &ids(0..4)).await;
    broker.kill();
    let (shard, before) = (place.data().join(left_behind), place.path("before"));
    copy(&shard, &before);

    let broker = place.start(&Options::shards(2));
    apply_group(&broker, Group { consume: Some(false), ..group("billing") }).await;
    apply_topic(&broker, "refunds", 2).await;
    apply_group(&broker, group("audit")).await;
    delete_group(&broker, "gone").await;
    broker.kill();
    fs::remove_dir_all(&shard).unwrap();
    copy(&before, &shard);

    for _ in 0..2 {
        let broker = place.start(&Options::shards(2));
        let groups = groups(&broker).await;
        let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(names, ["audit", "billing"]);
        assert_eq!(groups[1].consume, Some(false));
        let mut client = broker.client("consumer").await;
        let mut paused = receive_request("orders", "billing", 32);
        paused.long_polling_timeout = Some(span(std::time::Duration::from_secs(5)));
        let received = client.receive_with(paused).await.unwrap();
        assert!(received.messages.is_empty(), "one shard does not know that it is paused");
        assert_eq!(received.status.code(), Code::MessageNotFound);
        let received = client.receive("refunds", "audit", 1).await.unwrap();
        assert_eq!(received.status.code(), Code::MessageNotFound, "{received:?}");
        broker.kill();
    }
}

#[tokio::test]
async fn a_change_that_reached_the_first_shard_only_holds_after_the_next_start() {
    the_newer_change_wins_when_only_one_shard_has_it("shard-1").await;
}

#[tokio::test]
async fn a_change_that_a_copy_of_the_first_shard_lacks_holds_after_the_next_start() {
    the_newer_change_wins_when_only_one_shard_has_it("shard-0").await;
}

#[tokio::test]
async fn a_group_that_was_deleted_in_use_comes_back_by_a_declaration_only() {
    let place = Place::new();
    let broker = place.start(&Options::shards(2));
    apply_topic(&broker, "orders", 2).await;
    apply_group(&broker, Group { order: Order::Ordered.into(), ..group("billing") }).await;
    send(&broker, &ids(0..4)).await;
    let mut client = broker.client("consumer").await;
    assert_eq!(drain(&mut client, "orders", "billing").await.len(), 4);
    let polling = {
        let mut client = client.clone();
        tokio::spawn(async move { client.receive("orders", "billing", 1).await })
    };
    broker.wait_for_metric("pinnace_consumer_waiting_polls", "billing", 1.0).await;
    delete_group(&broker, "billing").await;
    let ended = polling.await.unwrap().unwrap().status;
    assert_eq!(ended.code(), Code::ConsumerGroupNotFound, "{ended:?}");
    let refused = client.receive("orders", "billing", 1).await.unwrap().status;
    assert_eq!(refused.code(), Code::ConsumerGroupNotFound);
    assert!(refused.message.contains("declare it again"), "{refused:?}");
    assert!(groups(&broker).await.is_empty());
    broker.kill();

    let broker = place.start(&Options::shards(3));
    let mut client = broker.client("consumer").await;
    let refused = client.receive("orders", "billing", 1).await.unwrap().status;
    assert_eq!(refused.code(), Code::ConsumerGroupNotFound, "a restart does not forget it");
    assert_eq!(drain(&mut client, "orders", "never-declared").await.len(), 4, "first use goes on");
    apply_group(&broker, Group { order: Order::Ordered.into(), ..group("billing") }).await;
    assert_eq!(drain(&mut client, "orders", "billing").await.len(), 4, "a new group");
}
