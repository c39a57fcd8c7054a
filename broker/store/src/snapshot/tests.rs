//! Snapshots as files: whole ones come back, and nothing else counts.

use super::*;
use crate::simulated_disk::SimulatedDisk;

const SHARD: u32 = 2;

fn directory() -> PathBuf {
    snapshot_directory(&options())
}

fn options() -> LogOptions {
    LogOptions { shard: SHARD, directory: "2/log".into(), segment_bytes: 1024 }
}

fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::default();
    disk.create_directory(&directory()).unwrap();
    disk
}

fn parts_of(position: u64) -> Vec<Vec<u8>> {
    (1..=3u8).map(|n| [position.to_le_bytes().to_vec(), vec![n; 5]].concat()).collect()
}

fn end_of(position: u64) -> LogEnd {
    LogEnd { position, index: position / 10, term: 7, record: position / 5, checksum: 0xabcd }
}

fn write(disk: &SimulatedDisk, position: u64) -> SnapshotHead {
    let directory = directory();
    let mut writer = SnapshotWriter::new(disk, &directory, position);
    parts_of(position).iter().for_each(|part| writer.part(part).unwrap());
    let head = SnapshotHead {
        shard: SHARD,
        end: end_of(position),
        hard_state: Bytes::from_static(b"vote"),
        needs: vec![0, 100],
        parts: Vec::new(),
    };
    let before = positions(disk, &directory).unwrap();
    let uncounted = writer.finish(head).unwrap();
    assert_eq!(positions(disk, &directory).unwrap(), before, "it does not count yet");
    let head = uncounted.publish().unwrap();
    assert_eq!(head.bytes(), 3 * 13);
    SnapshotHead::read(disk, &directory, SHARD, position).unwrap()
}

/// The head and all parts; an error when one of them cannot be used.
fn read(disk: &SimulatedDisk, position: u64) -> Result<(SnapshotHead, Vec<Bytes>), SnapshotError> {
    let directory = directory();
    let head = SnapshotHead::read(disk, &directory, SHARD, position)?;
    let parts = (0..head.parts.len()).map(|number| head.part(disk, &directory, number));
    let parts = parts.collect::<Result<_, _>>()?;
    Ok((head, parts))
}

fn names(disk: &SimulatedDisk) -> Vec<String> {
    let mut names = disk.list(&directory()).unwrap();
    names.sort_unstable();
    names
}

#[test]
fn what_is_written_comes_back() {
    let disk = disk();
    let written = write(&disk, 1_000);
    let (head, parts) = read(&disk, 1_000).unwrap();
    assert_eq!(head, written);
    assert_eq!((head.end, &head.hard_state[..]), (end_of(1_000), &b"vote"[..]));
    assert_eq!(head.needs, [0, 100]);
    assert_eq!(parts, parts_of(1_000));
    assert!(head.part(&disk, &directory(), 3).is_err());
    assert_eq!(start(&disk, &options()).unwrap(), end_of(1_000));
}

#[test]
fn every_flipped_bit_is_noticed_and_the_snapshot_before_it_counts() {
    let disk = disk();
    write(&disk, 1_000);
    write(&disk, 2_000);
    for name in names(&disk).into_iter().filter(|name| name.contains("2000")) {
        let path = directory().join(name);
        for position in 0..disk.contents(&path).unwrap().len() {
            for bit in 0..8 {
                disk.flip_bit(&path, position, bit);
                let refused = read(&disk, 2_000).unwrap_err();
                assert!(matches!(refused, SnapshotError::Damaged { .. }), "{refused}");
                assert_eq!(start(&disk, &options()).unwrap(), end_of(1_000));
                disk.flip_bit(&path, position, bit);
            }
        }
    }
    assert_eq!(start(&disk, &options()).unwrap(), end_of(2_000));
}

#[test]
fn a_head_without_a_part_and_parts_without_a_head_are_no_snapshot() {
    let disk = disk();
    assert_eq!(start(&disk, &options()).unwrap(), LogEnd::default());
    let directory = directory();
    let mut unfinished = SnapshotWriter::new(&disk, &directory, 3_000);
    unfinished.part(b"state").unwrap();
    drop(unfinished);
    assert_eq!(positions(&disk, &directory).unwrap(), Vec::<u64>::new());
    for number in 0..3 {
        write(&disk, 1_000);
        disk.remove(&part_path(&directory, 1_000, number)).unwrap();
        assert!(matches!(read(&disk, 1_000), Err(SnapshotError::Disk(error)) if error.is_missing));
        assert_eq!(start(&disk, &options()).unwrap(), LogEnd::default());
    }
    let cut = &parts_of(1_000)[0];
    write(&disk, 1_000);
    disk.create_filled(&part_path(&directory, 1_000, 0), &cut[..cut.len() - 1]).unwrap();
    assert!(matches!(read(&disk, 1_000), Err(SnapshotError::Damaged { .. })));
}

#[test]
fn a_head_of_another_shard_or_position_or_cut_short_is_refused_and_a_later_version_named() {
    let disk = disk();
    write(&disk, 1_000);
    let directory = directory();
    assert!(SnapshotHead::read(&disk, &directory, SHARD + 1, 1_000).is_err());
    let bytes = disk.contents(&head_path(&directory, 1_000)).unwrap();
    let place = |position, bytes: &[u8]| {
        disk.create_filled(&head_path(&directory, position), bytes).unwrap();
        read(&disk, position).unwrap_err()
    };
    assert!(matches!(place(2_000, &bytes), SnapshotError::Damaged { .. }));
    let sealed = |content: &[u8]| [content, &crc32c(content).to_le_bytes()].concat();
    let content = &bytes[..bytes.len() - 4];
    for length in 0..content.len() {
        // Even with a checksum that is right.
        for cut in [content[..length].to_vec(), sealed(&content[..length])] {
            let refused = place(1_000, &cut);
            assert!(matches!(refused, SnapshotError::Damaged { .. }), "{length} bytes: {refused}");
        }
    }
    let mut later = content.to_vec();
    later[4] += 1;
    assert!(matches!(place(1_000, &sealed(&later)), SnapshotError::LaterVersion { .. }));
}

#[test]
fn what_is_named_is_kept_and_strays_go() {
    let disk = disk();
    for position in [1_000, 2_000, 3_000, 4_000] {
        write(&disk, position);
    }
    let directory = directory();
    SnapshotWriter::new(&disk, &directory, 5_000).part(b"unfinished").unwrap();
    disk.create_filled(&directory.join(UNFINISHED_HEAD), b"head").unwrap();
    disk.create_filled(&directory.join("notes.txt"), b"not ours").unwrap();
    remove_all_but(&disk, &directory, &[1_000, 3_000]).unwrap();
    let mut kept = vec!["notes.txt".to_owned()];
    for position in [1_000, 3_000] {
        kept.extend((0..3).map(|number| format!("{position:020}-{number:05}.part")));
        kept.push(format!("{position:020}.snap"));
        assert_eq!(read(&disk, position).unwrap().1, parts_of(position));
    }
    kept.sort_unstable();
    assert_eq!(names(&disk), kept);
    assert_eq!(positions(&disk, &directory).unwrap(), [3_000, 1_000]);
    remove_all_but(&disk, &directory, &[1_000, 3_000]).unwrap();
    assert_eq!(names(&disk), kept, "once more changes nothing");
}

#[test]
fn a_head_that_the_disk_writes_wrongly_never_counts() {
    let disk = disk();
    write(&disk, 1_000);
    let directory = directory();
    for at in [0, 40, 90] {
        disk.garble_created(UNFINISHED_HEAD, Some(at));
        let writer = SnapshotWriter::new(&disk, &directory, 2_000);
        let head = SnapshotHead {
            shard: SHARD,
            end: end_of(2_000),
            hard_state: Bytes::from_static(b"vote"),
            needs: vec![0, 100],
            parts: Vec::new(),
        };
        let refused = writer.finish(head).unwrap_err().to_string();
        assert!(refused.starts_with("read back"), "{refused}");
    }
    disk.garble_created(UNFINISHED_HEAD, None);
    remove_uncounted(&disk, &directory).unwrap();
    assert_eq!(names(&disk).len(), 4, "{:?}", names(&disk));
    assert_eq!(positions(&disk, &directory).unwrap(), [1_000]);
}
