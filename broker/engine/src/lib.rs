//! One command in, records and replies out. The engine decides and keeps the state of one shard; it reads no clock, opens
//! no file and starts nothing. State changes only by applying records, so that recovery and followers run the same code;
//! the one exception, handing out messages and keeping them handed out, is applied when decided and again, without effect, when committed.
// Its numbers come from clients, the log, snapshots and clocks.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod apply;
mod chance;
mod clients;
pub mod command;
mod command_bytes;
mod dead_letter;
mod declared;
pub mod effects;
pub mod engine;
mod group_use;
mod handles;
#[cfg(feature = "simulation")]
pub mod held;
mod hidden;
mod identity;
mod index;
mod known_names;
mod known_resets;
mod layouts;
mod limits;
mod list_dead_letters;
mod lite_topic;
mod lookup;
mod member;
mod needed;
mod offsets;
mod progress;
mod prolong;
mod pull;
mod put_group;
mod put_topic;
mod receive;
mod redrive;
mod refusal;
mod release;
mod retention;
mod send;
mod serve;
mod settle;
mod state;
mod stored_state;
mod task;
mod tick;
mod timed;
mod transaction;
mod waiting;

pub use chance::{SEED_BYTES, Seed};
pub use command::*;
pub use command_bytes::CommandKind;
pub use effects::{Effects, Frame, Reply, ReplyTo};
pub use engine::Engine;
pub use known_names::{Known, NameKind};
#[cfg(feature = "simulation")]
pub use limits::set_limits;
pub use limits::{LIMITS, Limits, limits};
pub use lookup::{Names, NamesOf};
pub use needed::{Needed, NeededWalk};
pub use refusal::Refusal;
pub use stored_state::StoredStateError;
