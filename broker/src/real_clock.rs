//! The wall clock of a running broker.

use std::time::{SystemTime, UNIX_EPOCH};

use broker_replication::Clock;

/// The system's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RealClock;

impl Clock for RealClock {
    fn now_ms(&self) -> u64 {
        now_ms()
    }
}

/// Milliseconds since 1970; 0 on a machine whose clock stands before it.
pub(crate) fn now_ms() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
