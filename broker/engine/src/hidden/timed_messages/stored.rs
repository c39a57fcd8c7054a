//! Timed messages that stay where the newest snapshot has them, by bucket: in memory is only which piece of which part
//! holds what. Nothing is changed in there; what left is remembered beside it.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use broker_store::snapshot::{PartFile, Piece};
use bytes::{Buf, Bytes};

use super::packed::Chunk;
use super::{BUCKET_MS, HiddenMessage, TimedKey, TimedPlace, start_of};
use crate::stored_state::split_item;

/// Chunks are read together up to this: a chunk of few messages would not be worth a piece of its own.
const BLOCK_BYTES: usize = 16 * 1024;

#[derive(Debug, Default)]
pub(super) struct Stored {
    /// In the order of the buckets; one bucket may go on in the next block.
    blocks: VecDeque<Block>,
    /// The rest of the block that is being taken out.
    front: Bytes,
    /// Among them, and yet gone.
    gone: BTreeSet<TimedKey>,
    /// The same for whole topics, whose numbers are never used again.
    forgotten_topics: HashSet<u32>,
    /// Without those that are gone.
    messages: u64,
}

/// Items of a snapshot that follow each other.
#[derive(Debug)]
struct Block {
    piece: Piece,
    first_bucket: u64,
    last_bucket: u64,
    first_number: u64,
    last_number: u64,
}

impl Block {
    fn may_hold(&self, bucket: u64, number: u64) -> bool {
        (self.first_bucket..=self.last_bucket).contains(&bucket)
            && (self.first_number..=self.last_number).contains(&number)
    }
}

impl Stored {
    /// Takes note of a chunk and of where its item stands; false when it is not behind those before it.
    pub(super) fn push(
        &mut self,
        bucket: u64,
        chunk: &Chunk,
        (part, position, item): (&Arc<PartFile>, u64, &[u8]),
    ) -> bool {
        let (first_number, last_number) = chunk.numbers();
        if self.blocks.back().is_some_and(|block| block.last_bucket > bucket) {
            return false;
        }
        self.messages = self.messages.saturating_add(chunk.len());
        if let Some(block) = self.blocks.back_mut()
            && block.piece.extend(part, position, item, BLOCK_BYTES)
        {
            block.last_bucket = bucket;
            block.first_number = block.first_number.min(first_number);
            block.last_number = block.last_number.max(last_number);
            return true;
        }
        let piece = Piece::new(part, position, item);
        let (first_bucket, last_bucket) = (bucket, bucket);
        self.blocks.push_back(Block {
            piece,
            first_bucket,
            last_bucket,
            first_number,
            last_number,
        });
        true
    }

    /// Every chunk by bucket, read block by block; they end early when one cannot be read.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (u64, Chunk)> {
        let blocks = self.blocks.iter().map_while(|block| block.piece.read());
        std::iter::once(self.front.clone()).chain(blocks).flat_map(chunks_of)
    }

    /// See [`super::TimedMessages::walk`]; `left` blocks are to come.
    pub(super) fn walk(
        &self,
        left: usize,
        looks: &mut usize,
        tell: &mut dyn FnMut(u64),
    ) -> TimedPlace {
        let mut told = |items: Bytes| {
            for (bucket, chunk) in chunks_of(items) {
                let kept = self.kept(bucket, &chunk).into_iter();
                kept.for_each(|(_, message)| tell(message.position));
                *looks = looks.saturating_sub(usize::try_from(chunk.len()).unwrap_or(usize::MAX));
            }
            *looks > 0
        };
        let mut left = left;
        if left > self.blocks.len() {
            left = self.blocks.len();
            if !told(self.front.clone()) {
                return TimedPlace::Stored { left };
            }
        }
        let first = self.blocks.len().saturating_sub(left);
        for block in self.blocks.iter().skip(first) {
            left = left.saturating_sub(1);
            // One that cannot be read is noted as a failure: nothing comes of this any more.
            if !block.piece.read().is_none_or(&mut told) {
                return TimedPlace::Stored { left };
            }
        }
        TimedPlace::Later { bucket: 0, number: 0 }
    }

    /// Every message that is not gone.
    pub(super) fn messages(&self) -> impl Iterator<Item = (TimedKey, HiddenMessage)> {
        self.chunks().flat_map(|(bucket, chunk)| self.kept(bucket, &chunk))
    }

    /// The messages of a chunk that are not gone.
    pub(super) fn kept(&self, bucket: u64, chunk: &Chunk) -> Vec<(TimedKey, HiddenMessage)> {
        let messages = chunk.iter().map(|(due_in_ms, number, message)| {
            ((start_of(bucket).saturating_add(due_in_ms), number), message)
        });
        messages.filter(|(key, message)| !self.is_gone(*key, message)).collect()
    }

    fn is_gone(&self, key: TimedKey, message: &HiddenMessage) -> bool {
        self.forgotten_topics.contains(&message.topic) || self.gone.contains(&key)
    }

    /// Whether messages of a bucket may be gone.
    pub(super) fn is_altered(&self, bucket: u64) -> bool {
        let (start_ms, end_ms) = (start_of(bucket), start_of(bucket.saturating_add(1)));
        !self.forgotten_topics.is_empty()
            || self.gone.range((start_ms, 0)..(end_ms, 0)).next().is_some()
    }

    /// Takes out one message.
    pub(super) fn take(&mut self, key: TimedKey) -> Option<HiddenMessage> {
        let (bucket, number) = (key.0 / BUCKET_MS, key.1);
        let behind = self.blocks.iter().take_while(|block| block.first_bucket <= bucket);
        let blocks = behind.filter(|block| block.may_hold(bucket, number));
        let blocks = blocks.map_while(|block| block.piece.read());
        let read = std::iter::once(self.front.clone()).chain(blocks).flat_map(chunks_of);
        let mut chunks = read.filter(|(of, _)| *of == bucket);
        let message = chunks.find_map(|(_, chunk)| chunk.find(key.0 % BUCKET_MS, number))?;
        if self.is_gone(key, &message) {
            return None;
        }
        self.gone.insert(key);
        self.messages = self.messages.saturating_sub(1);
        Some(message)
    }

    /// The first bucket that holds a chunk.
    pub(super) fn first_bucket(&self) -> Option<u64> {
        let in_front = chunks_of(self.front.clone()).next().map(|(bucket, _)| bucket);
        in_front.or_else(|| self.blocks.front().map(|block| block.first_bucket))
    }

    /// Takes out the messages of the first chunk.
    pub(super) fn take_first(&mut self) -> Vec<(TimedKey, HiddenMessage)> {
        if self.front.is_empty() {
            // One that cannot be read is noted as a failure: nothing comes of this any more.
            let block = self.blocks.pop_front();
            self.front = block.and_then(|block| block.piece.read()).unwrap_or_default();
        }
        let Some((bucket, chunk)) = next_chunk(&mut self.front) else { return Vec::new() };
        let kept = self.kept(bucket, &chunk);
        self.messages = self.messages.saturating_sub(kept.len() as u64);
        if !self.gone.is_empty() {
            for (due_in_ms, number, _) in chunk.iter() {
                self.gone.remove(&(start_of(bucket).saturating_add(due_in_ms), number));
            }
        }
        kept
    }

    /// Forgets the messages of a topic.
    pub(super) fn forget_topic(&mut self, topic: u32) {
        let forgotten = self.messages().filter(|(_, message)| message.topic == topic).count();
        if forgotten > 0 {
            self.messages = self.messages.saturating_sub(forgotten as u64);
            self.forgotten_topics.insert(topic);
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.messages
    }
}

fn chunks_of(mut items: Bytes) -> impl Iterator<Item = (u64, Chunk)> {
    std::iter::from_fn(move || next_chunk(&mut items))
}

/// The next chunk of items that were taken in by [`Stored::push`].
fn next_chunk(items: &mut Bytes) -> Option<(u64, Chunk)> {
    let (_kind, mut item) = split_item(items)?;
    Some((item.try_get_u64_le().ok()?, Chunk::stored(item)?))
}
