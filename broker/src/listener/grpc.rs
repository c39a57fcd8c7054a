//! One connection of a gRPC client, from its first byte to its last: TLS or not, then HTTP/2 with the settings that
//! the official clients need (protocol section 7.0): large windows, many streams, and never a GOAWAY for pings.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use broker_grpc::OpenConnection;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{error::Elapsed, sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::transport::server::TcpConnectInfo;
use tower::Service;

use super::counted::Counted;
use super::counters::Counters;
use super::frames::Watched;
use super::gathered::Gathered;
use super::opening::{Header, Speech, listen};
use super::rewound::Rewound;
use super::tls::Tls;
use super::unread::Unread;
use super::{Accepted, OPENING_TIMEOUT, Place, Port, turn_away};
use crate::wiring::renewal_timing;

/// What one stream may have on its way to us without being read.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// What all streams of a connection together may.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// Largest HTTP/2 frame taken.
const FRAME_BYTES_MAX: u32 = 64 * 1024;
/// Calls open at one time on a connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 4096;
/// All headers of one request together.
const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// Calls given up by the client that are still to be cleaned up. A client whose calls all reach their deadline at
/// once is no attacker, so this is as many as it may have open.
const RESET_STREAMS_MAX: usize = STREAMS_PER_CONNECTION_MAX as usize;
/// Answer bytes that wait in memory per call for a slow reader.
const SEND_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// When the port stops, a client without an open call has this long to take leave, that is, to answer a ping.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A gRPC service: cheap to clone, always ready.
pub(crate) trait GrpcService:
    Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> GrpcService for S where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// The stream beneath HTTP/2.
enum Opened {
    Plain(Rewound<TcpStream>),
    Encrypted(Box<Rewound<TlsStream<Rewound<TcpStream>>>>),
}

/// Why a connection broke.
#[derive(Debug, thiserror::Error)]
enum Broke {
    #[error(transparent)]
    Http2(#[from] hyper::Error),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

enum Unopened {
    Foreign,
    Nothing,
    Tls(io::Error),
    Broken(io::Error),
}

/// Serves the connection until the client leaves, the transport breaks or the port stops.
pub(crate) async fn serve<S: GrpcService>(
    accepted: Accepted,
    port: Arc<Port>,
    tls: Arc<Tls>,
    service: S,
) {
    let Accepted { stream, peer, place } = accepted;
    let place = Arc::new(place);
    let header = if port.proxies.contains(peer.ip()) { Header::Proxy } else { Header::None };
    let opened = match TcpStream::from_std(stream) {
        Ok(stream) => tokio::select! {
            opened = timeout(OPENING_TIMEOUT, Box::pin(open(stream, header, &tls))) => opened,
            // Who said nothing yet has nothing to finish.
            () = port.stop.cancelled() => Ok(Err(Unopened::Nothing)),
            () = place.gives_way() => Ok(Err(Unopened::Nothing)),
        },
        Err(error) => Ok(Err(Unopened::Broken(error))),
    };
    if let Some((opened, proxied_peer)) = settle(opened, &port, peer) {
        let peer = proxied_peer.unwrap_or(peer);
        if let Some(Err(full)) = proxied_peer.map(|peer| place.comes_from(peer.ip())) {
            return turn_away(&port, peer, full);
        }
        let ended = match opened {
            Opened::Plain(stream) => drive(stream, peer, &port, &place, service).await,
            Opened::Encrypted(stream) => drive(*stream, peer, &port, &place, service).await,
        };
        if let Err(error) = ended {
            let Counters { flood, broken, .. } = &port.counters;
            let counter = if is_flood(&error) { flood } else { broken };
            counter.inc();
            tracing::debug!(port = port.name, %peer, %error, "connection broke");
        }
    }
    drop(place);
}

/// Whether [`Watched`] ended the connection.
fn is_flood(error: &Broke) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|error| error.kind() == io::ErrorKind::QuotaExceeded)
}

async fn open(
    mut stream: TcpStream,
    header: Header,
    tls: &Tls,
) -> Result<(Opened, Option<SocketAddr>), Unopened> {
    let opening = listen(&mut stream, header).await.map_err(Unopened::Broken)?;
    let peer = opening.proxied_peer;
    let stream = Rewound::new(opening.read, stream);
    match opening.speech {
        Speech::Http2 => return Ok((Opened::Plain(stream), peer)),
        Speech::Tls => {}
        Speech::Foreign => return Err(Unopened::Foreign),
        Speech::Nothing => return Err(Unopened::Nothing),
    }
    let mut stream = tls.acceptor().accept(stream).await.map_err(Unopened::Tls)?;
    // Beneath TLS a client may be as silent or as foreign as above it.
    let opening = listen(&mut stream, Header::None).await.map_err(Unopened::Broken)?;
    match opening.speech {
        Speech::Http2 => {
            let stream = Box::new(Rewound::new(opening.read, stream));
            Ok((Opened::Encrypted(stream), peer))
        }
        Speech::Nothing => Err(Unopened::Nothing),
        Speech::Tls | Speech::Foreign => Err(Unopened::Foreign),
    }
}

type Outcome = Result<Result<(Opened, Option<SocketAddr>), Unopened>, Elapsed>;

/// Counts what did not become a connection.
fn settle(outcome: Outcome, port: &Port, peer: SocketAddr) -> Option<(Opened, Option<SocketAddr>)> {
    let counters = &port.counters;
    match outcome {
        Ok(Ok(opened)) => return Some(opened),
        // Health checks of load balancers connect and close; that is nobody's fault.
        Ok(Err(Unopened::Nothing)) => {}
        Ok(Err(Unopened::Foreign)) => {
            counters.foreign.inc();
            tracing::debug!(port = port.name, %peer, "closed: neither TLS nor HTTP/2, or a PROXY header that is not expected, missing or wrong (--proxy-protocol)");
        }
        Ok(Err(Unopened::Tls(error))) => {
            counters.tls_failed.inc();
            tracing::debug!(port = port.name, %peer, %error, "TLS handshake failed");
        }
        Ok(Err(Unopened::Broken(error))) => {
            counters.broken.inc();
            tracing::debug!(port = port.name, %peer, %error, "broke while opening");
        }
        Err(_elapsed) => {
            counters.silent.inc();
            tracing::debug!(port = port.name, %peer, "closed: said too little for too long");
        }
    }
    None
}

async fn drive<T, S>(
    stream: T,
    peer: SocketAddr,
    port: &Port,
    place: &Arc<Place>,
    service: S,
) -> Result<(), Broke>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: GrpcService,
{
    let info = TcpConnectInfo { local_addr: None, remote_addr: Some(peer) };
    let open = OpenConnection::default();
    let connection = open.connection();
    let calls = place.calls();
    let caller = Arc::clone(place);
    let unread = Arc::<Unread>::default();
    let answers = Arc::clone(&unread);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(info.clone());
        request.extensions_mut().insert(connection.clone());
        caller.called();
        let (call, answer) = (caller.calls().token(), service.clone().call(request));
        let unread = Arc::clone(&answers);
        async move { answer.await.map(|answer| answer.map(|body| Counted::new(body, &unread, call))) }
    });
    let stream = Gathered::new(Watched::new(stream));
    let connection = http2_settings().serve_connection(TokioIo::new(stream.clone()), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = turns(connection.as_mut(), &stream) => return ended,
        () = place.gives_way() => {
            tracing::debug!(port = port.name, %peer, "cut: no call was open, and others needed the place");
            return Ok(());
        }
        () = unread.too_long() => {
            port.counters.unread.inc();
            tracing::debug!(port = port.name, %peer, "cut: the client does not read its answers");
            return Ok(());
        }
        () = port.stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    calls.close();
    tokio::select! {
        ended = turns(connection, &stream) => ended,
        () = forsaken(calls) => {
            tracing::debug!(port = port.name, %peer, "cut: no call is open, and it does not take leave");
            Ok(())
        }
    }
}

/// Drives a connection; what it wrote in one turn goes out at the end of that turn.
async fn turns<C, T>(mut connection: Pin<&mut C>, stream: &Gathered<T>) -> Result<(), Broke>
where
    C: Future<Output = Result<(), hyper::Error>>,
    T: AsyncWrite + Unpin,
{
    poll_fn(|context| {
        let ended = connection.as_mut().poll(context)?;
        // Who shut the stream down has seen the last bytes off; of others that ended nobody waits for them.
        let _ = stream.poll_drain(context)?;
        ended.map(Ok)
    })
    .await
}

/// Ends once no call is open and the client had its time to take leave.
async fn forsaken(calls: &TaskTracker) {
    loop {
        calls.wait().await;
        sleep(LEAVE_TIMEOUT).await;
        if calls.is_empty() {
            return;
        }
    }
}

fn http2_settings() -> http2::Builder<TokioExecutor> {
    let timing = renewal_timing();
    let mut settings = http2::Builder::new(TokioExecutor::new());
    settings
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(RESET_STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .timer(TokioTimer::new())
        // Clients send heartbeats every 10 s, so that only dead ones are asked.
        .keep_alive_interval(timing.ping_after())
        .keep_alive_timeout(timing.ping_timeout())
        .auto_date_header(false);
    settings
}
