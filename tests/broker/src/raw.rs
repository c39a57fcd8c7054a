//! Calls of the protocol as bytes: requests that no client would send, bodies that do not end, answers that nobody reads.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;

use broker_proto::rocketmq::{Code, HeartbeatResponse};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use prost::Message as _;
use tokio::net::TcpStream;

/// One HTTP/2 connection.
#[derive(Debug)]
pub struct Raw {
    sender: SendRequest<Bytes>,
}

/// What became of a call.
#[derive(Debug)]
pub struct Answered {
    /// The gRPC status of the headers or trailers.
    pub grpc_status: Option<i32>,
    /// The first message.
    pub message: Vec<u8>,
}

impl Answered {
    /// The code in the status of the answer, which every answer of the messaging service has.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        // The field of the status is the first of every answer; unknown ones are passed over.
        let answer = HeartbeatResponse::decode(self.message.as_slice()).ok()?;
        Some(answer.status?.code())
    }
}

/// A message with the prefix that it has in a body.
#[must_use]
pub fn framed(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

/// The path of an RPC of the messaging service.
#[must_use]
pub fn messaging(rpc: &str) -> String {
    format!("/apache.rocketmq.v2.MessagingService/{rpc}")
}

impl Raw {
    /// Connects; answers have `window_bytes` until more is asked for.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn connect(address: SocketAddr, window_bytes: u32) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window_bytes).max_concurrent_reset_streams(100_000);
        let (sender, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
        // It ends with the connection.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender })
    }

    /// Begins a call; its body is still to be sent.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn begin(
        &mut self,
        path: &str,
        client_id: Option<&str>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let request = Request::post(format!("http://broker{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let request = match client_id {
            Some(id) => request.header("x-mq-client-id", id),
            None => request,
        };
        let request = request.body(()).expect("the path is legal");
        poll_fn(|context| self.sender.poll_ready(context)).await?;
        self.sender.send_request(request, false)
    }

    /// Makes a call with one message and waits for its answer.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn call(
        &mut self,
        path: &str,
        client_id: Option<&str>,
        message: &[u8],
    ) -> Result<Answered, h2::Error> {
        let (answer, mut body) = self.begin(path, client_id).await?;
        // It may be answered before it is sent.
        let message = framed(message);
        let sending = tokio::spawn(async move { send(&mut body, message, true).await });
        let answered = answered(answer).await;
        sending.abort();
        answered
    }
}

/// Sends bytes of a body as the other side takes them.
///
/// # Errors
/// Those of the connection.
pub async fn send(
    body: &mut SendStream<Bytes>,
    mut bytes: Bytes,
    ends: bool,
) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        body.reserve_capacity(bytes.len());
        let Some(room) = poll_fn(|context| body.poll_capacity(context)).await else {
            return Ok(());
        };
        let piece = bytes.split_to(room?.min(bytes.len()));
        body.send_data(piece, ends && bytes.is_empty())?;
    }
    Ok(())
}

/// Waits for an answer.
///
/// # Errors
/// Those of the connection.
pub async fn answered(answer: ResponseFuture) -> Result<Answered, h2::Error> {
    let (head, mut body) = answer.await?.into_parts();
    let status =
        |headers: &http::HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        bytes.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    let trailers = body.trailers().await?;
    let grpc_status = status(&head.headers).or_else(|| status(trailers.as_ref()?));
    let message = match bytes.first_chunk::<5>() {
        Some([_, length @ ..]) => {
            let end = 5 + u32::from_be_bytes(*length) as usize;
            bytes.get(5..end).unwrap_or_default().to_vec()
        }
        None => Vec::new(),
    };
    Ok(Answered { grpc_status, message })
}
