//! What sealing writes is read back before anything older goes: with a disk that writes something else, or a state that
//! cannot be loaded, everything older stays, the shard serves on, and goes on sealing once the fault is gone.

use std::path::PathBuf;

use broker_engine::{OffsetAt, ResetOffsets};
use broker_store::log::LogEnd;
use broker_store::snapshot::{self, SnapshotHead, SnapshotWriter};
use broker_store::switches::{Bug, set_bug};

use super::*;

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Files that are created under a name that ends so hold another byte at this place.
    Disk(&'static str, usize),
    State(Bug),
}

impl Fault {
    fn plant(self, disk: &SimulatedDisk) {
        match self {
            Self::Disk(suffix, at) => disk.garble_created(suffix, Some(at)),
            Self::State(bug) => set_bug(Some(bug)),
        }
    }

    fn mend(self, disk: &SimulatedDisk) {
        disk.garble_created("", None);
        set_bug(None);
    }
}

fn keep_little(shard: &mut Shard, topic: &str) {
    let placement = vec![QueuePlacement { shard: ShardId(0), queues: 2 }];
    let mut topic = Topic::with_defaults(name(topic), MessageType::Normal, placement);
    topic.retention_bytes = Some(20_000);
    shard.ask(Command::PutTopic(Box::new(topic))).unwrap();
}

/// Messages of about 500 bytes, and so much time that retention looks.
fn fill_and_rest(shard: &mut Shard, count: usize) {
    for number in 0..count {
        shard.now_ms += 1;
        shard.ask(send("orders", &[&format!("m{number:0499}")])).unwrap();
    }
    for pause_ms in [11_000, 100] {
        shard.now_ms += pause_ms;
        shard.settle();
    }
}

fn reset(shard: &mut Shard, id: &str) {
    let reset = ResetOffsets {
        group: GroupName::parse("billing").unwrap(),
        topics: vec![name("orders")],
        to: OffsetAt::Earliest,
        id: id.to_owned(),
    };
    shard.ask(Command::ResetOffsets(reset)).unwrap();
}

/// A shard that keeps little, and gave segments back already.
fn shard() -> Shard {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    keep_little(&mut shard, "orders");
    fill_and_rest(&mut shard, 50);
    for _ in 0..4 {
        fill_and_rest(&mut shard, 50);
    }
    assert!(shard.disk.files_ending(&format!("{:020}.seg", 0)).is_empty(), "segments go");
    assert_eq!(shard.disk.files_ending(".snap").len(), 2);
    shard
}

fn files(shard: &Shard, endings: &[&str]) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = endings.iter().flat_map(|ending| shard.disk.files_ending(ending));
    paths.map(|path| (path.clone(), shard.disk.contents(&path).unwrap())).collect()
}

fn drain(shard: &mut Shard) -> BTreeSet<String> {
    shard.now_ms += 31_000;
    let mut all = BTreeSet::new();
    loop {
        let received = shard.receive("billing", "orders", Filter::All);
        if received.is_empty() {
            return all;
        }
        all.extend(bodies(&received));
    }
}

#[test]
fn nothing_older_goes_while_what_is_written_does_not_read_back() {
    for fault in [
        Fault::Disk(".part", 30),
        Fault::Disk("head.tmp", 20),
        Fault::Disk("index.tmp", 70),
        Fault::Disk("index.tmp", 400),
        Fault::State(Bug::UnreadableState),
        Fault::State(Bug::ForgottenResets),
    ] {
        let mut shard = shard();
        let expected = drain(&mut shard);
        let (seals, kept) = (shard.seals, files(&shard, &[".seg", ".snap", ".part", ".idx"]));
        fault.plant(&shard.disk);
        reset(&mut shard, "again");
        for _ in 0..4 {
            fill_and_rest(&mut shard, 50);
        }
        assert!(shard.failed_seals > 0 && shard.seals == seals, "{fault:?}");
        assert_eq!(shard.replica.failure(), None, "{fault:?}");
        for (path, bytes) in kept {
            let is_full = path.to_string_lossy().ends_with(".seg");
            let now = shard.disk.contents(&path);
            // The segment in use goes on.
            assert!(
                now.as_ref() == Some(&bytes) || (is_full && now.is_some()),
                "{fault:?} {path:?}"
            );
        }
        assert_eq!(shard.disk.files_ending(".snap").len(), 2, "{fault:?}");
        // A start while it lasts goes on from what was read back once.
        if matches!(fault, Fault::Disk(..)) {
            shard.restart();
            assert_eq!(shard.replica.damage(), None, "{fault:?}");
            assert!(shard.replica.unusable_snapshots().is_empty(), "{fault:?}");
        }
        fault.mend(&shard.disk);
        shard.restart();
        assert!(drain(&mut shard).len() >= expected.len(), "{fault:?}");
        let full = shard.disk.files_ending(".seg").len();
        for _ in 0..3 {
            fill_and_rest(&mut shard, 50);
        }
        assert!(shard.seals > seals, "{fault:?}: it goes on");
        assert!(shard.disk.files_ending(".seg").len() < full, "{fault:?}: segments go again");
        assert!(shard.disk.files_ending(".tmp").is_empty(), "{fault:?}");
        shard.restart();
        assert!(shard.replica.unusable_snapshots().is_empty(), "{fault:?}");
    }
}

#[test]
fn a_key_table_that_does_not_read_back_is_none_and_sealing_goes_on() {
    let mut shard = shard();
    for path in shard.disk.files_ending(".keys") {
        shard.disk.remove(&path).unwrap();
    }
    shard.disk.garble_created("keys.tmp", Some(100));
    let seals = shard.seals;
    fill_and_rest(&mut shard, 50);
    assert!(shard.seals > seals);
    assert!(shard.disk.files_ending(".keys").is_empty());
    shard.disk.garble_created("", None);
    fill_and_rest(&mut shard, 50);
    assert!(!shard.disk.files_ending(".keys").is_empty());
}

/// In the place of a snapshot stands one whose checksums hold, and that nobody can load.
fn poison(shard: &Shard, position: u64) {
    let directory = snapshot::snapshot_directory(&options());
    let good = SnapshotHead::read(&shard.disk, &directory, 0, position).unwrap();
    let mut writer = SnapshotWriter::new(&shard.disk, &directory, position);
    writer.part(b"\x01\x00\x00\x00\xff").unwrap();
    let end = LogEnd { position, ..good.end };
    writer.finish(SnapshotHead { end, ..good }).unwrap().publish().unwrap();
}

#[test]
fn a_snapshot_that_cannot_be_loaded_is_nothing_to_fall_back_on() {
    let mut shard = shard();
    let expected = drain(&mut shard);
    let directory = snapshot::snapshot_directory(&options());
    let positions = |shard: &Shard| snapshot::positions(&shard.disk, &directory).unwrap();
    let [newer, older] = positions(&shard)[..] else { panic!("{:?}", positions(&shard)) };
    poison(&shard, newer);
    fill_and_rest(&mut shard, 10);
    let [newest, kept] = positions(&shard)[..] else { panic!("{:?}", positions(&shard)) };
    assert!(newest > newer && kept == older, "{newest} and {kept}");
    // When the newest is lost, the one that was read and the log behind it say the same.
    poison(&shard, newest);
    shard.restart();
    assert_eq!(shard.replica.damage(), None);
    assert_eq!(shard.replica.unusable_snapshots().len(), 1);
    assert!(drain(&mut shard).len() + 10 >= expected.len());
}

#[test]
fn with_no_snapshot_that_can_be_loaded_the_log_stays_whole() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    fill_and_rest(&mut shard, 60);
    keep_little(&mut shard, "orders");
    let directory = snapshot::snapshot_directory(&options());
    for position in snapshot::positions(&shard.disk, &directory).unwrap() {
        poison(&shard, position);
    }
    assert_eq!(shard.disk.files_ending(&format!("{:020}.seg", 0)).len(), 1, "nothing went yet");
    let seals = shard.seals;
    while shard.seals == seals {
        assert!(shard.failed_seals < 5);
        fill_and_rest(&mut shard, 5);
    }
    // The new one stands alone: until there is another, the log is what a start falls back on.
    let positions = snapshot::positions(&shard.disk, &directory).unwrap();
    assert_eq!(positions.len(), 1, "{positions:?}");
    assert_eq!(shard.disk.files_ending(&format!("{:020}.seg", 0)).len(), 1);
    poison(&shard, positions[0]);
    shard.restart();
    assert_eq!(shard.replica.damage(), None);
    assert!(drain(&mut shard).len() >= 30);
}
