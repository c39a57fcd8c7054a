//! Two brokers with a shard each: a call for the other one's shard is passed on, and a poll waits at both.

use std::time::Duration;

use broker_engine::{Command, Outcome, ProgressQuery};
use broker_model::ShardId;
use broker_proto::admin::{
    ApplyClusterMapRequest, ApplyTopicRequest, BrokerAddress, ClusterMap, MessageType,
    QueuePlacement, Shard, Topic,
};
use broker_proto::rocketmq::pull_message_response::Content;
use broker_proto::rocketmq::{
    AckMessageEntry, AckMessageRequest, Broker, ChangeInvisibleDurationRequest, Code,
    ForwardMessageToDeadLetterQueueRequest, GetOffsetRequest, LiteSubscriptionAction, Message,
    MessageQueue, PullMessageRequest, QueryAssignmentRequest, QueryOffsetPolicy,
    QueryOffsetRequest, QueryRouteRequest, RecallMessageRequest, SyncLiteSubscriptionRequest,
    UpdateOffsetRequest,
};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::broker::{
    TestBroker, as_client, bodies, code, handle, message, named, receive, seconds, start_with,
};

/// The map of a cluster of two brokers at these ports, each of which leads the shard of its number.
pub(crate) fn map_of(version: u64, ports: [u16; 2]) -> ClusterMap {
    let address = |(broker_id, port): (u32, u16)| BrokerAddress {
        broker_id,
        host: "127.0.0.1".into(),
        port: port.into(),
        admin_port: port.into(),
    };
    let shard = |id: u32| Shard {
        id,
        name: format!("shard-{id}"),
        leader_broker: id,
        replica_brokers: vec![id],
    };
    ClusterMap {
        version,
        cluster: "default".into(),
        brokers: (0..).zip(ports).map(address).collect(),
        shards: vec![shard(0), shard(1)],
        client_hosts: Vec::new(),
    }
}

pub(crate) async fn two_brokers(kind: MessageType) -> [TestBroker; 2] {
    let mut brokers =
        [start_with([ShardId(0)].into_iter()).await, start_with([ShardId(1)].into_iter()).await];
    let map = map_of(1, [brokers[0].port, brokers[1].port]);
    let placed = |shard: &str| QueuePlacement { shard: shard.into(), queues: 2 };
    let topic = Topic {
        name: "orders".into(),
        r#type: kind.into(),
        queues: 4,
        placement: vec![placed("shard-0"), placed("shard-1")],
        ..Topic::default()
    };
    for broker in &mut brokers {
        let request = ApplyClusterMapRequest { map: Some(map.clone()) };
        broker.admin.apply_cluster_map(request).await.unwrap();
        let request =
            ApplyTopicRequest { topic: Some(topic.clone()), ..ApplyTopicRequest::default() };
        broker.admin.apply_topic(request).await.unwrap();
    }
    brokers
}

/// No more than this passes until a message of another broker is there; well below the shortest polling time.
const SOON: Duration = Duration::from_secs(1);

/// A simple consumer's poll at a shard, which waits on a task of its own.
fn waiting(broker: &TestBroker, client: &str, shard: &str) -> JoinHandle<(Code, Vec<Message>)> {
    let mut broker = broker.clone();
    let request = as_client(client, receive("orders", "billing", shard));
    tokio::spawn(async move {
        let (status, messages) = broker.receive(request).await;
        (status.code(), messages)
    })
}

async fn send_one(broker: &mut TestBroker, body: &str) {
    let answer = broker.send(vec![message("orders", body, body)]).await;
    assert_eq!(code(answer.status.as_ref()), Code::Ok, "{:?}", answer.status);
}

fn attempts(messages: &[Message]) -> Vec<i32> {
    let attempt =
        |m: &Message| m.system_properties.as_ref().unwrap().delivery_attempt.unwrap_or_default();
    messages.iter().map(attempt).collect()
}

fn grouped(n: usize) -> Message {
    let mut message = message("orders", &n.to_string(), "x");
    message.system_properties.as_mut().unwrap().message_group = Some(format!("group-{n}"));
    message
}

#[tokio::test]
async fn a_message_group_has_one_queue_whichever_broker_is_asked() {
    let [mut first, mut second] = two_brokers(MessageType::Fifo).await;
    for n in 0..16 {
        for broker in [&mut first, &mut second] {
            let answer = broker.send(vec![grouped(n)]).await;
            assert_eq!(code(answer.status.as_ref()), Code::Ok, "{:?}", answer.status);
        }
    }
    let mut groups = Vec::new();
    for (broker, shard) in [(&mut first, "shard-0"), (&mut second, "shard-1")] {
        let (_, messages) =
            broker.receive(as_client("c", receive("orders", "billing", shard))).await;
        let group = |m: &Message| m.system_properties.clone().unwrap().message_group.unwrap();
        let mut held: Vec<_> = messages.iter().map(group).collect();
        held.sort();
        let pairs = held.chunks(2).all(|pair| pair[0] == *pair.last().unwrap());
        assert!(pairs && held.len() % 2 == 0, "a group is split: {held:?}");
        groups.push(held.len());
    }
    assert!(groups.iter().all(|count| *count > 0) && groups.iter().sum::<usize>() == 32);
}

#[tokio::test]
async fn a_recall_finds_its_shard_and_a_broker_that_is_gone_is_said() {
    let [mut first, mut second] = two_brokers(MessageType::Delay).await;
    let mut delayed = message("orders", "1", "x");
    let soon = prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 };
    delayed.system_properties.as_mut().unwrap().delivery_timestamp = Some(soon);
    let refused = second.send(vec![delayed.clone()]).await;
    assert_eq!(code(refused.status.as_ref()), Code::IllegalDeliveryTime);
    let hour = std::time::SystemTime::now() + std::time::Duration::from_secs(3_600);
    delayed.system_properties.as_mut().unwrap().delivery_timestamp = Some(hour.into());
    let sent = second.send(vec![delayed]).await;
    let request = || {
        let recall_handle = sent.entries[0].recall_handle.clone();
        as_client("c", RecallMessageRequest { topic: named("orders"), recall_handle })
    };
    let answer = first.client.recall_message(request()).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::Ok, "{:?}", answer.status);
    let gone = ClusterMap {
        version: 2,
        cluster: "default".into(),
        brokers: vec![BrokerAddress {
            broker_id: 1,
            host: "127.0.0.1".into(),
            port: 1,
            admin_port: 1,
        }],
        shards: vec![Shard {
            id: 1,
            name: "shard-1".into(),
            leader_broker: 1,
            replica_brokers: vec![1],
        }],
        client_hosts: Vec::new(),
    };
    let request_map = ApplyClusterMapRequest { map: Some(gone) };
    first.admin.apply_cluster_map(request_map).await.unwrap();
    let answer = first.client.recall_message(request()).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::HaNotAvailable);
}

/// Two messages of each broker, received at the first one.
async fn four_received(brokers: &mut [TestBroker; 2]) -> Vec<Message> {
    for (n, broker) in (0..4).zip([0, 0, 1, 1]) {
        let answer = brokers[broker].send(vec![message("orders", &n.to_string(), "x")]).await;
        assert_eq!(code(answer.status.as_ref()), Code::Ok);
    }
    let mut all = Vec::new();
    for shard in ["shard-0", "shard-1"] {
        let request = as_client("c", receive("orders", "billing", shard));
        let (_, messages) = brokers[0].receive(request).await;
        assert_eq!(messages.len(), 2, "{shard}");
        all.extend(messages);
    }
    all
}

#[tokio::test]
async fn deliveries_of_both_brokers_are_settled_at_either() {
    let mut brokers = two_brokers(MessageType::Normal).await;
    let received = four_received(&mut brokers).await;
    let first = &mut brokers[0];

    // The last one of the other broker is hidden anew, under another handle.
    let request = ChangeInvisibleDurationRequest {
        group: named("billing"),
        topic: named("orders"),
        receipt_handle: handle(&received[3]),
        invisible_duration: seconds(60),
        ..ChangeInvisibleDurationRequest::default()
    };
    let changed = first.client.change_invisible_duration(as_client("c", request)).await;
    let changed = changed.unwrap().into_inner();
    assert_eq!(code(changed.status.as_ref()), Code::Ok, "{:?}", changed.status);

    let handles = received[..3].iter().map(handle).chain([changed.receipt_handle]);
    let entries = handles
        .map(|receipt_handle| AckMessageEntry { receipt_handle, ..AckMessageEntry::default() });
    let mut entries: Vec<_> = entries.collect();
    entries
        .insert(2, AckMessageEntry { receipt_handle: "no".into(), ..AckMessageEntry::default() });
    let request = AckMessageRequest { group: named("billing"), topic: named("orders"), entries };
    let answer = first.client.ack_message(as_client("c", request)).await.unwrap().into_inner();
    let codes: Vec<_> = answer.entries.iter().map(|entry| code(entry.status.as_ref())).collect();
    let (ok, bad) = (Code::Ok, Code::InvalidReceiptHandle);
    assert_eq!(codes, [ok, ok, bad, ok, ok]);
    assert_eq!(code(answer.status.as_ref()), Code::MultipleResults);
}

#[tokio::test]
async fn a_message_is_given_up_at_the_broker_that_has_it() {
    let mut brokers = two_brokers(MessageType::Normal).await;
    let received = four_received(&mut brokers).await;
    let request = ForwardMessageToDeadLetterQueueRequest {
        group: named("billing"),
        topic: named("orders"),
        receipt_handle: handle(&received[3]),
        ..ForwardMessageToDeadLetterQueueRequest::default()
    };
    let answer = brokers[0].client.forward_message_to_dead_letter_queue(as_client("c", request));
    assert_eq!(code(answer.await.unwrap().into_inner().status.as_ref()), Code::Ok);

    // Only the other broker has such a topic yet.
    let request = QueryRouteRequest { topic: named("%DLQ%billing"), ..Default::default() };
    let route = brokers[0].client.query_route(as_client("c", request)).await.unwrap().into_inner();
    assert_eq!(code(route.status.as_ref()), Code::Ok, "{:?}", route.status);
    let shards: Vec<_> =
        route.message_queues.iter().map(|queue| queue.broker.clone().unwrap().name).collect();
    assert_eq!(shards, ["shard-1"]);
    let request = QueryAssignmentRequest {
        topic: named("%DLQ%billing"),
        group: named("undertaker"),
        ..Default::default()
    };
    let answer = brokers[0].client.query_assignment(as_client("c", request)).await.unwrap();
    assert_eq!(answer.into_inner().assignments.len(), 1);

    let request = as_client("c", receive("%DLQ%billing", "undertaker", "shard-1"));
    let (_, dead) = brokers[0].receive(request).await;
    assert_eq!(dead.len(), 1);
}

#[tokio::test]
async fn offsets_and_pulls_reach_the_broker_of_the_queue() {
    let [mut first, mut second] = two_brokers(MessageType::Normal).await;
    let answer = second.send(vec![message("orders", "1", "x")]).await;
    assert_eq!(code(answer.status.as_ref()), Code::Ok);
    let queue = |id| {
        let broker = Some(Broker { name: "shard-1".into(), ..Broker::default() });
        Some(MessageQueue { topic: named("orders"), id, broker, ..MessageQueue::default() })
    };
    let mut ends = Vec::new();
    for id in 0..2 {
        let mut request =
            QueryOffsetRequest { message_queue: queue(id), ..QueryOffsetRequest::default() };
        request.set_query_offset_policy(QueryOffsetPolicy::End);
        let answer = first.client.query_offset(as_client("c", request)).await.unwrap();
        ends.push(answer.into_inner().offset);
    }
    assert_eq!(ends.iter().sum::<i64>(), 1);
    let id = ends.iter().position(|end| *end == 1).unwrap().try_into().unwrap();

    let request = PullMessageRequest {
        group: named("billing"),
        message_queue: queue(id),
        batch_size: 3,
        long_polling_timeout: seconds(5),
        ..PullMessageRequest::default()
    };
    let pulled = first.client.pull_message(as_client("c", request)).await.unwrap();
    let (mut stream, mut messages) = (pulled.into_inner(), Vec::new());
    while let Some(element) = stream.message().await.unwrap() {
        if let Some(Content::Message(message)) = element.content {
            messages.push(message);
        }
    }
    assert_eq!(bodies(&messages), ["x"]);

    let request =
        UpdateOffsetRequest { group: named("billing"), message_queue: queue(id), offset: 1 };
    let answer = first.client.update_offset(as_client("c", request)).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::Ok, "{:?}", answer.status);
    let request = GetOffsetRequest { group: named("billing"), message_queue: queue(id) };
    let answer = first.client.get_offset(as_client("c", request)).await.unwrap().into_inner();
    assert_eq!(answer.offset, 1, "{:?}", answer.status);
}

#[tokio::test]
async fn a_poll_gets_what_another_broker_has_before_it_and_while_it_waits() {
    let [mut first, mut second] = two_brokers(MessageType::Normal).await;
    send_one(&mut second, "before").await;
    for body in ["before", "while"] {
        let began = Instant::now();
        let poll = waiting(&first, "c", "shard-0");
        if body == "while" {
            sleep(Duration::from_millis(200)).await;
            send_one(&mut second, body).await;
        }
        let (status, messages) = poll.await.unwrap();
        assert_eq!((status, bodies(&messages)), (Code::Ok, vec![body.to_owned()]));
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        assert_eq!(attempts(&messages), [1]);
        // Nothing of it came twice, and it is settled where it is.
        let request = AckMessageRequest {
            group: named("billing"),
            topic: named("orders"),
            entries: vec![AckMessageEntry {
                receipt_handle: handle(&messages[0]),
                ..AckMessageEntry::default()
            }],
        };
        let answer = first.client.ack_message(as_client("c", request)).await.unwrap();
        assert_eq!(code(answer.into_inner().status.as_ref()), Code::Ok);
    }
}

#[tokio::test]
async fn of_polls_that_wait_each_message_of_another_broker_is_for_one() {
    let [first, mut second] = two_brokers(MessageType::Normal).await;
    let mut polls = JoinSet::new();
    for n in 0..8 {
        polls.spawn(waiting(&first, &format!("c{n}"), "shard-0"));
    }
    for n in 0..4 {
        polls.spawn(waiting(&second, &format!("d{n}"), "shard-1"));
    }
    sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    // There are not enough polls at the second one for all of them.
    for n in 0..8 {
        send_one(&mut second, &n.to_string()).await;
    }
    let mut messages = Vec::new();
    while messages.len() < 8
        && let Some(poll) = polls.join_next().await
    {
        messages.extend(poll.unwrap().unwrap().1);
    }
    assert_eq!(bodies(&messages), ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(attempts(&messages), [1; 8]);
    assert!(began.elapsed() < 3 * SOON, "{:?}", began.elapsed());
}

/// Polls that wait at the shards of a broker, those of other brokers among them.
async fn waiters(broker: &TestBroker) -> usize {
    let mut count = 0;
    for shard in broker.context.catalog.shards() {
        match shard.submit(Command::ReadProgress(ProgressQuery::default())).await {
            Ok(Outcome::Progress(progress, _)) => {
                count += progress.iter().map(|p| p.waiters).sum::<usize>()
            }
            other => panic!("{other:?}"),
        }
    }
    count
}

async fn until_waiters(broker: &TestBroker, expected: usize) {
    let reached = async {
        while waiters(broker).await != expected {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let count = timeout(3 * SOON, reached).await;
    assert!(count.is_ok(), "{} instead of {expected}", waiters(broker).await);
}

#[tokio::test]
async fn polls_that_want_the_same_share_one_request_at_another_broker() {
    let [first, second] = two_brokers(MessageType::Normal).await;
    // Those that come after others left find the request that they made.
    for round in 1..=3 {
        let polls: Vec<_> = (0..16).map(|n| waiting(&first, &format!("c{n}"), "shard-0")).collect();
        until_waiters(&first, round * 16).await;
        until_waiters(&second, 1).await;
        sleep(Duration::from_millis(200)).await;
        assert_eq!(waiters(&second).await, 1);
        for poll in polls {
            poll.abort();
        }
    }
}

#[tokio::test]
async fn a_poll_whose_client_left_takes_nothing_at_another_broker() {
    let [mut first, mut second] = two_brokers(MessageType::Normal).await;
    let request = as_client("c", receive("orders", "billing", "shard-0"));
    let left = timeout(Duration::from_millis(300), first.receive(request)).await;
    assert!(left.is_err(), "nothing is there yet");
    send_one(&mut second, "x").await;
    let (_, messages) = waiting(&first, "c", "shard-0").await.unwrap();
    assert_eq!((bodies(&messages), attempts(&messages)), (vec!["x".to_owned()], vec![1]));
}

#[tokio::test]
async fn what_another_broker_handed_out_and_no_client_read_is_given_back_uncounted() {
    let [mut first, mut second] = two_brokers(MessageType::Normal).await;
    // More than fits into the windows of the client's connection.
    let large = "x".repeat(3 * 1024 * 1024);
    for n in 0..3 {
        let answer = second.send(vec![message("orders", &n.to_string(), &large)]).await;
        assert_eq!(code(answer.status.as_ref()), Code::Ok, "{:?}", answer.status);
    }
    // Passed on, and fetched.
    for shard in ["shard-1", "shard-0"] {
        let mut client = first.client.clone().max_decoding_message_size(usize::MAX);
        let request = as_client("c", receive("orders", "billing", shard));
        let mut answer = client.receive_message(request).await.unwrap().into_inner();
        answer.message().await.unwrap().unwrap();
        drop(answer);
    }
    first.client = first.client.max_decoding_message_size(usize::MAX);
    let began = Instant::now();
    let mut all = Vec::new();
    while all.len() < 3 {
        let request = as_client("c", receive("orders", "billing", "shard-1"));
        all.extend(first.receive(request).await.1);
    }
    assert!(began.elapsed() < 5 * SOON, "{:?}", began.elapsed());
    assert_eq!(attempts(&all), [1; 3]);
}

#[tokio::test]
async fn a_broker_that_is_gone_does_not_delay_what_is_here() {
    let [mut first, _second] = two_brokers(MessageType::Normal).await;
    let map = map_of(2, [first.port, 1]);
    first.admin.apply_cluster_map(ApplyClusterMapRequest { map: Some(map) }).await.unwrap();
    let poll = waiting(&first, "c", "shard-0");
    sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    send_one(&mut first, "x").await;
    assert_eq!(bodies(&poll.await.unwrap().1), ["x"]);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[tokio::test]
async fn lite_topics_that_one_broker_was_told_of_hold_at_all() {
    let [mut first, second] = two_brokers(MessageType::Lite).await;
    let request = SyncLiteSubscriptionRequest {
        action: LiteSubscriptionAction::PartialAdd.into(),
        topic: named("orders"),
        group: named("billing"),
        lite_topic_set: (0..8).map(|n| format!("room-{n}")).collect(),
        ..SyncLiteSubscriptionRequest::default()
    };
    let answer = first.client.sync_lite_subscription(as_client("c", request)).await.unwrap();
    assert_eq!(code(answer.into_inner().status.as_ref()), Code::Ok);
    for n in 0..8 {
        let name = format!("room-{n}");
        let mut message = message("orders", &name, &name);
        message.system_properties.as_mut().unwrap().lite_topic = Some(name);
        let answer = first.send(vec![message]).await;
        assert_eq!(code(answer.status.as_ref()), Code::Ok, "{:?}", answer.status);
    }
    let began = Instant::now();
    let mut all = Vec::new();
    for (broker, shard) in [(&first, "shard-0"), (&second, "shard-1")] {
        let (_, messages) = waiting(broker, "c", shard).await.unwrap();
        assert!((1..8).contains(&messages.len()), "{} at {shard}", messages.len());
        all.extend(messages);
    }
    let expected: Vec<_> = (0..8).map(|n| format!("room-{n}")).collect();
    assert_eq!(bodies(&all), expected);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}
