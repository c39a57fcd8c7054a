//! Any bytes as a part of a snapshot: what loads can be stored, and that loads again and is the same. And any bytes as the
//! head of a snapshot. The input is taken as it is, and once more with every checksum made right, so that the search gets
//! behind them.

#![no_main]

use std::path::Path;

use broker_engine::{Engine, ReplyTo};
use broker_model::{Now, ShardId};
use broker_store::Disk;
use broker_store::log::LogOptions;
use broker_store::simulated_disk::SimulatedDisk;
use broker_store::snapshot::{self, SnapshotHead};
use bytes::Bytes;
use crc32c::crc32c;
use libfuzzer_sys::fuzz_target;

const RECORD: u8 = 1;
/// Length and checksum.
const RECORD_HEADER_BYTES: usize = 8;
/// Few bytes make many queues: memory, and nothing else, would be the finding.
const BYTES_MAX: usize = 2 * 1024;

#[derive(Debug)]
struct Nobody;

impl ReplyTo for Nobody {
    fn is_gone(&self) -> bool {
        true
    }
}

fuzz_target!(|data: &[u8]| {
    if data.len() > BYTES_MAX {
        return;
    }
    survives(Bytes::copy_from_slice(data));
    survives(made_right(data));
    head_survives(data);
});

fn survives(part: Bytes) {
    let Some(engine) = loaded(&[part]) else { return };
    let once = stored(&engine);
    let again = loaded(&once).expect("what was stored can be loaded");
    assert_eq!(stored(&again), once);
    let _ = engine.incomplete_queue();
    let _ = engine.next_tick_ms(Now::at(0));
    assert_eq!(engine.hidden_records().count(), again.hidden_records().count());
}

fn loaded(parts: &[Bytes]) -> Option<Engine<Nobody>> {
    let mut engine = Engine::new(ShardId(0), 1.into());
    for part in parts {
        engine.load_state(part.clone()).ok()?;
    }
    engine.finish_loading();
    Some(engine)
}

fn stored(engine: &Engine<Nobody>) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let part = &mut |part: &[u8]| -> Result<(), ()> {
        parts.push(Bytes::copy_from_slice(part));
        Ok(())
    };
    engine.store_state(part).expect("nobody refuses a part");
    parts
}

/// The items with lengths that end where the input ends, and records with their own lengths and checksums.
fn made_right(mut data: &[u8]) -> Bytes {
    let mut part = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let length = (u32::from_le_bytes(*length) as usize).min(rest.len());
        let (item, rest) = rest.split_at(length);
        data = rest;
        let mut item = item.to_vec();
        if item.first() == Some(&RECORD) && item.len() > RECORD_HEADER_BYTES + 1 {
            let record = &item[1 + RECORD_HEADER_BYTES..];
            let (length, checksum) = (record.len() as u32, crc32c(record));
            item[1..5].copy_from_slice(&length.to_le_bytes());
            item[5..9].copy_from_slice(&checksum.to_le_bytes());
        }
        part.extend_from_slice(&(item.len() as u32).to_le_bytes());
        part.extend_from_slice(&item);
    }
    part.into()
}

/// The input is everything of a head behind magic, version and shard, without the checksum.
fn head_survives(data: &[u8]) {
    let Some(position) = data.get(8..16).and_then(|bytes| bytes.try_into().ok()) else { return };
    let position = u64::from_le_bytes(position);
    let mut head = b"PNS1".to_vec();
    head.extend_from_slice(&1u32.to_le_bytes());
    head.extend_from_slice(&0u32.to_le_bytes());
    head.extend_from_slice(data);
    head.extend_from_slice(&crc32c(&head).to_le_bytes());
    let options = LogOptions { shard: 0, directory: "0/log".into(), segment_bytes: 8_192 };
    let directory = snapshot::snapshot_directory(&options);
    let disk = SimulatedDisk::default();
    disk.create_directory(&directory).expect("a simulated disk");
    let place = |name: String, bytes: &[u8]| {
        disk.create_filled(&directory.join(Path::new(&name)), bytes).expect("a simulated disk");
    };
    place(format!("{position:020}.snap"), &head);
    place(format!("{position:020}-00000.part"), data);
    if let Ok(head) = SnapshotHead::read(&disk, &directory, 0, position) {
        assert_eq!(head.end.position, position);
        let _ = head.bytes();
        for number in 0..head.parts.len() {
            let _ = head.part(&disk, &directory, number);
        }
    }
    snapshot::start(&disk, &options).expect("damage is no failure of the disk");
    snapshot::remove_all_but(&disk, &directory, &[position]).expect("a simulated disk");
}
