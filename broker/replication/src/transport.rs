//! The way to the other replicas of a shard. With one replica there is none, and consensus sends nothing.

use std::fmt::Debug;

use raft::eraftpb::Message;

/// Carries Raft messages to peers; losing them is allowed.
pub trait Transport: Send + Debug {
    /// Sends messages; never blocks.
    fn send(&mut self, messages: Vec<Message>);
}

/// The transport of a shard with one replica.
#[derive(Debug, Clone, Copy)]
pub struct NoPeers;

impl Transport for NoPeers {
    fn send(&mut self, messages: Vec<Message>) {
        debug_assert!(messages.is_empty(), "a single replica has nobody to write to");
    }
}
