//! The body of a request on its way in: gathered message by message up to the limit of its RPC, each byte counted in the
//! memory of the process, the elements counted before anything is decoded.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use broker_proto::rocketmq::Code;
use broker_replication::memory::{Part, Share};
use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::rpc_limits::RpcLimits;
use super::wire_scan::{ScanError, scan};
use crate::limits::REQUEST_BYTES_PREFERRED;
use crate::status::Failure;

/// One byte that says whether the message is compressed, four with its length.
const PREFIX_BYTES: usize = 5;
/// What a request takes beside its content: the stream, its headers' table, its place in queues.
const REQUEST_BYTES: usize = 2_048;

/// A whole message with its prefix, and the memory that it takes.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) pieces: Vec<Bytes>,
    pub(super) share: Share,
}

/// Gathers messages.
#[derive(Debug)]
pub(super) struct Gatherer {
    limits: &'static RpcLimits,
    requests: Part,
    pieces: Vec<Bytes>,
    /// Sum of `pieces`, which may hold the begin of the next message.
    bytes: usize,
    share: Share,
}

impl Gatherer {
    /// # Errors
    /// TOO_MANY_REQUESTS when there is no memory for the headers.
    pub(super) fn new(
        limits: &'static RpcLimits,
        requests: &Part,
        headers_bytes: usize,
    ) -> Result<Self, Failure> {
        let share = requests.take(REQUEST_BYTES + headers_bytes).ok_or_else(|| full(requests))?;
        Ok(Self { limits, requests: requests.clone(), pieces: Vec::new(), bytes: 0, share })
    }

    /// The next whole message; none at the end of the body, however it ends.
    ///
    /// # Errors
    /// The request breaks a limit, or there is no memory for it.
    pub(super) fn poll_next<B>(
        &mut self,
        mut body: Pin<&mut B>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Gathered>, Failure>>
    where
        B: Body<Data = Bytes>,
    {
        loop {
            if let Some(bytes) = self.message_bytes()?
                && self.bytes >= bytes
            {
                return Poll::Ready(self.cut(bytes).map(Some));
            }
            // A body that breaks off is a call that its caller gave up.
            let Some(Ok(frame)) = ready!(body.as_mut().poll_frame(context)) else {
                return Poll::Ready(Ok(None));
            };
            if let Ok(data) = frame.into_data() {
                self.take_in(data)?;
            }
        }
    }

    fn take_in(&mut self, data: Bytes) -> Result<(), Failure> {
        if data.is_empty() {
            return Ok(());
        }
        self.grow(data.len())?;
        self.bytes += data.len();
        self.pieces.push(data);
        Ok(())
    }

    fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        let all = self.requests.max();
        let is_large = self.bytes + bytes > REQUEST_BYTES_PREFERRED;
        let max = if is_large { all / 8 * 7 } else { all };
        if self.share.grow(bytes, max) { Ok(()) } else { Err(full(&self.requests)) }
    }

    /// Length of the message that arrives, its prefix included, once that is known.
    fn message_bytes(&self) -> Result<Option<usize>, Failure> {
        if self.bytes < PREFIX_BYTES {
            return Ok(None);
        }
        let mut prefix = self.pieces.iter().flatten().take(PREFIX_BYTES).skip(1);
        let bytes = prefix.by_ref().fold(0_usize, |bytes, byte| bytes << 8 | usize::from(*byte));
        let max = self.limits.request_bytes_max;
        if bytes > max {
            let text = format!("the request has {bytes} bytes; at most {max} are allowed here");
            return Err(Failure::new(Code::PayloadTooLarge, text));
        }
        Ok(Some(PREFIX_BYTES + bytes))
    }

    /// Takes the first message off, counted.
    fn cut(&mut self, bytes: usize) -> Result<Gathered, Failure> {
        let mut message = Vec::new();
        let mut left = bytes;
        let mut pieces = VecDeque::from(std::mem::take(&mut self.pieces));
        while left > 0
            && let Some(mut piece) = pieces.pop_front()
        {
            if piece.len() > left {
                pieces.push_front(piece.split_off(left));
            }
            left -= piece.len();
            message.push(piece);
        }
        self.pieces = pieces.into();
        self.bytes -= bytes;
        // The share of the message goes with it; what came of the next one stays.
        let rest = self.requests.count(self.bytes + REQUEST_BYTES);
        let mut share = std::mem::replace(&mut self.share, rest);
        let held = elements_bytes(&message, self.limits)?;
        if !share.grow(held, self.requests.max()) {
            return Err(full(&self.requests));
        }
        Ok(Gathered { pieces: message, share })
    }
}

/// What the counted elements take. A compressed message is not decoded by anybody here.
fn elements_bytes(message: &[Bytes], limits: &RpcLimits) -> Result<usize, Failure> {
    let mut pieces: Vec<Bytes> = message.to_vec();
    let mut prefix = PREFIX_BYTES;
    let mut is_compressed = false;
    for (at, piece) in pieces.iter_mut().enumerate() {
        is_compressed |= at == 0 && piece.first() != Some(&0);
        let skipped = prefix.min(piece.len());
        piece.advance(skipped);
        prefix -= skipped;
    }
    if is_compressed || limits.counted.is_empty() {
        return Ok(0);
    }
    scan(&pieces, limits.counted).map_err(|error| {
        let code = match error {
            ScanError::Malformed => Code::BadRequest,
            ScanError::TooMany { code, .. } => code,
        };
        Failure::new(code, error.to_string())
    })
}

fn full(requests: &Part) -> Failure {
    let text = format!(
        "{} MiB of requests are being received, all that the memory of this broker allows; try again later",
        requests.max() / (1024 * 1024)
    );
    Failure::new(Code::TooManyRequests, text)
}

/// The body of one request, whole; holds its memory until it was decoded and answered.
#[derive(Debug)]
pub(super) struct Whole {
    pieces: std::vec::IntoIter<Bytes>,
}

impl Whole {
    pub(super) fn new(pieces: Vec<Bytes>) -> Self {
        Self { pieces: pieces.into_iter() }
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.pieces.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.as_slice().is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.as_slice().iter().map(|piece| piece.len() as u64).sum())
    }
}

/// A stream of requests, each of which is counted before it is decoded.
#[derive(Debug)]
pub(super) struct Counted<B> {
    body: B,
    gatherer: Gatherer,
    passing: Whole,
    /// Of the message that is decoded.
    share: Option<Share>,
    is_over: bool,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, gatherer: Gatherer) -> Self {
        Self { body, gatherer, passing: Whole::new(Vec::new()), share: None, is_over: false }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(piece) = this.passing.pieces.next() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.is_over {
                return Poll::Ready(None);
            }
            let next = ready!(this.gatherer.poll_next(Pin::new(&mut this.body), context));
            this.share = None;
            match next {
                Ok(Some(message)) => {
                    this.passing = Whole::new(message.pieces);
                    this.share = Some(message.share);
                }
                Ok(None) => this.is_over = true,
                Err(failure) => {
                    this.is_over = true;
                    return Poll::Ready(Some(Err(super::grpc_status(failure))));
                }
            }
        }
    }
}
