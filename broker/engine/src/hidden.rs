//! Messages that nobody sees yet: timed ones until they are due, half messages until their transaction ends.

mod timed_messages;
mod transactions;

pub(crate) use timed_messages::{TimedKey, TimedMessages, TimedPlace};
pub(crate) use transactions::{HalfMessage, Transactions};

/// Where a message is and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HiddenMessage {
    /// Log position of its record.
    pub(crate) position: u64,
    /// Hash of its tag.
    pub(crate) tag_hash: u64,
    /// Length of its record.
    pub(crate) length_bytes: u32,
    /// The topic.
    pub(crate) topic: u32,
    /// The queue it will stand in.
    pub(crate) queue: u32,
}
