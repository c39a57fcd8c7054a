//! The limits that one shard meets while it works: those of the model and the store, unless a simulation asks for smaller
//! ones, so that it reaches them.

use broker_model::limits::{
    INFLIGHT_PER_GROUP_QUEUE_MAX, LOOK_AHEAD_MESSAGES_MAX, LOOKED_AT_PER_STEP_MAX,
    LOOKED_AT_PER_TURN_MAX, WAITERS_PER_GROUP_TOPIC_MAX, WORK_PER_BUSY_STEP_MAX, WORK_PER_STEP_MAX,
};
use broker_store::limits::FRAME_BYTES_TARGET;

/// One value for each limit that a simulation may make smaller. The names are those of the constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`LOOKED_AT_PER_TURN_MAX`].
    pub looked_at_per_turn: u32,
    /// See [`LOOKED_AT_PER_STEP_MAX`].
    pub looked_at_per_step: u32,
    /// See [`WORK_PER_STEP_MAX`].
    pub work_per_step: u32,
    /// See [`WORK_PER_BUSY_STEP_MAX`].
    pub work_per_busy_step: u32,
    /// See [`INFLIGHT_PER_GROUP_QUEUE_MAX`].
    pub inflight_per_group_queue: usize,
    /// See [`LOOK_AHEAD_MESSAGES_MAX`].
    pub look_ahead_messages: usize,
    /// See [`WAITERS_PER_GROUP_TOPIC_MAX`].
    pub waiters_per_group_topic: usize,
    /// See [`FRAME_BYTES_TARGET`].
    pub frame_bytes_target: usize,
}

/// As they are.
pub const LIMITS: Limits = Limits {
    looked_at_per_turn: LOOKED_AT_PER_TURN_MAX,
    looked_at_per_step: LOOKED_AT_PER_STEP_MAX,
    work_per_step: WORK_PER_STEP_MAX,
    work_per_busy_step: WORK_PER_BUSY_STEP_MAX,
    inflight_per_group_queue: INFLIGHT_PER_GROUP_QUEUE_MAX,
    look_ahead_messages: LOOK_AHEAD_MESSAGES_MAX,
    waiters_per_group_topic: WAITERS_PER_GROUP_TOPIC_MAX,
    frame_bytes_target: FRAME_BYTES_TARGET,
};

#[cfg(feature = "simulation")]
thread_local! {
    static SMALLER: std::cell::Cell<Option<Limits>> = const { std::cell::Cell::new(None) };
}

/// On this thread these count from now on; none = those that are.
#[cfg(feature = "simulation")]
pub fn set_limits(limits: Option<Limits>) {
    SMALLER.set(limits);
}

/// Those that count.
#[must_use]
pub fn limits() -> Limits {
    #[cfg(feature = "simulation")]
    if let Some(smaller) = SMALLER.get() {
        return smaller;
    }
    LIMITS
}
