//! The admin API against real shards.

use broker_proto::admin::state_event::Event;
use broker_proto::admin::{
    ApplyClusterMapRequest, ApplyGroupRequest, ApplyTopicRequest, BrokerAddress, ClusterMap,
    DeleteTopicRequest, GetBrokerRequest, Group, ListGroupsRequest, ListTopicsRequest, MessageType,
    Owner, Shard, StateEvent, Topic, WatchStateRequest,
};
use broker_proto::rocketmq::QueryRouteRequest;
use tonic::{Code, Streaming};

use crate::broker::{access_point, as_client, message, named, receive, start};

fn apply(name: &str, queues: u32) -> ApplyTopicRequest {
    let topic =
        Topic { name: name.into(), r#type: MessageType::Normal.into(), queues, ..Topic::default() };
    ApplyTopicRequest { topic: Some(topic), ..ApplyTopicRequest::default() }
}

#[tokio::test]
async fn a_topic_is_applied_idempotently_and_its_owner_is_kept() {
    let mut broker = start(2).await;
    let owner = Owner { instance: "operator".into(), name: "orders".into(), ..Owner::default() };
    let mut request = apply("orders", 4);
    request.topic.as_mut().unwrap().owner = Some(owner.clone());
    let first = broker.admin.apply_topic(request.clone()).await.unwrap().into_inner();
    let again = broker.admin.apply_topic(request.clone()).await.unwrap().into_inner();
    assert_eq!((first.changed, again.changed), (true, false));
    let topic = again.topic.unwrap();
    assert_eq!((topic.placement.len(), topic.owner.clone()), (2, Some(owner)));
    request.topic.as_mut().unwrap().owner.as_mut().unwrap().name = "other".into();
    request.topic.as_mut().unwrap().queues = 6;
    let refused = broker.admin.apply_topic(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let unforced = DeleteTopicRequest { name: "orders".into(), owner: None, force: false };
    let refused = broker.admin.delete_topic(unforced).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let forced = DeleteTopicRequest { name: "orders".into(), owner: None, force: true };
    assert!(broker.admin.delete_topic(forced.clone()).await.unwrap().into_inner().existed);
    assert!(!broker.admin.delete_topic(forced).await.unwrap().into_inner().existed);
}

#[tokio::test]
async fn an_illegal_topic_is_refused_with_its_code() {
    let mut broker = start(1).await;
    let typed = |kind: MessageType| {
        let mut request = apply("orders", 1);
        request.topic.as_mut().unwrap().r#type = kind.into();
        request
    };
    let rows = [
        (ApplyTopicRequest::default(), Code::InvalidArgument),
        (apply("bad topic", 1), Code::InvalidArgument),
        (apply("orders", 1025), Code::InvalidArgument),
        (typed(MessageType::Unspecified), Code::InvalidArgument),
    ];
    for (request, expected) in rows {
        assert_eq!(broker.admin.apply_topic(request).await.unwrap_err().code(), expected);
    }
}

#[tokio::test]
async fn lists_carry_numbers_and_lag() {
    let mut broker = start(2).await;
    broker.topic("orders", 2).await;
    let status = broker.admin.get_broker(GetBrokerRequest {}).await.unwrap().into_inner().broker;
    assert!(status.unwrap().shards.iter().all(|shard| shard.oldest_message_ms == 0));
    broker.send((0..5).map(|i| message("orders", &i.to_string(), "x")).collect()).await;
    let mut one = receive("orders", "billing", "shard-0");
    one.batch_size = 1;
    broker.receive(as_client("c", one)).await;
    let topics = broker.admin.list_topics(ListTopicsRequest::default()).await.unwrap().into_inner();
    assert_eq!((topics.topics.len(), topics.status[0].messages), (1, 5));
    assert_eq!(topics.status[0].groups, ["billing"]);
    let groups = broker.admin.list_groups(ListGroupsRequest::default()).await.unwrap().into_inner();
    assert!(groups.groups[0].auto_created);
    let declared = Group { name: "billing".into(), ..Group::default() };
    let request = ApplyGroupRequest { group: Some(declared), ..ApplyGroupRequest::default() };
    let applied = broker.admin.apply_group(request).await.unwrap().into_inner();
    assert!(!applied.group.unwrap().auto_created, "declared with the settings that it had");
    let lag = &groups.status[0].topics[0];
    assert_eq!((lag.lag_messages, lag.inflight_messages, lag.ready_messages), (5, 1, 4));
    let absent = ListGroupsRequest { names: vec!["absent".into()] };
    assert!(broker.admin.list_groups(absent).await.unwrap().into_inner().groups.is_empty());
    let status = broker.admin.get_broker(GetBrokerRequest {}).await.unwrap().into_inner().broker;
    let status = status.unwrap();
    assert_eq!((status.shards.len(), status.disk_free_bytes), (2, 50));
    assert!(status.shards.iter().all(|s| s.role == "leader" && s.failure.is_empty()));
    assert_eq!((status.disk_id.as_str(), status.shards[0].refuses_sends), ("d15c", false));
    let oldest: Vec<u64> = status.shards.iter().map(|shard| shard.oldest_message_ms).collect();
    assert!(oldest.iter().any(|stored_ms| *stored_ms > 0), "{oldest:?}");
}

async fn next(stream: &mut Streaming<StateEvent>) -> Event {
    stream.message().await.unwrap().unwrap().event.unwrap()
}

#[tokio::test]
async fn a_watcher_gets_everything_then_every_change() {
    let mut broker = start(1).await;
    broker.topic("orders", 1).await;
    let stream = broker.admin.watch_state(WatchStateRequest::default()).await.unwrap();
    let mut stream = stream.into_inner();
    let first = next(&mut stream).await;
    assert!(matches!(&first, Event::Topic(t) if t.name == "orders"), "{first:?}");
    assert!(matches!(next(&mut stream).await, Event::Broker(_)));
    assert!(matches!(next(&mut stream).await, Event::Synced(_)));
    broker.topic("payments", 1).await;
    let added = next(&mut stream).await;
    assert!(matches!(&added, Event::Topic(t) if t.name == "payments"), "{added:?}");
    broker.send(vec![message("orders", "1", "x")]).await;
    broker.receive(as_client("c", receive("orders", "billing", "shard-0"))).await;
    let created = next(&mut stream).await;
    assert!(matches!(&created, Event::Group(g) if g.name == "billing"), "{created:?}");
    loop {
        let Event::GroupStatus(status) = next(&mut stream).await else { continue };
        if status.topics.first().is_some_and(|t| t.inflight_messages == 1) {
            break;
        }
    }
    let forced = DeleteTopicRequest { name: "payments".into(), owner: None, force: true };
    broker.admin.delete_topic(forced).await.unwrap();
    loop {
        match next(&mut stream).await {
            Event::TopicDeleted(name) => break assert_eq!(name, "payments"),
            Event::GroupStatus(_) | Event::Broker(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    broker.context.stop();
    while stream.message().await.unwrap().is_some() {}
}

#[tokio::test]
async fn a_cluster_map_changes_what_clients_are_told() {
    let mut broker = start(1).await;
    broker.topic("orders", 1).await;
    let map = |version, leader_broker| ClusterMap {
        version,
        cluster: "main".into(),
        brokers: vec![BrokerAddress {
            broker_id: 0,
            host: "main-0.main".into(),
            port: 8081,
            admin_port: 8083,
        }],
        shards: vec![Shard {
            id: 0,
            name: "shard-0".into(),
            leader_broker,
            replica_brokers: vec![0],
        }],
        client_hosts: Vec::new(),
    };
    let request = |map| ApplyClusterMapRequest { map };
    let refused = broker.admin.apply_cluster_map(request(Some(map(1, 7)))).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("broker 7"), "{refused}");
    let held = broker.admin.apply_cluster_map(request(Some(map(5, 0)))).await.unwrap();
    assert_eq!(held.into_inner().version, 5);
    let held = broker.admin.apply_cluster_map(request(Some(map(3, 0)))).await.unwrap();
    assert_eq!(held.into_inner().version, 5, "an older map changes nothing");
    let mut elsewhere = map(6, 0);
    elsewhere.brokers[0].host = "a b\n/@?#".into();
    for (hostile, words) in [
        (map(u64::MAX, 0), "count from 1"),
        (map(1 << 40, 0), "where 5 is held"),
        (elsewhere, "host"),
    ] {
        let refused = broker.admin.apply_cluster_map(request(Some(hostile))).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(words), "{refused}");
    }
    let held = broker.admin.apply_cluster_map(request(Some(map(6, 0)))).await.unwrap();
    assert_eq!(held.into_inner().version, 6, "nothing refused stands in the way of the next one");
    let ask = QueryRouteRequest { topic: named("orders"), endpoints: Some(access_point()) };
    let route = broker.client.query_route(as_client("c", ask)).await.unwrap().into_inner();
    let endpoints = route.message_queues[0].broker.as_ref().unwrap().endpoints.clone().unwrap();
    assert_eq!(endpoints.addresses[0].host, "main-0.main");
}

#[tokio::test]
async fn numbers_beyond_their_limits_are_refused_and_nothing_is_kept_of_them() {
    use broker_proto::admin::retry_policy::Backoff;
    use broker_proto::admin::{
        ApplyGroupRequest, CustomizedBackoff, ExponentialBackoff, Group, Owner, QueuePlacement,
        ResetOffsetsRequest, Retention, RetryPolicy, Subscription, reset_offsets_request::To,
    };
    let mut broker = start(1).await;
    let longest = || Some(prost_types::Duration { seconds: i64::MAX, nanos: 0 });
    let brief = Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 });
    let topic = || Topic {
        name: "orders".into(),
        r#type: MessageType::Lite.into(),
        queues: 1,
        ..Topic::default()
    };
    let retention = |time, bytes| Some(Retention { time, bytes });
    let far = QueuePlacement { shard: "shard-4294967295".into(), queues: 1 };
    let owner = Owner { name: "x".repeat(700_000), ..Owner::default() };
    for (topic, words) in [
        (Topic { lite_expiry: longest(), ..topic() }, "expiry of lite topics"),
        (Topic { retention: retention(longest(), None), ..topic() }, "retention time"),
        (Topic { retention: retention(brief, None), ..topic() }, "retention time"),
        (Topic { retention: retention(None, Some(0)), ..topic() }, "retention size"),
        (Topic { max_message_bytes: Some(0), ..topic() }, "largest body"),
        (Topic { placement: vec![far], ..topic() }, "shard-4294967295"),
        (Topic { owner: Some(owner), ..topic() }, "700000 bytes"),
    ] {
        let request = ApplyTopicRequest { topic: Some(topic), ..ApplyTopicRequest::default() };
        let refused = broker.admin.apply_topic(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(words), "{refused}");
    }
    let retry = |backoff| Some(RetryPolicy { max_attempts: 1, backoff: Some(backoff) });
    let list = Backoff::Customized(CustomizedBackoff { next: longest().into_iter().collect() });
    let curve = ExponentialBackoff { initial: longest(), max: longest(), multiplier: 1.0 };
    let group = || Group { name: "billing".into(), ..Group::default() };
    let subscription = Subscription { topic: "orders".into(), ..Subscription::default() };
    for (group, words) in [
        (Group { retry: retry(list), ..group() }, "a pause of the backoff"),
        (Group { retry: retry(Backoff::Exponential(curve)), ..group() }, "a pause of the backoff"),
        (Group { subscriptions: vec![subscription; 101], ..group() }, "101 subscriptions"),
    ] {
        let request = ApplyGroupRequest { group: Some(group), ..ApplyGroupRequest::default() };
        let refused = broker.admin.apply_group(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(words), "{refused}");
    }
    let reset = ResetOffsetsRequest {
        group: "billing".into(),
        to: Some(To::Shift(0)),
        id: "x".repeat(700_000),
        ..ResetOffsetsRequest::default()
    };
    let refused = broker.admin.reset_offsets(reset).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(broker.context.catalog.topics().is_empty());
    assert!(broker.context.catalog.groups().is_empty());
}

#[tokio::test]
async fn what_a_resource_cannot_change_the_admin_api_cannot_either() {
    use broker_proto::admin::{
        ApplyGroupRequest, Group, Model, ResetOffsetsRequest, StartFrom, reset_offsets_request::To,
    };
    let mut broker = start(2).await;
    let fifo = |queues| {
        let mut request = apply("orders", queues);
        request.topic.as_mut().unwrap().set_type(MessageType::Fifo);
        request
    };
    let owner = Owner { instance: "operator".into(), name: "g".into(), ..Owner::default() };
    let group = |model: Model, lite_topic: &str| ApplyGroupRequest {
        group: Some(Group {
            name: "billing".into(),
            model: model.into(),
            lite_topic: lite_topic.into(),
            owner: Some(owner.clone()),
            ..Group::default()
        }),
        ..ApplyGroupRequest::default()
    };
    let reset = |position: StartFrom| ResetOffsetsRequest {
        group: "billing".into(),
        topics: vec!["orders".into()],
        id: "again".into(),
        to: Some(To::Position(position.into())),
    };
    broker.admin.apply_topic(fifo(5)).await.unwrap();
    broker.admin.apply_group(group(Model::Clustering, "")).await.unwrap();
    for _ in 0..2 {
        broker.admin.reset_offsets(reset(StartFrom::Latest)).await.unwrap();
    }
    let refused = [
        broker.admin.apply_topic(fifo(1)).await.map(drop),
        broker.admin.apply_group(group(Model::Broadcasting, "")).await.map(drop),
        broker.admin.apply_group(group(Model::Clustering, "rooms")).await.map(drop),
        broker.admin.reset_offsets(reset(StartFrom::Earliest)).await.map(drop),
    ];
    let words = ["would be lost", "progress is kept differently", "liteTopic", "another id"];
    for (refused, words) in refused.into_iter().zip(words) {
        let status = refused.unwrap_err();
        assert!(status.message().contains(words), "{status}");
    }
    assert_eq!(broker.context.catalog.topic("orders").unwrap().topic.queues, 5);
}
