//! Searches by key against a plain reading of the same log, whichever key tables are there, whole, damaged or of old.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::frame::FrameKind;
use crate::key_table::{KeyTableFile, key_table_path};
use crate::log::{Log, NewFrame};
use crate::reader::tests::{DIRECTORY, SEGMENT_BYTES, SHARD, opened};
use crate::record::{MessageRecord, Record};
use crate::segments;
use crate::simulated_disk::SimulatedDisk;
use crate::writer::Writer;

const TOPIC: u32 = 7;

/// The first byte of a head is its key.
fn keys_of_head(head: &[u8], hashes: &mut Vec<u64>) {
    hashes.extend(head.first().map(|key| hash(*key)));
}

/// Two keys of ten have one hash.
fn hash(key: u8) -> u64 {
    u64::from(key.min(8)) << 32
}

fn directory() -> &'static Path {
    DIRECTORY.as_ref()
}

struct Written {
    disk: SimulatedDisk,
    log: Log,
    writer: Writer,
}

impl Written {
    fn new() -> Self {
        let disk = SimulatedDisk::default();
        let (log, writer) = opened(&disk);
        Self { disk, log, writer }
    }

    fn frame(&mut self, kind: FrameKind, time_ms: u64, keys: &[u8]) {
        let mut payload = BytesMut::new();
        for (offset, key) in (0..).zip(keys) {
            let (head, body) = (Bytes::copy_from_slice(&[*key]), Bytes::from(vec![*key; 900]));
            let (tag_hash, message_group_hash, queue) = (0, 0, 0);
            let topic = if offset % 3 == 2 { TOPIC + 1 } else { TOPIC };
            Record::Message(MessageRecord {
                topic,
                queue,
                offset,
                tag_hash,
                message_group_hash,
                head,
                body,
            })
            .encode(&mut payload);
        }
        let new = NewFrame {
            kind,
            term: 1,
            index: self.log.end().index + u64::from(kind == FrameKind::Entry),
            time_ms,
            records: u32::try_from(keys.len()).unwrap(),
            payload: payload.freeze(),
        };
        self.log.append(new).unwrap();
        while let Some(write) = self.log.take_write() {
            let written = self.writer.write(&write).unwrap();
            self.log.written(written);
        }
    }

    /// A log of several segments: frames of up to five messages, a second apart.
    fn long() -> Self {
        let mut written = Self::new();
        for number in 0..150_u64 {
            let keys: Vec<u8> =
                (0..number % 6).map(|part| ((number * 7 + part * 3) % 10) as u8).collect();
            written.frame(FrameKind::Entry, number * 1_000, &keys);
            if number % 13 == 0 {
                written.frame(FrameKind::HardState, number * 1_000, &[]);
            }
        }
        written
    }

    fn segments(&self) -> Vec<Segment> {
        segments::look(&self.disk, directory()).unwrap()
    }

    fn make_tables(&self, wanted: impl Fn(usize) -> bool) {
        for (number, pair) in self.segments().windows(2).enumerate() {
            if wanted(number) {
                let pair = (&pair[0], &pair[1]);
                let table = KeyTableFile::of_segment(SHARD, pair, keys_of_head, &|| false);
                table.unwrap().write(&self.disk, directory()).unwrap();
            }
        }
    }

    /// Messages with a key: by their times and positions.
    fn search(&self, key: u8, times: RangeInclusive<u64>) -> Found {
        let (reader, directory) = (self.log.reader(), directory());
        let tables = KeyTables { disk: &self.disk, directory };
        let of = TopicKey { topic: TOPIC, hash: hash(key) };
        let end = self.log.durable_position();
        let mut records = reader.records_of_key(tables, of, times, end).unwrap();
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while let Some(step) = records.step() {
            let Some(record) = step.unwrap() else { continue };
            looked_at += 1;
            found.extend(Some(record).filter(|record| is_of(record, key)));
        }
        Found {
            found,
            looked_at,
            read_bytes: records.read_bytes(),
            until_ms: records.until_ms(),
            unusable: records.take_unusable(),
        }
    }

    fn read_all(&self, key: u8, times: RangeInclusive<u64>) -> Vec<LoggedRecord> {
        let reader = self.log.reader();
        let records = reader.records_of_times(times, self.log.durable_position()).unwrap();
        records.map(Result::unwrap).filter(|record| is_of(record, key)).collect()
    }
}

struct Found {
    found: Vec<LoggedRecord>,
    looked_at: usize,
    read_bytes: u64,
    until_ms: u64,
    unusable: Vec<IndexError>,
}

fn is_of(record: &LoggedRecord, key: u8) -> bool {
    let Record::Message(message) = &record.record else { return false };
    message.topic == TOPIC && message.head[..] == [key]
}

#[test]
fn with_tables_only_what_has_the_key_is_read() {
    let written = Written::long();
    let all = written.segments().len();
    assert!(all > 5, "{all} segments");
    let plain = written.search(3, 0..=u64::MAX);
    assert_eq!(plain.found, written.read_all(3, 0..=u64::MAX));
    assert!(plain.read_bytes > (all as u64 - 1) * SEGMENT_BYTES);
    written.make_tables(|_| true);
    let keyed = written.search(3, 0..=u64::MAX);
    assert_eq!(keyed.found, plain.found);
    assert_eq!(keyed.until_ms, plain.until_ms);
    assert!(keyed.unusable.is_empty());
    // The last segment has no table.
    assert!(keyed.read_bytes < 2 * SEGMENT_BYTES, "{} bytes", keyed.read_bytes);
    assert!(keyed.looked_at < keyed.found.len() + 60, "{} records", keyed.looked_at);
    // Two keys of one hash.
    for key in [8, 9] {
        let found = written.search(key, 0..=u64::MAX).found;
        assert!(!found.is_empty());
        assert_eq!(found, written.read_all(key, 0..=u64::MAX));
    }
}

#[test]
fn a_table_that_does_not_hold_costs_time_and_nothing_is_found_twice() {
    let written = Written::long();
    written.make_tables(|_| true);
    let expected = written.read_all(3, 0..=u64::MAX);
    let base = written.segments()[2].base;
    let path = key_table_path(directory(), base);
    let length = written.disk.contents(&path).unwrap().len();
    for position in [0, 30, 66, length - 30, length - 2] {
        written.disk.flip_bit(&path, position, 1);
        let keyed = written.search(3, 0..=u64::MAX);
        assert_eq!(keyed.found, expected, "byte {position}");
        let paths: Vec<_> = keyed.unusable.iter().map(IndexError::path).collect();
        assert_eq!(paths, [path.as_path()], "byte {position}");
        assert!((SEGMENT_BYTES..3 * SEGMENT_BYTES).contains(&keyed.read_bytes));
        written.disk.flip_bit(&path, position, 1);
    }
    assert!(written.search(3, 0..=u64::MAX).unusable.is_empty());
}

#[test]
fn damage_to_a_message_that_is_wanted_is_told_and_other_damage_is_not_in_the_way() {
    let written = Written::long();
    written.make_tables(|_| true);
    let expected = written.read_all(3, 0..=u64::MAX);
    let segment = &written.segments()[2];
    let inside = |record: &&LoggedRecord| (segment.base..segment.end()).contains(&record.position);
    let wanted: Vec<_> = expected.iter().filter(inside).collect();
    assert!(wanted.len() > 1);
    let path = written.disk.files_ending(".seg").into_iter().nth(2).unwrap();
    let body = usize::try_from(wanted[1].position - segment.base).unwrap() + 100;
    written.disk.flip_bit(&path, body, 1);
    let (reader, directory) = (written.log.reader(), directory());
    let tables = KeyTables { disk: &written.disk, directory };
    let search = |key: u8| {
        let of = TopicKey { topic: TOPIC, hash: hash(key) };
        let end = written.log.durable_position();
        let mut records = reader.records_of_key(tables, of, 0..=u64::MAX, end).unwrap();
        let mut found = Vec::new();
        while let Some(step) = records.step() {
            found.extend(step?.filter(|record| is_of(record, key)));
        }
        Ok(found)
    };
    let failed: Result<Vec<LoggedRecord>, ReadError> = search(3);
    assert!(matches!(failed, Err(ReadError::DamagedFrame(_))), "{failed:?}");
    for key in (0..8).filter(|key| *key != 3) {
        assert!(!search(key).unwrap().is_empty(), "key {key}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_search_finds_what_reading_finds_whichever_tables_are_there(
        there in proptest::collection::btree_set(0..12_usize, 0..12),
        flips in proptest::collection::vec((0..12_usize, 0..4_000_usize, 0..8_u8), 0..3),
        key in 0..11_u8,
        begin_ms in 0..160_000_u64,
        length_ms in prop_oneof![0..200_000_u64, Just(u64::MAX)],
    ) {
        let written = Written::long();
        written.make_tables(|number| there.contains(&number));
        let segments = written.segments();
        let mut broken = BTreeSet::new();
        for (number, position, bit) in flips {
            let Some(segment) = segments.get(number) else { continue };
            let path = key_table_path(directory(), segment.base);
            let Some(bytes) = written.disk.contents(&path) else { continue };
            written.disk.flip_bit(&path, position % bytes.len(), bit);
            broken.insert(path);
        }
        let times = begin_ms..=begin_ms.saturating_add(length_ms);
        let keyed = written.search(key, times.clone());
        prop_assert_eq!(keyed.found, written.read_all(key, times));
        for error in keyed.unusable {
            prop_assert!(broken.contains(error.path()), "{}", error);
        }
    }
}
