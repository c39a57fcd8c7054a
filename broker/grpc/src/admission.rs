//! What every call passes before anything of it is decoded: who calls, how large it may be, how many elements it has, whether
//! there is memory for it, and how long it may take. The headers are enough for most of that. What the call means is for the
//! service behind.

mod answer_body;
mod request_body;
mod rpc_limits;
mod wire_scan;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use broker_proto::rocketmq::Code;
use broker_replication::Memory;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tower::Service;

use crate::caller;
use crate::limits::{DEADLINE_RESERVE_MS, REQUEST_MS_MAX};
use crate::status::Failure;
use answer_body::{refusal, whole};
use request_body::{Counted, Gathered, Gatherer, Whole};
use rpc_limits::{RpcLimits, Service as Kind};

/// A gRPC service behind the gate.
#[derive(Debug, Clone)]
pub struct Admitted<S> {
    inner: S,
    memory: Memory,
}

impl<S> Admitted<S> {
    pub(crate) fn new(inner: S, memory: Memory) -> Self {
        Self { inner, memory }
    }
}

impl<S: NamedService> NamedService for Admitted<S> {
    const NAME: &'static str = S::NAME;
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S, B> Service<Request<B>> for Admitted<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The services of tonic always are.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answering {
        let call = Call { inner: self.inner.clone(), memory: self.memory.clone() };
        Box::pin(async move {
            Ok(match rpc_limits::of_path(request.uri().path()) {
                Some(limits) => match call.admit(limits, request).await {
                    Ok(answer) => answer,
                    Err(failure) => refusal(limits.service, failure),
                },
                None => {
                    let text = "this broker serves no such call";
                    grpc_status(Failure::new(Code::NotImplemented, text)).into_http()
                }
            })
        })
    }
}

/// One call on its way.
struct Call<S> {
    inner: S,
    memory: Memory,
}

impl<S> Call<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>,
{
    async fn admit<B>(
        mut self,
        limits: &'static RpcLimits,
        request: Request<B>,
    ) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let begun = Instant::now();
        let (mut head, body) = request.into_parts();
        let metadata = MetadataMap::from_headers(std::mem::take(&mut head.headers));
        if limits.service == Kind::Messaging {
            caller::client_id(&metadata)?;
        }
        let asked_ms = caller::timeout_ms(&metadata).unwrap_or(u64::MAX);
        head.headers = metadata.into_headers();
        self.check_answers(limits)?;
        let headers_bytes = headers_bytes(&head.headers);
        let gatherer = Gatherer::new(limits, &self.memory.requests, headers_bytes)?;
        if limits.is_stream {
            let body = Body::new(Counted::new(body, gatherer));
            return Ok(infallible(self.inner.call(Request::from_parts(head, body)).await));
        }
        let arrives_in_ms = asked_ms.min(REQUEST_MS_MAX);
        let arrived =
            timeout_at(begun + Duration::from_millis(arrives_in_ms), gather(gatherer, body));
        let arrived = arrived.await.map_err(|_| late("did not arrive", arrives_in_ms))??;
        let call_ms = asked_ms.min(limits.call_ms_max);
        // An answer that comes as the caller gives up is none.
        let answer_ms = call_ms - DEADLINE_RESERVE_MS.min(call_ms / 40);
        let body = Body::new(Whole::new(arrived.pieces));
        let answer = self.inner.call(Request::from_parts(head, body));
        let answer = timeout_at(begun + Duration::from_millis(answer_ms), answer);
        let answer = infallible(answer.await.map_err(|_| late("was not answered", call_ms))?);
        drop(arrived.share);
        if limits.streams_answer {
            return Ok(answer);
        }
        Ok(whole(answer, &self.memory.answers).await)
    }

    /// Large answers are not begun while those before them are not read.
    fn check_answers(&self, limits: &RpcLimits) -> Result<(), Failure> {
        let answers = &self.memory.answers;
        if !limits.has_large_answer || answers.used() < answers.max() {
            return Ok(());
        }
        let text = format!(
            "{} MiB of answers were not read yet by those who asked; try again later",
            answers.max() / (1024 * 1024)
        );
        Err(Failure::new(Code::TooManyRequests, text))
    }
}

/// The one message of a body, read to its end.
async fn gather<B>(mut gatherer: Gatherer, body: B) -> Result<Gathered, Failure>
where
    B: http_body::Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut message = None;
    while let Some(next) = poll_fn(|context| gatherer.poll_next(body.as_mut(), context)).await? {
        if message.replace(next).is_some() {
            return Err(Failure::new(Code::BadRequest, "the request has more than one message"));
        }
    }
    message.ok_or_else(|| Failure::new(Code::BadRequest, "the request has no message"))
}

fn headers_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

fn late(what: &str, ms: u64) -> Failure {
    Failure::new(Code::ProxyTimeout, format!("the request {what} within {ms} ms"))
}

fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

/// For services that say no with a gRPC code.
fn grpc_status(failure: Failure) -> Status {
    let text = failure.message.into_owned();
    match failure.code {
        Code::TooManyRequests => Status::resource_exhausted(text),
        Code::ProxyTimeout => Status::deadline_exceeded(text),
        Code::NotImplemented => Status::unimplemented(text),
        _ => Status::invalid_argument(text),
    }
}

#[cfg(test)]
mod tests;
