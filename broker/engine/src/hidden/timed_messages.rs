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

/// Where a walk over all of them goes on, in the order in which they move on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TimedPlace {
    /// So many blocks of the snapshot are to come; those that are taken out go from the front.
    Stored {
        left: usize,
    },
    /// The chunk of a bucket that begins with this number.
    Later {
        bucket: u64,
        number: u64,
    },
    Soon(TimedKey),
}

impl Default for TimedPlace {
    fn default() -> Self {
        Self::Stored { left: usize::MAX }
    }
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

    /// Tells of the positions of about `looks` messages from a place on; where the next ones are, none behind the last.
    pub(crate) fn walk(
        &self,
        from: TimedPlace,
        looks: &mut usize,
        tell: &mut dyn FnMut(u64),
    ) -> Option<TimedPlace> {
        let mut next = from;
        while *looks > 0 {
            next = match next {
                TimedPlace::Stored { left } => self.stored.walk(left, looks, tell),
                TimedPlace::Later { bucket, number } => {
                    self.walk_later((bucket, number), looks, tell)
                }
                TimedPlace::Soon(from) => {
                    let mut soon = self.soon.range(from..);
                    for (_, message) in soon.by_ref().take(std::mem::take(looks)) {
                        tell(message.position);
                    }
                    match soon.next() {
                        Some((key, _)) => TimedPlace::Soon(*key),
                        None => {
                            self.leaving.values().for_each(|message| tell(message.position));
                            return None;
                        }
                    }
                }
            };
        }
        Some(next)
    }

    fn walk_later(
        &self,
        (bucket, number): (u64, u64),
        looks: &mut usize,
        tell: &mut dyn FnMut(u64),
    ) -> TimedPlace {
        for (&of, held) in self.later.range(bucket..) {
            for chunk in held.chunks() {
                let (first_number, _) = chunk.numbers();
                if of == bucket && first_number < number {
                    continue;
                }
                if *looks == 0 {
                    return TimedPlace::Later { bucket: of, number: first_number };
                }
                let keyed = chunk.iter().map(|(due_in_ms, number, message)| {
                    ((start_of(of).saturating_add(due_in_ms), number), message)
                });
                let kept = keyed.filter(|(key, _)| !self.recalled.contains(key));
                kept.for_each(|(_, message)| tell(message.position));
                *looks = looks.saturating_sub(usize::try_from(chunk.len()).unwrap_or(usize::MAX));
            }
        }
        TimedPlace::Soon((0, 0))
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
mod tests;
