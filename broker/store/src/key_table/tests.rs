//! Key tables entry by entry, with hashes that collide, and with every bit flipped once.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::frame::FrameKind;
use crate::limits::FRAME_ALIGNMENT_BYTES;
use crate::record::{MessageRecord, Record};
use crate::simulated_disk::SimulatedDisk;

const SHARD: u32 = 3;
const BASE: u64 = 1_048_576;
const SEGMENT_BYTES: usize = 256 * 1024;
const LOG: &str = "log";

/// Heads of tests are rows of hashes.
fn hashes_of_head(head: &[u8], hashes: &mut Vec<u64>) {
    hashes.extend(head.chunks_exact(8).map(|eight| u64::from_le_bytes(eight.try_into().unwrap())));
}

fn message(topic: u32, keys: &[u64]) -> Record {
    let head: Vec<u8> = keys.iter().flat_map(|key| key.to_le_bytes()).collect();
    let (head, body) = (Bytes::from(head), Bytes::from_static(b"body"));
    let message = MessageRecord {
        topic,
        queue: 0,
        offset: 0,
        tag_hash: 0,
        message_group_hash: 0,
        head,
        body,
    };
    Record::Message(message)
}

/// A segment that is written frame by frame, without a log.
struct Written {
    disk: SimulatedDisk,
    bytes: Vec<u8>,
    checksum: u32,
    index: u64,
    builder: KeyTableBuilder,
}

impl Written {
    fn new() -> Self {
        let disk = SimulatedDisk::default();
        disk.create_directory(LOG.as_ref()).unwrap();
        let builder = KeyTableBuilder::new(SHARD, BASE, hashes_of_head);
        Self { disk, bytes: Vec::new(), checksum: 0, index: 0, builder }
    }

    fn frame_of(&mut self, kind: FrameKind, time_ms: u64, records: &[Record]) -> Vec<u64> {
        let mut payload = BytesMut::new();
        let mut places = Vec::new();
        let position = BASE + self.bytes.len() as u64;
        for record in records {
            places.push(position + (FRAME_HEADER_BYTES + payload.len()) as u64);
            record.encode(&mut payload);
        }
        self.index += u64::from(kind == FrameKind::Entry);
        let header = FrameHeader {
            version: crate::frame::FORMAT_VERSION,
            kind,
            shard: SHARD,
            records: u32::try_from(records.len()).unwrap(),
            term: 1,
            index: self.index,
            first_record: 0,
            position,
            durable_index: 0,
            time_ms,
            payload_bytes: u32::try_from(payload.len()).unwrap(),
            previous_checksum: self.checksum,
            payload_checksum: crc32c(&payload),
        };
        let (encoded, checksum) = header.encode();
        self.bytes.extend_from_slice(&encoded);
        self.bytes.extend_from_slice(&payload);
        let padded = self.bytes.len().next_multiple_of(FRAME_ALIGNMENT_BYTES as usize);
        self.bytes.resize(padded, 0);
        self.checksum = checksum;
        self.builder.take(&header, &payload);
        places
    }

    fn frame(&mut self, time_ms: u64, records: &[Record]) -> Vec<u64> {
        self.frame_of(FrameKind::Entry, time_ms, records)
    }

    /// The disk with the segment, one frame of the next one, and the table; and the segments.
    fn sealed(mut self) -> (SimulatedDisk, Segment, Segment) {
        let table = self.builder.finish(self.checksum);
        let whole = std::mem::take(&mut self.bytes);
        self.builder = KeyTableBuilder::new(SHARD, BASE, hashes_of_head);
        self.frame(9_999, &[message(1, &[1])]);
        for (base, mut bytes) in
            [(BASE, whole), (BASE + SEGMENT_BYTES as u64, next_of(&self.bytes))]
        {
            bytes.resize(SEGMENT_BYTES, 0);
            let path = Path::new(LOG).join(format!("{base:020}.seg"));
            self.disk.create_filled(&path, &bytes).unwrap();
        }
        table.write(&self.disk, LOG.as_ref()).unwrap();
        let mut segments = crate::segments::look(&self.disk, LOG.as_ref()).unwrap();
        let next = segments.pop().unwrap();
        (self.disk, segments.pop().unwrap(), next)
    }
}

/// A frame as it stands at the beginning of the next segment.
fn next_of(frame: &[u8]) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let (header, _) = FrameHeader::decode(&bytes).unwrap();
    let moved = FrameHeader { position: BASE + SEGMENT_BYTES as u64, ..header };
    bytes[..FRAME_HEADER_BYTES].copy_from_slice(&moved.encode().0);
    bytes
}

fn open(disk: &SimulatedDisk, segment: &Segment) -> Result<Option<KeyTable>, IndexError> {
    KeyTable::open(disk, LOG.as_ref(), SHARD, segment)
}

fn found(table: &KeyTable, topic: u32, hash: u64) -> Vec<(u64, u64)> {
    let (found, read_bytes) = table.find(TopicKey { topic, hash }).unwrap();
    assert!(read_bytes <= 3 * (256 * 16 + 4) + found.len() as u64 * 17, "{read_bytes} bytes");
    found.into_iter().map(|message| (message.position, message.stored_ms)).collect()
}

fn key(number: u64) -> u64 {
    number.wrapping_mul(0x0123_4567_89ab_cdef) ^ (number << 40)
}

/// The bytes of the table as they are on the disk.
fn contents(disk: &SimulatedDisk) -> Vec<u8> {
    disk.contents(&key_table_path(LOG.as_ref(), BASE)).unwrap()
}

#[test]
fn every_message_is_found_by_each_of_its_keys_over_the_borders_of_blocks() {
    for count in [0, 1, 255, 256, 257, 512, 1_000] {
        let mut written = Written::new();
        let mut places = Vec::new();
        written.frame_of(FrameKind::HardState, 5_000, &[]);
        for number in 0..count {
            let first = written.frame(number, &[message(7, &[key(number), key(number / 10)])]);
            places.extend(first);
        }
        let (disk, segment, _) = written.sealed();
        let table = open(&disk, &segment).unwrap().unwrap();
        assert_eq!(table.times(), (0, count.saturating_sub(1)));
        for number in 0..count {
            let has = |at: &u64| *at == number || at / 10 == number;
            let expected: Vec<_> =
                (0..count).filter(has).map(|at| (places[at as usize], at)).collect();
            assert_eq!(found(&table, 7, key(number)), expected, "{number} of {count}");
        }
        assert_eq!(found(&table, 7, key(5_000)), []);
        assert_eq!(found(&table, 8, key(0)), [], "another topic");
    }
}

#[test]
fn one_key_may_fill_many_blocks_and_stay_apart_from_its_neighbours() {
    let mut written = Written::new();
    let (low, middle, high) = (1_u64 << 62, (1 << 62) + (1 << 32), (1 << 62) + (2 << 32));
    let mut expected: [Vec<(u64, u64)>; 3] = Default::default();
    for number in 0..700 {
        let keys = [low, middle, high];
        let records: Vec<_> = keys.iter().map(|key| message(0, &[*key])).collect();
        let kept = if number % 100 == 0 { &records[..] } else { &records[1..2] };
        let places = written.frame(number, kept);
        let first = if kept.len() == 1 { 1 } else { 0 };
        for (which, place) in (first..).zip(places) {
            expected[which].push((place, number));
        }
    }
    let (disk, segment, _) = written.sealed();
    let table = open(&disk, &segment).unwrap().unwrap();
    for (key, expected) in [low, middle, high].into_iter().zip(&expected) {
        assert_eq!(&found(&table, 0, key), expected);
    }
}

#[test]
fn hashes_that_collide_are_all_named_and_a_message_is_named_once() {
    let mut written = Written::new();
    // The table holds the upper half of a hash.
    let (one, other) = (0xaaaa_bbbb_0000_0001, 0xaaaa_bbbb_0000_0002);
    let first = written.frame(1, &[message(0, &[one])]);
    let second = written.frame(2, &[message(0, &[other, one])]);
    let (disk, segment, _) = written.sealed();
    let table = open(&disk, &segment).unwrap().unwrap();
    let expected = [(first[0], 1), (second[0], 2)];
    assert_eq!(
        (found(&table, 0, one), found(&table, 0, other)),
        (expected.to_vec(), expected.to_vec())
    );
}

#[test]
fn messages_that_wait_are_in_it_and_other_records_are_not() {
    let Record::Message(plain) = message(7, &[key(1)]) else { panic!() };
    let timed = Record::Timed { number: 4, due_ms: 9, message: plain.clone() };
    let half = Record::Half { number: 5, check_after_ms: 9, message: plain.clone() };
    let other = Record::Reset { group: 1, id: "reset".into() };
    let mut written = Written::new();
    let places = written.frame(6, &[other.clone(), timed, half, other, Record::Message(plain)]);
    written.frame_of(FrameKind::HardState, 77, &[]);
    let (disk, segment, _) = written.sealed();
    let table = open(&disk, &segment).unwrap().unwrap();
    let expected = [places[1], places[2], places[4]].map(|place| (place, 6));
    assert_eq!(found(&table, 7, key(1)), expected);
    assert_eq!(table.times(), (6, 6));
}

#[test]
fn a_table_from_the_segment_alone_is_the_one_that_was_made_on_the_way() {
    let mut written = Written::new();
    for number in 0..400 {
        written.frame(number, &[message(7, &[key(number)]), message(8, &[])]);
        if number % 50 == 9 {
            written.frame_of(FrameKind::HardState, number, &[]);
        }
    }
    let (disk, segment, next) = written.sealed();
    let made = contents(&disk);
    let of_segment =
        |stops: bool| KeyTableFile::of_segment(SHARD, (&segment, &next), hashes_of_head, &|| stops);
    assert!(of_segment(true).is_none(), "given up");
    let table = of_segment(false).unwrap();
    assert_eq!(table.length_bytes(), made.len() as u64);
    table.write(&disk, LOG.as_ref()).unwrap();
    assert_eq!(contents(&disk), made);
    assert!(disk.files_ending(".tmp").is_empty());
}

#[test]
fn a_segment_that_is_damaged_gets_a_table_that_says_nothing() {
    let mut written = Written::new();
    let places: Vec<_> =
        (0..20).map(|number| written.frame(number, &[message(7, &[key(number)])])[0]).collect();
    let (disk, segment, next) = written.sealed();
    let path = disk.files_ending(".seg").into_iter().min().unwrap();
    let broken = usize::try_from(places[10] - BASE).unwrap() + 12;
    disk.flip_bit(&path, broken, 1);
    let make = || KeyTableFile::of_segment(SHARD, (&segment, &next), hashes_of_head, &|| false);
    make().unwrap().write(&disk, LOG.as_ref()).unwrap();
    assert!(open(&disk, &segment).unwrap().is_none());
    disk.flip_bit(&path, broken, 1);
    // What was made up to the damage is not of the whole segment, and says nothing of it.
    assert!(open(&disk, &segment).unwrap().is_none());
    disk.flip_bit(&path, 3, 1);
    assert!(make().is_none(), "not even the first frame");
}

#[test]
fn a_table_with_too_many_keys_says_nothing() {
    let many: Vec<u64> = (0..4_000).map(key).collect();
    let payload = {
        let mut payload = BytesMut::new();
        message(7, &many).encode(&mut payload);
        payload
    };
    let mut written = Written::new();
    written.frame(1, &[message(7, &[key(1)])]);
    let header = FrameHeader::decode(&written.bytes).unwrap().0;
    let times = KEYS_PER_SEGMENT_MAX / many.len();
    (0..times).for_each(|_| written.builder.take(&header, &payload));
    assert!(written.builder.finish(1).length_bytes() > 16 * 2_000_000);
    let mut written = Written::new();
    written.frame(1, &[message(7, &[key(1)])]);
    (0..=times).for_each(|_| written.builder.take(&header, &payload));
    let (disk, segment, _) = written.sealed();
    assert_eq!(contents(&disk).len(), HEADER_BYTES);
    assert!(open(&disk, &segment).unwrap().is_none());
}

#[test]
fn every_flipped_bit_is_noticed_and_no_other_message_is_ever_named() {
    let mut written = Written::new();
    let mut expected = BTreeSet::new();
    for number in 0..300 {
        let places = written.frame(number, &[message(7, &[key(number)])]);
        expected.insert((places[0], number));
    }
    let (disk, segment, _) = written.sealed();
    let path = key_table_path(LOG.as_ref(), BASE);
    let length = contents(&disk).len();
    for position in 0..length {
        disk.flip_bit(&path, position, (position % 8) as u8);
        match open(&disk, &segment) {
            Err(IndexError::Damaged { path: of, .. }) => assert_eq!(of, path),
            Err(error) => panic!("{error}"),
            Ok(table) => {
                let table = table.expect("a table");
                let mut failures = 0;
                let mut named = BTreeSet::new();
                for number in 0..300 {
                    match table.find(TopicKey { topic: 7, hash: key(number) }) {
                        Ok((found, _)) => {
                            named.extend(found.iter().map(|m| (m.position, m.stored_ms)))
                        }
                        Err(_) => failures += 1,
                    }
                }
                assert!(failures > 0, "byte {position}");
                assert!(named.is_subset(&expected), "byte {position}");
            }
        }
        disk.flip_bit(&path, position, (position % 8) as u8);
    }
}

#[test]
fn a_file_that_was_cut_or_is_of_another_segment_or_shard_is_refused() {
    let mut written = Written::new();
    for number in 0..300 {
        written.frame(number, &[message(7, &[key(number)])]);
    }
    let (disk, segment, next) = written.sealed();
    let bytes = contents(&disk);
    let is_damaged = |opened| matches!(opened, Err(IndexError::Damaged { .. }));
    assert!(is_damaged(KeyTable::open(&disk, LOG.as_ref(), SHARD + 1, &segment)));
    disk.create_filled(&key_table_path(LOG.as_ref(), next.base), &bytes).unwrap();
    assert!(is_damaged(open(&disk, &next)));
    let path = key_table_path(LOG.as_ref(), BASE);
    for length in [0, 3, 63, 64, 65, bytes.len() / 2, bytes.len() - 1] {
        disk.create_filled(&path, &bytes[..length]).unwrap();
        assert!(is_damaged(open(&disk, &segment)), "{length} bytes");
    }
    disk.remove(&path).unwrap();
    assert!(open(&disk, &segment).unwrap().is_none());
    // The segment was written anew behind a cut.
    disk.create_filled(&path, &bytes).unwrap();
    let log = disk.files_ending(".seg").into_iter().min().unwrap();
    let last_frame = u32::from_le_bytes(bytes[44..48].try_into().unwrap());
    disk.flip_bit(&log, last_frame as usize + 56, 1);
    assert!(is_damaged(open(&disk, &segment)));
}
