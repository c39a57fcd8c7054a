//! Any bytes as table, directory and records of a condensed segment, behind a header whose checksums are right, and once
//! more with the checksums of table and directory made right too: whatever is asked for is read or refused, and an index
//! can be tried to be built from it.

#![no_main]

use std::path::Path;

use broker_store::condensed::condensed_path;
use broker_store::log::LogOptions;
use broker_store::sealed_index::open_or_build;
use broker_store::simulated_disk::SimulatedDisk;
use broker_store::{Disk, IndexFailure, segments, walk};
use crc32c::crc32c;
use libfuzzer_sys::fuzz_target;

const SHARD: u32 = 1;
const BASE: u64 = 8_192;
const END: u64 = 16_384;
const HEADER_BYTES: usize = 64;
const BLOCK_ENTRIES: usize = 128;
const ENTRY_BYTES: usize = 28;

fuzz_target!(|data: &[u8]| {
    let Some((&[low, high], rest)) = data.split_first_chunk::<2>() else { return };
    let records = u16::from_le_bytes([low, high]);
    let table = usize::from(records).div_ceil(BLOCK_ENTRIES) * 8;
    reads(records, table.min(rest.len()), rest);
    let mut right = rest.to_vec();
    make_right(usize::from(records), table, &mut right);
    reads(records, table.min(rest.len()), &right);
});

fn reads(records: u16, table: usize, content: &[u8]) {
    let mut file = b"PNC1".to_vec();
    for field in [1, SHARD, u32::from(records)] {
        file.extend_from_slice(&field.to_le_bytes());
    }
    for field in [BASE, END, (HEADER_BYTES + content.len()) as u64] {
        file.extend_from_slice(&field.to_le_bytes());
    }
    file.extend_from_slice(&crc32c(&content[..table]).to_le_bytes());
    file.resize(HEADER_BYTES - 4, 0);
    file.extend_from_slice(&crc32c(&file).to_le_bytes());
    file.extend_from_slice(content);
    let directory = Path::new("log");
    let disk = SimulatedDisk::default();
    disk.create_directory(directory).expect("a simulated disk");
    disk.create_filled(&condensed_path(directory, BASE), &file).expect("a simulated disk");
    let segments = segments::look(&disk, directory).expect("damage is no failure of the disk");
    let [segment] = segments.as_slice() else { panic!("one file") };
    assert!(segment.is_condensed() && segment.base() == BASE);
    let mut whole = 0;
    for logged in segment.condensed_records(SHARD).expect("it is condensed") {
        whole += u64::from(logged.is_ok());
    }
    let options = LogOptions { shard: SHARD, directory: directory.into(), segment_bytes: BASE };
    let start = broker_store::log::LogEnd { position: END, ..Default::default() };
    let visit = &mut |found| {
        if let walk::Found::Condensed(condensed) = found {
            assert_eq!(condensed.records, whole);
        }
        true
    };
    walk::walk(&disk, SHARD, &options.directory, start, visit).expect("a simulated disk");
    let failure = IndexFailure::default();
    let _ = open_or_build(&disk, directory, SHARD, segment, &failure, &|_| BASE);
}

/// Gives the table the first positions of the blocks, and every block its checksum.
fn make_right(records: usize, table: usize, content: &mut [u8]) {
    let mut at = table;
    for block in 0..records.div_ceil(BLOCK_ENTRIES) {
        let length = (records - block * BLOCK_ENTRIES).min(BLOCK_ENTRIES) * ENTRY_BYTES;
        let Some(bytes) = content.get_mut(at..at + length + 4) else { return };
        let checksum = crc32c(&bytes[..length]);
        bytes[length..].copy_from_slice(&checksum.to_le_bytes());
        let first: [u8; 8] = bytes[..8].try_into().expect("eight");
        content[block * 8..block * 8 + 8].copy_from_slice(&first);
        at += length + 4;
    }
}
