//! The in-memory index of one queue: where each message is, and what a filter needs to know about it.

use std::collections::VecDeque;

use broker_store::record::Place;

/// One message of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexEntry {
    /// Log position of its record.
    pub(crate) position: u64,
    /// Hash of its tag.
    pub(crate) tag_hash: u64,
    /// When it was stored, or dead-lettered; Unix time.
    pub(crate) stored_ms: u64,
    /// Length of its record.
    pub(crate) length_bytes: u32,
    /// Number of the topic it was sent to when that is not this one; 0 otherwise.
    pub(crate) origin: u32,
}

/// A queue's messages, by offset.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Offset of the first entry kept.
    base: u64,
    entries: VecDeque<IndexEntry>,
    /// Parallel to `entries`: hashes of the message groups; empty while no message has one.
    message_groups: VecDeque<u64>,
    /// Parallel to `entries` in a dead-letter topic: the message as its group saw it; empty elsewhere.
    origins: VecDeque<Place>,
    /// The offset for the next message: ahead of [`Queue::end`] by what is not committed yet.
    next_append: u64,
    bytes: u64,
}

impl Queue {
    /// The offset behind the last committed message.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    /// Takes the offset for a message that is about to be appended.
    pub(crate) fn take_offset(&mut self) -> u64 {
        let offset = self.next_append;
        self.next_append += 1;
        offset
    }

    /// Adds a committed message.
    pub(crate) fn push(&mut self, entry: IndexEntry, message_group_hash: u64) {
        if message_group_hash != 0 && self.message_groups.is_empty() {
            self.message_groups.resize(self.entries.len(), 0);
        }
        if message_group_hash != 0 || !self.message_groups.is_empty() {
            self.message_groups.push_back(message_group_hash);
        }
        self.bytes += u64::from(entry.length_bytes);
        self.entries.push_back(entry);
        self.next_append = self.next_append.max(self.end());
    }

    /// Adds a committed dead letter.
    pub(crate) fn push_dead_letter(&mut self, entry: IndexEntry, origin: Place) {
        self.push(entry, 0);
        self.origins.push_back(origin);
    }

    /// Forgets all messages; offsets go on.
    pub(crate) fn clear(&mut self) {
        let next_append = self.next_append;
        *self = Self { base: self.end(), next_append, ..Self::default() };
    }

    /// The offset of the oldest message.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Hash of the message group at this offset, 0 without one.
    pub(crate) fn message_group_hash(&self, offset: u64) -> u64 {
        let at = offset.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.message_groups.get(at)).copied().unwrap_or(0)
    }

    /// The message that became this dead letter, as its group saw it.
    pub(crate) fn origin(&self, offset: u64) -> Option<Place> {
        let at = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        self.origins.get(at).copied()
    }

    /// The first offset stored at this time or later.
    pub(crate) fn offset_at(&self, time_ms: u64) -> u64 {
        self.base + self.entries.partition_point(|entry| entry.stored_ms < time_ms) as u64
    }

    pub(crate) fn get(&self, offset: u64) -> Option<&IndexEntry> {
        let at = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        self.entries.get(at)
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
