//! What a send refuses before anything is stored.

use broker_model::TopicName;
use broker_proto::rocketmq::SystemProperties;
use prost_types::Timestamp;

use super::*;

fn topic(message_type: MessageType) -> Topic {
    Topic::with_defaults(TopicName::parse("orders").unwrap(), message_type, Vec::new())
}

fn message(topic: &str) -> wire::Message {
    wire::Message {
        topic: Some(Resource { resource_namespace: String::new(), name: topic.into() }),
        system_properties: Some(SystemProperties {
            message_id: "01".into(),
            ..SystemProperties::default()
        }),
        body: "x".into(),
        ..wire::Message::default()
    }
}

const ARRIVAL: Arrival = Arrival { message_type: MessageType::Normal, remote: None, now_ms: 0 };

#[test]
fn a_request_is_for_one_topic_and_not_empty() {
    let code = |messages: &[wire::Message]| common_topic(messages).map_err(|f| f.code).err();
    assert_eq!(code(&[]), Some(Code::MessageCorrupted));
    assert_eq!(code(&[message("a"), message("a")]), None);
    assert_eq!(code(&[message("a"), message("b")]), Some(Code::MessageCorrupted));
    let nameless = wire::Message { topic: None, ..message("a") };
    assert_eq!(code(&[nameless]), Some(Code::IllegalTopic));
    assert_eq!(code(&vec![message("a"); 1025]), Some(Code::PayloadTooLarge));
}

#[test]
fn a_topic_takes_its_own_type() {
    let grouped = {
        let mut message = message("orders");
        message.system_properties.as_mut().unwrap().message_group = Some("g".into());
        message
    };
    let delayed = {
        let mut message = message("orders");
        message.system_properties.as_mut().unwrap().delivery_timestamp = Some(Timestamp::default());
        message
    };
    let conflict = Some(Code::MessagePropertyConflictWithType);
    let rows = [
        (message("orders"), MessageType::Normal, None),
        (grouped.clone(), MessageType::Normal, conflict),
        (message("orders"), MessageType::Fifo, conflict),
        (grouped, MessageType::Fifo, None),
        (delayed.clone(), MessageType::Delay, None),
        (delayed, MessageType::Transaction, conflict),
    ];
    for (message, of, expected) in rows {
        let found = prepare(vec![message], &topic(of), ARRIVAL).map_err(|f| f.code).err();
        assert_eq!(found, expected, "{of}");
    }
}

#[test]
fn one_bad_message_refuses_the_batch_and_its_bytes_are_bounded() {
    let mut empty = message("orders");
    empty.body.clear();
    let batch = vec![message("orders"), empty];
    let refused = prepare(batch, &topic(MessageType::Normal), ARRIVAL).unwrap_err();
    assert_eq!(refused.code, Code::MessageBodyEmpty);
    let mut large = message("orders");
    large.body = vec![0; 4 * 1024 * 1024].into();
    let refused = prepare(vec![large; 8], &topic(MessageType::Normal), ARRIVAL).unwrap_err();
    assert_eq!(refused.code, Code::PayloadTooLarge);
}

#[test]
fn the_answer_has_one_entry_per_message_in_order() {
    let stored = |offset, hidden| SentMessage { queue: 0, offset, topic: 5, hidden };
    let sent = [
        stored(7, None),
        stored(8, None),
        stored(0, Some(Hidden::Half { number: 3, code: 8 })),
        stored(0, Some(Hidden::Timed { number: 4, due_ms: 9, code: 7 })),
    ];
    let ids = ["a", "b", "c", "d"].map(str::to_owned).into();
    let entries = answer(ShardId(2), &sent, ids).entries;
    let shown: Vec<_> = entries.iter().map(|e| (e.message_id.as_str(), e.offset)).collect();
    assert_eq!(shown, [("a", 7), ("b", 8), ("c", 0), ("d", 0)]);
    let transaction = TransactionId { shard: ShardId(2), topic: 5, number: 3, code: Some(8) };
    assert_eq!(TransactionId::decode(&entries[2].transaction_id), Ok(transaction));
    let recall = RecallHandle::decode(&entries[3].recall_handle).unwrap();
    assert_eq!(
        (recall.number, recall.due_ms, recall.code, recall.message_id.as_str()),
        (4, 9, Some(7), "d")
    );
    let plain = &entries[0];
    assert!(plain.transaction_id.is_empty() && plain.recall_handle.is_empty());
}
