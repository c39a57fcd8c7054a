//! What is stored, and what comes out of it.

use broker_model::{ReceiptHandle, ShardId, TopicName};
use prost_types::{Duration, Timestamp};

use super::*;

const ARRIVAL: Arrival =
    Arrival { message_type: MessageType::Normal, remote: None, now_ms: 1_700_000_000_123 };

fn sent() -> wire::Message {
    let properties = SystemProperties {
        tag: Some("paid".into()),
        keys: vec!["order-7".into(), "customer-9".into()],
        message_id: "01ABCDEF".into(),
        born_host: "shop-1".into(),
        born_timestamp: Some(Timestamp { seconds: 1_699_999_999, nanos: 5 }),
        body_encoding: Encoding::Gzip.into(),
        trace_context: Some("00-aa-bb-01".into()),
        ..SystemProperties::default()
    };
    wire::Message {
        topic: Some(Resource { resource_namespace: "eu".into(), name: "orders".into() }),
        user_properties: [("color".to_owned(), "blue".to_owned())].into(),
        system_properties: Some(properties),
        body: "123456789".into(),
    }
}

fn delivered(head: Bytes, body: Bytes, attempt: u32) -> DeliveredMessage {
    DeliveredMessage {
        handle: ReceiptHandle {
            shard: ShardId(1),
            topic: 2,
            group: 3,
            queue: 4,
            offset: 5,
            nonce: 6,
            attempt,
            code: Some(1),
        },
        stored_ms: 1_700_000_000_456,
        invisible_until_ms: 1_700_000_060_456,
        origin_topic: None,
        head,
        body,
        share: None,
    }
}

fn resource(name: &str) -> Resource {
    Resource { resource_namespace: String::new(), name: name.into() }
}

#[test]
fn a_message_comes_back_as_it_was_sent_with_the_servers_facts() {
    let original = sent();
    let (stored, id) = to_stored(original.clone(), ARRIVAL).unwrap();
    assert_eq!((id.as_str(), stored.tag_hash), ("01ABCDEF", tag_hash(Some("paid"))));
    let message =
        to_delivered(delivered(stored.head, stored.body, 1), &resource("orders"), "broker:8081")
            .unwrap();
    assert_eq!(message.body, original.body);
    assert_eq!(message.topic, Some(resource("orders")));
    assert_eq!(message.user_properties, original.user_properties);
    let (sent, got) = (original.system_properties.unwrap(), message.system_properties.unwrap());
    assert_eq!((got.tag, got.keys, got.message_id), (sent.tag, sent.keys, sent.message_id));
    assert_eq!((got.born_host, got.born_timestamp), (sent.born_host, sent.born_timestamp));
    assert_eq!((got.body_encoding, got.trace_context), (sent.body_encoding, sent.trace_context));
    assert_eq!(got.message_type, i32::from(wire::MessageType::Normal));
    let digest = got.body_digest.unwrap();
    assert_eq!(digest.r#type(), DigestType::Md5);
    assert_eq!(digest.checksum, "25F9E794323B453885F5181F1B624D0B");
    assert_eq!(got.store_timestamp.unwrap(), timestamp(1_700_000_000_456));
    assert_eq!(got.store_host, "broker:8081");
    assert_eq!((got.queue_id, got.queue_offset, got.delivery_attempt), (4, Some(5), Some(1)));
    assert_eq!(ReceiptHandle::decode(&got.receipt_handle.unwrap()).unwrap().nonce, 6);
    assert_eq!((got.message_group, got.lite_topic, got.priority), (None, None, None));
    assert_eq!((got.delivery_timestamp, got.dead_letter_queue), (None, None));
}

#[test]
fn what_a_producer_leaves_out_is_filled_in() {
    let mut message = sent();
    message.system_properties =
        Some(SystemProperties { message_id: "1".into(), ..SystemProperties::default() });
    let remote = Some("10.0.0.7:4711".parse().unwrap());
    let (stored, _) = to_stored(message, Arrival { remote, ..ARRIVAL }).unwrap();
    assert_eq!(stored.tag_hash, 0);
    let head = wire::Message::decode(stored.head).unwrap().system_properties.unwrap();
    assert_eq!(head.body_encoding(), Encoding::Identity);
    assert_eq!(head.born_timestamp.unwrap(), timestamp(ARRIVAL.now_ms));
    assert_eq!(head.born_host, "10.0.0.7:4711");
    assert_eq!(head.tag, None);
}

#[test]
fn what_only_a_server_may_say_is_dropped() {
    let mut message = sent();
    let properties = message.system_properties.as_mut().unwrap();
    properties.receipt_handle = Some("forged".into());
    properties.delivery_attempt = Some(99);
    properties.queue_offset = Some(1);
    properties.queue_id = 7;
    properties.store_host = "forged".into();
    properties.invisible_duration = Some(Duration { seconds: 1, nanos: 0 });
    properties.dead_letter_queue = Some(DeadLetterQueue::default());
    let (stored, _) = to_stored(message, ARRIVAL).unwrap();
    let (plain, _) = to_stored(sent(), ARRIVAL).unwrap();
    assert_eq!(stored.head, plain.head);
}

#[test]
fn a_wrong_md5_digest_is_refused_and_a_right_one_is_not() {
    let with = |checksum: &str| {
        let mut message = sent();
        let digest = Digest { r#type: DigestType::Md5.into(), checksum: checksum.into() };
        message.system_properties.as_mut().unwrap().body_digest = Some(digest);
        to_stored(message, ARRIVAL).map(|_| ()).map_err(|f| f.code)
    };
    assert_eq!(with("25f9e794323b453885f5181f1b624d0b"), Ok(()));
    assert_eq!(with("00F9E794323B453885F5181F1B624D0B"), Err(Code::BadRequest));
}

#[test]
fn a_dead_letter_names_its_origin() {
    let (stored, _) = to_stored(sent(), ARRIVAL).unwrap();
    let mut letter = delivered(stored.head, stored.body, 0);
    letter.origin_topic = Some(TopicName::parse("orders").unwrap());
    let message = to_delivered(letter, &resource("%DLQ%billing"), "broker:8081").unwrap();
    assert_eq!(message.topic.unwrap().name, "%DLQ%billing");
    let properties = message.system_properties.unwrap();
    let origin = properties.dead_letter_queue.unwrap();
    assert_eq!((origin.topic.as_str(), origin.message_id.as_str()), ("orders", "01ABCDEF"));
    assert_eq!(properties.delivery_attempt, Some(1), "an attempt is never 0");
}

#[test]
fn a_head_over_the_limit_is_refused() {
    let mut message = sent();
    message.system_properties.as_mut().unwrap().trace_context = Some("x".repeat(HEAD_BYTES_MAX));
    assert_eq!(to_stored(message, ARRIVAL).unwrap_err().code, Code::MessagePropertiesTooLarge);
}
