//! Any bytes as the segment files of a log: opening it, walking over it, finding its damage and repairing it never panic
//! and agree with each other, every frame that comes out has checksums that hold, and after a repair the log opens.
//! The input is pieces: frames that are made whole around it (so that the search gets behind the checksums) or raw bytes.

#![no_main]

use std::path::Path;
use std::sync::Arc;

use broker_store::log::{LogEnd, LogOptions};
use broker_store::recovery::{OpenError, RecoveredFrame, open};
use broker_store::simulated_disk::SimulatedDisk;
use broker_store::{Disk, FrameHeader, FrameKind, damage, repair, walk};
use crc32c::crc32c;
use libfuzzer_sys::fuzz_target;

const SEGMENT_BYTES: usize = 8 * 1024;
const SEGMENTS_MAX: u64 = 4;

/// Takes numbers off the input; zeros when it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        // Small numbers, near ones and any.
        let byte = self.byte();
        match byte {
            0..=249 => u64::from(byte),
            250 => u64::MAX,
            251 => u64::MAX - 1,
            252 => u64::from(u32::MAX),
            _ => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken.to_vec()
    }
}

/// What comes next in the chain when everything is as it should be.
#[derive(Default)]
struct Chain {
    checksum: u32,
    index: u64,
    record: u64,
}

fn frame(input: &mut Input<'_>, chain: &mut Chain, position: u64, wish: u8) -> Vec<u8> {
    let length = usize::from(input.byte()) * 4;
    let payload = input.take(length);
    let kind = if wish & 1 == 0 { FrameKind::Entry } else { FrameKind::HardState };
    let mut header = FrameHeader {
        version: broker_store::frame::FORMAT_VERSION,
        kind,
        shard: 0,
        records: 1,
        term: 1,
        index: chain.index.wrapping_add(u64::from(kind == FrameKind::Entry)),
        first_record: chain.record,
        position,
        durable_index: chain.index,
        time_ms: 1,
        payload_bytes: payload.len() as u32,
        previous_checksum: chain.checksum,
        payload_checksum: crc32c(&payload),
    };
    match wish >> 1 & 7 {
        0 => header.index = input.number(),
        1 => header.durable_index = input.number(),
        2 => header.payload_bytes = input.number() as u32,
        3 => header.first_record = input.number(),
        4 => header.position = input.number(),
        5 => header.previous_checksum = input.number() as u32,
        _ => {}
    }
    let (bytes, checksum) = header.encode();
    *chain = Chain { checksum, index: header.index, record: header.first_record.wrapping_add(1) };
    [&bytes[..], &payload].concat()
}

fn segment(input: &mut Input<'_>, chain: &mut Chain, base: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < SEGMENT_BYTES {
        let position = base + bytes.len() as u64;
        match input.byte() {
            0 => break,
            1..=9 => {
                let length = usize::from(input.byte());
                bytes.extend(input.take(length));
            }
            10..=14 => bytes.resize(bytes.len() + 64 * usize::from(input.byte() % 8), 0),
            wish => {
                let mut next = frame(input, chain, position, wish);
                if wish == 255 && !next.is_empty() {
                    let at = usize::from(input.byte()) % next.len();
                    next[at] ^= 1 << (input.byte() % 8);
                }
                bytes.extend(next);
            }
        }
        bytes.resize(bytes.len().next_multiple_of(64), 0);
    }
    bytes.resize(SEGMENT_BYTES, 0);
    bytes
}

fn opened(disk: &SimulatedDisk, options: &LogOptions) -> Result<Vec<RecoveredFrame>, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut frames = Vec::new();
    open(&disk, options, LogEnd::default(), &mut |frame: RecoveredFrame| {
        assert_eq!(crc32c(&frame.payload), frame.header.payload_checksum);
        assert_eq!(frame.payload.len(), frame.header.payload_bytes as usize);
        frames.push(frame);
        Ok(())
    })?;
    Ok(frames)
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let disk = SimulatedDisk::default();
    let directory = Path::new("log");
    let segment_bytes = SEGMENT_BYTES as u64;
    let options = LogOptions { shard: 0, directory: directory.into(), segment_bytes };
    let mut chain = Chain::default();
    let count = 1 + u64::from(input.byte()) % SEGMENTS_MAX;
    let missing = u64::from(input.byte());
    for number in 0..count {
        let base = number * segment_bytes;
        let bytes = segment(&mut input, &mut chain, base);
        if number != missing || number == 0 {
            disk.create_filled(&directory.join(format!("{base:020}.seg")), &bytes).unwrap();
        }
    }
    let mut whole = 0;
    walk::walk(&disk, 0, directory, LogEnd::default(), &mut |found| {
        if let walk::Found::Frame(frame) = found {
            let (_, checksum) = frame.header.encode();
            assert_eq!(checksum, frame.checksum);
            whole += u64::from(frame.payload.is_some());
        }
        true
    })
    .unwrap();
    let damaged = damage::find(&disk, &options, LogEnd::default()).unwrap();
    match opened(&disk, &options) {
        Ok(frames) => {
            assert!(frames.len() as u64 <= whole);
            assert!(frames.windows(2).all(|pair| pair[0].header.position < pair[1].header.position));
            assert_eq!(damaged, None, "it opens, and is damaged");
        }
        Err(error) if error.is_damage() => {
            let damaged = damaged.expect("it does not open, and is not damaged");
            assert!(damaged.from <= damaged.to);
            let plan = repair::plan(&disk, &options, LogEnd::default()).unwrap().unwrap();
            repair::carry_out(&disk, &options, &plan).unwrap();
            let frames = opened(&disk, &options).expect("it opens after the repair");
            assert!(frames.len() as u64 + damaged.frames_behind <= whole);
            assert_eq!(repair::plan(&disk, &options, LogEnd::default()).unwrap(), None);
        }
        Err(error) => assert!(matches!(error, OpenError::LaterVersion { .. }), "{error}"),
    }
});
