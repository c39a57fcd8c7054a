//! Timed messages by due time. Those due soon stand in a sorted map; all others are packed into a few bytes each, in
//! buckets of a few seconds, so that ten million of them fit into little memory.

mod packed;

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use self::packed::Bucket;
use super::HiddenMessage;

/// Due time and number of a timed message.
pub(crate) type TimedKey = (u64, u64);

/// Span of one bucket.
const BUCKET_MS: u64 = 4_096;

/// All timed messages of a shard.
#[derive(Debug, Default)]
pub(crate) struct TimedMessages {
    /// Everything due before `soon_end_ms`.
    soon: BTreeMap<TimedKey, HiddenMessage>,
    soon_end_ms: u64,
    /// By number of the bucket: due time divided by its span.
    later: BTreeMap<u64, Bucket>,
    /// Among `later`, and yet gone: what is packed is not taken apart for one message.
    recalled: HashSet<TimedKey>,
    /// Decided to be due or recalled, and not committed yet.
    leaving: HashMap<TimedKey, HiddenMessage>,
    next_number: u64,
}

impl TimedMessages {
    pub(crate) fn take_number(&mut self) -> u64 {
        self.next_number += 1;
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

    /// As [`TimedMessages::remove`], for one that is due: whatever is due by then is sorted first, on every replica, so
    /// that nothing packed has to be remembered as gone.
    pub(crate) fn remove_due(&mut self, key: TimedKey) -> Option<HiddenMessage> {
        self.unpack_until(key.0.saturating_add(1));
        self.remove(key)
    }

    /// Marks a message as leaving and returns it; none when it is not there or leaves already.
    pub(crate) fn leave(&mut self, key: TimedKey) -> Option<HiddenMessage> {
        let message = self.take(key)?;
        self.leaving.insert(key, message);
        Some(message)
    }

    fn take(&mut self, key: TimedKey) -> Option<HiddenMessage> {
        let (due_ms, number) = key;
        if due_ms < self.soon_end_ms {
            return self.soon.remove(&key);
        }
        let bucket = self.later.get(&(due_ms / BUCKET_MS))?;
        let message = bucket.find(due_ms % BUCKET_MS, number)?;
        self.recalled.insert(key).then_some(message)
    }

    /// The first message due by now that does not leave yet, unless `leaving_max` leave already: then the commit comes
    /// first.
    pub(crate) fn next_due(&mut self, now_ms: u64, leaving_max: usize) -> Option<TimedKey> {
        self.unpack_until(now_ms.saturating_add(1));
        let first = self.soon.first_key_value().filter(|_| self.leaving.len() < leaving_max);
        first.map(|(key, _)| *key).filter(|(due_ms, _)| *due_ms <= now_ms)
    }

    /// When there may be something to do; none while the commit of what leaves has to come first.
    pub(crate) fn next_ms(&self, leaving_max: usize) -> Option<u64> {
        if self.leaving.len() >= leaving_max {
            return None;
        }
        let soon = self.soon.first_key_value().map(|((due_ms, _), _)| *due_ms);
        soon.or_else(|| self.later.first_key_value().map(|(bucket, _)| bucket * BUCKET_MS))
    }

    fn unpack_until(&mut self, until_ms: u64) {
        while let Some(entry) = self.later.first_entry() {
            let start_ms = entry.key() * BUCKET_MS;
            if start_ms >= until_ms {
                break;
            }
            for (due_in_ms, number, message) in entry.remove().iter() {
                let key = (start_ms + due_in_ms, number);
                if !self.recalled.remove(&key) {
                    self.soon.insert(key, message);
                }
            }
            self.soon_end_ms = start_ms.saturating_add(BUCKET_MS);
        }
        // What comes from now on for a bucket that was unpacked belongs to the sorted ones.
        let end_ms = until_ms.div_ceil(BUCKET_MS).saturating_mul(BUCKET_MS);
        self.soon_end_ms = self.soon_end_ms.max(end_ms);
    }

    /// The last number given.
    pub(crate) fn last_number(&self) -> u64 {
        self.next_number
    }

    pub(crate) fn set_last_number(&mut self, number: u64) {
        self.next_number = self.next_number.max(number);
    }

    /// Every message, packed, as [`TimedMessages::insert_packed`] takes it.
    pub(crate) fn packed(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let sorted = self.soon.iter().chain(self.leaving.iter());
        let mut near: BTreeMap<u64, Vec<(u64, u64, HiddenMessage)>> = BTreeMap::new();
        for ((due_ms, number), message) in sorted {
            let bucket = near.entry(due_ms / BUCKET_MS).or_default();
            bucket.push((due_ms % BUCKET_MS, *number, *message));
        }
        let near = near.into_iter().flat_map(|(bucket, mut messages)| {
            // Packed most tightly in the order in which they were stored.
            messages.sort_unstable_by_key(|(_, number, _)| *number);
            chunks_of(bucket, &packed(messages.into_iter()))
        });
        let later = self.later.iter().flat_map(|(bucket, held)| {
            let start_ms = bucket * BUCKET_MS;
            let is_kept = |due_in_ms: u64, number: u64| {
                !self.recalled.contains(&(start_ms + due_in_ms, number))
            };
            if self.recalled.is_empty() || held.iter().all(|(due, number, _)| is_kept(due, number))
            {
                return chunks_of(*bucket, held);
            }
            chunks_of(
                *bucket,
                &packed(held.iter().filter(|(due, number, _)| is_kept(*due, *number))),
            )
        });
        near.chain(later)
    }

    /// Takes in what [`TimedMessages::packed`] gave; says how many messages they are, none when the bytes are no such.
    pub(crate) fn insert_packed(&mut self, bucket: u64, chunk: Bytes) -> Option<u64> {
        // The bucket's end is a time yet.
        bucket.checked_add(1)?.checked_mul(BUCKET_MS)?;
        self.later.entry(bucket).or_default().insert_chunk(chunk)
    }

    /// Log positions of all messages.
    pub(crate) fn log_positions(&self) -> impl Iterator<Item = u64> {
        let sorted = self.soon.values().chain(self.leaving.values()).copied();
        let packed = self.later.values().flat_map(|bucket| bucket.iter().map(|(_, _, m)| m));
        sorted.chain(packed).map(|message| message.position)
    }

    /// Forgets the messages of a topic; says how many they were.
    pub(crate) fn forget_topic(&mut self, topic: u32) -> u64 {
        let before = self.len();
        self.soon.retain(|_, message| message.topic != topic);
        self.leaving.retain(|_, message| message.topic != topic);
        for (bucket, packed) in &mut self.later {
            let mut kept = Bucket::default();
            for (due_in_ms, number, message) in packed.iter() {
                let key = (bucket * BUCKET_MS + due_in_ms, number);
                if message.topic != topic && !self.recalled.remove(&key) {
                    kept.push(due_in_ms, number, message);
                }
            }
            *packed = kept;
        }
        self.recalled.clear();
        before - self.len()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        let packed: u64 = self.later.values().map(Bucket::len).sum();
        (self.soon.len() + self.leaving.len()) as u64 + packed - self.recalled.len() as u64
    }
}

fn packed(messages: impl Iterator<Item = (u64, u64, HiddenMessage)>) -> Bucket {
    let mut bucket = Bucket::default();
    messages.for_each(|(due_in_ms, number, message)| bucket.push(due_in_ms, number, message));
    bucket
}

fn chunks_of(number: u64, bucket: &Bucket) -> Vec<(u64, Vec<u8>)> {
    bucket.chunks().map(|chunk| (number, chunk)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert { in_ms: u64, tag_hash: u64, topic: u32 },
        Leave(prop::sample::Index),
        Remove(prop::sample::Index),
        Forget(u32),
        Wait(u64),
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
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        #[test]
        fn packed_messages_behave_as_a_sorted_map(steps in steps()) {
            let (mut timed, mut model) = (TimedMessages::default(), BTreeMap::new());
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
                        model.insert(key, message);
                    }
                    Step::Leave(_) | Step::Remove(_) if model.is_empty() => {}
                    Step::Leave(index) => {
                        let key = *model.keys().nth(index.index(model.len())).unwrap();
                        prop_assert_eq!(timed.leave(key), Some(model[&key]));
                        prop_assert_eq!(timed.leave(key), None, "it leaves already");
                        prop_assert_eq!(timed.remove(key), model.remove(&key));
                    }
                    Step::Remove(index) => {
                        let key = *model.keys().nth(index.index(model.len())).unwrap();
                        prop_assert_eq!(timed.remove(key), model.remove(&key));
                        prop_assert_eq!(timed.remove(key), None);
                    }
                    Step::Forget(topic) => {
                        let before = model.len();
                        model.retain(|_, message| message.topic != topic);
                        prop_assert_eq!(timed.forget_topic(topic), (before - model.len()) as u64);
                    }
                    Step::Wait(ms) => {
                        now_ms += ms;
                        while let Some(key) = timed.next_due(now_ms, 10) {
                            let (first, message) = model.pop_first().expect("due");
                            prop_assert_eq!(key, first);
                            prop_assert_eq!(timed.leave(key), Some(message));
                            prop_assert_eq!(timed.remove(key), Some(message));
                        }
                    }
                }
                prop_assert_eq!(timed.len(), model.len() as u64);
                if let Some(((due_ms, _), _)) = model.first_key_value() {
                    let next_ms = timed.next_ms(10).expect("something waits");
                    prop_assert!(next_ms <= *due_ms, "nobody would look in time");
                }
            }
        }
    }
}
