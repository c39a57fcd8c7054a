//! When full segments are to be sealed, and what the replica lets go of once they are. Sealing itself reads the log beside
//! the replica and is not here.

use broker_engine::ReplyTo;
use broker_store::segments::Segment;

use super::Replica;
use crate::sealing::Sealed;

/// The log behind a snapshot grows to this many times its size before the next one is written.
const SNAPSHOT_DISTANCE_FACTOR: u64 = 4;

impl<R: ReplyTo> Replica<R> {
    /// Up to where segments are to be sealed; none while it is not worth it: what a start has to read behind the newest
    /// snapshot stays within one segment and a few times the size of that snapshot.
    #[must_use]
    pub fn seal_until(&self) -> Option<u64> {
        let until = self.log.active_base();
        let distance_bytes = until.saturating_sub(self.sealed_position);
        let worth_bytes = SNAPSHOT_DISTANCE_FACTOR * self.snapshot_bytes;
        // Where space is short, any that comes back is worth it.
        let is_worth = distance_bytes >= worth_bytes || self.room.is_nearly_full;
        let is_due = distance_bytes > 0 && is_worth;
        // Then everything before it is committed, and its file is there.
        (is_due && self.applied_position > until).then_some(until)
    }

    /// Takes note of sealed segments: their messages leave memory. Gives back the segments that nobody needs any more, and
    /// those of which what is live was copied.
    pub fn sealed(&mut self, sealed: Sealed) -> Vec<Segment> {
        self.engine.attach(sealed.runs);
        self.sealed_position = self.sealed_position.max(sealed.position);
        self.snapshot_bytes = sealed.snapshot_bytes;
        let mut unused = self.log.forget(&sealed.unneeded);
        unused.extend(self.log.replace(sealed.condensed));
        unused
    }
}
