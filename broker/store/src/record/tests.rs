//! Every kind survives the round trip; damaged bytes are refused, never misread and never a panic.

use broker_model::{
    Backoff, DeadLetterPolicy, GroupName, HANDLE_KEY_BYTES, HandleKey, MessageType, Model, Order,
    Owner, QueuePlacement, RetryPolicy, ShardId, StartFrom, Subscription, TopicName,
};
use proptest::prelude::*;

use super::*;

fn place() -> Place {
    Place { group: 1, topic: 2, queue: 3, offset: 4 }
}

fn reference() -> Reference {
    Reference { topic: 1, queue: 2, offset: 3, position: 4, length_bytes: 5, tag_hash: 6 }
}

fn groups() -> [ConsumerGroup; 2] {
    let mut group = ConsumerGroup::with_defaults(GroupName::parse("billing").unwrap());
    let exponential = Backoff::Exponential { initial_ms: 1, max_ms: 9, multiplier: 1.5 };
    group.model = Model::Broadcasting;
    group.order = Order::Fifo;
    group.subscriptions = vec![Subscription {
        topic: TopicName::parse("orders").unwrap(),
        is_sql: true,
        expression: "a > 5".into(),
        start_from: StartFrom::Latest,
    }];
    group.dead_letter = DeadLetterPolicy::Discard;
    group.lite_topic = Some(TopicName::parse("rooms").unwrap());
    group.is_consuming = false;
    let other = ConsumerGroup {
        retry: RetryPolicy { max_attempts: 3, backoff: exponential },
        ..group.clone()
    };
    [group, other]
}

/// The kinds that later formats added.
fn later_kinds() -> Vec<Record> {
    vec![
        Record::DeadLetter {
            place: place(),
            stands: Some(DeadLetterReference {
                reference: reference(),
                origin_topic: 9,
                death: Some(Death { attempts: 17, cause: DeathCause::AttemptsUsedUp }),
            }),
        },
        Record::Due { number: 1, due_ms: 2, stands: Some(reference()) },
        Record::EndTransaction { number: 1, is_commit: true, stands: Some(reference()) },
        Record::Redrive {
            topic: 1,
            offset: 2,
            back_to: Some(Origin { place: place(), message_group_hash: 5 }),
        },
        Record::Trim { topic: 1, queue: 2, offset: 3 },
        Record::DeleteName { kind: NameKind::Group, name: "billing".into() },
        Record::Release { place: place(), nonce: 5 },
        Record::Prolong { first: place(), nonce: 5, deadline_ms: 6 },
        Record::Skip { first: place(), end: 9 },
    ]
}

fn one_of_each_kind() -> Vec<Record> {
    let topic = Topic {
        name: TopicName::parse("orders").unwrap(),
        message_type: MessageType::Fifo,
        queues: 5,
        placement: vec![QueuePlacement { shard: ShardId(1), queues: 5 }],
        first_queues: None,
        owner: Some(Owner {
            instance: "i".into(),
            namespace: "n".into(),
            name: "o".into(),
            uid: "u".into(),
        }),
        retention_ms: Some(60_000),
        retention_bytes: None,
        max_message_bytes: Some(1_000_000),
        lite_expiry_ms: Some(7),
        readable: true,
        writable: false,
    };
    let [group, other] = groups();
    vec![
        Record::Message(message()),
        Record::Lease(Lease {
            first: place(),
            span: 64,
            mask: u64::MAX,
            attempt: 1,
            nonce: 9,
            deadline_ms: 10,
            client: 3,
        }),
        Record::Acknowledge(place()),
        Record::ChangeInvisible {
            place: place(),
            nonce: 1,
            new_nonce: 2,
            attempt: 3,
            deadline_ms: 4,
        },
        Record::DeadLetter { place: place(), stands: None },
        Record::PutTopic {
            number: 1,
            topic: Box::new(Topic { first_queues: Some(3), ..topic.clone() }),
        },
        Record::PutTopic { number: 1, topic: Box::new(topic) },
        Record::DeleteTopic { number: 1 },
        Record::PutGroup { number: 1, group: Box::new(group) },
        Record::PutGroup { number: 2, group: Box::new(other) },
        Record::DeleteGroup { number: 1 },
        Record::Timed { number: 1, due_ms: 2, message: message() },
        Record::Due { number: 1, due_ms: 2, stands: None },
        Record::Recall { number: 1, due_ms: 2 },
        Record::Half { number: 1, check_after_ms: 2, message: message() },
        Record::EndTransaction { number: 1, is_commit: true, stands: None },
        Record::EndTransaction { number: 1, is_commit: false, stands: None },
        Record::TransactionCheck { number: 1 },
        Record::Cursor(place()),
        Record::Reset { group: 1, id: "again".into() },
        Record::Redrive { topic: 1, offset: 2, back_to: None },
        Record::PutMember { number: 1, group: 2, client_id: "host@1".into() },
        Record::DeleteMember { number: 1 },
        Record::PutLiteTopic { topic: 1, queue: 2, name: "room-1".into() },
        Record::DeleteLiteTopic { topic: 1, queue: 2 },
        Record::Client { number: 1, id: "host@1".into() },
        Record::HandleKey(HandleKey([7; HANDLE_KEY_BYTES])),
        Record::GroupUse { group: 1, hour: 2 },
        Record::ServedHours { hours: 3 },
        Record::OpenLayout { topic: 1, queues: 24 },
        Record::PassLayout { group: 2, topic: 1, queues: 24 },
    ]
}

fn message() -> MessageRecord {
    MessageRecord {
        topic: 1,
        queue: 2,
        offset: 3,
        tag_hash: 4,
        message_group_hash: 5,
        head: Bytes::from_static(b"head"),
        body: Bytes::from_static(b"the body"),
    }
}

fn encoded(records: &[Record]) -> BytesMut {
    let mut payload = BytesMut::new();
    records.iter().for_each(|record| record.encode(&mut payload));
    payload
}

#[test]
fn every_kind_survives_the_round_trip() {
    let mut records = one_of_each_kind();
    records.extend(later_kinds());
    let mut payload = encoded(&records).freeze();
    let decoded: Vec<_> = records.iter().map(|_| Record::decode(&mut payload).unwrap()).collect();
    assert_eq!(decoded, records);
    assert!(payload.is_empty());
}

#[test]
fn the_size_of_a_message_is_known_before_it_is_encoded() {
    let records = &one_of_each_kind()[..1];
    assert_eq!(encoded(records).len(), message_bytes(4, 8));
}

proptest! {
    #[test]
    fn a_flipped_bit_is_noticed(kind in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut records = one_of_each_kind();
        records.extend(later_kinds());
        let kind = kind.index(records.len());
        let mut payload = encoded(&records[kind..=kind]);
        let at = at.index(payload.len());
        payload[at] ^= 1 << bit;
        prop_assert!(Record::decode(&mut payload.freeze()).is_err());
    }

    #[test]
    fn arbitrary_fields_behind_a_right_checksum_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 1..200),
    ) {
        let mut payload = BytesMut::from(&[0u8; RECORD_HEADER_BYTES][..]);
        payload.extend_from_slice(&bytes);
        seal(&mut payload, 0);
        // Either a record or an error; what matters is that it returns.
        let decoded = Record::decode(&mut payload.freeze());
        prop_assert!(decoded.is_ok() || decoded.is_err());
    }
}
