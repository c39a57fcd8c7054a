//! A stream whose first bytes were already read: they are given again before the rest.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};

use super::forwarded::forward_writes;

/// `inner` with `read` in front of what it still has to give.
#[derive(Debug)]
pub(crate) struct Rewound<T> {
    read: Bytes,
    inner: T,
}

impl<T> Rewound<T> {
    /// Gives `read` first.
    pub(crate) fn new(read: Bytes, inner: T) -> Self {
        Self { read, inner }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let given = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..given]);
        self.read.advance(given);
        Poll::Ready(Ok(()))
    }
}

forward_writes!(Rewound);
