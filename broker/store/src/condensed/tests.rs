//! Condensed segments on the simulated disk: what is kept reads as it did before, what is damaged is told, and whatever
//! step is the last one before the power goes, nothing is lost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::BytesMut;

use super::*;
use crate::frame::FrameKind;
use crate::log::{Log, LogEnd, LogOptions, NewFrame};
use crate::record::{DeadLetterReference, MessageRecord, Place, Reference};
use crate::recovery::open;
use crate::sealed_index::{Elsewhere, IndexFailure, index_path, open_or_build};
use crate::segments::{self, give_back, look};
use crate::simulated_disk::SimulatedDisk;
use crate::walk::{self, Found};

const SHARD: u32 = 3;
const SEGMENT_BYTES: u64 = 64 * 1024;
const DIRECTORY: &str = "shard-3";
/// Every second of a queue with this number is kept.
const KEPT_QUEUE: u32 = 1;

fn options() -> LogOptions {
    LogOptions { shard: SHARD, directory: DIRECTORY.into(), segment_bytes: SEGMENT_BYTES }
}

fn shared(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn message(queue: u32, offset: u64) -> MessageRecord {
    let body = Bytes::from(format!("{queue}/{offset}").repeat(20));
    let head = Bytes::from_static(b"head");
    MessageRecord { topic: 7, queue, offset, tag_hash: offset, message_group_hash: 0, head, body }
}

/// A record, where it is, and the time of its frame.
type Placed = (u64, u32, u64, Record);

struct Written {
    disk: SimulatedDisk,
    log: Log,
    /// The records of the first segment.
    records: Vec<Placed>,
}

/// Two queues, timed messages, and references to some of them, over more than one segment.
fn written() -> Written {
    let disk = SimulatedDisk::default();
    let (mut log, mut writer) =
        open(&shared(&disk), &options(), LogEnd::default(), &mut |_| Ok(())).unwrap();
    let mut records = Vec::new();
    let mut timed = None;
    for n in 0u64.. {
        let mut frame = vec![
            Record::Message(message(0, n)),
            Record::Message(message(KEPT_QUEUE, n)),
            Record::Timed { number: n + 1, due_ms: 9_000_000 + n, message: message(2, 0) },
        ];
        if let Some((position, length_bytes)) = timed.filter(|_| n % 5 == 0) {
            let reference = Reference {
                topic: 9,
                queue: 0,
                offset: n / 5,
                position,
                length_bytes,
                tag_hash: 0,
            };
            let stands = Some(DeadLetterReference { reference, origin_topic: 7, death: None });
            let place = Place { group: 4, topic: 7, queue: 2, offset: n };
            frame.push(Record::DeadLetter { place, stands });
        }
        let mut payload = BytesMut::new();
        let mut lengths = Vec::new();
        for record in &frame {
            let before = payload.len();
            record.encode(&mut payload);
            lengths.push((before, payload.len() - before));
        }
        let index = log.end().index + 1;
        let (kind, count) = (FrameKind::Entry, u32::try_from(frame.len()).unwrap());
        let payload = payload.freeze();
        let time_ms = 1_000_000 + n * 1_000;
        let new = NewFrame { kind, term: 1, index, time_ms, records: count, payload };
        let at = log.append(new).unwrap();
        if at >= 2 * SEGMENT_BYTES {
            break;
        }
        for (record, (before, length)) in frame.into_iter().zip(lengths) {
            let (position, length) = (at + before as u64, u32::try_from(length).unwrap());
            if matches!(record, Record::Timed { .. }) {
                timed = Some((position, length));
            }
            if position < SEGMENT_BYTES {
                records.push((position, length, time_ms, record));
            }
        }
    }
    while let Some(write) = log.take_write() {
        log.written(writer.write(&write).unwrap());
    }
    Written { disk, log, records }
}

fn first_segment(disk: &SimulatedDisk) -> Segment {
    look(disk, DIRECTORY.as_ref()).unwrap().remove(0)
}

/// One queue as its run, every tenth timed message, and the dead letters.
fn is_kept((_, _, _, record): &Placed) -> bool {
    match record {
        Record::Message(message) => message.queue == KEPT_QUEUE,
        Record::Timed { number, .. } => number % 10 == 0,
        _ => true,
    }
}

fn leftovers(records: &[Placed]) -> Leftovers {
    let mut leftovers = Leftovers::default();
    let mut dead_letters = 0;
    let mut messages = 0;
    for placed @ (position, length_bytes, _, record) in records {
        match record {
            Record::Timed { .. } if is_kept(placed) => {
                leftovers.keep_hidden(*position, *length_bytes)
            }
            Record::Message(message) if message.queue == KEPT_QUEUE => {
                // In two goes, with repetition.
                leftovers.keep(*position, *length_bytes);
                leftovers.keep(*position, *length_bytes);
                messages += 1;
            }
            Record::DeadLetter { .. } => dead_letters += 1,
            _ => {}
        }
    }
    for _ in 0..2 {
        leftovers.keep_run(9, 0, 1..1 + dead_letters);
        leftovers.keep_run(7, KEPT_QUEUE, 0..messages);
    }
    leftovers.sort();
    leftovers
}

fn condense_first(disk: &SimulatedDisk, leftovers: &Leftovers) -> Result<Segment, CondenseError> {
    let (segment, given_up) = (first_segment(disk), AtomicBool::new(false));
    let written = condense(disk, DIRECTORY.as_ref(), SHARD, &segment, leftovers, &given_up)?;
    Ok(written.expect("something is live"))
}

/// A log whose first segment is condensed and gone.
fn condensed() -> Written {
    let mut written = written();
    let kept = leftovers(&written.records);
    let segment = condense_first(&written.disk, &kept).unwrap();
    let gone = written.log.replace(vec![segment]).remove(0);
    assert!(gone.is_unused() && !gone.is_condensed());
    give_back(&written.disk, DIRECTORY.as_ref(), &gone, SEGMENT_BYTES).unwrap();
    written
}

fn live_path() -> PathBuf {
    condensed_path(DIRECTORY.as_ref(), 0)
}

#[test]
fn what_is_kept_reads_as_before_and_what_is_not_is_gone() {
    let whole = written();
    let before = whole.log.bytes();
    let Written { disk, log, records } = condensed();
    let kept_bytes = disk.contents(&live_path()).unwrap().len() as u64;
    assert_eq!(log.bytes(), before - SEGMENT_BYTES + kept_bytes);
    let (reader, end) = (log.reader(), log.durable_position());
    let mut count = 0;
    for placed @ (position, length_bytes, _, record) in &records {
        let read = reader.record(*position, *length_bytes);
        if is_kept(placed) {
            count += 1;
            assert_eq!(read.as_ref(), Ok(record));
            let short = reader.record(*position, length_bytes - 1);
            assert_eq!(short, Err(ReadError::Another(*position)));
        } else {
            assert_eq!(read, Err(ReadError::Gone(*position)));
        }
        assert_eq!(reader.record(position + 1, 10), Err(ReadError::Gone(position + 1)));
    }
    assert!(count > 128 && count < records.len(), "{count} over more than one block");
    let found: Vec<Placed> = reader
        .records(reader.begin(), end)
        .map(Result::unwrap)
        .map(|l| (l.position, l.length_bytes, l.time_ms, l.record))
        .collect();
    let expected: Vec<Placed> = records.iter().filter(|p| is_kept(p)).cloned().collect();
    assert_eq!(found[..count], expected);
    let behind: Vec<Placed> = whole
        .log
        .reader()
        .records(SEGMENT_BYTES, end)
        .map(Result::unwrap)
        .map(|l| (l.position, l.length_bytes, l.time_ms, l.record))
        .collect();
    assert_eq!(found[count..], behind, "and the log behind it");
}

#[test]
fn a_search_by_time_finds_what_is_kept() {
    let Written { log, records, .. } = condensed();
    let (reader, end) = (log.reader(), log.durable_position());
    let all: Vec<_> = records.iter().filter(|p| is_kept(p)).collect();
    let (from_ms, to_ms) = (all[40].2, all[90].2);
    let found = reader.records_of_times(from_ms..=to_ms, end).unwrap();
    let found: Vec<u64> = found.map(|logged| logged.unwrap().position).collect();
    let in_range = all.iter().filter(|(_, _, ms, _)| (from_ms..=to_ms).contains(ms));
    assert_eq!(found, in_range.map(|(position, ..)| *position).collect::<Vec<_>>());
}

#[test]
fn the_index_is_built_again_from_what_is_kept() {
    let whole = written();
    let (failure, of) =
        (IndexFailure::default(), |position| position / SEGMENT_BYTES * SEGMENT_BYTES);
    let directory = Path::new(DIRECTORY);
    let runs_of = |disk: &SimulatedDisk| {
        let segment = first_segment(disk);
        let built = open_or_build(disk, directory, SHARD, &segment, &failure, &of).unwrap();
        assert!(built.1, "there was none");
        built.0
    };
    let (before, Written { disk, .. }) = (runs_of(&whole.disk), condensed());
    assert!(disk.contents(&index_path(directory, 0)).is_none());
    let after = runs_of(&disk);
    let places = |runs: &[crate::SealedRun]| -> Vec<_> {
        let run = |run: &crate::SealedRun| {
            let mut entries = Vec::new();
            run.read(&mut |entry| entries.push(entry)).unwrap();
            let origins: Vec<_> = (run.first..run.end()).map(|offset| run.origin(offset)).collect();
            (run.topic, run.queue, run.first, entries, origins, run.refers_to().to_vec())
        };
        runs.iter().map(run).collect()
    };
    let kept =
        |(topic, queue, ..): &(u32, u32, u64, _, _, Vec<Elsewhere>)| (*topic, *queue) != (7, 0);
    let expected: Vec<_> = places(&before).into_iter().filter(kept).collect();
    assert_eq!((places(&after), expected.len()), (expected, 2));
}

#[test]
fn a_segment_that_does_not_show_all_that_is_live_stays() {
    let Written { disk, records, .. } = written();
    let mut more = leftovers(&records);
    more.keep(records[5].0 + 1, 77);
    more.sort();
    assert_eq!(condense_first(&disk, &more).unwrap_err(), CondenseError::Incomplete(0));
    let mut more = leftovers(&records);
    more.keep_run(9, 0, 1_000..1_001);
    more.sort();
    assert_eq!(condense_first(&disk, &more).unwrap_err(), CondenseError::Incomplete(0));
    // Damage to a frame in the middle, in a message that is not even live.
    let path = Path::new("shard-3/00000000000000000000.seg");
    let at = usize::try_from(records[records.len() / 2].0).unwrap() + 60;
    disk.flip_bit(path, at, 1);
    let whole = leftovers(&records);
    assert_eq!(condense_first(&disk, &whole).unwrap_err(), CondenseError::Incomplete(0));
    disk.flip_bit(path, at, 1);
    disk.break_range(path, 4_096, 8_192);
    assert!(matches!(condense_first(&disk, &whole), Err(CondenseError::Read(_))));
    disk.heal();
    let given_up = AtomicBool::new(true);
    let segment = first_segment(&disk);
    let outcome = condense(&disk, DIRECTORY.as_ref(), SHARD, &segment, &whole, &given_up);
    assert_eq!(outcome.unwrap_err(), CondenseError::GivenUp);
    disk.set_capacity(Some(disk.used_bytes() + 1_000));
    let Err(CondenseError::Disk(error)) = condense_first(&disk, &whole) else { panic!() };
    assert!(error.is_no_room());
    assert!(disk.files_ending(".live").is_empty());
    let nothing = Leftovers::default();
    let outcome =
        condense(&disk, DIRECTORY.as_ref(), SHARD, &segment, &nothing, &AtomicBool::new(false));
    assert!(outcome.unwrap().is_none());
}

#[test]
fn every_flipped_bit_is_noticed_and_never_changes_what_is_read() {
    let Written { disk, records, .. } = condensed();
    let length = disk.contents(&live_path()).unwrap().len();
    let kept: Vec<&Placed> = records.iter().filter(|p| is_kept(p)).collect();
    // Every byte of the front, and some of the records.
    let positions = (0..5_000).chain((5_000..length).step_by(97));
    for position in positions {
        disk.flip_bit(&live_path(), position, u8::try_from(position % 8).unwrap());
        let segments = look(&disk, DIRECTORY.as_ref()).unwrap();
        let reader = crate::LogReader::new(SHARD, Arc::new(segments));
        let mut damaged = 0;
        for (at, length_bytes, _, record) in kept.iter().copied() {
            match reader.record(*at, *length_bytes) {
                Ok(read) => assert_eq!(read, *record),
                Err(ReadError::Damaged { position, .. }) => damaged += usize::from(position == *at),
                Err(error) => panic!("byte {position}: {error}"),
            }
        }
        let is_of_front = position < 5_000;
        assert!(damaged > 0, "byte {position}");
        assert!(is_of_front || damaged <= 1, "byte {position}: {damaged} are damaged");
        disk.flip_bit(&live_path(), position, u8::try_from(position % 8).unwrap());
    }
}

#[test]
fn a_walk_tells_condensed_segments_from_damage() {
    let Written { disk, records, log, .. } = condensed();
    // As if a snapshot ended there.
    let start = LogEnd { position: 2 * SEGMENT_BYTES, ..log.end() };
    let found = |disk: &SimulatedDisk| {
        let (mut all, mut frames) = (Vec::new(), 0);
        walk::walk(disk, SHARD, DIRECTORY.as_ref(), start, &mut |found| {
            match found {
                Found::Condensed(condensed) => all.push(condensed),
                Found::Frame(_) => frames += 1,
                Found::Gap(gap) => assert_ne!(gap.meaning, walk::GapMeaning::Hole, "{gap:?}"),
            }
            true
        })
        .unwrap();
        (all.remove(0), frames)
    };
    let (whole, frames) = found(&disk);
    let kept: Vec<&Placed> = records.iter().filter(|p| is_kept(p)).collect();
    assert_eq!((whole.from, whole.to, whole.records), (0, SEGMENT_BYTES, kept.len() as u64));
    assert_eq!(whole.times, Some((kept[0].2, kept[kept.len() - 1].2)));
    assert!(frames > 10 && whole.damage.is_empty());
    let extents = walk::extents(&disk, DIRECTORY.as_ref()).unwrap();
    let file_bytes = disk.contents(&live_path()).unwrap().len() as u64;
    assert_eq!((extents[0].length_bytes, extents[0].file_bytes), (SEGMENT_BYTES, file_bytes));
    disk.flip_bit(&live_path(), usize::try_from(file_bytes).unwrap() - 30, 2);
    let (hurt, _) = found(&disk);
    assert_eq!((hurt.records, hurt.damage.len()), (kept.len() as u64 - 1, 1));
    disk.flip_bit(&live_path(), 9, 2);
    let (hurt, _) = found(&disk);
    assert_eq!((hurt.records, hurt.damage.len()), (0, 1));
}

#[test]
fn a_crash_at_any_step_leaves_the_segment_or_what_is_kept_of_it() {
    for step in 0..4u64 {
        for seed in 0..10 {
            let Written { disk, records, log } = written();
            let kept = leftovers(&records);
            disk.create_filled(&index_path(DIRECTORY.as_ref(), 0), b"an index").unwrap();
            if step == 0 {
                disk.tear_after(0, seed);
                assert!(condense_first(&disk, &kept).is_err());
            } else {
                condense_first(&disk, &kept).unwrap();
            }
            if step == 1 {
                // The file is there under its first name only.
                let unfinished = Path::new(DIRECTORY).join(UNFINISHED_CONDENSED);
                disk.rename(&live_path(), &unfinished).unwrap();
            }
            if step == 3 {
                give_back(&disk, DIRECTORY.as_ref(), &first_segment(&disk), SEGMENT_BYTES).unwrap();
            }
            disk.restart();
            let end = log.end();
            // As if a snapshot ended behind the first segment.
            let mut start = LogEnd::default();
            let covered = |found: crate::RecoveredFrame| {
                let header = found.header;
                if header.position < SEGMENT_BYTES {
                    let checksum = header.encode().1;
                    let record = header.first_record + u64::from(header.records);
                    let (index, term) = (header.index, header.term);
                    start = LogEnd { position: SEGMENT_BYTES, index, term, checksum, record };
                }
                Ok(())
            };
            open(&shared(&written().disk), &options(), LogEnd::default(), &mut { covered })
                .unwrap();
            let (reopened, _) = open(&shared(&disk), &options(), start, &mut |_| Ok(())).unwrap();
            assert_eq!(reopened.end(), end, "step {step}");
            let reader = reopened.reader();
            for placed in records.iter().filter(|placed| is_kept(placed)) {
                let (position, length_bytes, _, record) = placed;
                assert_eq!(reader.record(*position, *length_bytes).as_ref(), Ok(record));
            }
            let live = disk.files_ending(".live").len();
            assert_eq!(live, usize::from(step == 3), "step {step}: whole, it says more");
            assert!(disk.files_ending(".tmp").is_empty());
            let has_index = disk.contents(&index_path(DIRECTORY.as_ref(), 0)).is_some();
            assert!(has_index, "step {step}: it is the index of what is kept too");
        }
    }
}

#[test]
fn a_condensed_segment_that_is_not_needed_goes_with_its_index() {
    let Written { disk, mut log, .. } = condensed();
    disk.create_filled(&index_path(DIRECTORY.as_ref(), 0), b"an index").unwrap();
    assert_eq!(segments::condensed_bases(&disk, DIRECTORY.as_ref()).unwrap(), [0]);
    let gone = log.forget(&[0]).remove(0);
    give_back(&disk, DIRECTORY.as_ref(), &gone, SEGMENT_BYTES).unwrap();
    assert!(disk.files_ending(".live").is_empty() && disk.files_ending(".idx").is_empty());
    assert_eq!(log.reader().begin(), SEGMENT_BYTES);
}
