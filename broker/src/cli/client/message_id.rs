//! Message ids of version 1 (protocol section 3.4): 17 bytes as 34 upper-case hexadecimal digits.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 2021-01-01T00:00:00Z in Unix seconds, from where version 1 ids count.
const EPOCH_SECONDS: u64 = 1_609_459_200;

/// A source of ids that are unique per process.
#[derive(Debug)]
pub(crate) struct MessageIds {
    /// Version, node address, process id.
    prefix: String,
    sequence: u32,
}

impl MessageIds {
    /// The node address is a random, locally administered one: two containers often share both hardware address and
    /// process id.
    pub(crate) fn new() -> Self {
        let node = (random() & 0x0000_ffff_ffff_ffff) | 0x0200_0000_0000;
        Self { prefix: format!("01{node:012X}{:04X}", std::process::id() & 0xffff), sequence: 0 }
    }

    /// The next id.
    pub(crate) fn next(&mut self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = now.as_secs().saturating_sub(EPOCH_SECONDS) & 0xffff_ffff;
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        format!("{}{seconds:08X}{sequence:08X}", self.prefix)
    }
}

/// 64 random bits, from the seed that the standard library draws for its hash maps.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_34_upper_case_hexadecimal_digits_of_version_1_and_differ() {
        let mut ids = MessageIds::new();
        let (first, second) = (ids.next(), ids.next());
        for id in [&first, &second] {
            assert_eq!(id.len(), 34);
            assert!(id.starts_with("01"));
            assert!(id.chars().all(|c| c.is_ascii_digit() || ('A'..='F').contains(&c)), "{id}");
        }
        assert_ne!(first, second);
        assert_ne!(MessageIds::new().next()[2..18], first[2..18]);
    }
}
