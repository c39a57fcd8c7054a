//! Ports: accepts connections up to a limit and hands each to whoever serves it.
//! Knows sockets, limits and counters; what is spoken on a connection lives in `grpc` and in `crate::web`.

pub(crate) mod cores;
mod counted;
pub(crate) mod counters;
mod gathered;
pub(crate) mod grpc;
mod opening;
mod rewound;
pub(crate) mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use counters::Counters;

/// Connections open at one time on the port of the messaging clients.
pub(crate) const MESSAGING_CONNECTIONS_MAX: usize = 16_384;
/// Connections open at one time on the admin port.
pub(crate) const ADMIN_CONNECTIONS_MAX: usize = 256;
/// Connections open at one time on the http port.
pub(crate) const HTTP_CONNECTIONS_MAX: usize = 256;
/// A client has this long to say what it speaks, TLS handshake included.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after the system could not give us a connection, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
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
    places: Arc<Semaphore>,
    places_max: usize,
}

impl Port {
    /// A port with at most `connections_max` connections, stopped by `stop`.
    pub(crate) fn new(
        name: &'static str,
        connections_max: usize,
        stop: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            counters: Counters::default(),
            stop,
            connections: TaskTracker::new(),
            places: Arc::new(Semaphore::new(connections_max)),
            places_max: connections_max,
        })
    }

    /// Connections open now.
    pub(crate) fn open(&self) -> usize {
        self.places_max.saturating_sub(self.places.available_permits())
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
    pub(crate) place: OwnedSemaphorePermit,
}

/// Binds the address.
///
/// # Errors
/// With the address in the text.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; another process uses it, choose another port",
            io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
            io::ErrorKind::PermissionDenied => "; choose a port above 1023",
            _ => "",
        };
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{hint}"))
    })
}

/// Accepts until the port stops, giving each connection to `serve`.
pub(crate) async fn accept(socket: TcpListener, port: Arc<Port>, serve: impl Fn(Accepted)) {
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
    let Ok(place) = Arc::clone(&port.places).try_acquire_owned() else {
        if port.counters.over_limit.inc() == 0 {
            let limit = port.places_max;
            tracing::warn!(port = port.name, limit, "too many connections; new ones are closed");
        }
        return;
    };
    port.counters.accepted.inc();
    match prepare(stream) {
        Ok(stream) => serve(Accepted { stream, peer, place }),
        Err(error) => tracing::debug!(port = port.name, %peer, %error, "lost at once"),
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
