//! Answers on their way out: those of one message are taken whole and counted in the memory of the process until the network
//! has them; a refusal is an answer like every other.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use broker_proto::rocketmq as wire;
use broker_replication::memory::{Part, Share};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body as _, Frame};
use prost::Message as _;
use tonic::Status;
use tonic::body::Body;

use super::grpc_status;
use super::rpc_limits::Service;
use crate::status::Failure;

/// All answers of the messaging service have their status there, as one or as the first of several messages.
#[derive(Clone, PartialEq, prost::Message)]
struct Refused {
    #[prost(message, optional, tag = "1")]
    status: Option<wire::Status>,
}

/// The answer of a call that is not carried out.
pub(super) fn refusal(service: Service, failure: Failure) -> Response<Body> {
    if service == Service::Admin {
        return grpc_status(failure).into_http();
    }
    let refused = Refused { status: Some(failure.into_status()) };
    let message_bytes = refused.encoded_len();
    let mut data = BytesMut::with_capacity(5 + message_bytes);
    data.put_u8(0);
    data.put_u32(u32::try_from(message_bytes).unwrap_or(u32::MAX));
    // The buffer grows as is needed.
    let _ = refused.encode(&mut data);
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body =
        Answer { data: vec![data.freeze()].into_iter(), trailers: Some(trailers), _share: None };
    let mut response = Response::new(Body::new(body));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The answer taken whole, and counted until the network has it. For answers of one message, which is there at once.
pub(super) async fn whole(answer: Response<Body>, answers: &Part) -> Response<Body> {
    let (head, mut body) = answer.into_parts();
    if body.is_end_stream() {
        return Response::from_parts(head, body);
    }
    let mut data = Vec::with_capacity(1);
    let mut trailers = None;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        // The service behind puts what fails into the trailers.
        let Ok(frame) = frame else { break };
        match frame.into_data() {
            Ok(piece) => data.push(piece),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let share = answers.count(data.iter().map(Bytes::len).sum());
    let answer = Answer { data: data.into_iter(), trailers, _share: Some(share) };
    Response::from_parts(head, Body::new(answer))
}

#[derive(Debug)]
struct Answer {
    data: std::vec::IntoIter<Bytes>,
    trailers: Option<HeaderMap>,
    /// Kept until the last frame was handed over.
    _share: Option<Share>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = self.data.next().map(Frame::data);
        let frame = frame.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.as_slice().is_empty() && self.trailers.is_none()
    }
}
