//! Timed messages by due time. Those due soon stand in a sorted map; all others are packed into a few bytes each, in
//! buckets of a few seconds, so that ten million of them fit into little memory. Who only carries a snapshot over into the
//! next one leaves those of the snapshot where they are.

mod packed;
mod stored;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter::Peekable;
use std::sync::Arc;

use broker_store::snapshot::PartFile;
use bytes::Bytes;

use self::packed::{Bucket, Chunk};
use self::stored::Stored;
use super::HiddenMessage;

/// Due time and number of a timed message.
pub(crate) type TimedKey = (u64, u64);

/// Takes in a bucket and a chunk of it.
pub(crate) type Write<'a, E> = dyn FnMut(u64, &[u8]) -> Result<(), E> + 'a;

/// Span of one bucket.
const BUCKET_MS: u64 = 4_096;

/// What is due first in a bucket is due then.
fn start_of(bucket: u64) -> u64 {
    bucket.saturating_mul(BUCKET_MS)
}

/// All timed messages of a shard.
#[derive(Debug, Default)]
pub(crate) struct TimedMessages {
    /// Everything due before `soon_end_ms`.
    soon: BTreeMap<TimedKey, HiddenMessage>,
    soon_end_ms: u64,
    /// By number of the bucket: due time divided by its span.
    later: BTreeMap<u64, Bucket>,
    /// What stands in the newest snapshot only.
    stored: Stored,
    /// Among `later`, and yet gone: what is packed is not taken apart for one message.
    recalled: HashSet<TimedKey>,
    /// Decided to be due or recalled, and not committed yet.
    leaving: HashMap<TimedKey, HiddenMessage>,
    next_number: u64,
}

impl TimedMessages {
    pub(crate) fn take_number(&mut self) -> u64 {
        self.next_number = self.next_number.saturating_add(1);
        self.next_number
    }

    pub(crate) fn insert(&mut self, key: TimedKey, message: HiddenMessage) {
        let (due_ms, number) = key;
        self.next_number = self.next_number.max(number);
        if due_ms < self.soon_end_ms {
            self.soon.insert(key, message);
        } else {
            let bucket = self.later.entry(due_ms / BUCKET_MS).or_default();
            bucket.push(due_ms % BUCKET_MS, number, message);
        }
    }

    pub(crate) fn remove(&mut self, key: TimedKey) -> Option<HiddenMessage> {
        self.leaving.remove(&key).or_else(|| self.take(key))
    }

    /// As [`TimedMessages::remove`], for one that is due: what is packed before it is sorted first, on every replica, so that
    /// nothing packed has to be remembered as gone.
    pub(crate) fn remove_due(&mut self, key: TimedKey) -> Option<HiddenMessage> {
        let leaving = self.leaving.remove(&key);
        if leaving.is_some() {
            return leaving;
        }
        loop {
            let sorted = self.soon.remove(&key);
            if sorted.is_some() || !self.unpack_next(key.0.saturating_add(1)) {
                return sorted;
            }
        }
    }

    /// Marks a message as leaving and returns it; none when it is not there or leaves already.
    pub(crate) fn leave(&mut self, key: TimedKey) -> Option<HiddenMessage> {
        let message = self.take(key)?;
        self.leaving.insert(key, message);
        Some(message)
    }

    fn take(&mut self, key: TimedKey) -> Option<HiddenMessage> {
        let (due_ms, number) = key;
        let sorted = self.soon.remove(&key);
        if sorted.is_some() || due_ms < self.soon_end_ms {
            return sorted;
        }
        let bucket = self.later.get(&(due_ms / BUCKET_MS));
        match bucket.and_then(|bucket| bucket.find(due_ms % BUCKET_MS, number)) {
            Some(message) => self.recalled.insert(key).then_some(message),
            None => self.stored.take(key),
        }
    }

    /// A message due by now that does not leave yet, unless `leaving_max` leave already: then the commit comes first. Unpacks
    /// no more than so many chunks for it, and takes them from `chunks`.
    pub(crate) fn next_due(
        &mut self,
        now_ms: u64,
        leaving_max: usize,
        chunks: &mut u32,
    ) -> Option<TimedKey> {
        if self.leaving.len() >= leaving_max {
            return None;
        }
        loop {
            let first = self.soon.first_key_value().map(|(key, _)| *key);
            let due = first.filter(|(due_ms, _)| *due_ms <= now_ms);
            if due.is_some() || *chunks == 0 || !self.unpack_next(now_ms.saturating_add(1)) {
                return due;
            }
            *chunks = chunks.saturating_sub(1);
        }
    }

    /// When there may be something to do; none while the commit of what leaves has to come first.
    pub(crate) fn next_ms(&self, leaving_max: usize) -> Option<u64> {
        if self.leaving.len() >= leaving_max {
            return None;
        }
        let soon = self.soon.first_key_value().map(|((due_ms, _), _)| *due_ms);
        let packed = self.first_bucket().map(start_of);
        soon.into_iter().chain(packed).min()
    }

    /// The first bucket that is packed.
    fn first_bucket(&self) -> Option<u64> {
        let later = self.later.first_key_value().map(|(bucket, _)| *bucket);
        later.into_iter().chain(self.stored.first_bucket()).min()
    }

    /// Sorts the next chunk of what may be due before this time; false when there is none.
    fn unpack_next(&mut self, until_ms: u64) -> bool {
        let first = self.first_bucket().filter(|bucket| start_of(*bucket) < until_ms);
        let Some(bucket) = first else {
            // What comes from now on for a bucket that was unpacked belongs to the sorted ones.
            let end_ms = until_ms.div_ceil(BUCKET_MS).saturating_mul(BUCKET_MS);
            self.soon_end_ms = self.soon_end_ms.max(end_ms);
            return false;
        };
        let start_ms = start_of(bucket);
        if self.stored.first_bucket() == Some(bucket) {
            self.soon.extend(self.stored.take_first());
        } else if let Some(packed) = self.later.get_mut(&bucket) {
            let chunk = packed.take_first().unwrap_or_default();
            for (due_in_ms, number, message) in chunk.iter() {
                let key = (start_ms.saturating_add(due_in_ms), number);
                if !self.recalled.remove(&key) {
                    self.soon.insert(key, message);
                }
            }
            if packed.is_empty() {
                self.later.remove(&bucket);
            }
        }
        if self.first_bucket() != Some(bucket) {
            self.soon_end_ms = self.soon_end_ms.max(start_ms.saturating_add(BUCKET_MS));
        }
        true
    }

    /// The last number given.
    pub(crate) fn last_number(&self) -> u64 {
        self.next_number
    }

    pub(crate) fn set_last_number(&mut self, number: u64) {
        self.next_number = self.next_number.max(number);
    }

    /// Gives every message, packed, to `write`, as [`TimedMessages::insert_packed`] takes it. The same messages give the
    /// same bytes, whichever way they came here.
    ///
    /// # Errors
    /// What `write` returns.
    pub(crate) fn store<E>(&self, write: &mut Write<'_, E>) -> Result<(), E> {
        let mut near = self.near();
        let (mut stored, mut later) =
            (self.stored.chunks().peekable(), self.later.iter().peekable());
        loop {
            let of_near = near.first_key_value().map(|(bucket, _)| *bucket);
            let of_later = later.peek().map(|(bucket, _)| **bucket);
            let of_stored = stored.peek().map(|(bucket, _)| *bucket);
            let next = [of_near, of_later, of_stored].into_iter().flatten().min();
            let Some(bucket) = next else { return Ok(()) };
            let held = later.next_if(|(of, _)| **of == bucket).map(|(_, held)| held);
            match near.remove(&bucket) {
                None => self.store_bucket(bucket, &mut stored, held, write)?,
                // A part of it may be packed yet.
                Some(mut messages) => {
                    while let Some((_, chunk)) = stored.next_if(|(of, _)| *of == bucket) {
                        messages.extend(self.stored.kept(bucket, &chunk));
                    }
                    messages.extend(held.into_iter().flat_map(|held| self.kept(bucket, held)));
                    // Packed most tightly in the order in which they were stored.
                    messages.sort_unstable_by_key(|((_, number), _)| *number);
                    let mut packer = Packer { bucket, open: Chunk::default(), write };
                    packer.push_all(messages)?;
                    packer.finish()?;
                }
            }
        }
    }

    /// Those that are sorted, by bucket.
    fn near(&self) -> BTreeMap<u64, Vec<(TimedKey, HiddenMessage)>> {
        let mut near: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        for (key, message) in self.soon.iter().chain(self.leaving.iter()) {
            near.entry(key.0 / BUCKET_MS).or_default().push((*key, *message));
        }
        near
    }

    /// One bucket: what stands in the newest snapshot, then what came later. Chunks that come out as they are stay packed.
    fn store_bucket<E>(
        &self,
        bucket: u64,
        stored: &mut Peekable<impl Iterator<Item = (u64, Chunk)>>,
        held: Option<&Bucket>,
        write: &mut Write<'_, E>,
    ) -> Result<(), E> {
        let mut packer = Packer { bucket, open: Chunk::default(), write };
        let is_altered = self.stored.is_altered(bucket);
        while let Some((_, chunk)) = stored.next_if(|(of, _)| *of == bucket) {
            if !is_altered && packer.is_between_chunks() {
                packer.go_on_with(chunk)?;
            } else {
                packer.push_all(self.stored.kept(bucket, &chunk))?;
            }
        }
        packer.push_all(held.into_iter().flat_map(|held| self.kept(bucket, held)))?;
        packer.finish()
    }

    /// The messages of a bucket of `later` that are not gone.
    fn kept(&self, bucket: u64, held: &Bucket) -> impl Iterator<Item = (TimedKey, HiddenMessage)> {
        let messages = held.iter().map(move |(due_in_ms, number, message)| {
            ((start_of(bucket).saturating_add(due_in_ms), number), message)
        });
        messages.filter(|(key, _)| !self.recalled.contains(key))
    }

    /// Takes in what [`TimedMessages::store`] gave; says how many messages they are, none when the bytes are no such.
    pub(crate) fn insert_packed(&mut self, bucket: u64, chunk: Bytes) -> Option<u64> {
        let chunk = checked(bucket, chunk)?;
        let count = chunk.len();
        self.later.entry(bucket).or_default().push_chunk(chunk);
        Some(count)
    }

    /// As [`TimedMessages::insert_packed`], and leaves the messages in the item that stands at a position in a part.
    pub(crate) fn insert_stored(
        &mut self,
        bucket: u64,
        chunk: Bytes,
        place: (&Arc<PartFile>, u64, &[u8]),
    ) -> Option<u64> {
        let chunk = checked(bucket, chunk)?;
        let count = chunk.len();
        self.stored.push(bucket, &chunk, place).then_some(count)
    }

    /// All messages, in no order.
    pub(crate) fn messages(&self) -> impl Iterator<Item = HiddenMessage> {
        let sorted = self.soon.values().chain(self.leaving.values()).copied();
        let packed = self.later.iter().flat_map(|(bucket, held)| self.kept(*bucket, held));
        let packed = packed.map(|(_, message)| message);
        let stored = self.stored.messages().map(|(_, message)| message);
        sorted.chain(packed).chain(stored)
    }

    /// Forgets the messages of a topic; says how many they were.
    pub(crate) fn forget_topic(&mut self, topic: u32) -> u64 {
        let before = self.len();
        self.soon.retain(|_, message| message.topic != topic);
        self.leaving.retain(|_, message| message.topic != topic);
        self.stored.forget_topic(topic);
        for (bucket, packed) in &mut self.later {
            let mut kept = Bucket::default();
            for (due_in_ms, number, message) in packed.iter() {
                let key = (start_of(*bucket).saturating_add(due_in_ms), number);
                if message.topic != topic && !self.recalled.remove(&key) {
                    kept.push(due_in_ms, number, message);
                }
            }
            *packed = kept;
        }
        self.recalled.clear();
        before.saturating_sub(self.len())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        let packed: u64 = self.later.values().map(Bucket::len).sum();
        let sorted = self.soon.len().saturating_add(self.leaving.len()) as u64;
        let all = sorted.saturating_add(packed).saturating_add(self.stored.len());
        all.saturating_sub(self.recalled.len() as u64)
    }
}

/// Packs the messages of one bucket, whose numbers grow, and writes every chunk that is full.
struct Packer<'a, 'w, E> {
    bucket: u64,
    open: Chunk,
    write: &'a mut Write<'w, E>,
}

impl<E> Packer<'_, '_, E> {
    fn is_between_chunks(&self) -> bool {
        self.open.is_empty() || self.open.is_full()
    }

    /// Carries a chunk over; more may be added to it.
    fn go_on_with(&mut self, chunk: Chunk) -> Result<(), E> {
        let before = std::mem::replace(&mut self.open, chunk);
        if before.is_empty() { Ok(()) } else { (self.write)(self.bucket, &before.to_bytes()) }
    }

    fn push_all(
        &mut self,
        messages: impl IntoIterator<Item = (TimedKey, HiddenMessage)>,
    ) -> Result<(), E> {
        for ((due_ms, number), message) in messages {
            if !self.open.takes(number, message.position) {
                self.go_on_with(Chunk::default())?;
            }
            self.open.push(due_ms % BUCKET_MS, number, message);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), E> {
        self.go_on_with(Chunk::default())
    }
}

/// A chunk of a bucket that there can be.
fn checked(bucket: u64, chunk: Bytes) -> Option<Chunk> {
    // The bucket's end is a time yet.
    bucket.checked_add(1)?.checked_mul(BUCKET_MS)?;
    Chunk::checked(chunk)
}

#[cfg(test)]
mod tests {
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
                    }
                }
                prop_assert_eq!(timed.len(), model.len() as u64);
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
}
