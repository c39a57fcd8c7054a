//! Who may receive which message, and when: the state of one group on one queue as a pure state machine. It knows
//! offsets, attempts and times given to it; no bodies, no names, no clock.
// Its offsets come from the log and from snapshots, its deadlines from clocks.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod due;
pub mod group_queue;
pub mod leases;
mod message_groups;
pub mod range_set;

pub use group_queue::{Batch, GroupQueue, HandleState, Skipped, Turn};
pub use leases::LeaseBatch;
pub use range_set::RangeSet;
