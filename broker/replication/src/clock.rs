//! Time is given from outside, so that a simulation can make it up.

use std::fmt::Debug;

/// A source of time.
pub trait Clock: Send + Sync + Debug {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> u64;
}
