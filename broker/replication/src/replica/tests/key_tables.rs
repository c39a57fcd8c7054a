//! Key tables of sealed segments: what a search by key finds is what the log holds, and a table that is lost comes back.

use std::path::PathBuf;

use broker_model::key_hash;
use broker_store::key_table::key_table_path;
use broker_store::reader::KeyTables;
use broker_store::{TopicKey, segments};

use super::*;

/// The number of the first topic.
const TOPIC: u32 = 1;

/// A message whose key is its head.
fn keyed(key: &str, visible: Visible) -> Command {
    let message = NewMessage {
        tag_hash: 0,
        message_group_hash: 0,
        visible,
        head: Bytes::from(key.to_owned()),
        body: Bytes::from(vec![b'x'; 500]),
    };
    Command::Send(Send { topic: name("orders"), messages: vec![message], target: Target::AnyQueue })
}

impl Shard {
    fn send_keyed(&mut self, keys: impl Iterator<Item = String>) {
        for key in keys {
            self.now_ms += 1;
            self.ask(keyed(&key, Visible::AtOnce)).unwrap();
        }
    }

    /// How many messages of this key a search finds, and how many records it looked at.
    fn found(&self, key: &str) -> (usize, usize) {
        let (reader, directory) = (self.replica.reader(), options().directory);
        let tables = KeyTables { disk: &self.disk, directory: &directory };
        let of = TopicKey { topic: TOPIC, hash: key_hash(key.as_bytes()) };
        let end = self.replica.log().durable_position();
        let mut records = reader.records_of_key(tables, of, 0..=u64::MAX, end).unwrap();
        let (mut found, mut looked_at) = (0, 0);
        while let Some(step) = records.step() {
            let Some(record) = step.unwrap() else { continue };
            looked_at += 1;
            let message = record.record.into_message();
            found += usize::from(message.is_some_and(|message| message.head == key.as_bytes()));
        }
        assert_eq!(records.take_unusable(), []);
        (found, looked_at)
    }

    /// Sealed segments, and how many of them have a table.
    fn tables(&self) -> (usize, usize) {
        let sealed = self.disk.files_ending(".idx");
        let has_table =
            |path: &&PathBuf| self.disk.contents(&path.with_extension("keys")).is_some();
        (sealed.len(), sealed.iter().filter(has_table).count())
    }
}

#[test]
fn every_sealed_segment_has_a_table_and_every_message_is_found_by_its_key() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create_of(MessageType::Delay, "orders", 2);
    let due_ms = shard.now_ms + 60_000;
    shard.ask(keyed("timed", Visible::At { due_ms })).unwrap();
    shard.send_keyed((0..100).map(|number| format!("key-{}", number / 2)));
    let (sealed, with_table) = shard.tables();
    assert!(sealed > 5 && with_table == sealed, "{with_table} of {sealed}");
    for _ in 0..2 {
        for number in 0..50 {
            let (found, looked_at) = shard.found(&format!("key-{number}"));
            assert_eq!(found, 2, "key-{number}");
            // Only the segment in use is read as a whole.
            assert!(looked_at < 25, "{looked_at} records");
        }
        assert_eq!(shard.found("timed").0, 1);
        assert_eq!(shard.found("nobody").0, 0);
        shard.now_ms += 61_000;
        shard.restart();
        shard.send_keyed(["later".to_owned()].into_iter());
    }
    assert_eq!(shard.found("later").0, 2);
    super::sealing::check_derived(&shard);
}

#[test]
fn tables_that_are_lost_are_made_again_one_at_each_sealing() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    shard.send_keyed((0..100).map(|number| format!("key-{number}")));
    let (sealed, _) = shard.tables();
    for path in shard.disk.files_ending(".keys") {
        shard.disk.remove(&path).unwrap();
    }
    assert_eq!(shard.found("key-7").0, 1);
    let seals = shard.seals;
    shard.restart();
    assert_eq!(
        (shard.tables(), shard.seals),
        ((sealed, 0), seals),
        "a start does not wait for them"
    );
    shard.send_keyed((100..400).map(|number| format!("key-{number}")));
    assert!(shard.seals - seals >= u32::try_from(sealed).unwrap(), "sealed often enough");
    let (sealed, with_table) = shard.tables();
    assert_eq!(sealed, with_table);
    for number in [0, 7, 99, 100, 399] {
        assert_eq!(shard.found(&format!("key-{number}")).0, 1);
    }
    super::sealing::check_derived(&shard);
}

#[test]
fn on_a_volume_that_is_nearly_full_segments_are_sealed_without_tables() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    shard.send_keyed((0..20).map(|number| format!("key-{number}")));
    let (sealed, seals) = (shard.tables().0, shard.seals);
    // Room for the next segments and what is derived from them, and then for less than the work beside them wants.
    let room_bytes = 5 * options().segment_bytes;
    for number in 20..60 {
        shard.disk.set_capacity(Some(shard.disk.used_bytes() + room_bytes));
        shard.send_keyed([format!("key-{number}")].into_iter());
    }
    assert!(shard.seals > seals);
    let (now_sealed, with_table) = shard.tables();
    assert!(now_sealed > sealed && with_table == now_sealed, "{with_table} of {now_sealed}");
    for number in 60..100 {
        shard.disk.set_capacity(Some(shard.disk.used_bytes() + 2 * options().segment_bytes));
        shard.send_keyed([format!("key-{number}")].into_iter());
    }
    let (sealed, with_table) = shard.tables();
    assert!(with_table < sealed, "{with_table} of {sealed}");
    assert!((0..100).all(|number| shard.found(&format!("key-{number}")).0 == 1));
}

#[test]
fn a_segment_that_is_given_back_takes_its_table_along() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    shard.send_keyed((0..100).map(|number| format!("key-{number}")));
    let first = key_table_path(&options().directory, 0);
    assert!(shard.disk.contents(&first).is_some());
    let topic = TopicName::parse("orders").unwrap();
    shard.ask(Command::DeleteTopic(topic)).unwrap();
    shard.create("orders", 2, "billing", 5);
    shard.send_keyed((0..200).map(|number| format!("key-{number}")));
    assert!(shard.disk.contents(&first).is_none());
    let kept = segments::look(&shard.disk, &options().directory).unwrap();
    for path in shard.disk.files_ending(".keys") {
        let is_of = |base: u64| key_table_path(&options().directory, base) == path;
        assert!(kept.iter().any(|segment| is_of(segment.base())), "{path:?} is alone");
    }
    // A table without its segment, and one that was not finished, go at the next start.
    let alone = key_table_path(&options().directory, 1 << 40);
    for path in [&alone, &options().directory.join("keys.tmp")] {
        shard.disk.create_filled(path, b"left over").unwrap();
    }
    shard.restart();
    assert!(shard.disk.contents(&alone).is_none());
    assert!(shard.disk.files_ending(".tmp").is_empty());
}
