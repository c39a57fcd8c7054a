//! The trace of a history: every event in order, hashed; the same seed gives the same hash.

use std::fmt::{self, Write};

/// Of an event, how much is printed.
const SHOWN_CHARACTERS: usize = 2_000;

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
            println!("{:>5} {now_ms} {}", self.events, shown(&event.to_string()));
        }
    }

    /// Hash of everything noted.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// An event as it is printed: of bytes only their beginning, so that what is around them can be read.
fn shown(event: &str) -> String {
    let mut pieces = event.split("b\"");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let is_escaped =
            |at: usize| piece[..at].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
        let end = piece.match_indices('"').map(|(at, _)| at).find(|at| !is_escaped(*at));
        let (bytes, rest) = piece.split_at(end.unwrap_or(piece.len()));
        text.push_str("b\"");
        text.extend(bytes.chars().take(16));
        text.push_str(rest);
    }
    text.chars().take(SHOWN_CHARACTERS).collect()
}
