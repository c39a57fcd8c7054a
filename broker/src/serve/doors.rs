//! The three ports of a broker: taken early, so that a conflict shows at once; opened when there is something to serve.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use broker_grpc::{BrokerContext, admin_service, messaging_service, rocketmq_admin_service};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::cli::serve::ServeArguments;
use crate::listener::cores::Cores;
use crate::listener::proxies::Proxies;
use crate::listener::tls::Tls;
use crate::listener::{Admission, Port, accept, bind, grpc};
use crate::metrics::Sources;
use crate::metrics::page::Pages;
use crate::web;

use super::descriptors::ConnectionLimits;
use super::threads::Threads;

/// A bound socket and the port it is for.
#[derive(Debug)]
pub(super) struct Door {
    socket: std::net::TcpListener,
    pub(super) port: Arc<Port>,
}

impl Door {
    async fn take(
        address: SocketAddr,
        name: &'static str,
        admission: Admission,
    ) -> io::Result<Self> {
        let socket = bind(address).await?;
        Ok(Self { socket, port: Port::new(name, admission, CancellationToken::new()) })
    }

    /// Where it is, with the number that the system chose when none was asked for.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) messaging: Door,
    pub(super) admin: Door,
    pub(super) http: Door,
}

impl Doors {
    /// Takes the addresses; clients wait until they are served.
    ///
    /// # Errors
    /// With the address in the text.
    pub(super) async fn take(
        arguments: &ServeArguments,
        connections: ConnectionLimits,
    ) -> io::Result<Self> {
        let (listen, admin, http) = (arguments.listen, arguments.admin, arguments.http);
        let at_most = |connections_max| Admission { connections_max, ..Admission::default() };
        let clients = Admission {
            per_address_max: arguments.connections_per_address,
            proxies: Proxies(arguments.proxy_protocol.clone()),
            ..at_most(connections.messaging)
        };
        Ok(Self {
            messaging: Door::take(listen, "messaging", clients).await?,
            admin: Door::take(admin, "admin", at_most(connections.admin)).await?,
            http: Door::take(http, "http", at_most(connections.http)).await?,
        })
    }

    /// Tells scripts that everything is served, and where.
    pub(super) fn ready_line(&self) -> io::Result<String> {
        let (messaging, admin) = (self.messaging.address()?, self.admin.address()?);
        let http = self.http.address()?;
        Ok(format!("pinnace is ready: clients {messaging}, http {http}, admin {admin}"))
    }
}

/// Serves probes on a thread of their own, and metrics from another one.
pub(super) fn serve_http(door: Door, sources: Sources, threads: &Threads) {
    let Door { socket, port } = door;
    let health = Arc::clone(&sources.health);
    let pages = Pages::new(Arc::new(sources), threads.metrics.handle().clone());
    let router = web::router(health, pages);
    let shared = Arc::clone(&port);
    threads.probes.spawn(accept(socket, port, move |accepted| {
        let connection = web::serve(accepted, Arc::clone(&shared), router.clone());
        tokio::spawn(shared.connections.track_future(connection));
    }));
}

/// Serves clients, each connection on one of the cores.
pub(super) fn serve_messaging(
    door: Door,
    tls: &Arc<Tls>,
    cores: &Arc<Cores>,
    context: &Arc<BrokerContext>,
) {
    let Door { socket, port } = door;
    let service = messaging_service(Arc::clone(context));
    let (tls, cores, shared) = (Arc::clone(tls), Arc::clone(cores), Arc::clone(&port));
    tokio::spawn(accept(socket, port, move |accepted| {
        let (port, tls) = (Arc::clone(&shared), Arc::clone(&tls));
        let connection = grpc::serve(accepted, port, tls, service.clone());
        cores.place(shared.connections.track_future(connection));
    }));
}

/// Serves Pinnace's admin API and that of the RocketMQ protocol on a thread of their own.
pub(super) fn serve_admin(
    door: Door,
    tls: &Arc<Tls>,
    threads: &Threads,
    context: &Arc<BrokerContext>,
) {
    let Door { socket, port } = door;
    let service = Routes::new(admin_service(Arc::clone(context)))
        .add_service(rocketmq_admin_service(Arc::clone(context)))
        .prepare();
    let (tls, shared) = (Arc::clone(tls), Arc::clone(&port));
    threads.admin.spawn(accept(socket, port, move |accepted| {
        let (port, tls) = (Arc::clone(&shared), Arc::clone(&tls));
        let connection = grpc::serve(accepted, port, tls, service.clone());
        tokio::spawn(shared.connections.track_future(connection));
    }));
}
