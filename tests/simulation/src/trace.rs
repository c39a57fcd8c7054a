//! The trace of a history: every event in order, hashed; the same seed gives the same hash.

use std::fmt::{self, Write};

/// Hash of all events so far (FNV-1a), and where to print them.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    /// Events so far.
    pub events: u64,
    prints: bool,
}

struct Hasher<'a>(&'a mut u64);

impl Write for Hasher<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.0 = (*self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(prints: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, prints }
    }

    /// Adds an event.
    pub fn note(&mut self, now_ms: u64, event: fmt::Arguments<'_>) {
        self.events += 1;
        // Hashing cannot fail.
        let _never = writeln!(Hasher(&mut self.hash), "{now_ms} {event}");
        if self.prints {
            let text = event.to_string();
            let shown: String = text.chars().take(600).collect();
            println!("{:>5} {now_ms} {shown}", self.events);
        }
    }

    /// Hash of everything noted.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}
