//! What a walk says about whole, damaged and missing parts of a log, and that it changes nothing.

use std::sync::Arc;

use super::*;
use crate::faulty_disk::FaultyDisk;
use crate::log::{LogOptions, NewFrame};
use crate::recovery::open;
use crate::simulated_disk::SimulatedDisk;

const SEGMENT_BYTES: u64 = 64 * 1024;

fn options() -> LogOptions {
    LogOptions { shard: 0, directory: "log".into(), segment_bytes: SEGMENT_BYTES }
}

/// A log of so many entries of 500 bytes (640 in the log), each vouched for by the next.
pub(crate) fn filled(entries: u64) -> SimulatedDisk {
    let medium = SimulatedDisk::default();
    append(&medium, entries);
    medium
}

/// Opens the log and adds entries; gives back how many there are then.
pub(crate) fn append(medium: &SimulatedDisk, entries: u64) -> u64 {
    let disk: Arc<dyn Disk> = Arc::new(medium.clone());
    let (mut log, mut writer) =
        open(&disk, &options(), LogEnd::default(), &mut |_| Ok(())).unwrap();
    for _ in 0..entries {
        let index = log.end().index + 1;
        let payload = Bytes::from(vec![index as u8 | 1; 500]);
        let kind = FrameKind::Entry;
        log.append(NewFrame { kind, term: 1, index, time_ms: 7, records: 1, payload });
        let write = log.take_write().unwrap();
        log.written(writer.write(&write).unwrap());
    }
    log.end().index
}

fn walked(disk: &dyn Disk) -> (Vec<FoundFrame>, Vec<Gap>) {
    let (mut frames, mut gaps) = (Vec::new(), Vec::new());
    walk(disk, 0, Path::new("log"), LogEnd::default(), &mut |found| {
        match found {
            Found::Frame(frame) => frames.push(frame),
            Found::Gap(gap) => gaps.push(gap),
        }
        true
    })
    .unwrap();
    (frames, gaps)
}

#[test]
fn a_whole_log_has_frames_that_follow_unused_rests_and_a_tail_of_zeros() {
    let disk = filled(250);
    let (frames, gaps) = walked(&disk);
    assert_eq!(frames.len(), 250);
    assert!(frames.iter().all(|frame| frame.follows && frame.payload.is_some()));
    let meanings: Vec<_> = gaps.iter().map(|gap| (gap.meaning, gap.has_bytes)).collect();
    let (unused, tail) = ((GapMeaning::Unused, false), (GapMeaning::Tail, false));
    assert_eq!(meanings, [unused, unused, tail]);
}

#[test]
fn a_rotten_header_is_a_hole_and_a_rotten_payload_a_frame_that_does_not_hold() {
    let disk = filled(10);
    disk.flip_bit(Path::new("log/00000000000000000000.seg"), 3 * 640 + 20, 0);
    disk.flip_bit(Path::new("log/00000000000000000000.seg"), 6 * 640 + 200, 0);
    let (frames, gaps) = walked(&disk);
    let hole = &gaps[0];
    assert_eq!((hole.meaning, hole.from, hole.to), (GapMeaning::Hole, 3 * 640, 4 * 640));
    let broken: Vec<_> = frames.iter().filter(|f| f.payload.is_none()).collect();
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].header.index, 7);
    let apart: Vec<_> = frames.iter().filter(|f| !f.follows).map(|f| f.header.index).collect();
    assert_eq!(apart, [5]);
}

#[test]
fn bytes_that_cannot_be_read_are_left_out_exactly() {
    let medium = filled(50);
    let path = Path::new("log/00000000000000000000.seg");
    let disk = FaultyDisk::unreadable(&medium, path, 8192..8193);
    let (frames, gaps) = walked(&disk);
    // The block [8192, 12288) touches the frames from 8192 - 512 = 12 * 640 on to 20 * 640.
    let positions: Vec<_> = frames.iter().map(|frame| frame.header.position / 640).collect();
    let expected: Vec<_> = (0..12).chain(20..50).collect();
    assert_eq!(positions, expected);
    let hole = &gaps[0];
    assert_eq!((hole.meaning, hole.from, hole.to), (GapMeaning::Hole, 12 * 640, 20 * 640));
    assert!(hole.unreadable.is_some());
}

#[test]
fn a_missing_file_is_a_hole() {
    let disk = filled(250);
    disk.remove(Path::new("log/00000000000000065536.seg")).unwrap();
    let (_, gaps) = walked(&disk);
    assert_eq!((gaps[0].meaning, gaps[0].is_missing), (GapMeaning::Hole, true));
    assert_eq!(gaps[0].to, 2 * SEGMENT_BYTES);
}
