//! SendMessage against real shards.

use broker_proto::rocketmq::{Code, Message, SendMessageRequest};

use crate::broker::{as_client, bodies, code, message, receive, start};

#[tokio::test]
async fn a_batch_is_answered_entry_by_entry_and_lies_on_one_shard() {
    let mut broker = start(2).await;
    broker.topic("orders", 8).await;
    let ids: Vec<String> = (0..40).map(|i| format!("ID{i:03}")).collect();
    let batch: Vec<Message> = ids.iter().map(|id| message("orders", id, id)).collect();
    let answer = broker.send(batch).await;
    assert_eq!(code(answer.status.as_ref()), Code::Ok);
    let answered: Vec<_> = answer.entries.iter().map(|e| e.message_id.clone()).collect();
    assert_eq!(answered, ids);
    let mut received = Vec::new();
    while received.len() < ids.len() {
        let request = as_client("c", receive("orders", "billing", "shard-0"));
        let (status, messages) = broker.receive(request).await;
        assert_eq!(code(Some(&status)), Code::Ok);
        received.extend(messages);
    }
    assert_eq!(bodies(&received), ids);
}

#[tokio::test]
async fn sends_go_round_the_shards() {
    let mut broker = start(2).await;
    broker.topic("orders", 2).await;
    for id in ["a", "b"] {
        broker.send(vec![message("orders", id, id)]).await;
    }
    let progress = broker.context.catalog.topic_numbers().await.unwrap();
    assert_eq!(progress[0].messages, 2);
    let first = broker.receive(as_client("c", receive("orders", "g", "shard-0"))).await.1;
    let second = broker.receive(as_client("c", receive("orders", "g", "shard-1"))).await.1;
    assert_eq!((first.len(), second.len()), (1, 1));
}

#[tokio::test]
async fn a_refused_send_stores_nothing_and_says_why() {
    let mut broker = start(1).await;
    broker.topic("orders", 1).await;
    let empty = message("orders", "2", "");
    let mut grouped = message("orders", "3", "x");
    grouped.system_properties.as_mut().unwrap().message_group = Some("g".into());
    let rows = [
        (vec![], Code::MessageCorrupted),
        (vec![message("absent", "1", "x")], Code::TopicNotFound),
        (vec![message("bad topic", "1", "x")], Code::IllegalTopic),
        (vec![message("orders", "1", "x"), message("absent", "2", "x")], Code::MessageCorrupted),
        (vec![message("orders", "1", "x"), empty], Code::MessageBodyEmpty),
        (vec![grouped], Code::MessagePropertyConflictWithType),
        (vec![message("orders", " ", "x")], Code::IllegalMessageId),
        (vec![message("orders", "1", &"x".repeat(4_194_305))], Code::MessageBodyTooLarge),
    ];
    for (messages, expected) in rows {
        let answer = broker.send(messages).await;
        assert_eq!(code(answer.status.as_ref()), expected);
    }
    let anonymous = SendMessageRequest { messages: vec![message("orders", "1", "x")] };
    let answer = broker.client.send_message(anonymous).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::ClientIdRequired);
    assert_eq!(broker.context.catalog.topic_numbers().await.unwrap()[0].messages, 0);
}

#[tokio::test]
async fn the_largest_body_goes_through_unchanged() {
    let mut broker = start(1).await;
    broker.topic("orders", 1).await;
    let body = "0123456789abcdef".repeat(4_194_304 / 16);
    let answer = broker.send(vec![message("orders", "1", &body)]).await;
    assert_eq!(code(answer.status.as_ref()), Code::Ok);
    broker.client = broker.client.clone().max_decoding_message_size(usize::MAX);
    let received = broker.receive(as_client("c", receive("orders", "g", "shard-0"))).await.1;
    assert!(received[0].body == body.as_bytes());
}
