//! The index of one queue: where each message is, and what a filter needs to know about it. The newest messages stand in
//! memory; those of sealed segments in the index files of the segments, read when asked for.

use std::collections::VecDeque;

use broker_store::record::Place;
use broker_store::{IndexEntry, SealedRun};

/// A queue's messages, by offset.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Offset of the oldest message.
    base: u64,
    /// Messages in index files, without gaps from `base` on; the first run may begin before it.
    sealed: VecDeque<SealedRun>,
    /// Offset of the first entry in memory.
    memory_base: u64,
    entries: VecDeque<IndexEntry>,
    /// Parallel to `entries`: hashes of the message groups; empty while no message has one.
    message_groups: VecDeque<u64>,
    /// Parallel to `entries` in a dead-letter topic: the message as its group saw it; empty elsewhere.
    origins: VecDeque<Place>,
    /// The offset for the next message: ahead of [`Queue::end`] by what is not committed yet.
    next_append: u64,
    bytes: u64,
    /// When the message at `base` was stored, if it stands in an index file; 0 while nobody looked.
    oldest_sealed_ms: u64,
}

/// A message that is in memory only, for the index file that it is put into.
pub(crate) struct UnsealedMessage {
    pub(crate) offset: u64,
    pub(crate) entry: IndexEntry,
    pub(crate) message_group_hash: u64,
    pub(crate) origin: Option<Place>,
}

impl Queue {
    /// A queue as it was stored: its messages, `base..end`, are all in index files that are attached next.
    pub(crate) fn stored(base: u64, end: u64) -> Self {
        Self { base, memory_base: base, next_append: end, ..Self::default() }
    }

    /// The offset behind the last committed message.
    pub(crate) fn end(&self) -> u64 {
        self.memory_base.saturating_add(self.entries.len() as u64)
    }

    /// Takes the offset for a message that is about to be appended.
    pub(crate) fn take_offset(&mut self) -> u64 {
        let offset = self.next_append;
        self.next_append = self.next_append.saturating_add(1);
        offset
    }

    /// Whether index files are missing: messages were stored that are nowhere.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.end() != self.next_append
    }

    /// Adds a committed message.
    pub(crate) fn push(&mut self, entry: IndexEntry, message_group_hash: u64) {
        if message_group_hash != 0 && self.message_groups.is_empty() {
            self.message_groups.resize(self.entries.len(), 0);
        }
        if message_group_hash != 0 || !self.message_groups.is_empty() {
            self.message_groups.push_back(message_group_hash);
        }
        self.bytes = self.bytes.saturating_add(u64::from(entry.length_bytes));
        self.entries.push_back(entry);
        self.next_append = self.next_append.max(self.end());
    }

    /// Adds a committed dead letter.
    pub(crate) fn push_dead_letter(&mut self, entry: IndexEntry, origin: Place) {
        self.push(entry, 0);
        self.origins.push_back(origin);
    }

    /// Messages that are in memory, or were stored, stand in an index file now. Returns how many left memory; none when
    /// the run is of messages that are gone, or does not follow what is known.
    pub(crate) fn attach(&mut self, run: SealedRun) -> Option<u64> {
        let end = run.end();
        if end <= self.memory_base || run.first > self.memory_base {
            return None;
        }
        if self.entries.is_empty() {
            // At a start: what was in memory is counted already.
            self.bytes = self.bytes.saturating_add(run.bytes);
        }
        let count = usize::try_from(end.saturating_sub(self.memory_base)).unwrap_or(usize::MAX);
        let count = count.min(self.entries.len());
        let oldest = self.in_memory(self.base).and_then(|at| self.entries.get(at));
        if let Some(oldest) = oldest {
            self.oldest_sealed_ms = oldest.stored_ms;
        }
        self.entries.drain(..count);
        self.message_groups.drain(..count.min(self.message_groups.len()));
        self.origins.drain(..count.min(self.origins.len()));
        if self.entries.is_empty() {
            // Millions of queues are idle most of the time.
            self.entries = VecDeque::new();
            self.message_groups = VecDeque::new();
            self.origins = VecDeque::new();
        }
        self.memory_base = end;
        self.sealed.push_back(run);
        Some(count as u64)
    }

    /// The messages in memory.
    pub(crate) fn unsealed(&self) -> impl Iterator<Item = UnsealedMessage> {
        (self.memory_base..).zip(&self.entries).map(|(offset, entry)| UnsealedMessage {
            offset,
            entry: *entry,
            message_group_hash: self.message_group_hash(offset),
            origin: self.origin(offset),
        })
    }

    /// The runs in index files, the oldest first.
    pub(crate) fn sealed(&self) -> impl Iterator<Item = &SealedRun> {
        self.sealed.iter()
    }

    /// Forgets everything below an offset. Returns how many index entries are gone.
    pub(crate) fn trim_below(&mut self, offset: u64) -> u64 {
        let before = self.index_entries();
        while self.sealed.front().is_some_and(|run| run.end() <= offset) {
            let run = self.sealed.pop_front();
            self.bytes = self.bytes.saturating_sub(run.map_or(0, |run| run.bytes));
        }
        // After a start from an older snapshot what was sealed then may be in memory yet.
        while self.memory_base < offset
            && let Some(entry) = self.entries.pop_front()
        {
            self.message_groups.pop_front();
            self.origins.pop_front();
            self.bytes = self.bytes.saturating_sub(u64::from(entry.length_bytes));
            self.memory_base = self.memory_base.saturating_add(1);
        }
        let base = self.base.max(offset.min(self.end()));
        if base != self.base {
            (self.base, self.oldest_sealed_ms) = (base, 0);
        }
        before.saturating_sub(self.index_entries())
    }

    /// Forgets all messages; offsets go on.
    pub(crate) fn clear(&mut self) {
        let (base, next_append) = (self.end(), self.next_append);
        *self = Self { base, memory_base: base, next_append, ..Self::default() };
    }

    /// Messages below stand in index files, those from there on in memory.
    pub(crate) fn memory_base(&self) -> u64 {
        self.memory_base
    }

    /// The offset of the oldest message.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Whether a message of this offset is kept.
    pub(crate) fn contains(&self, offset: u64) -> bool {
        (self.base..self.end()).contains(&offset)
    }

    /// Hash of the message group at this offset, 0 without one.
    pub(crate) fn message_group_hash(&self, offset: u64) -> u64 {
        match self.in_memory(offset) {
            Some(at) => self.message_groups.get(at).copied().unwrap_or(0),
            None => self.run_of(offset).map_or(0, |run| run.message_group_hash(offset)),
        }
    }

    /// The message that became this dead letter, as its group saw it.
    pub(crate) fn origin(&self, offset: u64) -> Option<Place> {
        match self.in_memory(offset) {
            Some(at) => self.origins.get(at).copied(),
            None => self.run_of(offset)?.origin(offset),
        }
    }

    /// The first offset stored at this time or later.
    pub(crate) fn offset_at(&self, time_ms: u64) -> u64 {
        let later = self.sealed.iter().find(|run| run.last_ms >= time_ms);
        let Some(run) = later else {
            let earlier = self.entries.partition_point(|entry| entry.stored_ms < time_ms);
            return self.memory_base.saturating_add(earlier as u64).max(self.base);
        };
        let (mut low, mut high) = (run.first.max(self.base), run.end());
        #[cfg(feature = "simulation")]
        if broker_store::switches::has_bug(broker_store::switches::Bug::TimeOfSegment) {
            return low;
        }
        while low < high {
            let middle = low.midpoint(high);
            if run.entry(middle).is_some_and(|entry| entry.stored_ms < time_ms) {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        low
    }

    /// The message at this offset; none when there is none, or when its index cannot be read (`Engine::index_failure`).
    pub(crate) fn get(&self, offset: u64) -> Option<IndexEntry> {
        if offset < self.base {
            return None;
        }
        match self.in_memory(offset) {
            Some(at) => self.entries.get(at).copied(),
            None => self.run_of(offset)?.entry(offset),
        }
    }

    /// When the oldest message was stored. Its index file is read once, which counts as one of `lookups`; with none left it
    /// is said to be as young as the newest message of its run.
    pub(crate) fn oldest_ms(&mut self, lookups: &mut u32) -> Option<u64> {
        if self.base >= self.end() {
            return None;
        }
        if self.in_memory(self.base).is_none() && self.oldest_sealed_ms == 0 {
            let Some(left) = lookups.checked_sub(1) else {
                return self.run_of(self.base).map(|run| run.last_ms);
            };
            *lookups = left;
            self.oldest_sealed_ms = self.get(self.base)?.stored_ms;
        }
        match self.in_memory(self.base) {
            Some(at) => self.entries.get(at).map(|entry| entry.stored_ms),
            None => Some(self.oldest_sealed_ms),
        }
    }

    fn in_memory(&self, offset: u64) -> Option<usize> {
        usize::try_from(offset.checked_sub(self.memory_base)?).ok()
    }

    fn run_of(&self, offset: u64) -> Option<&SealedRun> {
        let at = self.sealed.partition_point(|run| run.end() <= offset);
        self.sealed.get(at).filter(|run| run.first <= offset)
    }

    /// Messages kept.
    pub(crate) fn len(&self) -> u64 {
        self.end().saturating_sub(self.base)
    }

    /// What the queue takes in memory: entries and runs.
    pub(crate) fn index_entries(&self) -> u64 {
        self.entries.len().saturating_add(self.sealed.len()) as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
