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
        log.append(NewFrame { kind, term: 1, index, time_ms: 7, records: 1, payload }).unwrap();
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
            Found::Condensed(condensed) => panic!("{condensed:?}"),
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

/// The bytes of an entry as they stand in the log.
fn frame_bytes(position: u64, index: u64, previous: u32, payload: &[u8]) -> (Vec<u8>, u32) {
    let header = FrameHeader {
        version: crate::frame::FORMAT_VERSION,
        kind: FrameKind::Entry,
        shard: 0,
        records: 1,
        term: 1,
        index,
        first_record: index,
        position,
        durable_index: index - 1,
        time_ms: 7,
        payload_bytes: u32::try_from(payload.len()).unwrap(),
        previous_checksum: previous,
        payload_checksum: crc32c::crc32c(payload),
    };
    let (bytes, checksum) = header.encode();
    let mut bytes = [&bytes[..], payload].concat();
    bytes.resize(bytes.len().next_multiple_of(64), 0);
    (bytes, checksum)
}

/// A disk with segment files of these bytes, filled up with zeros.
fn disk_of(segments: &[&[u8]]) -> SimulatedDisk {
    let disk = SimulatedDisk::default();
    for (number, bytes) in (0u64..).zip(segments) {
        let mut file = bytes.to_vec();
        file.resize(usize::try_from(SEGMENT_BYTES).unwrap(), 0);
        let path = format!("log/{:020}.seg", number * SEGMENT_BYTES);
        disk.create_filled(Path::new(&path), &file).unwrap();
    }
    disk
}

fn opens(disk: &SimulatedDisk) -> bool {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    open(&disk, &options(), LogEnd::default(), &mut |_| Ok(())).is_ok()
}

#[test]
fn a_frame_over_the_payload_of_a_torn_one_is_found_as_opening_finds_it() {
    let (first, checksum) = frame_bytes(0, 1, 0, &[1; 100]);
    let (torn, _) = frame_bytes(first.len() as u64, 2, checksum, &[2; 2_000]);
    let inside = first.len() as u64 + 512;
    let (whole, _) = frame_bytes(inside, 9, 5, &[3; 100]);
    let mut bytes = [first.clone(), torn].concat();
    let at = usize::try_from(inside).unwrap();
    bytes[at..at + whole.len()].copy_from_slice(&whole);
    let disk = disk_of(&[&bytes]);
    let (frames, gaps) = walked(&disk);
    let found: Vec<_> = frames.iter().map(|f| (f.header.index, f.payload.is_some())).collect();
    assert_eq!(found, [(1, true), (2, false), (9, true)]);
    assert_eq!(gaps.len(), 1, "the rest of the torn frame is the tail: {gaps:?}");
    let damage = crate::damage::find(&disk, &options(), LogEnd::default())
        .unwrap()
        .expect("index 8 was durable");
    assert_eq!((damage.from, damage.to, damage.durable_index), (first.len() as u64, inside, 8));
    assert!(!opens(&disk), "both say the same");
}

#[test]
fn what_looks_like_a_frame_inside_a_whole_one_is_a_message() {
    let (first, _) = frame_bytes(0, 1, 0, &[1; 100]);
    // Behind the end of the log, a whole frame that was never acknowledged carries bytes that look like a frame.
    let behind = first.len() as u64 + 64;
    let mut message = vec![7; 48];
    message.extend(frame_bytes(behind + 128, 9, 5, &[3; 100]).0);
    let bytes = [first, vec![0; 64], frame_bytes(behind, 2, 5, &message).0].concat();
    let disk = disk_of(&[&bytes]);
    assert_eq!(walked(&disk).0.len(), 2);
    assert_eq!(crate::damage::find(&disk, &options(), LogEnd::default()), Ok(None));
    assert!(opens(&disk), "a message does not make a torn tail damage");
}

#[test]
fn frames_left_over_in_the_unused_rest_of_a_segment_are_no_damage() {
    let (first, checksum) = frame_bytes(0, 1, 0, &[1; 100]);
    let left_over = frame_bytes(first.len() as u64 + 1_024, 3, 5, &[3; 100]).0;
    let (second, _) = frame_bytes(SEGMENT_BYTES, 2, checksum, &[2; 100]);
    let disk = disk_of(&[&[first, vec![0; 1_024], left_over].concat(), &second]);
    let (frames, gaps) = walked(&disk);
    assert_eq!(frames.len(), 2);
    assert!(frames.iter().all(|frame| frame.follows));
    assert_eq!((gaps[0].meaning, gaps[0].has_bytes), (GapMeaning::Unused, true));
    assert_eq!(crate::damage::find(&disk, &options(), LogEnd::default()), Ok(None));
    assert!(opens(&disk), "a repair would cut what is whole");
}

#[test]
fn a_log_whose_very_first_frame_stands_in_the_second_segment_is_whole() {
    let disk = disk_of(&[&[], &frame_bytes(SEGMENT_BYTES, 1, 0, &[1; 100]).0]);
    let (frames, _) = walked(&disk);
    assert_eq!((frames.len(), frames[0].follows), (1, true));
    assert_eq!(crate::damage::find(&disk, &options(), LogEnd::default()), Ok(None));
    assert!(opens(&disk));
}

#[test]
fn a_whole_frame_that_was_written_before_a_cut_does_not_come_back_behind_the_new_end() {
    let (first, checksum) = frame_bytes(0, 1, 0, &[1; 100]);
    let behind = first.len() as u64;
    let opened = |previous| {
        let old = frame_bytes(behind, 2, previous, &[2; 100]).0;
        let disk: Arc<dyn Disk> = Arc::new(disk_of(&[&[first.clone(), old].concat()]));
        open(&disk, &options(), LogEnd::default(), &mut |_| Ok(())).unwrap().0.end().index
    };
    assert_eq!(opened(checksum), 2);
    assert_eq!(opened(checksum ^ 1), 1, "it followed another frame");
}

#[test]
fn frames_behind_two_unused_segments_are_what_opening_says_of_them() {
    let promise = frame_bytes(2 * SEGMENT_BYTES, 9, 5, &[]).0;
    let first_of_all = frame_bytes(3 * SEGMENT_BYTES, 1, 0, &[]).0;
    let disk = disk_of(&[&[], &[], &promise, &first_of_all]);
    assert!(!opens(&disk));
    let damage = crate::damage::find(&disk, &options(), LogEnd::default())
        .unwrap()
        .expect("index 8 was durable");
    assert_eq!((damage.frames_behind, damage.durable_index), (2, 8));
}
