//! Counts the HTTP/2 frames that bring no request: calls that are given up as soon as they begin, pings, settings. A client
//! needs few of them; one that sends nothing else costs a core and is cut off. Only the heads of frames are looked at.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::forwarded::forward_writes;

/// What comes before the first frame.
const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
const END_STREAM: u8 = 1;

/// How many frames of one kind a connection may send at once, and how many more in each second.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    what: &'static str,
    at_once: u32,
    per_second: u32,
}

/// A client whose calls all reach their deadline at once gives up as many as it may have open.
const RESETS: Allowance = Allowance { what: "RST_STREAM", at_once: 8_192, per_second: 500 };
/// Clients measure the way to us with pings while data flow, one for each round trip.
const PINGS: Allowance = Allowance { what: "PING", at_once: 40_000, per_second: 10_000 };
const SETTINGS: Allowance = Allowance { what: "SETTINGS", at_once: 1_000, per_second: 100 };
/// One or two come for each answer that was read.
const WINDOWS: Allowance =
    Allowance { what: "WINDOW_UPDATE", at_once: 400_000, per_second: 200_000 };
const OTHERS: Allowance = Allowance { what: "useless", at_once: 4_000, per_second: 1_000 };

/// What is left of an allowance.
#[derive(Debug)]
struct Bucket {
    allowance: Allowance,
    left: u32,
    filled: Instant,
}

impl Bucket {
    fn new(allowance: Allowance, now: Instant) -> Self {
        Self { allowance, left: allowance.at_once, filled: now }
    }

    /// Takes one; whether there was one. The clock is looked at only when none is left.
    fn take(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.left == 0 {
            let now = now();
            let gained = (now - self.filled).as_secs_f64() * f64::from(self.allowance.per_second);
            if gained < 1.0 {
                return false;
            }
            // Saturates.
            self.left = (gained as u32).min(self.allowance.at_once);
            self.filled = now;
        }
        self.left -= 1;
        true
    }
}

/// A stream of HTTP/2 from a client.
#[derive(Debug)]
pub(super) struct Watched<T> {
    inner: T,
    frames: Frames,
}

#[derive(Debug)]
struct Frames {
    /// Bytes until the next head begins.
    skip: usize,
    head: [u8; HEAD_BYTES],
    head_bytes: usize,
    resets: Bucket,
    pings: Bucket,
    settings: Bucket,
    windows: Bucket,
    others: Bucket,
}

impl<T> Watched<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, frames: Frames::new(Instant::now()) }
    }
}

impl Frames {
    fn new(now: Instant) -> Self {
        Self {
            skip: PREFACE_BYTES,
            head: [0; HEAD_BYTES],
            head_bytes: 0,
            resets: Bucket::new(RESETS, now),
            pings: Bucket::new(PINGS, now),
            settings: Bucket::new(SETTINGS, now),
            windows: Bucket::new(WINDOWS, now),
            others: Bucket::new(OTHERS, now),
        }
    }

    /// Takes note of what arrived; names the kind of frame of which there are too many.
    fn see(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        let mut seen = Ok(());
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return seen;
            }
            let more = (HEAD_BYTES - self.head_bytes).min(bytes.len());
            self.head[self.head_bytes..][..more].copy_from_slice(&bytes[..more]);
            self.head_bytes += more;
            bytes = &bytes[more..];
            if self.head_bytes == HEAD_BYTES {
                self.head_bytes = 0;
                let frame = self.frame();
                seen = seen.and(frame);
            }
        }
    }

    fn frame(&mut self) -> Result<(), &'static str> {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let bucket = match kind {
            // HEADERS and CONTINUATION are counted by who serves them.
            1 | 9 => return Ok(()),
            0 if self.skip > 0 || flags & END_STREAM != 0 => return Ok(()),
            3 => &mut self.resets,
            4 => &mut self.settings,
            6 => &mut self.pings,
            8 => &mut self.windows,
            _ => &mut self.others,
        };
        if bucket.take(Instant::now) { Ok(()) } else { Err(bucket.allowance.what) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = &read
            && let Err(what) = self.frames.see(&buffer.filled()[before..])
        {
            let text = format!("the client sends too many {what} frames");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::QuotaExceeded, text)));
        }
        read
    }
}

forward_writes!(Watched);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, payload_bytes: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, payload_bytes, kind, 0, 0, 0, 0, 1];
        frame.resize(HEAD_BYTES + usize::from(payload_bytes), 0xff);
        frame
    }

    fn after_preface() -> Frames {
        let mut frames = Frames::new(Instant::now());
        assert_eq!(frames.see(&[b'x'; PREFACE_BYTES]), Ok(()));
        frames
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_told_apart_however_they_are_cut() {
        let stream = [frame(1, 40), frame(3, 4), frame(0, 200), frame(6, 8), frame(0, 0)].concat();
        for piece_bytes in 1..60 {
            let mut frames = after_preface();
            for piece in stream.chunks(piece_bytes) {
                assert_eq!(frames.see(piece), Ok(()));
            }
            let taken = |bucket: &Bucket| bucket.allowance.at_once - bucket.left;
            let all = [&frames.resets, &frames.pings, &frames.settings, &frames.others];
            assert_eq!(all.map(taken), [1, 1, 0, 1], "pieces of {piece_bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_slowly_may_come_for_ever_and_a_flood_may_not() {
        let (mut frames, reset) = (after_preface(), frame(3, 4));
        for _ in 0..RESETS.at_once {
            assert_eq!(frames.see(&reset), Ok(()));
        }
        assert_eq!(frames.see(&reset), Err("RST_STREAM"));
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(1)).await;
            for _ in 0..RESETS.per_second {
                assert_eq!(frames.see(&reset), Ok(()));
            }
        }
        assert_eq!(frames.see(&reset), Err("RST_STREAM"));
        assert_eq!(frames.see(&frame(4, 0)), Ok(()), "each kind for itself");
    }
}
