//! Any bytes as directory and blocks of an index file, behind a header whose checksums are right, and once more with the
//! checksums of the blocks made right too: opening it never panics, and what can be asked of its runs is answered or noted
//! as a failure.

#![no_main]

use broker_store::sealed_index::index_path;
use broker_store::simulated_disk::SimulatedDisk;
use broker_store::{Disk, IndexFailure, SealedIndex};
use crc32c::crc32c;
use libfuzzer_sys::fuzz_target;

const VERSION: u32 = 2;
const SHARD: u32 = 1;
const BASE: u64 = 8_192;
const HEADER_BYTES: usize = 64;
const LINE_BYTES: usize = 52;
const REFERENCE_BYTES: usize = 16;
const BLOCK_ENTRIES: u32 = 64;

fuzz_target!(|data: &[u8]| {
    let Some((&[count, low, high], rest)) = data.split_first_chunk::<3>() else { return };
    let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
    let (directory, blocks) = rest.split_at(length);
    reads(u32::from(count), directory, blocks);
    let mut blocks = blocks.to_vec();
    make_right(directory, &mut blocks);
    reads(u32::from(count), directory, &blocks);
});

fn reads(count: u32, lines: &[u8], blocks: &[u8]) {
    let mut file = b"PNX1".to_vec();
    for field in [VERSION, SHARD, count] {
        file.extend_from_slice(&field.to_le_bytes());
    }
    let whole = HEADER_BYTES + lines.len() + blocks.len();
    for field in [BASE, lines.len() as u64, whole as u64] {
        file.extend_from_slice(&field.to_le_bytes());
    }
    file.extend_from_slice(&crc32c(lines).to_le_bytes());
    file.resize(HEADER_BYTES - 4, 0);
    file.extend_from_slice(&crc32c(&file).to_le_bytes());
    file.extend_from_slice(lines);
    file.extend_from_slice(blocks);
    let disk = SimulatedDisk::default();
    disk.create_directory("log".as_ref()).expect("a simulated disk");
    disk.create_filled(&index_path("log".as_ref(), BASE), &file).expect("a simulated disk");
    let failure = IndexFailure::default();
    let Ok(runs) = SealedIndex::open(&disk, "log".as_ref(), SHARD, BASE, &failure) else { return };
    for run in &runs {
        assert!(run.first < run.end() && run.base() == BASE);
        let _ = run.refers_to().len();
        let middle = run.first + (run.end() - run.first) / 2;
        for offset in [run.first, middle, run.end() - 1] {
            let entry = run.entry(offset);
            assert!(entry.is_some() || failure.get().is_some(), "missing and not noted");
            let _ = (run.origin(offset), run.message_group_hash(offset));
        }
        assert_eq!((run.entry(run.end()), run.entry(run.first.wrapping_sub(1))), (None, None));
    }
    let bytes: u64 = runs.iter().map(|run| run.bytes).sum();
    let _ = bytes;
}

/// Gives every block that the lines tell of its checksum.
fn make_right(mut lines: &[u8], blocks: &mut [u8]) {
    let mut at = 0;
    while let Some((line, rest)) = lines.split_at_checked(LINE_BYTES) {
        let number = |at: usize| u32::from_le_bytes(line[at..at + 4].try_into().expect("four"));
        let (mut count, flags, references) = (number(16), number(20), number(48) as usize);
        let Some((_, rest)) = rest.split_at_checked(references.saturating_mul(REFERENCE_BYTES)) else { return };
        lines = rest;
        let groups = if flags & 1 != 0 { 8 } else { 0 };
        let origins = if flags & 2 != 0 { 20 } else { 0 };
        while count > 0 {
            let entries = count.min(BLOCK_ENTRIES);
            let length = entries as usize * (32 + groups + origins);
            let Some(block) = blocks.get_mut(at..at + length + 4) else { return };
            let checksum = crc32c(&block[..length]);
            block[length..].copy_from_slice(&checksum.to_le_bytes());
            at += length + 4;
            count -= entries;
        }
    }
}
