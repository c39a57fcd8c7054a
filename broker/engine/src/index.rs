//! The in-memory index of one queue: where each message is, and what a filter needs to know about it.

use std::collections::VecDeque;

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
    /// The offset for the next send: ahead of [`Queue::end`] by what is not committed yet.
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
    pub(crate) fn push(&mut self, entry: IndexEntry) {
        self.bytes += u64::from(entry.length_bytes);
        self.entries.push_back(entry);
        self.next_append = self.next_append.max(self.end());
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
