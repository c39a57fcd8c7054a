//! What a shard's thread is working on, for whoever notes why the process died: a record that a start reads, or the upkeep
//! that time alone causes. Known to the thread that does it, and to nobody else.

use std::cell::Cell;
use std::sync::OnceLock;

/// Tells a debug build at which log position a start dies.
const DIES_AT_VARIABLE: &str = "PINNACE_TEST_DIES_AT";

/// The work at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtHand {
    /// A start, or sealing, reads the record at this log position; or one of the same frame behind it, when the frame is
    /// read in one piece.
    Record {
        /// The shard.
        shard: u32,
        /// Log position.
        position: u64,
    },
    /// Expiries, retention and the like.
    Upkeep {
        /// The shard.
        shard: u32,
    },
}

thread_local! {
    static AT_HAND: Cell<Option<AtHand>> = const { Cell::new(None) };
}

/// What this thread is working on.
#[must_use]
pub fn at_hand() -> Option<AtHand> {
    AT_HAND.get()
}

/// Notes the work until it is dropped.
#[derive(Debug)]
pub(crate) struct Noted;

impl Noted {
    pub(crate) fn new(work: AtHand) -> Self {
        AT_HAND.set(Some(work));
        if let AtHand::Record { position, .. } = work {
            debug_assert_ne!(Some(position), dies_at(), "told to die here");
        }
        Self
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        AT_HAND.set(None);
    }
}

fn dies_at() -> Option<u64> {
    static DIES_AT: OnceLock<Option<u64>> = OnceLock::new();
    *DIES_AT.get_or_init(|| std::env::var(DIES_AT_VARIABLE).ok()?.parse().ok())
}
