//! One HTTP/2 connection that writes ready-made gRPC requests and hands out the raw answers. No channel, no middleware:
//! what the generated client does per call would cost more than the server's part.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use tokio::net::TcpStream;

use crate::cli::client::Client;
use crate::cli::failure::Failure;

const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const FRAME_PREFIX_BYTES: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A broker of the route and the client that has shaken hands with it.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// `HOST:PORT`.
    pub(super) address: String,
    /// The queue that receive calls name.
    pub(super) queue: broker_proto::rocketmq::MessageQueue,
    /// Under which id the server has our settings.
    client_id: String,
}

/// Where the connections of a client go.
pub(super) fn places(client: &Client) -> Vec<Place> {
    let brokers = client.brokers().iter();
    brokers
        .map(|broker| Place {
            address: broker.address.clone(),
            queue: broker.queue.clone(),
            client_id: client.id().to_owned(),
        })
        .collect()
}

/// An RPC of the messaging service on one connection.
#[derive(Debug, Clone)]
pub(super) struct Call {
    uri: Uri,
    headers: HeaderMap,
}

/// An open connection; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    address: String,
    headers: HeaderMap,
}

impl Connection {
    /// Opens a connection; its driver runs on the current `LocalSet`.
    pub(super) async fn open(place: &Place) -> Result<Self, Failure> {
        let unreachable = |error: String| {
            Failure::runtime(format!("cannot reach the broker at {}: {error}", place.address))
        };
        let connecting = TcpStream::connect(&place.address);
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| unreachable("no answer".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
        let (requests, driver) = h2::client::Builder::new()
            .initial_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_send_buffer_size(WINDOW_BYTES as usize)
            .handshake(stream)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        // A connection that breaks shows in the calls on it.
        tokio::task::spawn_local(async move { driver.await.unwrap_or_default() });
        Ok(Self { requests, address: place.address.clone(), headers: headers(place)? })
    }

    /// Prepares calls of one RPC. `deadline` becomes the header `grpc-timeout`.
    pub(super) fn prepare(&self, rpc: &str, deadline: Duration) -> Result<Call, Failure> {
        let text = format!("http://{}/apache.rocketmq.v2.MessagingService/{rpc}", self.address);
        let uri = text
            .parse()
            .map_err(|error| Failure::input(format!("{text:?} is no address: {error}")))?;
        let mut headers = self.headers.clone();
        let timeout = format!("{}m", deadline.as_millis());
        headers.insert("grpc-timeout", header_value(&timeout)?);
        Ok(Call { uri, headers })
    }

    /// Makes one call with a framed request; gives the framed answer.
    pub(super) async fn call(&self, call: &Call, body: Bytes) -> Result<Bytes, Failure> {
        let lost = |error: h2::Error| {
            Failure::runtime(format!("the connection to {} broke: {error}", self.address))
        };
        let mut requests = self.requests.clone().ready().await.map_err(lost)?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = call.uri.clone();
        *request.headers_mut() = call.headers.clone();
        let (answer, mut stream) = requests.send_request(request, false).map_err(lost)?;
        stream.send_data(body, true).map_err(lost)?;
        let answer = answer.await.map_err(lost)?;
        self.check(answer.headers())?;
        let mut body = answer.into_body();
        let mut whole = Bytes::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(lost)?;
            body.flow_control().release_capacity(chunk.len()).map_err(lost)?;
            whole = if whole.is_empty() { chunk } else { joined(&whole, &chunk) };
        }
        if let Some(trailers) = body.trailers().await.map_err(lost)? {
            self.check(&trailers)?;
        }
        Ok(whole)
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Failure> {
        match headers.get("grpc-status").map(HeaderValue::as_bytes) {
            None | Some(b"0") => Ok(()),
            Some(code) => {
                let message =
                    headers.get("grpc-message").map(HeaderValue::as_bytes).unwrap_or_default();
                Err(Failure::runtime(format!(
                    "the broker at {} answered gRPC status {}: {}",
                    self.address,
                    String::from_utf8_lossy(code),
                    String::from_utf8_lossy(message)
                )))
            }
        }
    }
}

fn joined(first: &Bytes, second: &Bytes) -> Bytes {
    let mut whole = BytesMut::with_capacity(first.len() + second.len());
    whole.extend_from_slice(first);
    whole.extend_from_slice(second);
    whole.freeze()
}

fn headers(place: &Place) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("x-mq-client-id", header_value(&place.client_id)?);
    headers.insert("x-mq-language", HeaderValue::from_static("RUST"));
    headers.insert("x-mq-protocol", HeaderValue::from_static("v2"));
    headers.insert("x-mq-client-version", HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
    Ok(headers)
}

fn header_value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|_| Failure::input(format!("{text:?} fits no header")))
}

/// Puts the gRPC frame prefix before an encoded message.
pub(super) fn framed(message: &impl prost::Message) -> BytesMut {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_PREFIX_BYTES + length);
    frame.extend_from_slice(&[0]);
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    message.encode(&mut frame).expect("the buffer was made for the message");
    frame
}

/// Takes the next message off a framed answer; none at its end.
pub(super) fn next_message<M: prost::Message + Default>(
    answer: &mut Bytes,
) -> Result<Option<M>, Failure> {
    if answer.is_empty() {
        return Ok(None);
    }
    let cut = || Failure::runtime("the broker's answer is cut or no gRPC");
    if answer.len() < FRAME_PREFIX_BYTES || answer[0] != 0 {
        return Err(cut());
    }
    answer.advance(1);
    let length = answer.get_u32() as usize;
    if answer.len() < length {
        return Err(cut());
    }
    let message = M::decode(answer.split_to(length));
    message.map(Some).map_err(|error| Failure::runtime(format!("unreadable answer: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_proto::rocketmq::Status;

    #[test]
    fn framed_messages_come_back_and_cut_ones_are_noticed() {
        let status = |code| Status { code, message: "text".to_owned() };
        let mut two = framed(&status(1));
        two.extend_from_slice(&framed(&status(2)));
        let mut answer = two.freeze();
        let cut = answer.slice(..answer.len() - 1);
        let mut codes = Vec::new();
        while let Some(status) = next_message::<Status>(&mut answer).unwrap() {
            codes.push(status.code);
        }
        assert_eq!(codes, [1, 2]);
        let mut cut = cut;
        assert!(next_message::<Status>(&mut cut).unwrap().is_some());
        assert!(next_message::<Status>(&mut cut).is_err());
    }
}
