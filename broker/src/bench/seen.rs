//! Which messages of a run were received: one bit per message, so that lost ones and repeated ones are told apart.

/// The received messages.
#[derive(Debug, Default)]
pub(super) struct Seen {
    connections: Vec<Vec<u64>>,
    /// Different messages.
    pub(super) distinct: u64,
    /// Deliveries of a message that had been delivered before.
    pub(super) repeated: u64,
}

impl Seen {
    /// Marks a sequence number (see `template::Stamp`); numbers that no run makes are ignored.
    pub(super) fn mark(&mut self, sequence: u64) {
        let (connection, number) = ((sequence >> 40) as usize, sequence & 0xff_ffff_ffff);
        let (word, bit) = ((number / 64) as usize, 1_u64 << (number % 64));
        // 2^36 messages on one connection would be 8 GiB of bits; no run comes near.
        if connection >= 1024 || word >= 1 << 30 {
            return;
        }
        if self.connections.len() <= connection {
            self.connections.resize_with(connection + 1, Vec::new);
        }
        let words = &mut self.connections[connection];
        if words.len() <= word {
            words.resize((word + 1).next_power_of_two(), 0);
        }
        if words[word] & bit == 0 {
            words[word] |= bit;
            self.distinct += 1;
        } else {
            self.repeated += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_messages_count_once() {
        let mut seen = Seen::default();
        for sequence in [0, 1, 1, 3 << 40, (3 << 40) + 700, 3 << 40, u64::MAX] {
            seen.mark(sequence);
        }
        assert_eq!((seen.distinct, seen.repeated), (4, 2));
    }
}
