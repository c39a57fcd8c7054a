//! Sealed segments: a shard that starts from a snapshot is the shard that replays everything, what is derived can be made
//! anew, and retention gives the space back.

use std::path::{Path, PathBuf};

use broker_engine::{OffsetAt, ResetOffsets, SetOffset};
use broker_model::limits::{CLOCK_STEP_MS_LASTING, RETENTION_CHECK_MS};
use broker_store::key_table::key_table_path;
use broker_store::sealed_index::{index_path, open_or_build};
use broker_store::{segments, snapshot};

use super::*;
use crate::recovered::segment_of;
use crate::sealing;

/// All files of a directory with their bytes.
fn files(disk: &SimulatedDisk, directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = disk.list(directory).unwrap_or_default();
    let read = |name: String| {
        let path = directory.join(name);
        let file = disk.open(&path).unwrap();
        let mut bytes = vec![0; usize::try_from(file.length_bytes()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        (path, bytes)
    };
    names.into_iter().map(read).collect()
}

/// A disk with nothing but the segments of another one.
fn segments_alone(disk: &SimulatedDisk) -> SimulatedDisk {
    let copy = SimulatedDisk::default();
    copy.create_directory(&options().directory).unwrap();
    for (path, bytes) in files(disk, &options().directory) {
        if path.extension().is_some_and(|extension| extension == "seg") {
            copy.create_filled(&path, &bytes).unwrap();
        }
    }
    copy
}

/// The newest snapshot is what sealing everything at once from the log alone gives, and so is every index; and an index
/// that is lost is built again from its segment. Every key table is that of its segment.
pub(super) fn check_derived(shard: &Shard) {
    let directory = snapshot::snapshot_directory(&options());
    let shared: Arc<dyn Disk> = Arc::new(shard.disk.clone());
    let Some(until) = snapshot::positions(&*shared, &directory).unwrap().first().copied() else {
        return;
    };
    let copy = segments_alone(&shard.disk);
    let copied: Arc<dyn Disk> = Arc::new(copy.clone());
    let segments = segments::look(&*copied, &options().directory).unwrap();
    let is_whole = segments.windows(2).all(|pair| pair[0].end() == pair[1].base());
    if segments[0].base() > 0 || !is_whole {
        // Segments that nobody needed are gone.
        return;
    }
    let note = broker_store::IndexFailure::default();
    let never = AtomicBool::new(false);
    sealing::seal(&copied, &options(), until, head_as_key, &note, &never).unwrap();
    let newest = format!("{until:020}");
    let of_newest = |files: BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<PathBuf, Vec<u8>> {
        let is_newest = |path: &PathBuf| path.to_string_lossy().contains(&newest);
        files.into_iter().filter(|(path, _)| is_newest(path)).collect()
    };
    let (built, anew) = (files(&shard.disk, &directory), files(&copy, &directory));
    assert_eq!(of_newest(built), of_newest(anew), "the snapshot at {until}");
    for segment in segments.iter().filter(|segment| segment.base() < until) {
        let path = key_table_path(&options().directory, segment.base());
        if let Some(kept) = shard.disk.contents(&path) {
            // One that was lost comes back with a later sealing.
            assert_eq!(Some(kept), copy.contents(&path), "{path:?}");
        }
        let path = index_path(&options().directory, segment.base());
        let read = |disk: &SimulatedDisk| files(disk, &options().directory).remove(&path);
        let (kept, at_once) = (read(&shard.disk), read(&copy));
        assert_eq!(kept, at_once, "{path:?}");
        copy.remove(&path).unwrap();
        let (directory, of) = (&options().directory, segment_of(&segments));
        open_or_build(&*copied, directory, 0, segment, &note, &of).unwrap();
        assert_eq!(read(&copy), at_once, "{path:?} built from its segment alone");
    }
}

fn limited(topic: &str, change: impl FnOnce(&mut Topic)) -> Command {
    let placement = vec![QueuePlacement { shard: ShardId(0), queues: 2 }];
    let mut topic = Topic::with_defaults(name(topic), MessageType::Normal, placement);
    change(&mut topic);
    Command::PutTopic(Box::new(topic))
}

/// As [`fill`], and lets so much time pass that retention looks, and that what nobody waits for is written.
fn fill_and_rest(shard: &mut Shard, topic: &str, count: usize) {
    fill(shard, topic, count);
    for pause_ms in [11_000, 100] {
        shard.now_ms += pause_ms;
        shard.settle();
    }
}

/// Sends `count` numbered messages of about 500 bytes, a millisecond apart.
fn fill(shard: &mut Shard, topic: &str, count: usize) -> Vec<String> {
    let texts: Vec<String> = (0..count).map(|n| format!("m{n:0499}")).collect();
    for text in &texts {
        shard.now_ms += 1;
        shard.ask(send(topic, &[text])).unwrap();
    }
    texts
}

fn drain(shard: &mut Shard, group: &str, topic: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    loop {
        let received = shard.receive(group, topic, Filter::All);
        if received.is_empty() {
            return all;
        }
        all.extend(bodies(&received));
        for (handle, _) in received {
            shard.acknowledge(group, topic, handle).unwrap();
        }
    }
}

fn bytes_of(shard: &mut Shard, topic: &str) -> u64 {
    let Ok(Outcome::Topics(topics, _)) = shard.ask(Command::ReadTopics(0)) else { panic!() };
    topics.iter().find(|known| known.topic == name(topic)).unwrap().bytes
}

/// Runs of dead letters that are remembered as put back, as a snapshot would hold them.
fn runs_put_back(shard: &Shard) -> usize {
    const ITEM_REDRIVEN: u8 = 5;
    let mut runs = 0;
    let stored = shard.replica.engine().store_state(&mut |mut part: &[u8]| {
        while let Some((length, rest)) = part.split_first_chunk() {
            let (item, others) = rest.split_at(u32::from_le_bytes(*length) as usize);
            runs += usize::from(item[0] == ITEM_REDRIVEN);
            part = others;
        }
        Ok::<(), ()>(())
    });
    stored.unwrap();
    runs
}

fn segments_of(shard: &Shard) -> usize {
    shard.disk.files_ending(".seg").len()
}

#[test]
fn sealed_messages_are_delivered_and_die_and_come_back_as_others_do() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 1);
    let sent: BTreeSet<String> = fill(&mut shard, "orders", 100).into_iter().collect();
    assert!(shard.seals > 3, "{} times", shard.seals);
    check_derived(&shard);
    shard.restart();
    let mut delivered = BTreeSet::new();
    for _ in 0..10 {
        delivered.extend(bodies(&shard.receive("billing", "orders", Filter::All)));
    }
    assert_eq!(delivered, sent);
    shard.now_ms += 31_000;
    shard.settle();
    fill(&mut shard, "orders", 40);
    shard.restart();
    let group = ConsumerGroup::with_defaults(GroupName::parse("undertaker").unwrap());
    shard.ask(Command::PutGroup(Box::new(group))).unwrap();
    assert_eq!(
        drain(&mut shard, "undertaker", "%DLQ%billing"),
        sent,
        "all had their only delivery"
    );
    assert_eq!(drain(&mut shard, "billing", "orders").len(), 40);
    let redrive = broker_engine::Redrive {
        group: GroupName::parse("billing").unwrap(),
        topic: None,
        messages_max: 1_000,
        only: None,
        is_purge: false,
        is_dry_run: false,
    };
    let Ok(Outcome::Redriven(redriven)) = shard.ask(Command::Redrive(redrive)) else { panic!() };
    assert_eq!(redriven.messages, 100);
    // For who comes later, or begins anew, they are done, also after a restart.
    let (group, topic) = (GroupName::parse("late").unwrap(), name("%DLQ%billing"));
    shard.ask(Command::PutGroup(Box::new(ConsumerGroup::with_defaults(group.clone())))).unwrap();
    let to = SetOffset { group: group.clone(), topic: topic.clone(), queue: 0, offset: 0 };
    shard.ask(Command::SetOffset(to)).unwrap();
    fill(&mut shard, "orders", 40);
    for _ in 0..2 {
        let (group, topic) = (group.clone(), topic.clone());
        let cursor = shard.ask(Command::ReadOffset { group, topic, queue: 0 });
        assert!(matches!(cursor, Ok(Outcome::Offset(Some(100)))), "{cursor:?}");
        shard.restart();
    }
    let again = drain(&mut shard, "billing", "orders");
    assert!(sent.is_subset(&again), "{} of {}", again.len(), sent.len());
}

#[test]
fn retention_by_time_gives_the_space_back_and_loses_nothing_younger() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    shard.ask(limited("orders", |topic| topic.retention_ms = Some(60_000))).unwrap();
    fill(&mut shard, "orders", 100);
    let full = segments_of(&shard);
    shard.now_ms += 61_000;
    let young: BTreeSet<String> = fill(&mut shard, "orders", 60).into_iter().collect();
    shard.now_ms += 11_000;
    fill(&mut shard, "orders", 30);
    shard.settle();
    assert!(segments_of(&shard) < full, "{} segments, {full} before", segments_of(&shard));
    for _ in 0..2 {
        shard.restart();
        shard.now_ms += 31_000;
        let mut received = BTreeSet::new();
        for _ in 0..10 {
            received.extend(bodies(&shard.receive("billing", "orders", Filter::All)));
        }
        assert!(received.is_superset(&young));
    }
}

fn oldest_ms(shard: &mut Shard) -> Option<u64> {
    let Ok(Outcome::Topics(topics, None)) = shard.ask(Command::ReadTopics(0)) else { panic!() };
    topics.iter().find(|known| known.topic == name("orders")).unwrap().oldest_ms
}

#[test]
fn when_the_oldest_message_was_stored_is_told_while_messages_go_and_after_a_start() {
    use_small_segments();
    let mut shard = Shard::new();
    let placement = vec![QueuePlacement { shard: ShardId(0), queues: 1 }];
    let topic = Topic::with_defaults(name("orders"), MessageType::Normal, placement);
    let topic = Topic { retention_ms: Some(60_000), ..topic };
    shard.ask(Command::PutTopic(Box::new(topic))).unwrap();
    assert_eq!(oldest_ms(&mut shard), None);
    // When each message was stored, by its offset.
    let mut stored_ms = Vec::new();
    let mut fill = |shard: &mut Shard, count: u64| {
        stored_ms.extend(shard.now_ms + 1..=shard.now_ms + count);
        fill(shard, "orders", usize::try_from(count).unwrap());
        stored_ms.clone()
    };
    let stored = fill(&mut shard, 100);
    assert_eq!(oldest_ms(&mut shard), Some(stored[0]));
    shard.restart();
    assert_eq!(oldest_ms(&mut shard), Some(stored[0]));
    shard.now_ms += 61_000;
    let stored = fill(&mut shard, 60);
    for _ in 0..2 {
        // What was sealed meanwhile goes with the next look.
        (0..3).for_each(|_| look_after(&mut shard, 1));
        let gone = usize::try_from(earliest(&mut shard)).unwrap();
        assert!((50..=100).contains(&gone), "{gone}");
        assert_eq!(oldest_ms(&mut shard), Some(stored[gone]));
        shard.restart();
    }
}

/// One more look of retention, after so long.
fn look_after(shard: &mut Shard, ms: u64) {
    shard.now_ms += ms;
    shard.settle();
    shard.now_ms += RETENTION_CHECK_MS;
    shard.settle();
}

fn earliest(shard: &mut Shard) -> u64 {
    let query = Command::QueryOffset { topic: name("orders"), queue: 0, at: OffsetAt::Earliest };
    match shard.ask(query) {
        Ok(Outcome::Offset(Some(offset))) => offset,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clock_that_jumps_ahead_destroys_nothing_unless_it_stays_there() {
    const TEN_YEARS_MS: u64 = 10 * 365 * 24 * 3_600_000;
    const KEPT_MS: u64 = 30 * 3_600_000;
    use_small_segments();
    let mut shard = Shard::new();
    shard.now_ms = 1_900_000_000_000;
    shard.create("orders", 1, "billing", 5);
    shard.ask(limited("orders", |topic| topic.retention_ms = Some(KEPT_MS))).unwrap();
    fill(&mut shard, "orders", 100);
    shard.wall_ahead_ms = TEN_YEARS_MS.cast_signed();
    look_after(&mut shard, CLOCK_STEP_MS_LASTING / 2);
    assert_eq!(earliest(&mut shard), 0, "it jumped ahead");
    shard.wall_ahead_ms = 0;
    look_after(&mut shard, CLOCK_STEP_MS_LASTING / 2);
    shard.wall_ahead_ms = TEN_YEARS_MS.cast_signed();
    look_after(&mut shard, CLOCK_STEP_MS_LASTING / 2);
    assert_eq!(earliest(&mut shard), 0, "it jumped back and ahead again");
    shard.wall_ahead_ms = 0;
    look_after(&mut shard, 1_000);
    // A start with a wrong clock: the steady time begins there, too.
    shard.now_ms += TEN_YEARS_MS;
    shard.restart();
    look_after(&mut shard, CLOCK_STEP_MS_LASTING / 2);
    assert_eq!(earliest(&mut shard), 0, "it is ahead since the start");
    look_after(&mut shard, CLOCK_STEP_MS_LASTING / 2);
    assert!(earliest(&mut shard) > 0, "it stays there");
}

#[test]
fn retention_by_bytes_keeps_the_newest_and_a_dead_letter_keeps_its_message() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 1);
    shard.ask(limited("orders", |topic| topic.retention_bytes = Some(20_000))).unwrap();
    shard.ask(send("orders", &["poison"])).unwrap();
    assert_eq!(shard.receive("billing", "orders", Filter::All).len(), 1);
    shard.now_ms += 31_000;
    shard.settle();
    let mut most = 0;
    for _ in 0..10 {
        fill(&mut shard, "orders", 50);
        shard.now_ms += 11_000;
        shard.settle();
        most = most.max(segments_of(&shard));
    }
    assert!(most < 16, "{most} segments of 8 KiB for 20,000 bytes and what is not sealed");
    shard.restart();
    let kept = bytes_of(&mut shard, "orders");
    assert!((20_000..70_000).contains(&kept), "{kept} bytes");
    let group = ConsumerGroup::with_defaults(GroupName::parse("undertaker").unwrap());
    shard.ask(Command::PutGroup(Box::new(group))).unwrap();
    assert_eq!(drain(&mut shard, "undertaker", "%DLQ%billing"), ["poison".to_owned()].into());
    // Who was behind goes on with the oldest that is kept.
    assert!(!drain(&mut shard, "billing", "orders").is_empty());
}

#[test]
fn retention_by_bytes_takes_nothing_that_is_not_beyond_them() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    shard.ask(limited("orders", |topic| topic.retention_bytes = Some(20_000))).unwrap();
    let mut kept = Vec::new();
    for _ in 0..20 {
        fill_and_rest(&mut shard, "orders", 50);
        kept.push(bytes_of(&mut shard, "orders"));
    }
    assert!(kept.iter().all(|bytes| *bytes >= 20_000), "{kept:?} of 20,000 bytes that may be kept");
    assert!(kept.iter().all(|bytes| *bytes < 100_000), "{kept:?} of 560,000 bytes sent");
}

#[test]
fn a_group_that_comes_after_retention_begins_where_queues_do_also_after_a_restart() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    shard.ask(limited("orders", |topic| topic.retention_bytes = Some(20_000))).unwrap();
    for _ in 0..10 {
        fill_and_rest(&mut shard, "orders", 50);
    }
    shard.create("orders", 2, "late", 5);
    let (group, topic) = (GroupName::parse("late").unwrap(), name("orders"));
    let earliest = Command::QueryOffset { topic: topic.clone(), queue: 1, at: OffsetAt::Earliest };
    let Ok(Outcome::Offset(Some(earliest))) = shard.ask(earliest) else { panic!() };
    assert!(earliest > 0, "retention took some");
    // Its progress comes into being, and nothing is said of the other queue.
    let to = SetOffset { group: group.clone(), topic: topic.clone(), queue: 0, offset: 250 };
    shard.ask(Command::SetOffset(to)).unwrap();
    for _ in 0..2 {
        let (group, topic) = (group.clone(), topic.clone());
        let cursor = shard.ask(Command::ReadOffset { group, topic, queue: 1 });
        assert!(matches!(cursor, Ok(Outcome::Offset(Some(at))) if at == earliest), "{cursor:?}");
        shard.restart();
    }
}

#[test]
fn dead_letters_that_retention_took_are_not_remembered_as_put_back() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 1);
    shard.create("refunds", 1, "billing", 1);
    for _ in 0..20 {
        for topic in ["orders", "refunds"] {
            fill(&mut shard, topic, 1);
            assert_eq!(shard.receive("billing", topic, Filter::All).len(), 1);
            shard.now_ms += 31_000;
            shard.settle();
        }
    }
    let redrive = broker_engine::Redrive {
        group: GroupName::parse("billing").unwrap(),
        topic: Some(name("refunds")),
        messages_max: 1_000,
        only: None,
        is_purge: false,
        is_dry_run: false,
    };
    let Ok(Outcome::Redriven(redriven)) = shard.ask(Command::Redrive(redrive)) else { panic!() };
    assert_eq!((redriven.messages, runs_put_back(&shard)), (20, 20));
    shard.ask(limited("%DLQ%billing", |topic| topic.retention_ms = Some(60_000))).unwrap();
    for _ in 0..3 {
        fill(&mut shard, "orders", 50);
        shard.now_ms += 100_000;
        shard.settle();
    }
    assert_eq!(runs_put_back(&shard), 0);
}

#[test]
fn an_index_that_cannot_be_read_stops_the_shard_and_is_built_again() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    let sent: BTreeSet<String> = fill(&mut shard, "orders", 100).into_iter().collect();
    shard.restart();
    let path = shard.disk.files_ending(".idx").into_iter().min().unwrap();
    let length = shard.disk.open(&path).unwrap().length_bytes();
    shard.disk.flip_bit(&path, usize::try_from(length - 40).unwrap(), 3);
    shard.restart();
    let pull = |offset| {
        Command::Pull(broker_engine::Pull {
            topic: name("orders"),
            queue: 1,
            offset,
            filter: Filter::All,
            messages_max: 1,
            poll_until_ms: 0,
        })
    };
    let refused = shard.ask(pull(0)).unwrap_err();
    assert!(
        matches!(&refused, Refusal::LogFailed(reason) if reason.contains("a block")),
        "{refused:?}"
    );
    let bad = shard.replica.engine().index_failure().expect("noted").path().to_owned();
    assert_eq!(bad, path);
    shard.disk.remove(&bad).unwrap();
    shard.restart();
    shard.now_ms += 31_000;
    assert_eq!(drain(&mut shard, "billing", "orders"), sent);
}

#[test]
fn a_damaged_snapshot_is_passed_over() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    let sent: BTreeSet<String> = fill(&mut shard, "orders", 100).into_iter().collect();
    assert_eq!(shard.disk.files_ending(".snap").len(), 2);
    let newest = shard.disk.files_ending(".part").into_iter().max().unwrap();
    shard.disk.flip_bit(&newest, 30, 1);
    shard.restart();
    assert_eq!(shard.replica.unusable_snapshots().len(), 1);
    assert_eq!(drain(&mut shard, "billing", "orders"), sent);
}

#[test]
fn retention_counts_right_after_a_start_from_the_older_snapshot() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    shard.ask(limited("orders", |topic| topic.retention_bytes = Some(1))).unwrap();
    for _ in 0..3 {
        fill_and_rest(&mut shard, "orders", 50);
    }
    let expected = bytes_of(&mut shard, "orders");
    let newest = shard.disk.files_ending(".snap").into_iter().max().unwrap();
    shard.disk.remove(&newest).unwrap();
    shard.restart();
    assert_eq!(bytes_of(&mut shard, "orders"), expected);
}

/// 40 messages, a millisecond apart, of which each but the newest stand in sealed segments.
fn sealed_by_the_millisecond() -> (Shard, Vec<u64>) {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    let times: Vec<u64> = (0..40)
        .map(|n| {
            shard.now_ms += 1;
            shard.ask(send("orders", &[&format!("{n:0499}")])).unwrap();
            shard.now_ms
        })
        .collect();
    assert!(shard.seals > 0, "some are sealed");
    (shard, times)
}

#[test]
fn the_offset_of_a_time_is_that_of_the_first_message_from_then_on_also_in_a_sealed_segment() {
    let (mut shard, times) = sealed_by_the_millisecond();
    for round in 0..2 {
        for (offset, time_ms) in (0u64..).zip(&times) {
            let at = OffsetAt::TimeMs(*time_ms);
            let query = Command::QueryOffset { topic: name("orders"), queue: 0, at };
            let told = shard.ask(query);
            assert!(
                matches!(told, Ok(Outcome::Offset(Some(found))) if found == offset),
                "round {round}: {told:?} for message {offset}"
            );
        }
        shard.restart();
    }
}

#[test]
fn a_reset_to_a_time_in_a_sealed_segment_brings_back_what_was_stored_since_and_nothing_else() {
    let (mut shard, times) = sealed_by_the_millisecond();
    assert_eq!(drain(&mut shard, "billing", "orders").len(), 40);
    for first in [3, 4, 5, 6, 7, 20] {
        let reset = ResetOffsets {
            group: GroupName::parse("billing").unwrap(),
            topics: vec![name("orders")],
            to: OffsetAt::TimeMs(times[first]),
            id: String::new(),
        };
        shard.ask(Command::ResetOffsets(reset)).unwrap();
        let expected: BTreeSet<String> = (first..40).map(|n| format!("{n:0499}")).collect();
        assert_eq!(drain(&mut shard, "billing", "orders"), expected, "from message {first} on");
    }
}
