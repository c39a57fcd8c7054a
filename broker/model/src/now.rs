//! The time as it is handed to the layers that read no clock: one reading for durations, one for dates.
//! Which of the two something counts by is decided where it is stored; ADR 16 says why there are two.

/// Two readings of the clock at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds that only the passing of time moves: leases, polls, sessions, pauses and checks count by it. It begins
    /// near Unix time, and no step of the wall clock changes it afterwards.
    pub steady_ms: u64,
    /// Unix time in milliseconds, as people read it: delivery times and stored times are told in it. It may jump.
    pub wall_ms: u64,
}

impl Now {
    /// Both clocks say the same.
    #[must_use]
    pub fn at(ms: u64) -> Self {
        Self { steady_ms: ms, wall_ms: ms }
    }
}
