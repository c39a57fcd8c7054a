//! Every message type over the wire, against real shards.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker_proto::admin::{ApplyGroupRequest, Group, MessageType, Model, Order};
use broker_proto::rocketmq::offset_option::{OffsetType, Policy};
use broker_proto::rocketmq::{
    self as wire, AckMessageEntry, AckMessageRequest, ChangeInvisibleDurationRequest, Code,
    EndTransactionRequest, LiteSubscriptionAction, Message, RecallMessageRequest,
    SyncLiteSubscriptionRequest, SystemProperties, TransactionResolution,
};

use crate::broker::{TestBroker, as_client, code, handle, message, named, receive, seconds, start};
use crate::clients::{Link, consumer, producer};

async fn group(broker: &mut TestBroker, change: impl FnOnce(&mut Group)) {
    let mut group = Group { name: "billing".into(), ..Group::default() };
    change(&mut group);
    let request = ApplyGroupRequest { group: Some(group), ..ApplyGroupRequest::default() };
    broker.admin.apply_group(request).await.unwrap();
}

fn with(id: &str, change: impl FnOnce(&mut SystemProperties)) -> Message {
    let mut message = message("orders", id, id);
    change(message.system_properties.as_mut().unwrap());
    message
}

/// The bodies in the order of delivery, and the messages.
async fn take(broker: &mut TestBroker, client: &str, max: i32) -> (Vec<String>, Vec<Message>) {
    let mut request = receive("orders", "billing", "shard-0");
    request.batch_size = max;
    let (_, messages) = broker.receive(as_client(client, request)).await;
    let text = |m: &Message| String::from_utf8(m.body.to_vec()).unwrap();
    (messages.iter().map(text).collect(), messages)
}

async fn ack(broker: &mut TestBroker, messages: &[Message]) {
    let entries = messages
        .iter()
        .map(|m| AckMessageEntry { receipt_handle: handle(m), ..AckMessageEntry::default() })
        .collect();
    let request = AckMessageRequest { group: named("billing"), topic: named("orders"), entries };
    let answer = broker.client.ack_message(as_client("c", request)).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::Ok);
}

#[tokio::test]
async fn a_fifo_group_gets_one_message_of_each_message_group_at_a_time_in_order() {
    let mut broker = start(2).await;
    broker.topic_of(MessageType::Fifo, "orders", 4).await;
    group(&mut broker, |g| g.order = Order::Ordered.into()).await;
    for n in 0..3 {
        for name in ["a", "b"] {
            broker
                .send(vec![with(&format!("{name}{n}"), |p| p.message_group = Some(name.into()))])
                .await;
        }
    }
    for n in 0..3 {
        let mut round = Vec::new();
        while round.len() < 2 {
            let (mut bodies, messages) = take(&mut broker, "c", 32).await;
            ack(&mut broker, &messages).await;
            round.append(&mut bodies);
        }
        round.sort();
        assert_eq!(round, [format!("a{n}"), format!("b{n}")]);
    }
}

#[tokio::test]
async fn a_waiting_poll_gets_the_next_message_as_soon_as_the_one_before_is_acknowledged() {
    let mut broker = start(1).await;
    broker.topic_of(MessageType::Fifo, "orders", 1).await;
    group(&mut broker, |g| g.order = Order::Ordered.into()).await;
    for n in 0..2 {
        broker.send(vec![with(&n.to_string(), |p| p.message_group = Some("a".into()))]).await;
    }
    let (_, first) = take(&mut broker, "c", 32).await;
    let mut other = broker.clone();
    let begun = std::time::Instant::now();
    let (second, ()) = tokio::join!(take(&mut other, "d", 32), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        ack(&mut broker, &first).await;
    });
    assert_eq!(second.0, ["1"]);
    assert!(begun.elapsed() < Duration::from_secs(2), "woken, not found by chance");
}

#[tokio::test]
async fn a_named_receive_that_comes_again_gets_the_same_messages() {
    let mut broker = start(1).await;
    broker.topic_of(MessageType::Fifo, "orders", 1).await;
    group(&mut broker, |g| g.order = Order::Ordered.into()).await;
    broker.send(vec![with("1", |p| p.message_group = Some("a".into()))]).await;
    let request = || {
        let mut request = receive("orders", "billing", "shard-0");
        request.attempt_id = Some("attempt".into());
        as_client("c", request)
    };
    let (_, first) = broker.receive(request()).await;
    let (_, again) = broker.receive(request()).await;
    assert_eq!((first.len(), again.len()), (1, 1));
    let attempt = again[0].system_properties.as_ref().unwrap().delivery_attempt;
    assert_eq!(attempt, Some(1), "the answer was lost, not the delivery");
    ack(&mut broker, &again).await;
}

fn now() -> SystemTime {
    SystemTime::now()
}

fn due_in(ms: u64) -> prost_types::Timestamp {
    let due = (now() + Duration::from_millis(ms)).duration_since(UNIX_EPOCH).unwrap();
    prost_types::Timestamp {
        seconds: due.as_secs().try_into().unwrap(),
        nanos: due.subsec_nanos().try_into().unwrap(),
    }
}

#[tokio::test]
async fn a_delayed_message_comes_at_its_time_and_a_recalled_one_never() {
    let mut broker = start(1).await;
    broker.topic_of(MessageType::Delay, "orders", 2).await;
    let due = now() + Duration::from_millis(700);
    let sent = broker
        .send(vec![
            with("late", |p| p.delivery_timestamp = Some(due_in(700))),
            with("recalled", |p| p.delivery_timestamp = Some(due_in(600))),
            with("past", |p| p.delivery_timestamp = Some(prost_types::Timestamp::default())),
        ])
        .await;
    assert!(sent.entries[2].recall_handle.is_empty(), "a past time means at once");
    let recall = |handle: &str| {
        let request =
            RecallMessageRequest { topic: named("orders"), recall_handle: handle.to_owned() };
        as_client("c", request)
    };
    let handle = sent.entries[1].recall_handle.clone();
    let answer = broker.client.recall_message(recall(&handle)).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::Ok);
    assert_eq!(answer.message_id, "recalled");
    let answer = broker.client.recall_message(recall(&handle)).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::BadRequest, "recalled before");
    let answer = broker.client.recall_message(recall("x")).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::BadRequest);

    assert_eq!(take(&mut broker, "c", 32).await.0, ["past"]);
    let (bodies, messages) = take(&mut broker, "c", 32).await;
    assert_eq!(bodies, ["late"]);
    let stored = messages[0].system_properties.as_ref().unwrap().store_timestamp.unwrap();
    let late = now().duration_since(due).unwrap();
    assert!(late < Duration::from_millis(500), "{late:?} late");
    assert!(stored.seconds > 0);
    assert!(take(&mut broker, "c", 32).await.0.is_empty(), "the recalled one stays away");
}

pub(crate) async fn end(broker: &mut TestBroker, id: &str, how: TransactionResolution) -> Code {
    let request = EndTransactionRequest {
        topic: named("orders"),
        message_id: "m".into(),
        transaction_id: id.into(),
        resolution: how.into(),
        ..EndTransactionRequest::default()
    };
    let answer = broker.client.end_transaction(as_client("p", request)).await.unwrap();
    code(answer.into_inner().status.as_ref())
}

pub(crate) fn half(id: &str, recovery_seconds: i64) -> Message {
    with(id, |p| {
        p.set_message_type(wire::MessageType::Transaction);
        p.orphaned_transaction_recovery_duration = seconds(recovery_seconds);
    })
}

#[tokio::test]
async fn a_half_message_is_seen_after_its_commit_only() {
    use TransactionResolution::{Commit, Rollback};
    let mut broker = start(1).await;
    broker.topic_of(MessageType::Transaction, "orders", 1).await;
    let sent = broker.send(vec![half("kept", 60), half("dropped", 60)]).await;
    let ids: Vec<_> = sent.entries.iter().map(|e| e.transaction_id.clone()).collect();
    assert!(take(&mut broker, "c", 32).await.0.is_empty());
    assert_eq!(end(&mut broker, &ids[0], Commit).await, Code::Ok);
    assert_eq!(end(&mut broker, &ids[0], Commit).await, Code::Ok, "said twice");
    assert_eq!(end(&mut broker, &ids[0], Rollback).await, Code::PreconditionFailed);
    assert_eq!(end(&mut broker, &ids[1], Rollback).await, Code::Ok);
    assert_eq!(end(&mut broker, " ", Commit).await, Code::InvalidTransactionId);
    assert_eq!(take(&mut broker, "c", 32).await.0, ["kept"]);
    assert!(take(&mut broker, "c", 32).await.0.is_empty());
}

#[tokio::test]
async fn the_producer_is_asked_about_a_transaction_that_stays_open() {
    let mut broker = start(1).await;
    broker.topic_of(MessageType::Transaction, "orders", 1).await;
    let mut link = Link::open(&mut broker, "p").await;
    link.say(producer()).await;
    link.hear().await;
    broker.send(vec![half("open", 1)]).await;
    let question = link.hear_question().await;
    let message = question.message.unwrap();
    let properties = message.system_properties.unwrap();
    assert_eq!((message.topic, &*message.body), (named("orders"), &b"open"[..]));
    assert_eq!(properties.message_type(), wire::MessageType::Transaction);
    assert!(properties.body_digest.is_some() && properties.receipt_handle.is_none());
    let id = question.transaction_id;
    assert_eq!(end(&mut broker, &id, TransactionResolution::Commit).await, Code::Ok);
    assert_eq!(take(&mut broker, "c", 32).await.0, ["open"]);
}

#[tokio::test]
async fn the_highest_priority_comes_first() {
    let mut broker = start(3).await;
    broker.topic_of(MessageType::Priority, "orders", 4).await;
    for priority in [0, 2, 9, 1, 3] {
        broker.send(vec![with(&priority.to_string(), |p| p.priority = Some(priority))]).await;
    }
    let (bodies, _) = take(&mut broker, "c", 32).await;
    assert_eq!(bodies, ["9", "3", "2", "1", "0"], "beyond the levels is the highest level");
}

#[tokio::test]
async fn a_lite_consumer_gets_its_lite_topics_in_order() {
    let mut broker = start(2).await;
    broker.topic_of(MessageType::Lite, "orders", 2).await;
    group(&mut broker, |g| g.lite_topic = "orders".into()).await;
    for n in 0..2 {
        for room in ["red", "blue"] {
            broker
                .send(vec![with(&format!("{room}{n}"), |p| p.lite_topic = Some(room.into()))])
                .await;
        }
    }
    let sync = |client: &str, room: &str| {
        let request = SyncLiteSubscriptionRequest {
            action: LiteSubscriptionAction::CompleteAdd.into(),
            topic: named("orders"),
            group: named("billing"),
            lite_topic_set: vec![room.into()],
            ..SyncLiteSubscriptionRequest::default()
        };
        as_client(client, request)
    };
    for room in ["red", "blue"] {
        let answer = broker.client.sync_lite_subscription(sync(room, room)).await.unwrap();
        assert_eq!(code(answer.into_inner().status.as_ref()), Code::Ok);
        for n in 0..2 {
            let (bodies, messages) = take(&mut broker, room, 32).await;
            assert_eq!(bodies, [format!("{room}{n}")], "one at a time");
            let lite = messages[0].system_properties.as_ref().unwrap().lite_topic.clone();
            assert_eq!(lite.as_deref(), Some(room));
            ack(&mut broker, &messages).await;
        }
    }
}

#[tokio::test]
async fn a_waiting_lite_consumer_follows_its_subscription() {
    let mut broker = start(1).await;
    broker.topic_of(MessageType::Lite, "orders", 1).await;
    let sync = |rooms: &[&str]| {
        let request = SyncLiteSubscriptionRequest {
            action: LiteSubscriptionAction::CompleteAdd.into(),
            topic: named("orders"),
            group: named("billing"),
            lite_topic_set: rooms.iter().map(|room| (*room).to_owned()).collect(),
            ..SyncLiteSubscriptionRequest::default()
        };
        as_client("c", request)
    };
    broker.client.sync_lite_subscription(sync(&["red"])).await.unwrap();
    let mut other = broker.clone();
    let (waited, ()) = tokio::join!(take(&mut other, "c", 32), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        broker.client.sync_lite_subscription(sync(&["blue"])).await.unwrap();
        for room in ["red", "blue"] {
            broker.send(vec![with(room, |p| p.lite_topic = Some(room.into()))]).await;
        }
    });
    assert_eq!(waited.0, ["blue"], "red was left before its message came");
}

#[tokio::test]
async fn every_consumer_of_a_broadcasting_group_gets_what_is_sent_after_it_came() {
    let mut broker = start(2).await;
    broker.topic("orders", 2).await;
    group(&mut broker, |g| g.model = Model::Broadcasting.into()).await;
    broker.send(vec![message("orders", "before", "before")]).await;
    let mut links = Vec::new();
    for client in ["a", "b"] {
        let mut link = Link::open(&mut broker, client).await;
        let mut settings = consumer("billing");
        if let Some(wire::settings::PubSub::Subscription(subscription)) = &mut settings.pub_sub {
            subscription.subscriptions =
                vec![wire::SubscriptionEntry { topic: named("orders"), expression: None }];
        }
        link.say(settings).await;
        link.hear().await;
        links.push(link);
    }
    for n in 0..2 {
        broker.send(vec![message("orders", "id", &format!("after{n}"))]).await;
    }
    for client in ["a", "b"] {
        let mut got = Vec::new();
        while got.len() < 2 {
            let (mut bodies, messages) = take(&mut broker, client, 32).await;
            ack(&mut broker, &messages).await;
            got.append(&mut bodies);
        }
        got.sort();
        assert_eq!(got, ["after0", "after1"]);
    }
}

#[tokio::test]
async fn a_higher_priority_comes_before_what_comes_again() {
    let mut broker = start(1).await;
    broker.topic_of(MessageType::Priority, "orders", 4).await;
    for n in 0..5 {
        broker.send(vec![with(&format!("low{n}"), |p| p.priority = Some(0))]).await;
    }
    let (_, taken) = take(&mut broker, "c", 32).await;
    assert_eq!(taken.len(), 5);
    for message in &taken {
        change(&mut broker, message, 0, false).await;
    }
    for n in 0..5 {
        broker.send(vec![with(&format!("high{n}"), |p| p.priority = Some(3))]).await;
    }
    let mut order = Vec::new();
    while order.len() < 10 {
        order.extend(take(&mut broker, "c", 4).await.0);
    }
    let levels: Vec<_> = order.iter().map(|body| body.trim_end_matches(char::is_numeric)).collect();
    assert_eq!(levels, [["high"; 5], ["low"; 5]].concat());
}

async fn change(broker: &mut TestBroker, message: &Message, seconds: i64, is_suspend: bool) {
    let request = ChangeInvisibleDurationRequest {
        group: named("billing"),
        topic: named("orders"),
        receipt_handle: handle(message),
        invisible_duration: crate::broker::seconds(seconds),
        suspend: Some(is_suspend),
        ..ChangeInvisibleDurationRequest::default()
    };
    let answer = broker.client.change_invisible_duration(as_client("c", request)).await.unwrap();
    assert_eq!(code(answer.into_inner().status.as_ref()), Code::Ok);
}

async fn subscribe(broker: &mut TestBroker, room: &str, option: Option<OffsetType>) -> Code {
    let request = SyncLiteSubscriptionRequest {
        action: LiteSubscriptionAction::PartialAdd.into(),
        topic: named("orders"),
        group: named("billing"),
        lite_topic_set: vec![room.into()],
        offset_option: option.map(|kind| wire::OffsetOption { offset_type: Some(kind) }),
        ..SyncLiteSubscriptionRequest::default()
    };
    let answer = broker.client.sync_lite_subscription(as_client("c", request)).await.unwrap();
    code(answer.into_inner().status.as_ref())
}

#[tokio::test]
async fn a_suspended_lite_message_comes_again_with_the_same_attempt() {
    let mut broker = start(1).await;
    broker.topic_of(MessageType::Lite, "orders", 1).await;
    group(&mut broker, |g| {
        g.lite_topic = "orders".into();
        g.retry = Some(broker_proto::admin::RetryPolicy { max_attempts: 2, backoff: None });
    })
    .await;
    assert_eq!(subscribe(&mut broker, "red", None).await, Code::Ok);
    broker.send(vec![with("m", |p| p.lite_topic = Some("red".into()))]).await;
    for (expected, is_suspend) in [(1, true), (1, true), (1, false), (2, true), (2, true)] {
        let (bodies, messages) = take(&mut broker, "c", 32).await;
        assert_eq!(bodies, ["m"]);
        let attempt = messages[0].system_properties.as_ref().unwrap().delivery_attempt;
        assert_eq!(attempt, Some(expected));
        change(&mut broker, &messages[0], 0, is_suspend).await;
    }
}

#[tokio::test]
async fn a_lite_consumer_begins_where_its_offset_option_says() {
    let mut broker = start(2).await;
    broker.topic_of(MessageType::Lite, "orders", 2).await;
    group(&mut broker, |g| g.lite_topic = "orders".into()).await;
    for n in 0..4 {
        broker.send(vec![with(&n.to_string(), |p| p.lite_topic = Some("red".into()))]).await;
    }
    for (option, first) in [
        (Some(OffsetType::Policy(Policy::Max.into())), None),
        (Some(OffsetType::TailN(1)), Some("3")),
        // Where the group is: the last one is acknowledged.
        (Some(OffsetType::Policy(Policy::Last.into())), None),
        (Some(OffsetType::Offset(2)), Some("2")),
        (None, Some("3")),
        (Some(OffsetType::Policy(Policy::Min.into())), Some("0")),
        (Some(OffsetType::Timestamp(1)), Some("0")),
    ] {
        assert_eq!(subscribe(&mut broker, "red", option).await, Code::Ok);
        let (bodies, messages) = take(&mut broker, "c", 32).await;
        assert_eq!(bodies.first().map(String::as_str), first, "{option:?}");
        if first.is_some() {
            ack(&mut broker, &messages).await;
        }
    }
    let wrong = Some(OffsetType::Offset(-1));
    assert_eq!(subscribe(&mut broker, "red", wrong).await, Code::IllegalOffset);
}
