//! Whole records in the place of others, as a disk leaves or reads them that misses its aim: their own checksums hold, and
//! yet they are never handed out for the messages that stood there.

use std::path::Path;

use broker_engine::Source;
use broker_store::ReadError;

use super::*;

const SEGMENT: &str = "shard-0/00000000000000000000.seg";
/// Of a record, what is in front of the head: header, kind and fields.
const FRONT_BYTES: usize = 8 + 41;

/// Replaces the record with one body by the record with another of the same length.
fn overwrite(disk: &SimulatedDisk, wanted: &str, other: &str) {
    let bytes = disk.contents(Path::new(SEGMENT)).unwrap();
    let find = |text: &str| bytes.windows(text.len()).position(|part| part == text.as_bytes());
    let front = FRONT_BYTES + "head".len();
    let (to, from) = (find(wanted).unwrap() - front, find(other).unwrap() - front);
    for at in 0..front + wanted.len() {
        for bit in (0..8).filter(|bit| (bytes[to + at] ^ bytes[from + at]) >> bit & 1 == 1) {
            disk.flip_bit(Path::new(SEGMENT), to + at, bit);
        }
    }
}

/// Receives and reads the bytes; an error for what is not what it should be.
fn read(shard: &mut Shard, group: &str, topic: &str) -> Vec<Result<Bytes, ReadError>> {
    let request = Receive {
        group: GroupName::parse(group).unwrap(),
        topic: name(topic),
        filter: Filter::All,
        messages_max: 32,
        invisible_ms: 30_000,
        poll_until_ms: shard.now_ms,
        client_id: "tester".into(),
        attempt_id: String::new(),
        lite_topics: None,
    };
    let Ok(Outcome::Received(deliveries)) = shard.ask(Command::Receive(request)) else {
        panic!("no messages")
    };
    let reader = shard.replica.reader();
    let read = |source| match source {
        Source::Memory { .. } => panic!("it was to be read from the disk"),
        Source::Log { position, length_bytes, identity } => {
            reader.message(position, length_bytes, &identity).map(|message| message.body)
        }
    };
    deliveries.into_iter().map(|delivery| read(delivery.source)).collect()
}

/// A shard with two messages of the same length that are not in memory any more.
fn shard() -> Shard {
    broker_store::switches::set_tail_cache_bytes(Some(0));
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 1);
    shard.create("orders", 1, "undertaker", 1);
    for text in ["first", "other"] {
        shard.ask(send("orders", &[text])).unwrap();
    }
    shard.create("invoices", 1, "nobody", 1);
    shard.create("invoices", 1, "audit", 1);
    // The block that is written next holds neither of them.
    shard.ask(send("invoices", &["-".repeat(9_000).as_str()])).unwrap();
    shard
}

#[test]
fn another_message_of_the_same_length_is_not_taken_for_the_one_that_stood_there() {
    let mut shard = shard();
    overwrite(&shard.disk, "first", "other");
    let read = read(&mut shard, "billing", "orders");
    assert!(matches!(read[..], [Err(ReadError::Another(_)), Ok(_)]), "{read:?}");
}

#[test]
fn a_dead_letter_and_a_dead_letter_of_it_are_told_from_others() {
    let mut shard = shard();
    let dies_of = |shard: &mut Shard, group: &str, topic: &str| {
        assert_eq!(shard.receive(group, topic, Filter::All).len(), 2);
        shard.now_ms += 31_000;
        shard.settle();
    };
    dies_of(&mut shard, "billing", "orders");
    dies_of(&mut shard, "undertaker", "%DLQ%billing");
    shard.ask(send("invoices", &["to move the others out of memory"])).unwrap();
    let both = [Bytes::from("first"), Bytes::from("other")].map(Ok);
    assert_eq!(read(&mut shard, "nobody", "%DLQ%undertaker"), both);
    overwrite(&shard.disk, "first", "other");
    shard.now_ms += 31_000;
    shard.settle();
    shard.ask(send("invoices", &["once more"])).unwrap();
    let last = read(&mut shard, "audit", "%DLQ%nobody");
    assert!(matches!(last[..], [Err(ReadError::Another(_)), Ok(_)]), "{last:?}");
}
