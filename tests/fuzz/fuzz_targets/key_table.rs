//! Any bytes as a key table, and as directory and blocks behind a header whose checksums are right, once more with the
//! checksums of the blocks made right too: opening it never panics, and what it names is in order and inside its segment.

#![no_main]

use broker_store::key_table::key_table_path;
use broker_store::segments::{self, Segment};
use broker_store::simulated_disk::SimulatedDisk;
use broker_store::{Disk, FrameHeader, FrameKind, KeyTable, TopicKey};
use crc32c::crc32c;
use libfuzzer_sys::fuzz_target;

const SHARD: u32 = 1;
const BASE: u64 = 8_192;
const SEGMENT_BYTES: usize = 4_096;
const HEADER_BYTES: usize = 64;
const BLOCK_ENTRIES: usize = 256;
const ENTRY_BYTES: usize = 16;
const ENTRIES_MAX: usize = 600;

fuzz_target!(|data: &[u8]| {
    let (disk, segment, checksum) = sealed();
    reads(&disk, &segment, data, &[0]);
    let Some((&[low, high, flags], rest)) = data.split_first_chunk::<3>() else { return };
    let entries = usize::from(u16::from_le_bytes([low, high])) % ENTRIES_MAX;
    let blocks = entries.div_ceil(BLOCK_ENTRIES);
    let mut content = rest.to_vec();
    if flags & 0x80 == 0 {
        content.resize(blocks * 8 + entries * ENTRY_BYTES, 0);
    }
    let hashes: Vec<u64> =
        content.chunks_exact(4).map(|four| u64::from(u32_of(four)) << 32).take(64).collect();
    let header = header(
        entries,
        u32::from(flags & 3),
        checksum,
        &content[..(blocks * 4).min(content.len())],
    );
    reads(&disk, &segment, &[&header[..], &content].concat(), &hashes);
    make_right(entries, &mut content);
    reads(&disk, &segment, &[&header[..], &content].concat(), &hashes);
});

/// A segment of one frame, and the checksum of the frame.
fn sealed() -> (SimulatedDisk, Segment, u32) {
    let header = FrameHeader {
        version: broker_store::frame::FORMAT_VERSION,
        kind: FrameKind::Entry,
        shard: SHARD,
        records: 0,
        term: 1,
        index: 1,
        first_record: 0,
        position: BASE,
        durable_index: 0,
        time_ms: 5,
        payload_bytes: 0,
        previous_checksum: 0,
        payload_checksum: crc32c(&[]),
    };
    let (frame, checksum) = header.encode();
    let mut bytes = frame.to_vec();
    bytes.resize(SEGMENT_BYTES, 0);
    let disk = SimulatedDisk::default();
    disk.create_directory("log".as_ref()).expect("a simulated disk");
    let path = format!("log/{BASE:020}.seg");
    disk.create_filled(path.as_ref(), &bytes).expect("a simulated disk");
    let segment = segments::look(&disk, "log".as_ref()).expect("a simulated disk").remove(0);
    (disk, segment, checksum)
}

fn header(entries: usize, flags: u32, last_checksum: u32, directory: &[u8]) -> Vec<u8> {
    let mut header = b"PNK1".to_vec();
    for field in [1, SHARD, entries as u32, flags] {
        header.extend_from_slice(&field.to_le_bytes());
    }
    for field in [BASE, 1, 9] {
        header.extend_from_slice(&u64::to_le_bytes(field));
    }
    for field in [0, last_checksum, crc32c(directory)] {
        header.extend_from_slice(&field.to_le_bytes());
    }
    header.resize(HEADER_BYTES - 4, 0);
    let checksum = crc32c(&header);
    header.extend_from_slice(&checksum.to_le_bytes());
    header
}

fn reads(disk: &SimulatedDisk, segment: &Segment, file: &[u8], hashes: &[u64]) {
    disk.create_filled(&key_table_path("log".as_ref(), BASE), file).expect("a simulated disk");
    let Ok(Some(table)) = KeyTable::open(disk, "log".as_ref(), SHARD, segment) else { return };
    for hash in hashes.iter().copied().chain([0, u64::MAX]) {
        let Ok((found, read_bytes)) = table.find(TopicKey { topic: 0, hash }) else { continue };
        assert!(read_bytes <= file.len() as u64);
        assert!(found.windows(2).all(|pair| pair[0].position <= pair[1].position));
        assert!(found.iter().all(|message| message.position >= BASE));
    }
}

/// Gives every block its checksum.
fn make_right(entries: usize, content: &mut [u8]) {
    let mut at = entries.div_ceil(BLOCK_ENTRIES) * 4;
    let mut left = entries;
    while left > 0 {
        let length = left.min(BLOCK_ENTRIES) * ENTRY_BYTES;
        let Some(block) = content.get_mut(at..at + length + 4) else { return };
        let checksum = crc32c(&block[..length]);
        block[length..].copy_from_slice(&checksum.to_le_bytes());
        at += length + 4;
        left -= left.min(BLOCK_ENTRIES);
    }
}

fn u32_of(four: &[u8]) -> u32 {
    u32::from_le_bytes(four.try_into().expect("four"))
}
