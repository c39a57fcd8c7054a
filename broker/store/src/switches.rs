//! Switches for simulations, off unless somebody turns them: known bugs that a checker must catch, and smaller limits.
//! Compiled only into tests; each thread has its own.

use std::cell::Cell;

/// A bug that was left out on purpose. The names say what goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Damage below a durable mark is cut like a torn tail.
    CutCorruption,
    /// A frame is valid when its header is, whatever became of its payload.
    TornFrames,
    /// A dead letter that was put back can be put back again.
    ForgottenRedrive,
    /// When old messages go, what of the rest was handed out is due again at once.
    ForgottenLeases,
    /// When old messages go, all behind them is new for every group.
    ForgottenProgress,
    /// Messages go when they are half as old, or half as many, as they may be.
    GreedyRetention,
    /// That old messages go is not written down.
    UnloggedTrim,
    /// A record whose own checksum holds is taken for the message, whichever it is.
    AnyRecord,
    /// Snapshots hold something that nobody can load.
    UnreadableState,
    /// Which resets were carried out is not taken in from a snapshot.
    ForgottenResets,
    /// When a segment is condensed, what nobody sees yet goes with the rest of it.
    ForgottenLeftovers,
    /// Every receive looks at the queues from the first one on, which is also that of the lowest priority.
    QueuesByNumber,
    /// By priority, what is due again comes before anything new, whatever its level.
    DueBeforeLevel,
    /// A time in a sealed segment is taken for the time of its first message.
    TimeOfSegment,
    /// A transaction is rolled back after one question.
    OneQuestion,
}

thread_local! {
    static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
    static TAIL_CACHE_BYTES: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Turns one bug on, or all off.
pub fn set_bug(bug: Option<Bug>) {
    BUG.set(bug);
}

/// Whether this bug is on.
#[must_use]
pub fn has_bug(bug: Bug) -> bool {
    BUG.get() == Some(bug)
}

/// How much of the newest frames is kept in memory; none = as much as ever.
pub fn set_tail_cache_bytes(bytes: Option<usize>) {
    TAIL_CACHE_BYTES.set(bytes);
}

/// See [`set_tail_cache_bytes`].
#[must_use]
pub fn tail_cache_bytes() -> Option<usize> {
    TAIL_CACHE_BYTES.get()
}

/// The order in which a receive looks at queues, as it is with [`Bug::QueuesByNumber`].
#[must_use]
pub fn order_of_queues(mut queues: Vec<usize>) -> Vec<usize> {
    if has_bug(Bug::QueuesByNumber) {
        queues.sort_unstable();
    }
    queues
}
