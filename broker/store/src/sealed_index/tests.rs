//! Index files entry by entry, and with every bit flipped once.

use std::collections::BTreeMap;

use super::*;
use crate::simulated_disk::SimulatedDisk;

const SHARD: u32 = 3;
const BASE: u64 = 1_000_000;
const EARLIER: u64 = 500_000;

type Pushed = (IndexEntry, u64, Option<Place>);

/// What is pushed into an index, by (topic, queue, offset).
type Model = BTreeMap<(u32, u32, u64), Pushed>;

fn segment_of(position: u64) -> u64 {
    if position >= BASE { BASE } else { EARLIER }
}

fn pushed(n: u64, message_group_hash: u64, origin: Option<Place>) -> Pushed {
    let entry = IndexEntry {
        // Every seventh one is a timed message of an earlier segment.
        position: if n % 7 == 3 { EARLIER + n } else { BASE + 100 * n },
        tag_hash: n * 0x0101_0101,
        stored_ms: 1_900_000_000_000 + n,
        length_bytes: 100 + u32::try_from(n).unwrap(),
        origin: if origin.is_some() { 9 } else { 0 },
    };
    (entry, message_group_hash, origin)
}

/// Queues of every length at which a block ends, with and without message groups, dead letters, and a queue with a gap.
fn model() -> Model {
    let mut model = Model::new();
    for (queue, count) in (0u32..).zip([1, 63, 64, 65, 128, 129, 200]) {
        for n in 0..count {
            let groups = if queue % 2 == 1 && n > 70 { n * 11 } else { 0 };
            model.insert((1, queue, 40 + n), pushed(n, groups, None));
            let origin = Place { group: 5, topic: 1, queue, offset: 1_000 * n };
            model.insert((2, queue, n), pushed(n, 0, Some(origin)));
        }
    }
    for offset in (10..20).chain(30..95) {
        model.insert((3, 0, offset), pushed(offset, offset, None));
    }
    model
}

fn written(model: &Model) -> SimulatedDisk {
    let disk = SimulatedDisk::default();
    disk.create_directory("log".as_ref()).unwrap();
    let mut builder = IndexBuilder::new(SHARD, BASE);
    for (place, (entry, message_group_hash, origin)) in model {
        builder.push(*place, *entry, *message_group_hash, *origin);
    }
    builder.write(&disk, "log".as_ref(), &segment_of).unwrap();
    disk
}

fn opened(disk: &SimulatedDisk, failure: &IndexFailure) -> Result<Vec<SealedRun>, IndexError> {
    SealedIndex::open(disk, "log".as_ref(), SHARD, BASE, failure)
}

fn read(runs: &[SealedRun]) -> Option<Model> {
    let mut read = Model::new();
    for run in runs {
        for offset in run.first..run.end() {
            let said = (run.entry(offset)?, run.message_group_hash(offset), run.origin(offset));
            read.insert((run.topic, run.queue, offset), said);
        }
    }
    Some(read)
}

#[test]
fn what_is_written_comes_back_entry_by_entry_over_the_borders_of_blocks() {
    let model = model();
    let failure = IndexFailure::default();
    let runs = opened(&written(&model), &failure).unwrap();
    assert_eq!(read(&runs).unwrap(), model);
    let of_gap: Vec<_> = runs.iter().filter(|run| run.topic == 3).collect();
    let ends: Vec<_> = of_gap.iter().map(|run| (run.first, run.end())).collect();
    assert_eq!(ends, [(10, 20), (30, 95)]);
    for run in &runs {
        let of_run: Vec<&Pushed> =
            (run.first..run.end()).map(|offset| &model[&(run.topic, run.queue, offset)]).collect();
        let bytes: u64 = of_run.iter().map(|(entry, ..)| u64::from(entry.length_bytes)).sum();
        let last_ms = of_run.iter().map(|(entry, ..)| entry.stored_ms).max().unwrap();
        assert_eq!((run.bytes, run.last_ms, run.base()), (bytes, last_ms, BASE));
        let earlier = of_run.iter().filter(|(entry, ..)| entry.position < BASE);
        let bytes: u64 = earlier.map(|(entry, ..)| u64::from(entry.length_bytes)).sum();
        let elsewhere = [Elsewhere { base: EARLIER, bytes }];
        assert_eq!(run.refers_to(), if bytes > 0 { &elsewhere[..] } else { &[] });
        let mut entries = Vec::new();
        run.read(&mut |entry| entries.push(entry)).unwrap();
        assert!(entries.iter().eq(of_run.iter().map(|(entry, ..)| entry)));
        for beyond in [run.first.wrapping_sub(1), run.end(), u64::MAX] {
            assert_eq!((run.entry(beyond), run.origin(beyond)), (None, None));
        }
    }
    assert!(failure.get().is_none(), "asking for what is not there is no failure");
}

#[test]
fn blocks_that_are_read_in_any_order_say_the_same() {
    let model = model();
    let runs = opened(&written(&model), &IndexFailure::default()).unwrap();
    // More blocks than are kept in memory, round and round.
    for step in 0..3 {
        for (n, (place, said)) in model.iter().enumerate() {
            if n % 31 == step {
                let (topic, queue, offset) = *place;
                let holds = |run: &&SealedRun| {
                    (run.topic, run.queue) == (topic, queue)
                        && (run.first..run.end()).contains(&offset)
                };
                let run = runs.iter().find(holds).unwrap();
                assert_eq!(run.entry(offset), Some(said.0));
                assert_eq!(run.message_group_hash(offset), said.1);
                assert_eq!(run.origin(offset), said.2);
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_other_entries_are_never_read() {
    let whole = model();
    // One of each kind, so that all bits can be tried.
    let few: Model = whole
        .into_iter()
        .filter(|((topic, queue, offset), _)| match topic {
            1 => *queue == 3 && (106..114).contains(offset),
            2 => *queue == 0,
            _ => (15..36).contains(offset),
        })
        .collect();
    let disk = written(&few);
    let path = index_path("log".as_ref(), BASE);
    let bytes = disk.contents(&path).unwrap();
    let mut at_once = 0;
    for position in 0..bytes.len() {
        for bit in 0..8 {
            disk.flip_bit(&path, position, bit);
            let failure = IndexFailure::default();
            match opened(&disk, &failure) {
                Err(error) => {
                    assert!(matches!(error, IndexError::Damaged { .. }), "{error}");
                    at_once += 1;
                }
                Ok(runs) => {
                    for run in &runs {
                        for offset in run.first..run.end() {
                            let (entry, hash, origin) = few[&(run.topic, run.queue, offset)];
                            assert!(run.entry(offset).is_none_or(|read| read == entry));
                            assert!([0, hash].contains(&run.message_group_hash(offset)));
                            assert!(run.origin(offset).is_none_or(|read| Some(read) == origin));
                        }
                    }
                    let noted = failure.get().expect("the failure is noted").path();
                    assert_eq!(*noted, path, "bit {bit} of byte {position}");
                }
            }
            disk.flip_bit(&path, position, bit);
        }
    }
    assert!(at_once >= 8 * 64, "every bit of the header");
    assert_eq!(disk.contents(&path).unwrap(), bytes);
}

#[test]
fn a_file_that_was_cut_or_is_of_another_segment_or_shard_is_refused() {
    let disk = written(&model());
    let path = index_path("log".as_ref(), BASE);
    let bytes = disk.contents(&path).unwrap();
    let failure = IndexFailure::default();
    let of_other = |shard, base| {
        disk.create_filled(&index_path("log".as_ref(), base), &bytes).unwrap();
        SealedIndex::open(&disk, "log".as_ref(), shard, base, &failure)
    };
    assert!(matches!(of_other(SHARD + 1, BASE), Err(IndexError::Damaged { .. })));
    assert!(matches!(of_other(SHARD, BASE + 1), Err(IndexError::Damaged { .. })));
    for length in [0, 3, 63, 64, 65, bytes.len() / 2, bytes.len() - 1] {
        disk.create_filled(&path, &bytes[..length]).unwrap();
        let refused = opened(&disk, &failure).unwrap_err();
        assert!(matches!(refused, IndexError::Damaged { .. }), "{length} bytes: {refused}");
    }
    disk.remove(&path).unwrap();
    assert!(matches!(opened(&disk, &failure), Err(IndexError::Disk(error)) if error.is_missing));
}
