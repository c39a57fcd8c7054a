//! Ports: accepts connections up to a limit and hands each to whoever serves it.
//! Knows sockets, limits and counters; what is spoken on a connection lives in `grpc` and in `crate::web`.

pub(crate) mod cores;
mod counted;
pub(crate) mod counters;
mod forwarded;
mod frames;
mod gathered;
pub(crate) mod grpc;
mod opening;
mod places;
pub(crate) mod proxies;
mod rewound;
pub(crate) mod tls;
mod unread;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use counters::Counters;
pub(crate) use places::Place;
use places::{Full, Places, Room};
use proxies::Proxies;

/// A client has this long to say what it speaks, TLS handshake included.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after the system could not give us a connection, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may come to a port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Admission {
    /// Connections open at one time.
    pub(crate) connections_max: usize,
    /// Of them, from one address; none = half of them.
    pub(crate) per_address_max: Option<usize>,
    /// Who says for whom it speaks.
    pub(crate) proxies: Proxies,
}

/// What all connections of one port share.
#[derive(Debug)]
pub(crate) struct Port {
    /// For logs and metrics.
    pub(crate) name: &'static str,
    /// What happened here.
    pub(crate) counters: Counters,
    /// Once cancelled, nothing new is accepted and open connections finish what they began.
    pub(crate) stop: CancellationToken,
    /// All open connections.
    pub(crate) connections: TaskTracker,
    places: Arc<Places>,
    proxies: Proxies,
}

impl Port {
    /// A port that takes in what `admission` lets in, stopped by `stop`.
    pub(crate) fn new(
        name: &'static str,
        admission: Admission,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let Admission { connections_max, per_address_max, proxies } = admission;
        Arc::new(Self {
            name,
            counters: Counters::default(),
            stop,
            connections: TaskTracker::new(),
            places: Places::new(connections_max, per_address_max),
            proxies,
        })
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.places.taken()
    }
}

/// One accepted connection.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// The connection, not bound to a runtime yet.
    pub(crate) stream: std::net::TcpStream,
    /// The other side.
    pub(crate) peer: SocketAddr,
    /// Held as long as the connection is open.
    pub(crate) place: Place,
}

/// Binds the address.
///
/// # Errors
/// With the address in the text.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let bound = TcpListener::bind(address).await.and_then(TcpListener::into_std);
    bound.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; another process uses it, choose another port",
            io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
            io::ErrorKind::PermissionDenied => "; choose a port above 1023",
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
    })
}

/// Accepts until the port stops, giving each connection to `serve`. The socket is driven by the runtime that calls.
pub(crate) async fn accept(
    socket: std::net::TcpListener,
    port: Arc<Port>,
    serve: impl Fn(Accepted),
) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(port = port.name, %error, "cannot accept connections"),
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = port.stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(stream, peer, &port, &serve),
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(port = port.name, %error, "cannot accept connections now");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(stream: TcpStream, peer: SocketAddr, port: &Port, serve: &impl Fn(Accepted)) {
    // Of a proxy it is known later who comes.
    let source = Some(peer.ip()).filter(|address| !port.proxies.contains(*address));
    let place = match port.places.take(source) {
        Ok((place, Room::Free)) => place,
        Ok((place, Room::Made)) => {
            port.counters.gave_way.inc();
            place
        }
        Err(full) => return turn_away(port, peer, full),
    };
    port.counters.accepted.inc();
    match prepare(stream) {
        Ok(stream) => serve(Accepted { stream, peer, place }),
        Err(error) => tracing::debug!(port = port.name, %peer, %error, "lost at once"),
    }
}

fn turn_away(port: &Port, peer: SocketAddr, full: Full) {
    let (counter, limit, text) = match full {
        Full::Port => (
            &port.counters.over_limit,
            port.places.max(),
            "too many connections, all of them with open calls; new ones are closed",
        ),
        Full::Source => (
            &port.counters.over_source_limit,
            port.places.source_max(),
            "too many connections of one address, all of them with open calls; new ones are closed",
        ),
    };
    if counter.inc() == 0 {
        tracing::warn!(port = port.name, limit, source = %peer.ip(), "{text}");
    }
}

fn prepare(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests;
