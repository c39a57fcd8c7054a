//! The network between clients and the shard: what is sent arrives after a while, in another order, twice, or never.

use std::collections::BTreeMap;

use broker_engine::{Command, Reply};

/// Something on its way.
#[derive(Debug, Clone)]
pub enum Packet {
    /// To the shard; the ticket is the client's own name for the call.
    Command {
        /// Names the call.
        call: u64,
        /// What is asked.
        command: Command,
    },
    /// To the client.
    Reply {
        /// Names the call.
        call: u64,
        /// The answer.
        reply: Reply,
    },
}

/// Packets by when they arrive.
#[derive(Debug, Default)]
pub struct Network {
    packets: BTreeMap<(u64, u64), Packet>,
    next: u64,
}

impl Network {
    /// Sends a packet that arrives at this time.
    pub fn send(&mut self, arrives_ms: u64, packet: Packet) {
        self.next += 1;
        self.packets.insert((arrives_ms, self.next), packet);
    }

    /// The next packet that has arrived by now.
    pub fn receive(&mut self, now_ms: u64) -> Option<Packet> {
        let first = self.packets.first_entry()?;
        if first.key().0 > now_ms { None } else { Some(first.remove()) }
    }

    /// When the next one arrives.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        self.packets.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// Everything on its way is lost.
    pub fn clear(&mut self) {
        self.packets.clear();
    }
}
