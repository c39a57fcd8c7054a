//! One bucket of timed messages, packed: differences to the message before as variable-length numbers, in chunks that
//! are short enough to be searched from their beginning. About 14 bytes for a message without a tag.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

use super::{BUCKET_MS, HiddenMessage};

/// Numbers in front of a chunk that is stored.
const CHUNK_HEADER_BYTES: usize = 28;
/// Messages of one chunk: what a search for one message reads at most.
const CHUNK_MESSAGES_MAX: u32 = if cfg!(test) { 16 } else { 1_024 };

#[derive(Debug, Default)]
pub(super) struct Bucket {
    chunks: VecDeque<Chunk>,
}

/// Messages whose numbers and positions grow.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    first_number: u64,
    last_number: u64,
    last_position: u64,
    count: u32,
    bytes: Packed,
}

#[derive(Debug)]
enum Packed {
    /// More may follow.
    Open(Vec<u8>),
    /// As a snapshot had it; not copied, because that is most of what a snapshot with many timed messages holds.
    Stored(Bytes),
}

impl Default for Packed {
    fn default() -> Self {
        Self::Open(Vec::new())
    }
}

impl Packed {
    /// For more to follow; what a snapshot had is copied then.
    fn open(&mut self) -> &mut Vec<u8> {
        let copied = match self {
            Self::Open(bytes) => return bytes,
            Self::Stored(bytes) => bytes.to_vec(),
        };
        *self = Self::Open(copied);
        self.open()
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Open(bytes) => bytes,
            Self::Stored(bytes) => bytes,
        }
    }
}

impl Bucket {
    /// Adds a message; numbers and positions grow as the log does.
    pub(super) fn push(&mut self, due_in_ms: u64, number: u64, message: HiddenMessage) {
        let takes = |chunk: &Chunk| chunk.takes(number, message.position);
        if !self.chunks.back().is_some_and(takes) {
            if let Some(Packed::Open(full)) = self.chunks.back_mut().map(|chunk| &mut chunk.bytes) {
                full.shrink_to_fit();
            }
            if self.chunks.is_empty() {
                // One is all that most buckets have when due times are far apart.
                self.chunks.reserve_exact(1);
            }
            self.chunks.push_back(Chunk::default());
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.push(due_in_ms, number, message);
        }
    }

    /// The message of this number and due time.
    pub(super) fn find(&self, due_in_ms: u64, number: u64) -> Option<HiddenMessage> {
        self.chunks.iter().find_map(|chunk| chunk.find(due_in_ms, number))
    }

    /// Every message with its time in the bucket and its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64, HiddenMessage)> {
        self.chunks.iter().flat_map(Chunk::iter)
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter()
    }

    /// Takes out the first chunk.
    pub(super) fn take_first(&mut self) -> Option<Chunk> {
        self.chunks.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub(super) fn push_chunk(&mut self, chunk: Chunk) {
        self.chunks.push_back(chunk);
    }

    pub(super) fn len(&self) -> u64 {
        self.chunks.iter().map(Chunk::len).sum()
    }
}

impl Chunk {
    /// What [`Chunk::to_bytes`] gave; none when the bytes are no chunk.
    pub(super) fn checked(bytes: Bytes) -> Option<Self> {
        Self::stored(bytes).filter(Self::is_consistent)
    }

    /// As [`Chunk::checked`], of bytes that were found to be a chunk before.
    pub(super) fn stored(mut bytes: Bytes) -> Option<Self> {
        if bytes.len() < CHUNK_HEADER_BYTES {
            return None;
        }
        let mut header = bytes.split_to(CHUNK_HEADER_BYTES);
        Some(Self {
            first_number: header.get_u64_le(),
            last_number: header.get_u64_le(),
            last_position: header.get_u64_le(),
            count: header.get_u32_le(),
            bytes: Packed::Stored(bytes),
        })
    }

    /// As it is stored: four numbers and what is packed.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let packed = self.bytes.as_slice();
        let mut bytes = Vec::with_capacity(CHUNK_HEADER_BYTES.saturating_add(packed.len()));
        for field in [self.first_number, self.last_number, self.last_position] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(packed);
        bytes
    }

    /// The first and the last number.
    pub(super) fn numbers(&self) -> (u64, u64) {
        (self.first_number, self.last_number)
    }

    pub(super) fn len(&self) -> u64 {
        u64::from(self.count)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.count >= CHUNK_MESSAGES_MAX
    }

    /// Whether this message can be the next one.
    pub(super) fn takes(&self, number: u64, position: u64) -> bool {
        !self.is_full() && number >= self.last_number && position >= self.last_position
    }

    pub(super) fn find(&self, due_in_ms: u64, number: u64) -> Option<HiddenMessage> {
        if !(self.first_number..=self.last_number).contains(&number) {
            return None;
        }
        let mut found = self.iter().filter(|(due, n, _)| (*due, *n) == (due_in_ms, number));
        found.next().map(|(_, _, message)| message)
    }

    /// Whether the numbers in front of a chunk are those of what is packed.
    fn is_consistent(&self) -> bool {
        let (mut count, mut first, mut last) = (0u32, None, (0, 0));
        for (due_in_ms, number, message) in self.iter() {
            if due_in_ms >= BUCKET_MS || count >= CHUNK_MESSAGES_MAX {
                return false;
            }
            count = count.saturating_add(1);
            first.get_or_insert(number);
            last = (number, message.position);
        }
        first == Some(self.first_number)
            && count == self.count
            && last == (self.last_number, self.last_position)
    }

    /// Adds a message that it [takes](Self::takes).
    pub(super) fn push(&mut self, due_in_ms: u64, number: u64, message: HiddenMessage) {
        if self.is_empty() {
            self.first_number = number;
        }
        let HiddenMessage { position, tag_hash, length_bytes, topic, queue } = message;
        let bytes = self.bytes.open();
        if bytes.capacity() < bytes.len().saturating_add(MESSAGE_BYTES_MAX) {
            // Doubling would leave half of the memory unused.
            bytes.reserve_exact(MESSAGE_BYTES_MAX.saturating_add(bytes.len() / 4));
        }
        let has_tag = u64::from(tag_hash != 0);
        for value in [
            number.saturating_sub(self.last_number),
            position.saturating_sub(self.last_position),
            due_in_ms << 1 | has_tag,
            u64::from(length_bytes),
            u64::from(topic),
            u64::from(queue),
        ] {
            put(bytes, value);
        }
        if has_tag == 1 {
            bytes.extend_from_slice(&tag_hash.to_le_bytes());
        }
        (self.last_number, self.last_position) = (number, position);
        self.count = self.count.saturating_add(1);
    }

    /// Every message with its time in the bucket and its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64, HiddenMessage)> {
        let mut rest = self.bytes.as_slice();
        let (mut number, mut position) = (0, 0);
        std::iter::from_fn(move || {
            number = u64::checked_add(number, take(&mut rest)?)?;
            position = u64::checked_add(position, take(&mut rest)?)?;
            let due = take(&mut rest)?;
            let length_bytes = u32::try_from(take(&mut rest)?).ok()?;
            let topic = u32::try_from(take(&mut rest)?).ok()?;
            let queue = u32::try_from(take(&mut rest)?).ok()?;
            let mut tag_hash = 0;
            if due & 1 == 1 {
                let (bytes, behind) = rest.split_first_chunk::<8>()?;
                (tag_hash, rest) = (u64::from_le_bytes(*bytes), behind);
            }
            let message = HiddenMessage { position, tag_hash, length_bytes, topic, queue };
            Some((due >> 1, number, message))
        })
    }
}

/// Six numbers of at most ten bytes and a tag hash, though most take one to three.
const MESSAGE_BYTES_MAX: usize = 6 * 10 + 8;

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0, 0_u32);
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if shift > 63 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
        shift = shift.saturating_add(7);
    }
}
