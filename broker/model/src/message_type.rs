//! The message type of a topic: each topic carries messages of one type.

use std::fmt;
use std::str::FromStr;

/// Numbers are stored (docs/storage-format.md): never change one. They equal the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageType {
    /// No order, no delay.
    Normal = 1,
    /// In order per message group.
    Fifo = 2,
    /// Visible at a delivery timestamp.
    Delay = 3,
    /// Visible after commit.
    Transaction = 4,
    /// Addressed to a lite topic inside the topic.
    Lite = 5,
    /// With a priority level.
    Priority = 6,
}

impl MessageType {
    /// All types, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Normal, Self::Fifo, Self::Delay, Self::Transaction, Self::Lite, Self::Priority];

    /// The type with this stored number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|t| *t as u8 == number)
    }

    /// The name in manifests and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Fifo => "FIFO",
            Self::Delay => "DELAY",
            Self::Transaction => "TRANSACTION",
            Self::Lite => "LITE",
            Self::Priority => "PRIORITY",
        }
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for MessageType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|t| t.as_str() == text).ok_or_else(|| {
            format!("{text:?} is no message type; use NORMAL, FIFO, DELAY, TRANSACTION, LITE or PRIORITY")
        })
    }
}
