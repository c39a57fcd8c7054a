//! One shard as a running thing: raft-rs over the store, the engine as its state machine, and the catalog of what exists
//! on all shards of this broker. [`replica::Replica`] is the synchronous middle, free of clocks and threads;
//! [`shard`] is the thin shell of tasks around it.

mod append_times;
mod at_hand;
pub mod catalog;
pub mod clock;
mod condensing;
mod key_tables;
pub mod maintenance;
pub mod memory;
mod raft_log;
mod recovered;
pub mod replica;
pub mod sealing;
pub mod shard;
pub mod shard_poll;
pub mod transport;
mod writer_thread;

pub use append_times::AppendTimesSeen;
pub use at_hand::{AtHand, at_hand};
pub use catalog::{
    ApplyOptions, Catalog, CatalogChange, CatalogError, GroupEntry, LayoutQuestion, TopicEntry,
    UseRound,
};
pub use clock::{Clock, SystemClock};
pub use memory::Memory;
pub use recovered::{StartingPoint, load_snapshot, starting_point};
pub use shard::{
    DeliveredMessage, PulledMessages, ShardEvent, ShardHandle, ShardOptions, ShardStatus,
    open_shard,
};
pub use shard_poll::{receive_from_any, watch_any};
