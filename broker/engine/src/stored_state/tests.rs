//! A state with something of every kind, as bytes and back; and bytes that are no state.

use broker_delivery::LeaseBatch;
use broker_model::limits::QUEUES_PER_TOPIC_MAX;
use broker_model::{ConsumerGroup, GroupName, Now, QueuePlacement, ShardId, Topic};
use broker_store::record::{DeadLetterReference, Origin, Place, Reference};
use broker_store::simulated_disk::SimulatedDisk;
use broker_store::{Disk, IndexFailure, Lease, MessageRecord, SealedIndex};
use proptest::prelude::*;

use super::*;

const NOW_MS: u64 = 1_900_000_000_000;
const DUE_MS: u64 = NOW_MS + 3_600_000;
const NORMAL: u32 = 1;
const DELAY: u32 = 2;
const TRANSACTION: u32 = 3;
const LITE: u32 = 4;
const DELETED: u32 = 5;
const DEAD: u32 = 6;
const FIFO: u32 = 7;
const BILLING: u32 = 1;
const CASTS: u32 = 2;
const MEMBER: u32 = 3;

#[derive(Debug)]
struct Nobody;

impl ReplyTo for Nobody {
    fn is_gone(&self) -> bool {
        true
    }
}

struct Bench {
    engine: Engine<Nobody>,
    position: u64,
}

fn engine() -> Engine<Nobody> {
    Engine::new(ShardId(0), 1.into())
}

fn message(topic: u32, queue: u32, offset: u64) -> MessageRecord {
    MessageRecord {
        topic,
        queue,
        offset,
        tag_hash: offset % 3 * 77,
        message_group_hash: offset % 2,
        head: Bytes::from_static(b"head"),
        body: Bytes::from_static(b"body"),
    }
}

fn put_topic(number: u32, name: &str, message_type: MessageType, queues: u32) -> Record {
    let placement = vec![QueuePlacement { shard: ShardId(0), queues }];
    let name = TopicName::parse(name).unwrap();
    let mut topic = Topic::with_defaults(name, message_type, placement);
    topic.retention_bytes = Some(1 << 40);
    Record::PutTopic { number, topic: Box::new(topic) }
}

fn put_group(number: u32, name: &str) -> Record {
    let group = ConsumerGroup::with_defaults(GroupName::parse(name).unwrap());
    Record::PutGroup { number, group: Box::new(group) }
}

fn place(group: u32, topic: u32, queue: u32, offset: u64) -> Place {
    Place { group, topic, queue, offset }
}

fn lease(first: Place, span: u32, mask: u64, attempt: u32) -> Record {
    let deadline_ms = NOW_MS + 30_000;
    Record::Lease(Lease { first, span, mask, attempt, nonce: 4_711, deadline_ms, client: 1 })
}

impl Bench {
    /// Something of every kind: messages in three queues and a hole in one, leases, acknowledgements ahead of the cursor,
    /// dead letters of which one was put back, timed and half messages, members, lite topics, a deleted topic.
    fn filled() -> Self {
        let mut bench = Self { engine: engine(), position: 0 };
        bench.fill_catalog();
        for offset in 0..150 {
            bench.apply(&[Record::Message(message(NORMAL, 0, offset))]);
        }
        bench.apply(&[Record::Message(message(NORMAL, 1, 0))]);
        bench.apply(&[
            lease(place(BILLING, NORMAL, 0, 0), 64, u64::MAX, 1),
            lease(place(BILLING, NORMAL, 0, 64), 20, 0b1011, 1),
            lease(place(MEMBER, NORMAL, 0, 0), 1, 1, 1),
            Record::Acknowledge(place(BILLING, NORMAL, 0, 0)),
            Record::Acknowledge(place(BILLING, NORMAL, 0, 17)),
            // Behind what was looked at: those between wait for their first delivery.
            Record::Acknowledge(place(BILLING, NORMAL, 0, 90)),
            lease(place(BILLING, NORMAL, 0, 5), 0, 1, 2),
        ]);
        for (offset, dead) in [(1, 0), (2, 1)] {
            let reference = Reference {
                topic: DEAD,
                queue: 0,
                offset: dead,
                position: offset,
                length_bytes: 50,
                tag_hash: 0,
            };
            let stands = Some(DeadLetterReference { reference, origin_topic: NORMAL, death: None });
            let place = place(BILLING, NORMAL, 0, offset);
            bench.apply(&[Record::DeadLetter { place, stands }]);
        }
        let back = Origin { place: place(BILLING, NORMAL, 0, 1), message_group_hash: 0 };
        bench.apply(&[Record::Redrive { topic: DEAD, offset: 0, back_to: Some(back) }]);
        bench.fill_hidden();
        bench.seal();
        bench.apply(&[Record::Trim { topic: NORMAL, queue: 1, offset: 1 }]);
        bench
    }

    fn fill_catalog(&mut self) {
        self.apply(&[
            put_topic(NORMAL, "orders", MessageType::Normal, 2),
            put_topic(DELAY, "later", MessageType::Delay, 1),
            put_topic(TRANSACTION, "maybe", MessageType::Transaction, 1),
            put_topic(LITE, "chats", MessageType::Lite, 1),
            put_topic(DELETED, "gone", MessageType::Normal, 1),
            put_topic(DEAD, "%DLQ%billing", MessageType::Normal, 1),
            Record::DeleteTopic { number: DELETED },
            Record::DeleteName { kind: NameKind::Topic, name: "deleted".to_owned() },
            put_group(BILLING, "billing"),
            put_group(CASTS, "casts"),
            // It never polled where it was declared.
            Record::Cursor(place(BILLING, TRANSACTION, 0, 0)),
            Record::PutMember { number: MEMBER, group: CASTS, client_id: "screen-1".into() },
            Record::Client { number: 1, id: "worker-1".into() },
            Record::Reset { group: BILLING, id: "reset-2".into() },
            Record::Reset { group: BILLING, id: "reset-1\nlatest orders".into() },
            Record::PutLiteTopic { topic: LITE, queue: 0, name: "a".into() },
            Record::PutLiteTopic { topic: LITE, queue: 1, name: "b".into() },
            Record::PutLiteTopic { topic: LITE, queue: 2, name: "c".into() },
            Record::Message(message(LITE, 1, 0)),
            Record::Message(message(LITE, 2, 0)),
        ]);
        // The offsets of its queue go on.
        self.apply(&[Record::DeleteLiteTopic { topic: LITE, queue: 2 }]);
        self.apply(&[
            put_topic(FIFO, "ledger", MessageType::Fifo, 1),
            Record::Message(message(FIFO, 0, 0)),
            put_topic(FIFO, "ledger", MessageType::Fifo, 2),
            Record::OpenLayout { topic: FIFO, queues: 2 },
            Record::Cursor(place(BILLING, FIFO, 0, 1)),
            Record::PassLayout { group: BILLING, topic: FIFO, queues: 2 },
            put_topic(FIFO, "ledger", MessageType::Fifo, 4),
        ]);
    }

    fn fill_hidden(&mut self) {
        for number in 1..=1_500 {
            // More than one chunk holds in one bucket, and others.
            let due_ms = if number < 1_200 { DUE_MS } else { DUE_MS + 5_000 * number };
            self.apply(&[Record::Timed { number, due_ms, message: message(DELAY, 0, number) }]);
        }
        self.apply(&[Record::Recall { number: 3, due_ms: DUE_MS }]);
        for number in 1..=4 {
            let message = message(TRANSACTION, 0, number);
            self.apply(&[Record::Half { number, check_after_ms: 6_000, message }]);
        }
        self.apply(&[
            Record::TransactionCheck { number: 4 },
            Record::EndTransaction { number: 1, is_commit: true, stands: None },
            Record::EndTransaction { number: 2, is_commit: false, stands: None },
        ]);
    }

    fn apply(&mut self, records: &[Record]) {
        self.apply_at(NOW_MS, records);
    }

    fn apply_at(&mut self, now_ms: u64, records: &[Record]) {
        let mut effects = Effects::default();
        let mut payload = BytesMut::new();
        records.iter().for_each(|record| record.encode(&mut payload));
        let length = payload.len() as u64;
        self.engine.apply(Now::at(now_ms), self.position, payload.freeze(), &mut effects).unwrap();
        self.position += length;
    }

    /// What stands in memory stands in an index file now.
    fn seal(&mut self) {
        let runs = self.runs();
        self.engine.attach(runs);
    }

    fn runs(&self) -> Vec<SealedRun> {
        let mut index = IndexBuilder::new(0, 0);
        self.engine.unsealed(&mut index);
        let disk = SimulatedDisk::default();
        disk.create_directory("log".as_ref()).unwrap();
        index.write(&disk, "log".as_ref(), &|_| 0).unwrap();
        SealedIndex::open(&disk, "log".as_ref(), 0, 0, &IndexFailure::default()).unwrap()
    }
}

fn stored(engine: &Engine<Nobody>) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let part = &mut |part: &[u8]| -> Result<(), ()> {
        parts.push(Bytes::copy_from_slice(part));
        Ok(())
    };
    engine.store_state(part).unwrap();
    parts
}

fn loaded(parts: &[Bytes]) -> Result<Engine<Nobody>, StoredStateError> {
    let mut engine = engine();
    parts.iter().try_for_each(|part| engine.load_state(part.clone()))?;
    engine.finish_loading();
    Ok(engine)
}

/// The loaded state with the index files of the other one.
fn loaded_with_runs(bench: &Bench) -> Engine<Nobody> {
    let mut engine = loaded(&stored(&bench.engine)).unwrap();
    engine.attach(bench.engine.sealed_runs().cloned().collect());
    assert_eq!(engine.incomplete_queue(), None);
    engine
}

fn kinds(parts: &[Bytes]) -> std::collections::BTreeSet<u8> {
    let mut kinds = std::collections::BTreeSet::new();
    for mut part in parts.iter().cloned() {
        while !part.is_empty() {
            let length = part.get_u32_le() as usize;
            kinds.insert(part.split_to(length)[0]);
        }
    }
    kinds
}

fn item(kind: u8, fields: &[u8]) -> Bytes {
    let length = u32::try_from(fields.len() + 1).unwrap();
    [&length.to_le_bytes()[..], &[kind], fields].concat().into()
}

#[test]
fn a_state_with_every_kind_of_item_comes_back_byte_for_byte() {
    let bench = Bench::filled();
    let parts = stored(&bench.engine);
    assert_eq!(kinds(&parts), (ITEM_RECORD..=ITEM_PASSED_LAYOUT).collect());
    let engine = loaded_with_runs(&bench);
    assert_eq!(stored(&engine), parts);
    let (before, after) = (&bench.engine.state, &engine.state);
    assert_eq!(after.index_entries, before.index_entries);
    assert_eq!(after.next_group_number, before.next_group_number);
    let deadlines = |state: &crate::state::State<Nobody>| {
        let expiries = state.expiries.iter();
        let with_names = expiries.map(|expiry| {
            let progress = state.group_topic(expiry.group_topic).unwrap();
            let of = (progress.group, progress.topic, expiry.queue);
            (expiry.deadline_ms, of, expiry.first, expiry.nonce)
        });
        with_names.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(deadlines(after), deadlines(before), "every lease ends in time");
    assert!(deadlines(after).len() >= 4);
    for (number, topic) in &before.topics {
        let loaded = &after.topics[number];
        assert_eq!(loaded.topic, topic.topic);
        assert_eq!(loaded.lite.names(), topic.lite.names());
        for (queue, known) in topic.queues.iter().enumerate() {
            for offset in known.base()..known.end() {
                assert_eq!(loaded.queues[queue].get(offset), known.get(offset));
                assert_eq!(loaded.queues[queue].origin(offset), known.origin(offset));
            }
        }
    }
    assert_eq!(after.topic_names[&DELETED].as_str(), "gone");
    assert_eq!(after.transactions.open(), before.transactions.open());
    let progress = |state: &crate::state::State<Nobody>, group, topic| {
        let index = state.group_topic_indexes[&(group, topic)];
        state.group_topic(index).unwrap().queues.clone()
    };
    assert_eq!(progress(after, BILLING, NORMAL), progress(before, BILLING, NORMAL));
    assert_eq!(progress(after, MEMBER, NORMAL), progress(before, MEMBER, NORMAL));
}

#[test]
fn it_comes_back_the_same_when_timed_messages_are_unpacked_and_on_their_way() {
    let mut bench = Bench::filled();
    bench.apply(&[Record::Due { number: 5, due_ms: DUE_MS, stands: None }]);
    bench.seal();
    let engine = loaded_with_runs(&bench);
    assert_eq!(stored(&engine), stored(&bench.engine));
    assert_eq!(engine.state.timed.len(), 1_498);
    assert_eq!(engine.state.index_entries, bench.engine.state.index_entries);
    // Decided to be due, and not committed: not gone.
    let before = stored(&bench.engine);
    assert!(bench.engine.state.timed.leave((DUE_MS, 6)).is_some());
    assert!(bench.engine.state.timed.next_due(DUE_MS + 10_000_000, 10, &mut 9).is_some());
    let engine = loaded_with_runs(&bench);
    assert_eq!(engine.state.timed.len(), 1_498);
    let positions = |engine: &Engine<Nobody>| {
        let hidden: std::collections::BTreeSet<_> =
            engine.hidden_records().map(|(position, _)| position).collect();
        let (mut walked, mut runs) = (std::collections::BTreeSet::new(), 0);
        let mut walk = crate::NeededWalk::default();
        while !walk.is_over() {
            engine.walk_needed(&mut walk, 7, &mut |found| match found {
                crate::Needed::Hidden(position) => drop(walked.insert(position)),
                crate::Needed::Run(_) => runs += 1,
            });
        }
        assert_eq!((&walked, runs), (&hidden, engine.sealed_runs().count()));
        hidden
    };
    assert_eq!(positions(&engine), positions(&bench.engine));
    assert_eq!(stored(&engine).len(), before.len());
}

#[test]
fn a_state_goes_on_as_the_one_that_was_stored() {
    let mut bench = Bench::filled();
    let mut other = Bench { engine: loaded_with_runs(&bench), position: bench.position };
    let next = bench.engine.state.timed.last_number() + 1;
    let goes_on = [
        Record::Acknowledge(place(BILLING, NORMAL, 0, 5)),
        lease(place(BILLING, NORMAL, 0, 100), 30, 0xff, 1),
        Record::Message(message(NORMAL, 0, 150)),
        Record::PutLiteTopic { topic: LITE, queue: 2, name: "d".into() },
        Record::Message(message(LITE, 2, 1)),
        Record::Recall { number: 1_300, due_ms: DUE_MS + 5_000 * 1_300 },
        Record::Timed { number: next, due_ms: DUE_MS + 1, message: message(DELAY, 0, 0) },
        Record::EndTransaction { number: 3, is_commit: true, stands: None },
        Record::DeleteMember { number: MEMBER },
        Record::Cursor(place(BILLING, NORMAL, 1, 1)),
    ];
    for side in [&mut bench, &mut other] {
        side.apply(&goes_on);
        side.seal();
    }
    // Not printed when they differ: they are long.
    assert!(stored(&other.engine) == stored(&bench.engine), "they differ");
    assert_eq!(other.engine.state.index_entries, bench.engine.state.index_entries);
}

#[test]
fn cut_and_flipped_bytes_are_refused_or_are_a_state_that_can_be_stored() {
    // Without the many timed messages, so that every byte can be tried.
    let mut bench = Bench { engine: engine(), position: 0 };
    bench.fill_catalog();
    bench.apply(&[
        lease(place(BILLING, NORMAL, 0, 0), 64, u64::MAX, 1),
        Record::Acknowledge(place(BILLING, NORMAL, 0, 17)),
        Record::Timed { number: 1, due_ms: DUE_MS, message: message(DELAY, 0, 0) },
        Record::Half { number: 1, check_after_ms: 6_000, message: message(TRANSACTION, 0, 0) },
        Record::Half { number: 2, check_after_ms: 6_000, message: message(TRANSACTION, 0, 0) },
        Record::EndTransaction { number: 2, is_commit: false, stands: None },
    ]);
    bench.seal();
    let parts = stored(&bench.engine);
    let [whole] = parts.as_slice() else { panic!("{} parts", parts.len()) };
    let mut cuts_that_load = 0;
    for length in 0..whole.len() {
        cuts_that_load += usize::from(loaded(&[whole.slice(..length)]).is_ok());
    }
    assert!(cuts_that_load < 50, "only whole items load: {cuts_that_load}");
    for position in 0..whole.len() {
        for bit in [position % 8, (position + 3) % 8] {
            let mut bytes = whole.to_vec();
            bytes[position] ^= 1 << bit;
            if let Ok(engine) = loaded(&[bytes.into()]) {
                let again = stored(&engine);
                loaded(&again).expect("what was stored can be loaded");
                let _records = engine.hidden_records().count();
            }
        }
    }
}

#[test]
fn hostile_numbers_are_refused() {
    let refused = |part: Bytes| loaded(&[part]).unwrap_err();
    let mut record = BytesMut::new();
    Record::Acknowledge(place(1, 1, 0, u64::MAX)).encode(&mut record);
    assert_eq!(refused(item(ITEM_RECORD, &record)), StoredStateError("record"));
    assert_eq!(refused(item(0, &[])), StoredStateError("kind of item"));
    assert_eq!(refused(item(14, &[])), StoredStateError("kind of item"));
    assert_eq!(refused(item(ITEM_KNOWN_NAME, &[3; 12])), StoredStateError("kind of name"));
    assert_eq!(refused(Bytes::from_static(&[0; 9])), StoredStateError("length"));
    assert_eq!(refused(Bytes::from_static(&[255; 9])), StoredStateError("length"));
    let name =
        |name: &str| item(ITEM_TOPIC_NAME, &[&1u32.to_le_bytes()[..], name.as_bytes()].concat());
    assert!(loaded(&[name("orders"), name("orders")]).is_ok());
    let renamed = loaded(&[name("orders"), name("invoices")]).unwrap_err();
    assert_eq!(renamed, StoredStateError("topic name"));
    let numbers = |numbers: &[u64]| -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    };
    let fifo = item(ITEM_RECORD, &{
        let mut record = BytesMut::new();
        put_topic(1, "ledger", MessageType::Fifo, 2).encode(&mut record);
        record
    });
    let layout = |queues: u32, starts: &[u64]| {
        let head = [1, queues].map(u32::to_le_bytes).concat();
        item(ITEM_LAYOUT, &[&head[..], &[0], &numbers(starts)].concat())
    };
    assert_eq!(refused(layout(2, &[])), StoredStateError("layout"));
    assert!(loaded(&[fifo.clone(), layout(2, &[5, u64::MAX])]).is_ok());
    let more = loaded(&[fifo, layout(2, &[5; 1_025])]).unwrap_err();
    assert_eq!(more, StoredStateError("layout"));
    let passed = item(ITEM_PASSED_LAYOUT, &[1, 1, 2].map(u32::to_le_bytes).concat());
    assert_eq!(refused(passed), StoredStateError("passed layout"));
    let queue = |base, end| [&numbers(&[1])[..], &numbers(&[base, end])].concat();
    assert_eq!(refused(item(ITEM_QUEUE, &queue(5, 4))), StoredStateError("offset"));
    assert_eq!(refused(item(ITEM_QUEUE, &queue(0, u64::MAX))), StoredStateError("offset"));
    let mut timed = Bench { engine: engine(), position: 0 };
    timed.apply(&[Record::Timed { number: 1, due_ms: 77, message: message(DELAY, 0, 0) }]);
    let mut chunk = Vec::new();
    let write = &mut |_, packed: &[u8]| -> Result<(), ()> {
        chunk = packed.to_vec();
        Ok(())
    };
    timed.engine.state.timed.store(write).unwrap();
    let of_bucket = |bucket: u64| [&bucket.to_le_bytes()[..], &chunk].concat();
    assert!(loaded(&[item(ITEM_TIMED, &of_bucket(7))]).is_ok());
    for bucket in [u64::MAX, u64::MAX / 4_096, u64::MAX / 4_096 + 1] {
        let refused = refused(item(ITEM_TIMED, &of_bucket(bucket)));
        assert_eq!(refused, StoredStateError("timed message"));
    }
    for position in 0..28 {
        // The numbers in front must be those of what is packed.
        let mut fields = of_bucket(7);
        fields[8 + position] ^= 1;
        assert_eq!(refused(item(ITEM_TIMED, &fields)), StoredStateError("timed message"));
    }
}

#[test]
fn a_topic_never_gets_more_queues_than_a_topic_may_have() {
    let mut bench = Bench { engine: engine(), position: 0 };
    let Record::PutTopic { number, mut topic } = put_topic(u32::MAX, "t", MessageType::Normal, 1)
    else {
        unreachable!()
    };
    topic.placement = vec![QueuePlacement { shard: ShardId(0), queues: u32::MAX }; 3];
    bench.apply(&[Record::PutTopic { number, topic }]);
    let queues = bench.engine.state.topics[&u32::MAX].queues.len();
    assert_eq!(queues, QUEUES_PER_TOPIC_MAX as usize);
}

#[test]
fn progress_that_cannot_be_is_refused() {
    let batch = |first: u64, mask: u64| {
        let LeaseBatch { attempt, nonce, deadline_ms, .. } =
            LeaseBatch { mask, attempt: 1, nonce: 9, deadline_ms: NOW_MS };
        let mut bytes = [first.to_le_bytes(), mask.to_le_bytes()].concat();
        bytes.extend_from_slice(&attempt.to_le_bytes());
        bytes.extend_from_slice(&nonce.to_le_bytes());
        bytes.extend_from_slice(&deadline_ms.to_le_bytes());
        bytes
    };
    let progress = |(cursor, next): (u64, u64),
                    done: &[(u64, u64)],
                    leases: &[Vec<u8>],
                    again: &[u64],
                    revived: &[u64]| {
        let mut bytes = BytesMut::new();
        bytes.put_u64_le(cursor);
        bytes.put_u64_le(next);
        bytes.put_u64_le(done.len() as u64);
        done.iter().for_each(|(start, end)| {
            bytes.put_u64_le(*start);
            bytes.put_u64_le(*end);
        });
        bytes.put_u64_le(leases.len() as u64);
        leases.iter().for_each(|lease| bytes.put_slice(lease));
        bytes.put_u64_le(again.len() as u64);
        again.iter().for_each(|offset| {
            bytes.put_u64_le(*offset);
            bytes.put_u64_le(1);
        });
        bytes.put_u64_le(revived.len() as u64);
        revived.iter().for_each(|offset| bytes.put_u64_le(*offset));
        GroupQueue::load(&mut bytes.freeze())
    };
    let good = progress((10, 100), &[(20, 30), (40, 50)], &[batch(50, 3)], &[60, 5], &[5]);
    assert_eq!(good.map(|queue| queue.inflight()), Some(2));
    let far = u64::MAX - 10;
    for (what, loaded) in [
        ("a cursor behind its end", progress((11, 10), &[], &[], &[], &[])),
        ("an end that has no next", progress((0, u64::MAX), &[], &[], &[], &[])),
        ("an empty range", progress((10, 100), &[(20, 20)], &[], &[], &[])),
        ("ranges out of order", progress((10, 100), &[(40, 50), (20, 30)], &[], &[], &[])),
        ("ranges that overlap", progress((10, 100), &[(20, 30), (25, 50)], &[], &[], &[])),
        ("a range at the cursor", progress((10, 100), &[(10, 30)], &[], &[], &[])),
        ("a range beyond the end", progress((10, 100), &[(20, 101)], &[], &[], &[])),
        ("a batch of nothing", progress((0, 100), &[], &[batch(50, 0)], &[], &[])),
        ("a batch at the end of numbers", progress((0, 100), &[], &[batch(far, !0)], &[], &[])),
        ("two holders", progress((0, 100), &[], &[batch(9, 2), batch(10, 1)], &[], &[])),
        ("one batch twice", progress((0, 100), &[], &[batch(9, 1), batch(9, 1)], &[], &[])),
        ("done and in flight", progress((10, 100), &[(20, 30)], &[batch(25, 1)], &[], &[])),
        ("in flight and waiting", progress((0, 100), &[], &[batch(25, 1)], &[25], &[])),
        ("done and waiting", progress((10, 100), &[], &[], &[5], &[])),
        ("put back and not done", progress((10, 100), &[], &[], &[], &[50])),
    ] {
        assert_eq!(loaded, None, "{what}");
    }
}

#[test]
fn numbers_behind_the_topics_and_groups_of_the_state_are_not_given_again() {
    let mut bench = Bench { engine: engine(), position: 0 };
    bench.fill_catalog();
    let mut parts = stored(&bench.engine);
    let behind = [[1, 1, 0].map(u32::to_le_bytes).concat(), vec![0; 16]].concat();
    parts.push(item(ITEM_NUMBERS, &behind));
    let mut engine = loaded(&parts).unwrap();
    assert_eq!(engine.take_topic_number(), FIFO + 1);
    assert_eq!(engine.state.next_group_number, MEMBER + 1);
    let name = [&9u32.to_le_bytes()[..], b"was-there"].concat();
    let mut engine = loaded(&[item(ITEM_TOPIC_NAME, &name)]).unwrap();
    assert_eq!(engine.take_topic_number(), 10, "a topic that is gone had it");
}

/// Records as a log holds them, and some that no log ever holds.
fn any_record() -> impl Strategy<Value = Record> {
    let place = (1u32..5, 1u32..7, 0u32..3, 0u64..160);
    let place = place
        .prop_map(|(group, topic, queue, offset)| super::tests::place(group, topic, queue, offset));
    let attempt = prop_oneof![3 => 1u32..4, 1 => Just(u32::MAX)];
    let lease = (place.clone(), 0u32..65, any::<u64>(), attempt.clone(), 0u32..50);
    let change = (place.clone(), 0u32..50, 50u32..1_000_000, attempt);
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")];
    prop_oneof![
        4 => lease.prop_map(|(first, span, mask, attempt, nonce)| {
            let deadline_ms = NOW_MS + 30_000;
            Record::Lease(Lease { first, span, mask, attempt, nonce, deadline_ms, client: 1 })
        }),
        4 => place.clone().prop_map(Record::Acknowledge),
        2 => change.prop_map(|(place, nonce, new_nonce, attempt)| {
            let deadline_ms = NOW_MS + 60_000;
            Record::ChangeInvisible { place, nonce, new_nonce, attempt, deadline_ms }
        }),
        1 => place.clone().prop_map(|place| Record::DeadLetter { place, stands: None }),
        1 => place.prop_map(Record::Cursor),
        1 => (0u64..4).prop_map(|offset| Record::Redrive { topic: DEAD, offset, back_to: None }),
        1 => (1u32..7, 0u32..3, 0u64..160)
            .prop_map(|(topic, queue, offset)| Record::Trim { topic, queue, offset }),
        1 => (1u64..6, any::<bool>()).prop_map(|(number, is_commit)| {
            Record::EndTransaction { number, is_commit, stands: None }
        }),
        1 => (1u64..6).prop_map(|number| Record::TransactionCheck { number }),
        1 => (1u64..1_500).prop_map(|number| Record::Recall { number, due_ms: DUE_MS }),
        1 => (1u64..1_500).prop_map(|number| Record::Due { number, due_ms: DUE_MS, stands: None }),
        1 => (3u32..5, 1u32..3, name.clone()).prop_map(|(number, group, name)| {
            Record::PutMember { number, group, client_id: name.into() }
        }),
        1 => (3u32..5).prop_map(|number| Record::DeleteMember { number }),
        1 => (0u32..5, name.clone()).prop_map(|(queue, name)| {
            Record::PutLiteTopic { topic: LITE, queue, name: name.into() }
        }),
        1 => (0u32..5).prop_map(|queue| Record::DeleteLiteTopic { topic: LITE, queue }),
        1 => (1u32..3, name).prop_map(|(group, id)| Record::Reset { group, id: id.into() }),
        1 => (1u32..7).prop_map(|number| Record::DeleteTopic { number }),
        1 => (1u32..3).prop_map(|number| Record::DeleteGroup { number }),
        1 => (1u32..9).prop_map(|queues| put_topic(FIFO, "ledger", MessageType::Fifo, queues)),
        1 => (1u32..9).prop_map(|queues| Record::OpenLayout { topic: FIFO, queues }),
        1 => (1u32..3, 1u32..9)
            .prop_map(|(group, queues)| Record::PassLayout { group, topic: FIFO, queues }),
        1 => (1u32..3).prop_map(|number| Record::DeleteName {
            kind: NameKind::Group,
            name: format!("group-{number}"),
        }),
    ]
}

#[test]
fn progress_that_is_set_below_what_is_kept_is_stored_as_it_is() {
    let mut bench = Bench::filled();
    bench.apply(&[Record::Cursor(place(BILLING, LITE, 2, 0))]);
    bench.seal();
    let parts = stored(&bench.engine);
    let mut engine = loaded(&parts).unwrap();
    engine.attach(bench.engine.sealed_runs().cloned().collect());
    assert!(stored(&engine) == parts);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_records_make_is_stored_and_taken_in_again_byte_for_byte(
        records in proptest::collection::vec(any_record(), 0..40),
    ) {
        let mut bench = Bench::filled();
        for record in &records {
            bench.apply(std::slice::from_ref(record));
        }
        bench.seal();
        let parts = stored(&bench.engine);
        let engine = loaded(&parts);
        prop_assert!(engine.is_ok(), "{:?}", engine.err());
        let mut engine = engine.unwrap();
        engine.attach(bench.engine.sealed_runs().cloned().collect());
        prop_assert_eq!(engine.incomplete_queue(), None);
        let again = stored(&engine);
        for (item, stored) in items(&parts).into_iter().zip(items(&again)) {
            prop_assert_eq!(item, stored);
        }
        prop_assert!(again == parts, "they differ");
        prop_assert_eq!(engine.state.index_entries, bench.engine.state.index_entries);
    }
}

fn items(parts: &[Bytes]) -> Vec<(u8, Bytes)> {
    let mut items = Vec::new();
    for mut part in parts.iter().cloned() {
        while let Some(item) = split_item(&mut part) {
            items.push(item);
        }
    }
    items
}

#[test]
fn a_reset_to_what_went_meanwhile_goes_no_further_back_than_what_is_kept() {
    let mut bench = Bench { engine: engine(), position: 0 };
    bench.fill_catalog();
    for offset in 0..6 {
        bench.apply(&[Record::Message(message(NORMAL, 1, offset))]);
    }
    bench.apply(&[lease(place(BILLING, NORMAL, 0, 0), 1, 1, 1)]);
    bench.seal();
    bench.apply(&[
        Record::Trim { topic: NORMAL, queue: 1, offset: 6 },
        // Decided before that was committed.
        Record::Cursor(place(BILLING, NORMAL, 1, 0)),
        Record::DeleteLiteTopic { topic: LITE, queue: 1 },
        Record::Cursor(place(BILLING, LITE, 1, 0)),
    ]);
    for (topic, base) in [(NORMAL, 6), (LITE, 1)] {
        let index = bench.engine.state.group_topic_indexes[&(BILLING, topic)];
        let progress = bench.engine.state.group_topic(index).unwrap();
        assert_eq!((progress.queues[1].cursor(), progress.queues[1].lag(base)), (base, 0));
    }
    let parts = stored(&bench.engine);
    assert!(stored(&loaded_with_runs(&bench)) == parts, "they differ");
}

#[test]
fn the_oldest_message_is_looked_up_once_and_until_then_said_to_be_as_young_as_its_run() {
    let mut bench = Bench { engine: engine(), position: 0 };
    bench.fill_catalog();
    for offset in 0..3 {
        bench.apply_at(NOW_MS + offset, &[Record::Message(message(NORMAL, 0, offset))]);
    }
    bench.seal();
    let queue = &mut bench.engine.state.topics.get_mut(&NORMAL).unwrap().queues[0];
    // What left memory in this process is known.
    assert_eq!(queue.oldest_ms(&mut 0), Some(NOW_MS));
    queue.trim_below(1);
    let mut lookups = 1;
    assert_eq!(queue.oldest_ms(&mut 0), Some(NOW_MS + 2));
    assert_eq!((queue.oldest_ms(&mut lookups), lookups), (Some(NOW_MS + 1), 0));
    assert_eq!(queue.oldest_ms(&mut lookups), Some(NOW_MS + 1));
    queue.trim_below(3);
    assert_eq!(queue.oldest_ms(&mut lookups), None);
}
