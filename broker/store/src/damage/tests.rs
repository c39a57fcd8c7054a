//! Damage is found where it is, and everything before it is read; a log without damage has none.

use std::path::Path;

use super::*;
use crate::faulty_disk::FaultyDisk;
use crate::recovery;
use crate::simulated_disk::SimulatedDisk;
use crate::walk::tests::filled;

const SEGMENT_BYTES: u64 = 64 * 1024;
const FIRST: &str = "log/00000000000000000000.seg";
const SECOND: &str = "log/00000000000000065536.seg";

fn options() -> LogOptions {
    LogOptions { shard: 0, directory: "log".into(), segment_bytes: SEGMENT_BYTES }
}

fn read(disk: Arc<dyn Disk>) -> (u64, Damage) {
    let error = recovery::open(&disk, &options(), LogEnd::default(), &mut |_| Ok(())).unwrap_err();
    assert!(error.is_damage(), "{error}");
    let mut frames = 0;
    let opened = open_read_only(&disk, &options(), LogEnd::default(), &mut |_| {
        frames += 1;
        Ok(())
    });
    let (log, _, damage) = opened.unwrap().expect("it is damaged");
    assert_eq!(log.end().index, frames);
    assert_eq!(find(&*disk, &options(), LogEnd::default()).unwrap(), Some(damage.clone()));
    (frames, damage)
}

#[test]
fn a_whole_log_and_a_torn_tail_are_not_damaged() {
    let disk = filled(20);
    assert_eq!(find(&disk, &options(), LogEnd::default()), Ok(None));
    disk.flip_bit(Path::new(FIRST), 19 * 640 + 100, 3);
    assert_eq!(find(&disk, &options(), LogEnd::default()), Ok(None));
    assert_eq!(find(&SimulatedDisk::default(), &options(), LogEnd::default()), Ok(None));
}

#[test]
fn rotten_frames_are_named_exactly_and_what_is_before_them_is_read() {
    let disk = filled(20);
    disk.flip_bit(Path::new(FIRST), 3 * 640 + 200, 1);
    disk.flip_bit(Path::new(FIRST), 4 * 640 + 10, 1);
    let (frames, damage) = read(Arc::new(disk));
    assert_eq!(frames, 3);
    let expected = Damage {
        shard: 0,
        from: 3 * 640,
        to: 5 * 640,
        first_index: 4,
        last_index: 5,
        durable_index: 19,
        frames_behind: 15,
        bytes_behind: 15 * 640,
        highest_index: 20,
        cause: None,
    };
    assert_eq!(damage, expected);
    let text = damage.to_string();
    for part in ["shard 0", "[1920, 3200)", "indexes 4 to 5", "pinnace repair"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_rotten_first_frame_does_not_let_the_log_begin_later() {
    let disk = filled(250);
    disk.flip_bit(Path::new(FIRST), 20, 1);
    let (frames, damage) = read(Arc::new(disk));
    assert_eq!((frames, damage.from, damage.to, damage.frames_behind), (0, 0, 640, 249));
}

#[test]
fn a_missing_file_is_damage_from_the_last_frame_before_it() {
    let disk = filled(250);
    disk.remove(Path::new(SECOND)).unwrap();
    let (frames, damage) = read(Arc::new(disk));
    assert_eq!(frames, 102);
    assert_eq!((damage.from, damage.to), (102 * 640, 2 * SEGMENT_BYTES));
    assert_eq!((damage.first_index, damage.last_index), (103, 204));
    assert!(damage.to_string().contains("no file holds"), "{damage}");
}

#[test]
fn bytes_that_cannot_be_read_are_damage_and_say_so() {
    let medium = filled(250);
    let disk = FaultyDisk::unreadable(&medium, Path::new(SECOND), 4096..4097);
    let (frames, damage) = read(Arc::new(disk));
    assert_eq!(frames, 108);
    assert!(damage.from <= SEGMENT_BYTES + 4096 && SEGMENT_BYTES + 4096 < damage.to, "{damage}");
    assert!(damage.to_string().contains("I/O error"), "{damage}");
}

#[test]
fn the_writer_of_a_damaged_log_writes_nothing() {
    let medium = filled(20);
    medium.flip_bit(Path::new(FIRST), 200, 1);
    let disk: Arc<dyn Disk> = Arc::new(medium.clone());
    let (mut log, mut writer, _) =
        open_read_only(&disk, &options(), LogEnd::default(), &mut |_| Ok(())).unwrap().unwrap();
    let kind = FrameKind::Entry;
    let payload = bytes::Bytes::from_static(b"x");
    let new = crate::log::NewFrame { kind, term: 1, index: 1, time_ms: 1, records: 1, payload };
    log.append(new).unwrap();
    let writes = medium.writes();
    let error = writer.write(&log.take_write().unwrap()).unwrap_err();
    assert!(error.to_string().contains("pinnace repair"), "{error}");
    assert_eq!(medium.writes(), writes);
}
