//! Timed messages against a sorted map, however they are packed, stored and taken out.

use std::collections::BTreeSet;

use broker_store::IndexFailure;
use broker_store::simulated_disk::SimulatedDisk;
use broker_store::snapshot::{SnapshotHead, SnapshotWriter};
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Insert {
        in_ms: u64,
        tag_hash: u64,
        topic: u32,
    },
    Leave(prop::sample::Index),
    Remove(prop::sample::Index),
    Forget(u32),
    Wait(u64),
    /// Into a snapshot and from there, with so many chunks in a part.
    Carry(usize),
}

fn chunks(timed: &TimedMessages) -> Vec<(u64, Vec<u8>)> {
    let mut chunks = Vec::new();
    let write = &mut |bucket, chunk: &[u8]| -> Result<(), ()> {
        chunks.push((bucket, chunk.to_vec()));
        Ok(())
    };
    timed.store(write).unwrap();
    chunks
}

/// A snapshot of the timed messages alone.
fn stored(timed: &TimedMessages, part_chunks: usize) -> (SimulatedDisk, SnapshotHead) {
    let disk = SimulatedDisk::default();
    let mut writer = SnapshotWriter::new(&disk, "snapshot".as_ref(), 64);
    for part in chunks(timed).chunks(part_chunks) {
        writer.part(&part.iter().flat_map(item).collect::<Vec<u8>>()).unwrap();
    }
    let head = SnapshotHead {
        shard: 0,
        end: broker_store::log::LogEnd { position: 64, ..Default::default() },
        hard_state: Bytes::new(),
        needs: Vec::new(),
        parts: Vec::new(),
    };
    writer.finish(head).unwrap().publish().unwrap();
    let head = SnapshotHead::read(&disk, "snapshot".as_ref(), 0, 64).unwrap();
    (disk, head)
}

fn item((bucket, chunk): &(u64, Vec<u8>)) -> Vec<u8> {
    let fields = [&[7][..], &bucket.to_le_bytes(), chunk].concat();
    let length = u32::try_from(fields.len()).unwrap();
    [&length.to_le_bytes()[..], &fields].concat()
}

fn loaded(disk: &SimulatedDisk, head: &SnapshotHead, failure: &IndexFailure) -> TimedMessages {
    let mut timed = TimedMessages::default();
    for number in 0..head.parts.len() {
        let opened = head.open_part(disk, "snapshot".as_ref(), number, failure);
        let (part, file) = opened.unwrap();
        let mut rest = part.clone();
        while !rest.is_empty() {
            let start = part.len() - rest.len();
            let (_, mut chunk) = crate::stored_state::split_item(&mut rest).unwrap();
            let bucket = bytes::Buf::get_u64_le(&mut chunk);
            let item = &part[start..part.len() - rest.len()];
            timed.insert_stored(bucket, chunk, (&file, start as u64, item)).unwrap();
        }
    }
    timed
}

fn carried(timed: &TimedMessages, part_chunks: usize) -> TimedMessages {
    let (disk, head) = stored(timed, part_chunks);
    let mut carried = loaded(&disk, &head, &IndexFailure::default());
    carried.set_last_number(timed.last_number());
    carried
}

fn message(number: u64) -> HiddenMessage {
    HiddenMessage { position: 64 * number, tag_hash: 0, length_bytes: 100, topic: 1, queue: 0 }
}

#[test]
fn ever_more_messages_of_one_bucket_are_carried_over_as_if_they_had_come_at_once() {
    let mut at_once = TimedMessages::default();
    let mut by_and_by = TimedMessages::default();
    for number in 1..=5_000 {
        let key = (1_000_000 + number / 3, number);
        for timed in [&mut at_once, &mut by_and_by] {
            timed.insert(key, message(number));
            if number.is_multiple_of(500) {
                assert!(timed.remove((1_000_000 + number / 6, number / 2)).is_some());
                assert!(timed.remove((1_000_000 + number / 6, number / 2)).is_none());
            }
        }
        if number.is_multiple_of(700) {
            by_and_by = carried(&by_and_by, 2);
        }
    }
    assert!(chunks(&by_and_by) == chunks(&at_once), "they differ");
    assert_eq!(by_and_by.len(), 4_990);
    assert!(by_and_by.later.values().map(Bucket::len).sum::<u64>() <= 100, "kept in place");
}

#[test]
fn a_snapshot_that_changes_under_its_reader_is_noted() {
    let mut timed = TimedMessages::default();
    (1..=3_000).for_each(|number| timed.insert((1_000_000 + number, number), message(number)));
    let (disk, head) = stored(&timed, 1_000);
    let path = disk.files_ending(".part").remove(0);
    let length = disk.contents(&path).unwrap().len();
    for position in [0, 4, 13, 60, length / 2, length - 1] {
        let failure = IndexFailure::default();
        let mut timed = loaded(&disk, &head, &failure);
        assert_eq!(timed.messages().count(), 3_000);
        assert!(failure.get().is_none());
        disk.flip_bit(&path, position, 5);
        assert!(timed.messages().count() < 3_000, "what is not known is not made up");
        assert_eq!(*failure.get().expect("it is noted").path(), path);
        while timed
            .next_due(u64::MAX - 1, 10, &mut 99)
            .is_some_and(|key| timed.remove(key).is_some())
        {}
        disk.flip_bit(&path, position, 5);
    }
}

#[test]
fn many_that_are_due_together_are_unpacked_a_few_at_a_time() {
    let mut timed = TimedMessages::default();
    (1..=10_000).for_each(|number| timed.insert((1_000_000, number), message(number)));
    let whole = carried(&timed, 50);
    for mut timed in [timed, whole] {
        let mut released = 0;
        while timed.next_ms(usize::MAX).is_some() {
            let mut chunks = 3;
            while let Some(key) = timed.next_due(1_000_000, usize::MAX, &mut chunks) {
                assert!(timed.leave(key).is_some() && timed.remove_due(key).is_some());
                released += 1;
            }
            assert!(timed.soon.is_empty(), "no more than a few at a time");
        }
        assert_eq!(released, 10_000);
    }
}

/// A walk that goes on while messages come, move on and go.
struct Walk {
    at: TimedPlace,
    told: BTreeSet<u64>,
    /// There when it began.
    begun_with: BTreeSet<u64>,
}

impl Walk {
    fn begin(model: &BTreeMap<TimedKey, HiddenMessage>) -> Self {
        let begun_with = model.values().map(|message| message.position).collect();
        Self { at: TimedPlace::default(), told: BTreeSet::new(), begun_with }
    }

    fn go_on(&mut self, timed: &TimedMessages, model: &BTreeMap<TimedKey, HiddenMessage>) {
        let (mut looks, told) = (20, &mut self.told);
        let mut count = 0;
        let next = timed.walk(self.at, &mut looks, &mut |position| {
            count += 1;
            told.insert(position);
        });
        assert!(count <= 20 + 2 * 16 + timed.leaving.len(), "{count} in one step");
        match next {
            Some(next) => self.at = next,
            None => {
                let now: BTreeSet<_> = model.values().map(|message| message.position).collect();
                let missed: Vec<_> = now.intersection(&self.begun_with).collect();
                let missed = missed.into_iter().filter(|position| !self.told.contains(position));
                assert_eq!(missed.count(), 0, "what waits all the while is told");
                *self = Self::begin(model);
            }
        }
        let whole: BTreeSet<_> = timed.messages().map(|message| message.position).collect();
        let (mut all, mut looks) = (BTreeSet::new(), usize::MAX);
        let mut tell = |position: u64| {
            all.insert(position);
        };
        assert!(timed.walk(TimedPlace::default(), &mut looks, &mut tell).is_none());
        assert_eq!(all, whole);
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        8 => (0u64..60_000, prop_oneof![Just(0), any::<u64>()], 0u32..3)
            .prop_map(|(in_ms, tag_hash, topic)| Step::Insert { in_ms, tag_hash, topic }),
        2 => index().prop_map(Step::Leave),
        2 => index().prop_map(Step::Remove),
        1 => (0u32..3).prop_map(Step::Forget),
        3 => (0u64..20_000).prop_map(Step::Wait),
        2 => (1usize..4).prop_map(Step::Carry),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn packed_messages_behave_as_a_sorted_map(steps in steps()) {
        let (mut timed, mut model) = (TimedMessages::default(), BTreeMap::new());
        // Never stored and loaded.
        let mut at_once = TimedMessages::default();
        let mut walk = Walk::begin(&model);
        let (mut now_ms, mut position) = (1_900_000_000_000, 0);
        for step in steps {
            match step {
                Step::Insert { in_ms, tag_hash, topic } => {
                    let key = (now_ms + in_ms, timed.take_number());
                    position += in_ms + 64;
                    let length_bytes = u32::try_from(in_ms + 1).unwrap();
                    let queue = topic + 7;
                    let message =
                        HiddenMessage { position, tag_hash, length_bytes, topic, queue };
                    timed.insert(key, message);
                    at_once.insert(key, message);
                    model.insert(key, message);
                }
                Step::Leave(_) | Step::Remove(_) if model.is_empty() => {}
                Step::Leave(index) => {
                    let key = *model.keys().nth(index.index(model.len())).unwrap();
                    prop_assert_eq!(timed.leave(key), Some(model[&key]));
                    prop_assert_eq!(timed.leave(key), None, "it leaves already");
                    prop_assert_eq!(timed.remove(key), model.remove(&key));
                    at_once.remove(key);
                }
                Step::Remove(index) => {
                    let key = *model.keys().nth(index.index(model.len())).unwrap();
                    prop_assert_eq!(timed.remove(key), model.remove(&key));
                    prop_assert_eq!(timed.remove(key), None);
                    at_once.remove(key);
                }
                Step::Forget(topic) => {
                    let before = model.len();
                    model.retain(|_, message| message.topic != topic);
                    prop_assert_eq!(timed.forget_topic(topic), (before - model.len()) as u64);
                    at_once.forget_topic(topic);
                }
                Step::Wait(ms) => {
                    now_ms += ms;
                    while let Some(key) = timed.next_due(now_ms, 10, &mut 99) {
                        prop_assert!(key.0 <= now_ms, "too early");
                        let message = model.remove(&key).expect("it waits");
                        prop_assert_eq!(timed.leave(key), Some(message));
                        prop_assert_eq!(timed.remove(key), Some(message));
                        at_once.remove_due(key);
                    }
                    let left = model.first_key_value();
                    prop_assert!(left.is_none_or(|((due_ms, _), _)| *due_ms > now_ms));
                }
                Step::Carry(part_chunks) => {
                    timed = carried(&timed, part_chunks);
                    prop_assert_eq!(chunks(&timed), chunks(&at_once));
                    walk = Walk::begin(&model);
                }
            }
            prop_assert_eq!(timed.len(), model.len() as u64);
            walk.go_on(&timed, &model);
            let mut positions: Vec<u64> = timed.messages().map(|m| m.position).collect();
            positions.sort_unstable();
            prop_assert!(positions.into_iter().eq(model.values().map(|m| m.position)
                .collect::<std::collections::BTreeSet<_>>()));
            if let Some(((due_ms, _), _)) = model.first_key_value() {
                let next_ms = timed.next_ms(10).expect("something waits");
                prop_assert!(next_ms <= *due_ms, "nobody would look in time");
            }
        }
    }
}
