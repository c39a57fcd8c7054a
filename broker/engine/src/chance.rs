//! Chance for the names of deliveries and the keys of handles: from a seed given from outside, and of a kind that nobody who
//! sees some of it can carry on (ChaCha).

use std::fmt;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// Bytes of a seed.
pub const SEED_BYTES: usize = 32;

/// What all chance of a shard comes from, until the process ends.
#[derive(Clone, Copy)]
pub struct Seed([u8; SEED_BYTES]);

impl Seed {
    /// From the system's own chance.
    #[must_use]
    pub fn new(bytes: [u8; SEED_BYTES]) -> Self {
        Self(bytes)
    }
}

/// A seed that anybody can guess: for tests, and for histories that are to be played again.
impl From<u64> for Seed {
    fn from(number: u64) -> Self {
        let mut bytes = [0; SEED_BYTES];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Self(bytes)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(not shown)")
    }
}

/// The same seed gives the same row.
#[derive(Debug)]
pub(crate) struct Chance(ChaCha12Rng);

impl Chance {
    pub(crate) fn new(seed: Seed) -> Self {
        Self(ChaCha12Rng::from_seed(seed.0))
    }

    pub(crate) fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub(crate) fn bytes<const BYTES: usize>(&mut self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}
