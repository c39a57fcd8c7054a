//! Finding and tracing messages over the admin API, on several real shards.

use std::time::{SystemTime, UNIX_EPOCH};

use broker_proto::admin::find_messages_request::By;
use broker_proto::admin::trace_event::Kind;
use broker_proto::admin::{
    FindMessagesRequest, FindMessagesResponse, MessageTrace, TraceMessageRequest,
};
use broker_proto::rocketmq::{
    AckMessageEntry, AckMessageRequest, ForwardMessageToDeadLetterQueueRequest, Message,
};

use crate::broker::{TestBroker, as_client, handle, message, named, receive, start};

fn keyed(id: &str, key: &str) -> Message {
    let mut message = message("orders", id, &format!("body of {id}"));
    let properties = message.system_properties.as_mut().unwrap();
    properties.keys = vec![key.into(), "all".into()];
    properties.tag = Some("paid".into());
    message.user_properties.insert("region".into(), "north".into());
    message
}

/// An id of version 1 that was made so many seconds ago.
fn aged_id(seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    format!("01AABBCCDDEEFF1234{:08X}00000001", now - 1_609_459_200 - seconds)
}

fn by(by: Option<By>) -> FindMessagesRequest {
    FindMessagesRequest { topic: "orders".into(), by, ..FindMessagesRequest::default() }
}

async fn find(broker: &mut TestBroker, request: FindMessagesRequest) -> FindMessagesResponse {
    broker.admin.find_messages(request).await.unwrap().into_inner()
}

fn ids(answer: &FindMessagesResponse) -> Vec<&str> {
    answer.messages.iter().map(|message| message.message_id.as_str()).collect()
}

async fn trace(broker: &mut TestBroker, id: &str) -> Vec<MessageTrace> {
    let request = TraceMessageRequest { topic: "orders".into(), message_id: id.into() };
    let answer = broker.admin.trace_message(request).await.unwrap().into_inner();
    assert!(answer.complete);
    answer.traces
}

#[tokio::test]
async fn messages_are_found_by_id_by_key_and_by_time_on_every_shard() {
    let mut broker = start(2).await;
    broker.topic("orders", 4).await;
    for number in 0..6 {
        broker.send(vec![keyed(&format!("m{number}"), &format!("k{number}"))]).await;
    }
    let all = find(&mut broker, by(None)).await;
    let times: Vec<_> = all.messages.iter().map(|message| message.stored_ms).collect();
    assert!(times.is_sorted(), "oldest first");
    let mut found = ids(&all);
    // Messages of one millisecond have no order among the shards.
    found.sort_unstable();
    assert_eq!(found, ["m0", "m1", "m2", "m3", "m4", "m5"]);
    assert!(all.complete);
    let shards: Vec<_> = all.messages.iter().map(|message| message.shard.as_str()).collect();
    assert!(shards.contains(&"shard-0") && shards.contains(&"shard-1"));
    let one = find(&mut broker, by(Some(By::MessageId("m3".into())))).await;
    assert_eq!(ids(&one), ["m3"]);
    let found = &one.messages[0];
    assert_eq!((found.tag.as_str(), &found.body[..]), ("paid", &b"body of m3"[..]));
    assert_eq!((&found.keys[0], &found.properties["region"]), (&"k3".into(), &"north".into()));
    assert!(found.offset.is_some() && found.stored_ms > 0 && found.born_ms > 0);
    assert_eq!(ids(&find(&mut broker, by(Some(By::Key("k4".into())))).await), ["m4"]);
    assert_eq!(find(&mut broker, by(Some(By::Key("all".into())))).await.messages.len(), 6);
    assert!(find(&mut broker, by(Some(By::MessageId("k4".into())))).await.messages.is_empty());
    let two = find(&mut broker, FindMessagesRequest { messages_max: 2, ..by(None) }).await;
    let oldest: Vec<_> = two.messages.iter().map(|message| message.stored_ms).collect();
    assert_eq!((&oldest[..], two.complete), (&times[..2], false));
    let rest = FindMessagesRequest { begin_ms: Some(two.until_ms), ..by(None) };
    let rest = find(&mut broker, rest).await;
    let mut left = ids(&all).into_iter().filter(|id| !ids(&two).contains(id));
    assert!(left.all(|id| ids(&rest).contains(&id)), "goes on from there");
    let later = FindMessagesRequest { begin_ms: Some(all.messages[5].stored_ms + 1), ..by(None) };
    assert!(find(&mut broker, later).await.messages.is_empty());
}

#[tokio::test]
async fn an_id_with_a_wrong_time_is_found_too() {
    let mut broker = start(1).await;
    broker.topic("orders", 1).await;
    // The second one comes from a device whose clock is a week late.
    for id in [aged_id(5), aged_id(7 * 86_400)] {
        broker.send(vec![message("orders", &id, "x")]).await;
        let found = find(&mut broker, by(Some(By::MessageId(id.clone())))).await;
        assert_eq!(ids(&found), [id.as_str()]);
        assert_eq!(trace(&mut broker, &id).await.len(), 1);
    }
}

#[tokio::test]
async fn a_trace_names_groups_clients_and_times() {
    let mut broker = start(2).await;
    broker.topic("orders", 2).await;
    broker.send(vec![keyed("m", "k")]).await;
    let stored = trace(&mut broker, "m").await;
    assert!(stored[0].events.is_empty(), "nobody received it yet");
    let shard = stored[0].message.as_ref().unwrap().shard.clone();
    let (_, taken) =
        broker.receive(as_client("worker", receive("orders", "billing", &shard))).await;
    let forward = ForwardMessageToDeadLetterQueueRequest {
        group: named("billing"),
        topic: named("orders"),
        receipt_handle: handle(&taken[0]),
        ..ForwardMessageToDeadLetterQueueRequest::default()
    };
    let forward = as_client("worker", forward);
    broker.client.forward_message_to_dead_letter_queue(forward).await.unwrap();
    let letters = receive("%DLQ%billing", "undertaker", &shard);
    let (_, dead) = broker.receive(as_client("gravedigger", letters)).await;
    let entry = AckMessageEntry {
        message_id: "m".into(),
        receipt_handle: handle(&dead[0]),
        lite_topic: None,
    };
    let (group, topic) = (named("undertaker"), named("%DLQ%billing"));
    let acknowledge = AckMessageRequest { group, topic, entries: vec![entry] };
    broker.client.ack_message(as_client("gravedigger", acknowledge)).await.unwrap();

    let traces = trace(&mut broker, "m").await;
    assert_eq!(traces.len(), 1);
    let message = traces[0].message.as_ref().unwrap();
    assert!(message.body.is_empty() && message.message_id == "m");
    let told: Vec<_> = traces[0]
        .events
        .iter()
        .map(|e| (e.kind(), &*e.group, &*e.client_id, e.attempt, &*e.dead_letter_topic))
        .collect();
    let letters = "%DLQ%billing";
    let expected = [
        (Kind::Delivered, "billing", "worker", 1, ""),
        (Kind::DeadLettered, "billing", "", 0, ""),
        (Kind::Delivered, "undertaker", "gravedigger", 1, letters),
        (Kind::Acknowledged, "undertaker", "", 0, letters),
    ];
    assert_eq!(told, expected);
    let first = &traces[0].events[0];
    assert!(first.time_ms >= message.stored_ms && first.invisible_until_ms > first.time_ms);
}

#[tokio::test]
async fn what_cannot_be_searched_is_refused_with_a_hint() {
    let mut broker = start(1).await;
    broker.topic("orders", 1).await;
    for (request, code, hint) in [
        (FindMessagesRequest { topic: "absent".into(), ..by(None) }, 5, "does not exist"),
        (FindMessagesRequest { topic: "a b".into(), ..by(None) }, 3, "' '"),
        (FindMessagesRequest { topic: "%DLQ%g".into(), ..by(None) }, 3, "were sent to"),
        (by(Some(By::Key(String::new()))), 3, "empty"),
        (FindMessagesRequest { begin_ms: Some(2), end_ms: Some(1), ..by(None) }, 3, "range"),
    ] {
        let refused = broker.admin.find_messages(request).await.unwrap_err();
        assert_eq!(refused.code() as i32, code, "{refused}");
        assert!(refused.message().contains(hint), "{refused}");
    }
    let nothing = TraceMessageRequest { topic: "orders".into(), message_id: String::new() };
    assert!(broker.admin.trace_message(nothing).await.unwrap_err().message().contains("empty"));
    assert!(trace(&mut broker, "never sent").await.is_empty());
}

#[tokio::test]
async fn pages_of_messages_of_one_millisecond_hold_each_of_them_once() {
    let mut broker = start(2).await;
    broker.topic("orders", 4).await;
    // All of a send share a frame, and its time.
    for batch in 0..4 {
        let messages = (0..40).map(|n| keyed(&format!("{batch}-{n}"), "key"));
        broker.send(messages.collect()).await;
    }
    for asked in [by(None), by(Some(By::Key("all".into())))] {
        let mut seen = Vec::new();
        let mut request = FindMessagesRequest { messages_max: 7, ..asked };
        for _ in 0..100 {
            let page = find(&mut broker, request.clone()).await;
            assert_eq!(page.complete, page.cursor.is_empty());
            assert!(page.complete || page.messages.len() == 7, "{}", page.messages.len());
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            request.cursor = page.cursor;
            if page.complete {
                break;
            }
        }
        assert_eq!(seen.len(), 160, "{seen:?}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 160);
    }
    let odd = FindMessagesRequest { cursor: "2026-11-30".into(), ..by(None) };
    let refused = broker.admin.find_messages(odd).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}
