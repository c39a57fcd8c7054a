//! ReceiveMessage and what follows it, against real shards.

use std::time::{Duration, Instant};

use broker_proto::rocketmq::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, ChangeInvisibleDurationRequest,
    ChangeInvisibleDurationResponse, Code, FilterExpression, FilterType,
    ForwardMessageToDeadLetterQueueRequest, Message, SendMessageRequest,
};

use crate::broker::{
    TestBroker, as_client, bodies, code, handle, message, named, receive, seconds, start, tagged,
};

async fn ack(broker: &mut TestBroker, handles: &[&str]) -> AckMessageResponse {
    let entry = |handle: &&str| AckMessageEntry {
        message_id: "id".into(),
        receipt_handle: (*handle).into(),
        lite_topic: None,
    };
    let request = AckMessageRequest {
        group: named("billing"),
        topic: named("orders"),
        entries: handles.iter().map(entry).collect(),
    };
    broker.client.ack_message(as_client("c", request)).await.unwrap().into_inner()
}

async fn hide(
    broker: &mut TestBroker,
    handle: &str,
    for_seconds: i64,
) -> ChangeInvisibleDurationResponse {
    let request = ChangeInvisibleDurationRequest {
        group: named("billing"),
        topic: named("orders"),
        receipt_handle: handle.into(),
        invisible_duration: seconds(for_seconds),
        ..ChangeInvisibleDurationRequest::default()
    };
    broker.client.change_invisible_duration(as_client("c", request)).await.unwrap().into_inner()
}

async fn take(broker: &mut TestBroker) -> Vec<Message> {
    broker.receive(as_client("c", receive("orders", "billing", "shard-0"))).await.1
}

#[tokio::test]
async fn a_delivered_message_is_whole_and_an_acknowledged_one_is_gone() {
    let mut broker = start(1).await;
    broker.topic("orders", 4).await;
    broker.send(vec![message("orders", "ID1", "123456789")]).await;
    let received = take(&mut broker).await;
    let properties = received[0].system_properties.clone().unwrap();
    assert_eq!(received[0].topic, named("orders"));
    assert_eq!(properties.message_id, "ID1");
    assert_eq!(properties.body_digest.unwrap().checksum, "25F9E794323B453885F5181F1B624D0B");
    assert_eq!(properties.delivery_attempt, Some(1));
    assert!(properties.born_timestamp.is_some() && properties.store_timestamp.is_some());
    assert!(properties.born_host.starts_with("127.0.0.1:"), "{}", properties.born_host);
    let handle = handle(&received[0]);
    let answer = ack(&mut broker, &[&handle]).await;
    assert_eq!(code(answer.status.as_ref()), Code::Ok);
    assert_eq!(answer.entries[0].receipt_handle, handle);

    let begun = Instant::now();
    let (status, messages) =
        broker.receive(as_client("c", receive("orders", "billing", "shard-0"))).await;
    assert_eq!((code(Some(&status)), messages.len()), (Code::MessageNotFound, 0));
    assert!(begun.elapsed() >= Duration::from_millis(4_900), "an empty poll is really held");
}

#[tokio::test]
async fn a_waiting_poll_at_one_shard_gets_what_arrives_at_another() {
    let mut broker = start(2).await;
    broker.topic("orders", 2).await;
    let mut other = TestBroker {
        client: broker.client.clone(),
        admin: broker.admin.clone(),
        rocketmq_admin: broker.rocketmq_admin.clone(),
        context: broker.context.clone(),
    };
    for round in 0..2 {
        let begun = Instant::now();
        let request = as_client("c", receive("orders", "billing", "shard-0"));
        let body = format!("{round}");
        let (received, _) = tokio::join!(other.receive(request), async {
            while !has_waiter(&broker).await {
                tokio::task::yield_now().await;
            }
            broker.send(vec![message("orders", &body, &body)]).await
        });
        assert_eq!(bodies(&received.1), [body]);
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
}

#[tokio::test]
async fn messages_of_the_poll_that_lost_the_race_come_again_at_once() {
    let mut broker = start(2).await;
    broker.topic("orders", 2).await;
    for round in 0..5 {
        let mut waiting = broker.client.clone();
        let mut one = receive("orders", "billing", "shard-0");
        one.batch_size = 1;
        let poll = tokio::spawn(async move {
            let mut stream =
                waiting.receive_message(as_client("c", one)).await.unwrap().into_inner();
            while stream.message().await.unwrap().is_some() {}
        });
        while !has_waiter(&broker).await {
            tokio::task::yield_now().await;
        }
        let mut other = broker.client.clone();
        let messages = vec![message("orders", &format!("{round}b"), "b")];
        let second = as_client("p", SendMessageRequest { messages });
        let (_, sent) = tokio::join!(
            broker.send(vec![message("orders", &format!("{round}a"), "a")]),
            other.send_message(second)
        );
        sent.unwrap();
        poll.await.unwrap();
        let begun = Instant::now();
        assert_eq!(take(&mut broker).await.len(), 1, "the message that was not answered");
        assert!(begun.elapsed() < Duration::from_secs(4));
    }
}

async fn has_waiter(broker: &TestBroker) -> bool {
    let progress = broker.context.catalog.progress(None).await.unwrap();
    progress.iter().map(|row| row.waiters).sum::<usize>() >= 2
}

#[tokio::test]
async fn hidden_again_for_no_time_a_message_comes_back_with_the_next_attempt() {
    let mut broker = start(1).await;
    broker.topic("orders", 1).await;
    broker.send(vec![message("orders", "1", "x")]).await;
    let first = handle(&take(&mut broker).await[0]);
    let longer = hide(&mut broker, &first, 60).await;
    assert_eq!(code(longer.status.as_ref()), Code::Ok);
    assert_ne!(longer.receipt_handle, first);
    let old = hide(&mut broker, &first, 0).await;
    assert_eq!(code(old.status.as_ref()), Code::InvalidReceiptHandle);
    assert_eq!(old.receipt_handle, first, "a failure carries the handle that was given");
    let given_back = hide(&mut broker, &longer.receipt_handle, 0).await;
    assert_eq!(code(given_back.status.as_ref()), Code::Ok);
    let again = take(&mut broker).await;
    assert_eq!(again[0].system_properties.as_ref().unwrap().delivery_attempt, Some(2));
}

#[tokio::test]
async fn acknowledging_a_mix_of_handles_answers_each() {
    let mut broker = start(2).await;
    broker.topic("orders", 2).await;
    let mut handles = Vec::new();
    for body in ["a", "b"] {
        broker.send(vec![message("orders", body, body)]).await;
        handles.push(handle(&take(&mut broker).await[0]));
    }
    let answer = ack(&mut broker, &[&handles[1], "nonsense", &handles[0]]).await;
    assert_eq!(code(answer.status.as_ref()), Code::MultipleResults);
    let codes: Vec<_> = answer.entries.iter().map(|e| code(e.status.as_ref())).collect();
    assert_eq!(codes, [Code::Ok, Code::InvalidReceiptHandle, Code::Ok]);
    let nothing = ack(&mut broker, &[]).await;
    assert_eq!(code(nothing.status.as_ref()), Code::InternalServerError);
}

#[tokio::test]
async fn a_forwarded_message_is_a_dead_letter_that_knows_its_origin() {
    let mut broker = start(1).await;
    broker.topic("orders", 1).await;
    broker.send(vec![message("orders", "ID7", "x")]).await;
    let handle = handle(&take(&mut broker).await[0]);
    for receipt_handle in [handle.as_str(), handle.as_str(), "nonsense"] {
        let request = ForwardMessageToDeadLetterQueueRequest {
            group: named("billing"),
            topic: named("orders"),
            receipt_handle: receipt_handle.into(),
            ..ForwardMessageToDeadLetterQueueRequest::default()
        };
        let request = as_client("c", request);
        let answer =
            broker.client.forward_message_to_dead_letter_queue(request).await.unwrap().into_inner();
        assert_eq!(code(answer.status.as_ref()), Code::Ok, "repeated forwards are answered OK");
    }
    while broker.context.catalog.topic("%DLQ%billing").is_none() {
        tokio::task::yield_now().await;
    }
    let request = as_client("c", receive("%DLQ%billing", "letters", ""));
    let letters = broker.receive(request).await.1;
    assert_eq!(letters.len(), 1);
    let properties = letters[0].system_properties.clone().unwrap();
    let origin = properties.dead_letter_queue.unwrap();
    assert_eq!((origin.topic.as_str(), origin.message_id.as_str()), ("orders", "ID7"));
    assert_eq!(properties.delivery_attempt, Some(1), "attempts start again");
}

#[tokio::test]
async fn only_messages_that_pass_the_filter_are_delivered() {
    let mut broker = start(1).await;
    broker.topic("orders", 1).await;
    let tags = ["paid", "open", "shipped"];
    broker.send(tags.iter().map(|tag| tagged("orders", tag, tag)).collect()).await;
    let expression = |kind: FilterType, text: &str| {
        let mut request = receive("orders", "billing", "shard-0");
        let filter = FilterExpression { r#type: kind.into(), expression: text.into() };
        request.filter_expression = Some(filter);
        as_client("c", request)
    };
    let (_, messages) = broker.receive(expression(FilterType::Tag, "paid || shipped")).await;
    assert_eq!(bodies(&messages), ["paid", "shipped"]);
    let (status, _) = broker.receive(expression(FilterType::Tag, "||")).await;
    assert_eq!(code(Some(&status)), Code::IllegalFilterExpression);
    let (status, _) = broker.receive(expression(FilterType::Sql, "a = 1")).await;
    assert_eq!(code(Some(&status)), Code::NotImplemented);
}

#[tokio::test]
async fn a_receive_that_is_not_legal_says_why_in_the_stream() {
    let mut broker = start(1).await;
    broker.topic("orders", 1).await;
    let change = |change: fn(&mut broker_proto::rocketmq::ReceiveMessageRequest)| {
        let mut request = receive("orders", "billing", "shard-0");
        change(&mut request);
        as_client("c", request)
    };
    let mut hasty = change(|_| {});
    hasty.metadata_mut().insert("grpc-timeout", "3S".parse().unwrap());
    let rows = [
        (change(|r| r.message_queue = None), Code::IllegalTopic),
        (change(|r| r.group = named("bad group")), Code::IllegalConsumerGroup),
        (change(|r| r.invisible_duration = seconds(1)), Code::IllegalInvisibleTime),
        (
            change(|r| r.message_queue.as_mut().unwrap().topic = named("absent")),
            Code::TopicNotFound,
        ),
        (hasty, Code::IllegalPollingTime),
    ];
    for (request, expected) in rows {
        let (status, messages) = broker.receive(request).await;
        assert_eq!((code(Some(&status)), messages.len()), (expected, 0));
    }
}

#[tokio::test]
async fn messages_of_a_poll_that_was_given_up_go_to_the_next_one() {
    let mut broker = start(1).await;
    broker.topic("orders", 1).await;
    let mut leaving = broker.client.clone();
    let request = as_client("gone", receive("orders", "billing", "shard-0"));
    let poll = tokio::spawn(async move { leaving.receive_message(request).await.map(drop) });
    while broker.context.catalog.progress(None).await.unwrap().iter().all(|row| row.waiters == 0) {
        tokio::task::yield_now().await;
    }
    poll.abort();
    assert!(poll.await.unwrap_err().is_cancelled());
    broker.send(vec![message("orders", "1", "x")]).await;
    assert_eq!(bodies(&take(&mut broker).await), ["x"]);
}

#[tokio::test]
async fn a_client_without_settings_is_served_and_its_farewell_gives_back_what_it_holds() {
    use broker_proto::rocketmq::NotifyClientTerminationRequest;
    let mut broker = start(1).await;
    broker.topic("orders", 1).await;
    broker.send(vec![message("orders", "1", "x")]).await;
    let mut push = receive("orders", "billing", "shard-0");
    push.auto_renew = true;
    push.invisible_duration = None;
    let (status, messages) = broker.receive(as_client("push", push)).await;
    assert_eq!((code(Some(&status)), messages.len()), (Code::Ok, 1));
    let farewell = as_client("push", NotifyClientTerminationRequest::default());
    broker.client.notify_client_termination(farewell).await.unwrap();
    let begun = Instant::now();
    assert_eq!(bodies(&take(&mut broker).await), ["x"]);
    assert!(begun.elapsed() < Duration::from_secs(4), "not only after the slice of 60 s");
}
