//! Order among the messages of one queue: of each message group only the first one that is not done may be handed out,
//! and only while no other of its group is in flight. Derived from the progress of the group; made when first needed.

use std::collections::{BTreeSet, HashMap};

/// The messages looked at that are not done, by message group. Messages without one are one group: the queue's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MessageGroups {
    /// Offset to hash of the message group.
    hashes: HashMap<u64, u64>,
    lines: HashMap<u64, Line>,
    /// The first message of every group that has none in flight.
    free: BTreeSet<u64>,
    waiting: usize,
}

/// One message group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Line {
    waiting: BTreeSet<u64>,
    in_flight: u32,
}

impl Line {
    fn free(&self) -> Option<u64> {
        if self.in_flight == 0 { self.waiting.first().copied() } else { None }
    }
}

impl MessageGroups {
    /// Takes note of a message that waits for its turn.
    pub(crate) fn add(&mut self, offset: u64, hash: u64) {
        self.hashes.insert(offset, hash);
        self.change(hash, |line| {
            line.waiting.insert(offset);
        });
    }

    pub(crate) fn knows(&self, offset: u64) -> bool {
        self.hashes.contains_key(&offset)
    }

    /// A waiting message is in flight now.
    pub(crate) fn take(&mut self, offset: u64) {
        let Some(&hash) = self.hashes.get(&offset) else { return };
        self.change(hash, |line| {
            if line.waiting.remove(&offset) {
                line.in_flight = line.in_flight.saturating_add(1);
            }
        });
    }

    /// A message in flight waits again.
    pub(crate) fn give_back(&mut self, offset: u64) {
        let Some(&hash) = self.hashes.get(&offset) else { return };
        self.change(hash, |line| {
            if line.waiting.insert(offset) {
                line.in_flight = line.in_flight.saturating_sub(1);
            }
        });
    }

    /// A message is done.
    pub(crate) fn finish(&mut self, offset: u64) {
        let Some(hash) = self.hashes.remove(&offset) else { return };
        self.change(hash, |line| {
            if !line.waiting.remove(&offset) {
                line.in_flight = line.in_flight.saturating_sub(1);
            }
        });
    }

    /// The next message from this offset on that may be handed out now.
    pub(crate) fn free_from(&self, offset: u64) -> Option<u64> {
        self.free.range(offset..).next().copied()
    }

    /// Messages that wait for their turn.
    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting
    }

    pub(crate) fn free_count(&self) -> usize {
        self.free.len()
    }

    fn change(&mut self, hash: u64, change: impl FnOnce(&mut Line)) {
        let line = self.lines.entry(hash).or_default();
        let (before, waiting) = (line.free(), line.waiting.len());
        change(line);
        let after = line.free();
        self.waiting = self.waiting.saturating_sub(waiting).saturating_add(line.waiting.len());
        if line.waiting.is_empty() && line.in_flight == 0 {
            self.lines.remove(&hash);
        }
        if before != after {
            before.map(|offset| self.free.remove(&offset));
            after.map(|offset| self.free.insert(offset));
        }
    }
}
