//! FIFO topics that grow over shards, of one broker and of two, while messages come: each message group keeps its order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use broker_proto::admin::{
    ApplyGroupRequest, ApplyTopicRequest, Group, MessageType, Order, QueuePlacement,
    ResetOffsetsRequest, StartFrom, Topic, reset_offsets_request,
};
use broker_proto::rocketmq::{AckMessageEntry, AckMessageRequest, Code, Message};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::broker::{
    TestBroker, as_client, code, handle, message, named, receive, start, start_with,
};
use crate::cluster::map_of;

const MESSAGE_GROUPS: usize = 8;
/// The queues of the shard that has the topic first.
const QUEUES: u32 = 2;
const PATIENCE: Duration = Duration::from_secs(40);

/// The topic on so many shards.
fn orders(shards: u32, first_queues: Option<u32>) -> Topic {
    let placed =
        (0..shards).map(|n| QueuePlacement { shard: format!("shard-{n}"), queues: QUEUES });
    Topic {
        name: "orders".into(),
        r#type: MessageType::Fifo.into(),
        queues: QUEUES * shards,
        placement: placed.collect(),
        first_queues,
        ..Topic::default()
    }
}

async fn apply(broker: &mut TestBroker, topic: Topic) {
    let request = ApplyTopicRequest { topic: Some(topic), ..ApplyTopicRequest::default() };
    broker.admin.apply_topic(request).await.unwrap();
}

async fn declare_group(broker: &mut TestBroker) {
    let group = Group { name: "billing".into(), order: Order::Ordered.into(), ..Group::default() };
    let request = ApplyGroupRequest { group: Some(group), ..ApplyGroupRequest::default() };
    broker.admin.apply_group(request).await.unwrap();
}

/// Sends the messages of one group one after the other, at one broker and the next in turn; each has to be stored before the
/// next one is sent.
async fn produce(mut brokers: Vec<TestBroker>, group: usize, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let id = format!("{group}-{number}");
        let mut message = message("orders", &id, &id);
        message.system_properties.as_mut().unwrap().message_group = Some(format!("group-{group}"));
        let until = Instant::now() + PATIENCE;
        let mut turn = number as usize;
        loop {
            let at = turn % brokers.len();
            let answer = brokers[at].send(vec![message.clone()]).await;
            match code(answer.status.as_ref()) {
                Code::Ok => break,
                // As clients do: once more, at another broker.
                Code::TooManyRequests if brokers.len() > 1 && Instant::now() < until => turn += 1,
                other => panic!("{id}: {other:?} {:?}", answer.status),
            }
        }
    }
}

async fn produce_all(brokers: &[TestBroker], numbers: std::ops::Range<u32>) {
    let mut producers = JoinSet::new();
    for group in 0..MESSAGE_GROUPS {
        producers.spawn(produce(brokers.to_vec(), group, numbers.clone()));
    }
    while let Some(ended) = producers.join_next().await {
        ended.unwrap();
    }
}

/// Takes and settles messages until so many have come; fails when one overtakes another of its group. The shards that they
/// were on.
async fn consume(brokers: &mut [TestBroker], shards: u32, count: usize) -> BTreeSet<String> {
    let (mut last, mut held_by) = (BTreeMap::<String, u32>::new(), BTreeSet::new());
    let (mut got, mut turn) = (0, 0);
    let until = Instant::now() + PATIENCE;
    while got < count {
        assert!(Instant::now() < until, "{got} of {count} came: {last:?}");
        turn += 1;
        let shard = format!("shard-{}", turn % shards);
        let at = turn as usize % brokers.len();
        let mut request = receive("orders", "billing", &shard);
        request.long_polling_timeout = Some(prost_types::Duration { seconds: 0, nanos: 1 });
        let polled = brokers[at].receive(as_client("c", request));
        let (_, messages) = timeout(PATIENCE, polled).await.unwrap();
        for message in &messages {
            let body = String::from_utf8(message.body.to_vec()).unwrap();
            let (group, number) = body.split_once('-').unwrap();
            let number: u32 = number.parse().unwrap();
            let expected = last.get(group).map_or(0, |last| last + 1);
            assert_eq!(number, expected, "message group {group} of {shard}");
            last.insert(group.to_owned(), number);
        }
        got += messages.len();
        settle(&mut brokers[at], &messages).await;
        held_by.extend(messages.iter().map(shard_of));
    }
    held_by
}

fn shard_of(message: &Message) -> String {
    let properties = message.system_properties.as_ref().unwrap();
    broker_model::ReceiptHandle::decode(properties.receipt_handle.as_ref().unwrap())
        .map(|handle| format!("{:?}", handle.shard))
        .unwrap()
}

async fn settle(broker: &mut TestBroker, messages: &[Message]) {
    if messages.is_empty() {
        return;
    }
    let entries = messages.iter().map(|message| AckMessageEntry {
        receipt_handle: handle(message),
        ..AckMessageEntry::default()
    });
    let request = AckMessageRequest {
        group: named("billing"),
        topic: named("orders"),
        entries: entries.collect(),
    };
    let answer = broker.client.ack_message(as_client("c", request)).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::Ok, "{:?}", answer.status);
}

/// Of which the first one's shard has the topic.
async fn two_brokers() -> [TestBroker; 2] {
    use broker_model::ShardId;
    let mut brokers =
        [start_with([ShardId(0)].into_iter()).await, start_with([ShardId(1)].into_iter()).await];
    let map = map_of(1, [brokers[0].port, brokers[1].port]);
    for broker in &mut brokers {
        let map = Some(map.clone());
        let request = broker_proto::admin::ApplyClusterMapRequest { map };
        broker.admin.apply_cluster_map(request).await.unwrap();
        apply(broker, orders(1, None)).await;
        declare_group(broker).await;
    }
    brokers
}

async fn reset_to_earliest(broker: &mut TestBroker) {
    let request = ResetOffsetsRequest {
        group: "billing".into(),
        topics: vec!["orders".into()],
        to: Some(reset_offsets_request::To::Position(StartFrom::Earliest.into())),
        ..ResetOffsetsRequest::default()
    };
    broker.admin.reset_offsets(request).await.unwrap();
}

#[tokio::test]
async fn message_groups_keep_their_order_while_their_topic_grows_over_shards() {
    let mut broker = start(3).await;
    apply(&mut broker, orders(1, None)).await;
    declare_group(&mut broker).await;
    // Nobody reads this while the topic grows.
    produce_all(&[broker.clone()], 0..10).await;
    let brokers = [broker.clone()];
    let producing = tokio::spawn(async move { produce_all(&brokers, 10..30).await });
    apply(&mut broker, orders(2, None)).await;
    apply(&mut broker, orders(3, None)).await;
    producing.await.unwrap();
    let all = 30 * MESSAGE_GROUPS;
    let shards = consume(&mut [broker.clone()], 3, all).await;
    assert!(shards.len() >= 2, "it grew: {shards:?}");
    reset_to_earliest(&mut broker).await;
    consume(&mut [broker.clone()], 3, all).await;
}

#[tokio::test]
async fn message_groups_keep_their_order_while_their_topic_grows_over_brokers() {
    let mut brokers = two_brokers().await;
    produce_all(&brokers, 0..10).await;
    let producers = brokers.clone();
    let producing = tokio::spawn(async move { produce_all(&producers, 10..30).await });
    for broker in &mut brokers {
        apply(broker, orders(2, Some(QUEUES))).await;
    }
    producing.await.unwrap();
    let all = 30 * MESSAGE_GROUPS;
    let shards = consume(&mut brokers, 2, all).await;
    assert_eq!(shards.len(), 2, "{shards:?}");
    for broker in &mut brokers {
        reset_to_earliest(broker).await;
    }
    consume(&mut brokers, 2, all).await;
}

#[tokio::test]
async fn a_topic_that_grew_at_one_broker_only_takes_no_sends_and_goes_on_when_the_other_has_it() {
    let mut brokers = two_brokers().await;
    let [first, second] = &mut brokers;
    apply(first, orders(2, Some(QUEUES))).await;
    let mut grouped = message("orders", "1", "0-0");
    grouped.system_properties.as_mut().unwrap().message_group = Some("group-0".into());
    for broker in [&mut *first, &mut *second] {
        let answer = broker.send(vec![grouped.clone()]).await;
        let answered = code(answer.status.as_ref());
        assert!(answered != Code::Ok, "its order would depend on who is asked: {answered:?}");
    }
    apply(second, orders(2, Some(QUEUES))).await;
    produce_all(&brokers, 0..3).await;
    consume(&mut brokers, 2, 3 * MESSAGE_GROUPS).await;
}

#[tokio::test]
async fn a_topic_grows_on_when_whoever_asked_for_it_leaves_in_the_middle() {
    let mut broker = start(3).await;
    apply(&mut broker, orders(1, None)).await;
    declare_group(&mut broker).await;
    let catalog = broker.context.catalog.clone();
    let mut grown = catalog.topic("orders").unwrap().topic.clone();
    grown.placement = (0..3)
        .map(|shard| broker_model::QueuePlacement {
            shard: broker_model::ShardId(shard),
            queues: QUEUES,
        })
        .collect();
    grown.queues = 3 * QUEUES;
    let apply = catalog.apply_topic(grown, broker_replication::ApplyOptions::default());
    let left = timeout(Duration::ZERO, apply).await;
    assert!(left.is_err(), "it was over before anybody could leave");
    produce_all(&[broker.clone()], 0..5).await;
    assert_eq!(catalog.topic("orders").unwrap().topic.queues, 3 * QUEUES);
    consume(&mut [broker], 3, 5 * MESSAGE_GROUPS).await;
}
