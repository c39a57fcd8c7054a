//! Pulling, offsets, resets and dead letters put back, against real shards.

use broker_proto::admin::dead_letter::Cause;
use broker_proto::admin::reset_offsets_request::To;
use broker_proto::admin::{
    ApplyGroupRequest, Group, ListDeadLettersRequest, RedriveDeadLettersRequest,
    ResetOffsetsRequest, RetryPolicy, StartFrom,
};
use broker_proto::rocketmq::pull_message_response::Content;
use broker_proto::rocketmq::{
    Broker, ChangeInvisibleDurationRequest, Code, ForwardMessageToDeadLetterQueueRequest,
    GetOffsetRequest, Message, MessageQueue, PullMessageRequest, QueryOffsetPolicy,
    QueryOffsetRequest, Status, UpdateOffsetRequest,
};

use crate::broker::{
    TestBroker, as_client, bodies, code, handle, message, named, receive, seconds, start,
};
use crate::clients::{Link, consumer};

fn queue() -> Option<MessageQueue> {
    Some(MessageQueue {
        topic: named("orders"),
        broker: Some(Broker { name: "shard-0".into(), ..Broker::default() }),
        ..MessageQueue::default()
    })
}

async fn five(broker: &mut TestBroker) {
    broker.topic("orders", 1).await;
    broker.send((0..5).map(|n| message("orders", &n.to_string(), &n.to_string())).collect()).await;
}

async fn pull(broker: &mut TestBroker, offset: i64) -> (Option<Status>, Vec<Message>, i64) {
    let request = PullMessageRequest {
        group: named("billing"),
        message_queue: queue(),
        offset,
        batch_size: 3,
        long_polling_timeout: seconds(5),
        ..PullMessageRequest::default()
    };
    let mut stream =
        broker.client.pull_message(as_client("c", request)).await.unwrap().into_inner();
    let (mut status, mut messages, mut next) = (None, Vec::new(), -1);
    while let Some(element) = stream.message().await.unwrap() {
        match element.content.unwrap() {
            Content::Status(first) => status = Some(first),
            Content::Message(message) => messages.push(message),
            Content::NextOffset(offset) => next = offset,
        }
    }
    (status, messages, next)
}

#[tokio::test]
async fn pulling_reads_from_an_offset_and_hands_nothing_out() {
    let mut broker = start(1).await;
    five(&mut broker).await;
    let (status, messages, next) = pull(&mut broker, 1).await;
    assert_eq!((code(status.as_ref()), next), (Code::Ok, 4));
    assert_eq!(bodies(&messages), ["1", "2", "3"]);
    assert!(messages[0].system_properties.as_ref().unwrap().receipt_handle.is_none());
    let (status, messages, next) = pull(&mut broker, 77).await;
    assert_eq!((code(status.as_ref()), messages.len(), next), (Code::IllegalOffset, 0, 5));
    let (status, _, next) = pull(&mut broker, 5).await;
    assert_eq!((code(status.as_ref()), next), (Code::MessageNotFound, 5));
    let mut other = broker.clone();
    let (waited, ()) = tokio::join!(pull(&mut broker, 5), async {
        tokio::task::yield_now().await;
        other.send(vec![message("orders", "6", "six")]).await;
    });
    assert_eq!(bodies(&waited.1), ["six"], "a waiting pull is woken");
}

#[tokio::test]
async fn offsets_are_kept_found_and_refused() {
    let mut broker = start(1).await;
    five(&mut broker).await;
    let client = &mut broker.client;
    let get =
        || as_client("c", GetOffsetRequest { group: named("billing"), message_queue: queue() });
    let set = |offset| {
        let (group, message_queue) = (named("billing"), queue());
        as_client("c", UpdateOffsetRequest { group, message_queue, offset })
    };
    let update = client.update_offset(set(9)).await.unwrap().into_inner();
    assert_eq!(code(update.status.as_ref()), Code::IllegalOffset);
    let none = client.get_offset(get()).await.unwrap().into_inner();
    assert_eq!(code(none.status.as_ref()), Code::OffsetNotFound);
    let update = client.update_offset(set(3)).await.unwrap().into_inner();
    assert_eq!(code(update.status.as_ref()), Code::Ok);
    assert_eq!(client.get_offset(get()).await.unwrap().into_inner().offset, 3);
    for (policy, offset) in [(QueryOffsetPolicy::Beginning, 0), (QueryOffsetPolicy::End, 5)] {
        let request = QueryOffsetRequest {
            message_queue: queue(),
            query_offset_policy: policy.into(),
            timestamp: None,
        };
        let answer = client.query_offset(as_client("c", request)).await.unwrap().into_inner();
        assert_eq!(answer.offset, offset);
    }
    let request = QueryOffsetRequest {
        message_queue: queue(),
        query_offset_policy: QueryOffsetPolicy::Timestamp.into(),
        timestamp: None,
    };
    let answer = client.query_offset(as_client("c", request)).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::BadRequest);
    let (_, rest) = broker.receive(as_client("c", receive("orders", "billing", "shard-0"))).await;
    assert_eq!(bodies(&rest), ["3", "4"], "receiving goes on where the offset was set");
}

#[tokio::test]
async fn a_reset_is_carried_out_once_per_id() {
    let mut broker = start(1).await;
    five(&mut broker).await;
    let take = async |broker: &mut TestBroker| {
        let request = as_client("c", receive("orders", "billing", "shard-0"));
        bodies(&broker.receive(request).await.1)
    };
    assert_eq!(take(&mut broker).await.len(), 5);
    let reset = ResetOffsetsRequest {
        group: "billing".into(),
        to: Some(To::Position(StartFrom::Earliest.into())),
        id: "again".into(),
        ..ResetOffsetsRequest::default()
    };
    broker.admin.reset_offsets(reset.clone()).await.unwrap();
    assert_eq!(take(&mut broker).await.len(), 5, "what was in flight comes again");
    broker.admin.reset_offsets(reset.clone()).await.unwrap();
    assert!(take(&mut broker).await.is_empty(), "the same id changes nothing");
    let forward = ResetOffsetsRequest {
        to: Some(To::Position(StartFrom::Latest.into())),
        id: "forward".into(),
        ..reset.clone()
    };
    broker.admin.reset_offsets(forward).await.unwrap();
    broker.admin.reset_offsets(reset.clone()).await.unwrap();
    assert!(take(&mut broker).await.is_empty(), "an earlier id changes nothing either");
    let back = ResetOffsetsRequest { to: Some(To::Shift(-2)), id: String::new(), ..reset };
    broker.admin.reset_offsets(back).await.unwrap();
    assert_eq!(take(&mut broker).await, ["3", "4"]);
}

#[tokio::test]
async fn a_dead_letter_is_put_back_once_and_is_gone_from_the_dead_letters() {
    let mut broker = start(1).await;
    five(&mut broker).await;
    let group = Group {
        name: "billing".into(),
        retry: Some(RetryPolicy { max_attempts: 2, backoff: None }),
        ..Group::default()
    };
    let request = ApplyGroupRequest { group: Some(group), ..ApplyGroupRequest::default() };
    broker.admin.apply_group(request).await.unwrap();
    let (_, taken) = broker.receive(as_client("c", receive("orders", "billing", "shard-0"))).await;
    for message in &taken {
        let request = ForwardMessageToDeadLetterQueueRequest {
            group: named("billing"),
            topic: named("orders"),
            receipt_handle: handle(message),
            ..ForwardMessageToDeadLetterQueueRequest::default()
        };
        broker.client.forward_message_to_dead_letter_queue(as_client("c", request)).await.unwrap();
    }
    let redrive = |max, dry_run| RedriveDeadLettersRequest {
        group: "billing".into(),
        messages_max: max,
        dry_run,
        ..RedriveDeadLettersRequest::default()
    };
    let counted = |r: broker_proto::admin::RedriveDeadLettersResponse| (r.messages, r.left);
    let mut call = async |request| {
        counted(broker.admin.redrive_dead_letters(request).await.unwrap().into_inner())
    };
    assert_eq!(call(redrive(100, true)).await, (0, 5));
    assert_eq!(call(redrive(2, false)).await, (2, 3));
    assert_eq!(call(redrive(0, true)).await, (0, 3));
    let (_, again) = broker.receive(as_client("c", receive("orders", "billing", "shard-0"))).await;
    assert_eq!(bodies(&again), ["0", "1"]);
    let attempt = again[0].system_properties.as_ref().unwrap().delivery_attempt;
    assert_eq!(attempt, Some(1), "attempts are counted from the start");
    let (_, dead) =
        broker.receive(as_client("u", receive("%DLQ%billing", "undertaker", "shard-0"))).await;
    assert_eq!(bodies(&dead), ["2", "3", "4"]);
    let nack = ChangeInvisibleDurationRequest {
        group: named("billing"),
        topic: named("orders"),
        receipt_handle: handle(&again[0]),
        invisible_duration: seconds(0),
        ..ChangeInvisibleDurationRequest::default()
    };
    broker.client.change_invisible_duration(as_client("c", nack)).await.unwrap();
    let (_, second) = broker.receive(as_client("c", receive("orders", "billing", "shard-0"))).await;
    assert_eq!(bodies(&second), ["0"]);
}

#[tokio::test]
async fn after_the_last_failed_delivery_to_a_push_consumer_the_dead_letter_is_there_at_once() {
    for (settings, is_dead) in [(Some(consumer("billing")), true), (None, false)] {
        let mut broker = start(1).await;
        broker.topic("orders", 1).await;
        let retry = Some(RetryPolicy { max_attempts: 1, backoff: None });
        let group = Group { name: "billing".into(), retry, ..Group::default() };
        let request = ApplyGroupRequest { group: Some(group), ..ApplyGroupRequest::default() };
        broker.admin.apply_group(request).await.unwrap();
        let mut link = Link::open(&mut broker, "c").await;
        if let Some(settings) = settings {
            link.say(settings).await;
            let _ = link.hear().await;
        }
        broker.send(vec![message("orders", "m", "poison")]).await;
        let receive = receive("orders", "billing", "shard-0");
        let (_, taken) = broker.receive(as_client("c", receive)).await;
        let change = ChangeInvisibleDurationRequest {
            group: named("billing"),
            topic: named("orders"),
            receipt_handle: handle(&taken[0]),
            invisible_duration: seconds(3_600),
            ..ChangeInvisibleDurationRequest::default()
        };
        let change = broker.client.change_invisible_duration(as_client("c", change));
        assert_eq!(code(change.await.unwrap().into_inner().status.as_ref()), Code::Ok);
        let list = ListDeadLettersRequest { group: "billing".into(), ..Default::default() };
        let dead = broker.admin.list_dead_letters(list).await.unwrap().into_inner().dead_letters;
        // Whoever prolongs is not done with the message.
        assert_eq!(dead.len(), usize::from(is_dead));
        if let Some(letter) = dead.first() {
            assert_eq!((letter.cause(), letter.attempts), (Cause::AttemptsUsedUp, 1));
        }
    }
}
