//! The trace of a history: every event in order, hashed; the same seed gives the same hash.

use std::fmt::{self, Write};

/// Of an event, how much is printed.
const SHOWN_CHARACTERS: usize = 2_000;

/// Hash of all events so far (FNV-1a by eight bytes at a time), and where to print them.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    /// Events so far.
    pub events: u64,
    prints: bool,
    /// The event that is noted.
    text: String,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(prints: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, prints, text: String::new() }
    }

    /// Adds an event.
    pub fn note(&mut self, now_ms: u64, event: fmt::Arguments<'_>) {
        self.events += 1;
        self.text.clear();
        // A string takes everything.
        let _never = writeln!(self.text, "{now_ms} {event}");
        for bytes in self.text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.hash = (self.hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
            // What is high counts too.
            self.hash ^= self.hash >> 32;
        }
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
