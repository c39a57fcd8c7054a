//! A stream that writes in one piece what one turn of its connection has to say. HTTP/2 flushes behind every larger frame;
//! an answer of many frames, or many answers, would be as many system calls, each of which wakes the client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that wait for the end of a turn; what is larger goes through at once.
const GATHERED_BYTES_MAX: usize = 64 * 1024;
/// An idle connection keeps no more memory than this.
const KEPT_BYTES_MAX: usize = 4 * 1024;

/// One side is the connection's, which reads and writes; the other is for whoever drives it, and [drains](Gathered::poll_drain)
/// after each turn. Both are on one task, so that the lock is never waited for.
#[derive(Debug)]
pub(super) struct Gathered<T>(Arc<Mutex<Stream<T>>>);

#[derive(Debug)]
struct Stream<T> {
    inner: T,
    waiting: Vec<u8>,
    /// How many bytes of `waiting` were written.
    written: usize,
    is_flushed: bool,
}

impl<T> Clone for Gathered<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    pub(super) fn new(inner: T) -> Self {
        let stream = Stream { inner, waiting: Vec::new(), written: 0, is_flushed: true };
        Self(Arc::new(Mutex::new(stream)))
    }

    /// Writes what waits. The task is woken when the rest can be written.
    ///
    /// # Errors
    /// Those of the stream beneath.
    pub(super) fn poll_drain(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_drain(context)
    }
}

impl<T> Gathered<T> {
    fn stream(&self) -> MutexGuard<'_, Stream<T>> {
        // A panic in the stream beneath ends the process in a release; a test may look at what was written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: AsyncWrite + Unpin> Stream<T> {
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.waiting.len() {
            let rest = &self.waiting[self.written..];
            let written = ready!(Pin::new(&mut self.inner).poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        self.written = 0;
        self.waiting.clear();
        self.waiting.shrink_to(KEPT_BYTES_MAX);
        if !self.is_flushed {
            ready!(Pin::new(&mut self.inner).poll_flush(context))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_take(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.waiting.len() + length > GATHERED_BYTES_MAX {
            ready!(self.poll_drain(context))?;
        }
        self.is_flushed = false;
        if length > GATHERED_BYTES_MAX {
            return Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        }
        slices.iter().for_each(|slice| self.waiting.extend_from_slice(slice));
        Poll::Ready(Ok(length))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Gathered<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream().inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Gathered<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_take(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_take(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done by whoever drives the connection, at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.stream();
        ready!(stream.poll_drain(context))?;
        Pin::new(&mut stream.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// Counts the writes that reach it.
    #[derive(Debug)]
    struct Counting {
        inner: DuplexStream,
        writes: Arc<Mutex<Vec<usize>>>,
    }

    impl AsyncWrite for Counting {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let written = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
            self.writes.lock().unwrap().push(written);
            Poll::Ready(Ok(written))
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_flush(context)
        }

        fn poll_shutdown(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.inner).poll_shutdown(context)
        }
    }

    fn pair(room_bytes: usize) -> (Gathered<Counting>, DuplexStream, Arc<Mutex<Vec<usize>>>) {
        let (inner, peer) = duplex(room_bytes);
        let writes = Arc::<Mutex<Vec<usize>>>::default();
        (Gathered::new(Counting { inner, writes: Arc::clone(&writes) }), peer, writes)
    }

    async fn drain(stream: &Gathered<Counting>) {
        poll_fn(|context| stream.poll_drain(context)).await.unwrap();
    }

    #[tokio::test]
    async fn what_one_turn_writes_and_flushes_goes_out_in_one_piece_at_its_end() {
        let (mut stream, mut peer, writes) = pair(1024 * 1024);
        for text in ["one ", "two ", "three"] {
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
        assert!(writes.lock().unwrap().is_empty());
        drain(&stream).await;
        assert_eq!(*writes.lock().unwrap(), [13]);
        let mut read = [0; 13];
        peer.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"one two three");
    }

    #[tokio::test]
    async fn large_writes_keep_their_place_and_no_more_than_the_limit_waits() {
        let (mut stream, mut peer, writes) = pair(16 * 1024 * 1024);
        let mut expected = Vec::new();
        for (byte, length) in [(1, 10), (2, 200_000), (3, 60_000), (4, 10_000), (5, 65_536), (6, 1)]
        {
            let bytes = vec![byte; length];
            stream.write_all(&bytes).await.unwrap();
            expected.extend(bytes);
            assert!(stream.stream().waiting.len() <= GATHERED_BYTES_MAX);
        }
        drain(&stream).await;
        assert!(writes.lock().unwrap().len() <= 6);
        assert!(stream.stream().waiting.capacity() <= KEPT_BYTES_MAX);
        drop(stream);
        let mut read = Vec::new();
        peer.read_to_end(&mut read).await.unwrap();
        assert!(read == expected);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_the_connection_up() {
        let (mut stream, mut peer, _) = pair(1000);
        let endless = async {
            loop {
                stream.write_all(&[7; 1000]).await.unwrap();
            }
        };
        assert!(endless.now_or_never().is_none());
        let waiting = {
            let stream = stream.stream();
            assert!(stream.waiting.len() <= GATHERED_BYTES_MAX);
            stream.waiting.len() - stream.written
        };
        let mut read = vec![0; 1000 + waiting];
        let ((), arrived) = tokio::join!(drain(&stream), peer.read_exact(&mut read));
        assert_eq!(arrived.unwrap(), 1000 + waiting);
    }

    #[tokio::test]
    async fn leave_is_taken_with_the_last_word_said() {
        let (mut stream, mut peer, _) = pair(1024);
        stream.write_all(b"goodbye").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut read = Vec::new();
        peer.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"goodbye");
    }
}
