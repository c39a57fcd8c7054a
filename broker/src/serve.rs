//! `pinnace serve`: one broker process from its arguments to its exit. The order is: lock the data, know who we are,
//! take the ports, open the logs, apply the manifests, serve; and backwards at the end.

mod data_lock;
mod identity;
mod logging;
pub(crate) mod whole_file;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use broker_grpc::{Advertised, BrokerContext, admin_service, housekeeping, messaging_service};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::failure::Failure;
use crate::cli::serve::ServeArguments;
use crate::health::{Health, Phase};
use crate::listener::cores::Cores;
use crate::listener::tls::{CertificateSource, Tls};
use crate::listener::{
    ADMIN_CONNECTIONS_MAX, HTTP_CONNECTIONS_MAX, MESSAGING_CONNECTIONS_MAX, Port, accept, bind,
    grpc,
};
use crate::manifests::{Manifests, ManifestsError};
use crate::metrics::Sources;
use crate::shutdown::{self, Signals};
use crate::{web, wiring};
use data_lock::{DataLock, LockError};
use identity::IdentityError;

/// Runs a broker until it is told to stop or a log fails.
///
/// # Errors
/// A [`Failure`] inside: wrong input before anything is served, else a failure while running.
pub(crate) fn run(arguments: ServeArguments) -> anyhow::Result<()> {
    logging::start(arguments.log_format)?;
    allow_many_descriptors();
    let _lock = DataLock::take(&arguments.data).map_err(|error| match error {
        LockError::Taken(_) => Failure::input(error.to_string()),
        LockError::Io { .. } => Failure::runtime(error.to_string()),
    })?;
    let identity =
        identity::read_or_create(&arguments.data, &arguments.cluster, arguments.broker_id)
            .map_err(|error| match error {
                IdentityError::Other { .. } => Failure::input(error.to_string()),
                _ => Failure::runtime(error.to_string()),
            })?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        cluster = identity.cluster,
        broker = identity.broker,
        disk = identity.disk,
        "starting"
    );
    let cores = Cores::start().context("cannot start the threads of the cores")?;
    // What belongs to no connection of a client runs here: probes, admin, manifests, signals.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let cores = Arc::new(cores);
    let outcome = runtime.block_on(Box::pin(serve(&arguments, &cores)));
    drop(runtime);
    if let Some(cores) = Arc::into_inner(cores) {
        cores.stop();
    }
    outcome
}

/// The ports and what is known about them.
struct Ports {
    messaging: Arc<Port>,
    admin: Arc<Port>,
    http: Arc<Port>,
}

/// The bound sockets, in the same order.
struct Sockets {
    messaging: TcpListener,
    admin: TcpListener,
    http: TcpListener,
}

async fn serve(arguments: &ServeArguments, cores: &Arc<Cores>) -> anyhow::Result<()> {
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let sockets = Sockets {
        messaging: bind(arguments.listen).await?,
        admin: bind(arguments.admin).await?,
        http: bind(arguments.http).await?,
    };
    let ports = Ports {
        messaging: Port::new("messaging", MESSAGING_CONNECTIONS_MAX, CancellationToken::new()),
        admin: Port::new("admin", ADMIN_CONNECTIONS_MAX, CancellationToken::new()),
        http: Port::new("http", HTTP_CONNECTIONS_MAX, CancellationToken::new()),
    };
    let ready_line = ready_line(&sockets)?;
    let advertised = advertised(arguments, sockets.messaging.local_addr()?);
    let tls = Arc::new(Tls::new(certificate(arguments, &advertised))
        .map_err(|error| Failure::input(error.to_string()))?);
    let health = Arc::new(Health::default());
    let all = [&ports.messaging, &ports.admin, &ports.http].map(Arc::clone);
    start_http(sockets.http, &ports.http, Sources {
        health: Arc::clone(&health),
        ports: all.to_vec(),
        cluster: arguments.cluster.clone(),
        broker: format!("broker-{}", arguments.broker_id),
    });

    let ids = wiring::shard_ids(&arguments.data, arguments.shards, &arguments.shard_ids)?;
    let catalog = tokio::select! {
        opened = wiring::open_shards(&arguments.data, ids, cores) => opened?,
        signal = signals.next() => {
            tracing::info!(signal, "stopping before the logs were open");
            return Ok(());
        }
    };
    health.opened(catalog.clone());
    let context = wiring::broker_context(
        catalog.clone(),
        arguments.broker_id,
        advertised,
        arguments.data.clone(),
    )?;
    let watching = CancellationToken::new();
    if let Err(failure) = apply_manifests(arguments, &context, &watching).await {
        shutdown::stop_shards(&catalog).await;
        return Err(failure.into());
    }
    tokio::spawn(housekeeping(Arc::clone(&context)));
    start_messaging(sockets.messaging, &ports.messaging, &tls, cores, &context);
    start_admin(sockets.admin, &ports.admin, &tls, &context);
    health.enter(Phase::Serving);
    tell(&ready_line);

    let failure = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping");
            None
        }
        failure = shutdown::log_failure(&catalog) => {
            tracing::error!("{failure}; stopping");
            Some(failure)
        }
    };
    watching.cancel();
    shutdown::stop(&health, &context, &all, &mut signals).await;
    tracing::info!("stopped");
    match failure {
        None => Ok(()),
        Some(failure) => Err(Failure::runtime(failure).into()),
    }
}

fn start_http(socket: TcpListener, port: &Arc<Port>, sources: Sources) {
    let router = web::router(Arc::new(sources));
    let (port, shared) = (Arc::clone(port), Arc::clone(port));
    tokio::spawn(accept(socket, port, move |accepted| {
        let connection = web::serve(accepted, Arc::clone(&shared), router.clone());
        tokio::spawn(shared.connections.track_future(connection));
    }));
}

fn start_messaging(
    socket: TcpListener,
    port: &Arc<Port>,
    tls: &Arc<Tls>,
    cores: &Arc<Cores>,
    context: &Arc<BrokerContext>,
) {
    let service = messaging_service(Arc::clone(context));
    let (tls, cores) = (Arc::clone(tls), Arc::clone(cores));
    let (port, shared) = (Arc::clone(port), Arc::clone(port));
    tokio::spawn(accept(socket, port, move |accepted| {
        let connection =
            grpc::serve(accepted, Arc::clone(&shared), Arc::clone(&tls), service.clone());
        cores.place(shared.connections.track_future(connection));
    }));
}

fn start_admin(
    socket: TcpListener,
    port: &Arc<Port>,
    tls: &Arc<Tls>,
    context: &Arc<BrokerContext>,
) {
    let service = admin_service(Arc::clone(context));
    let tls = Arc::clone(tls);
    let (port, shared) = (Arc::clone(port), Arc::clone(port));
    tokio::spawn(accept(socket, port, move |accepted| {
        let connection =
            grpc::serve(accepted, Arc::clone(&shared), Arc::clone(&tls), service.clone());
        tokio::spawn(shared.connections.track_future(connection));
    }));
}

/// Puts the manifests in force once, and watches them from then on.
async fn apply_manifests(
    arguments: &ServeArguments,
    context: &BrokerContext,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let Some(directory) = &arguments.manifests else { return Ok(()) };
    let mut manifests = Manifests::new(directory.clone());
    manifests.apply(&context.catalog).await.map_err(|error| match error {
        ManifestsError::Wrong(text) => Failure::input(text),
        ManifestsError::Failed(text) => Failure::runtime(text),
    })?;
    tokio::spawn(manifests.watch(context.catalog.clone(), stop.clone()));
    Ok(())
}

fn certificate(arguments: &ServeArguments, advertised: &Advertised) -> CertificateSource {
    if let (Some(chain), Some(key)) = (&arguments.tls_certificate, &arguments.tls_key) {
        return CertificateSource::Files { chain: chain.clone(), key: key.clone() };
    }
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if !names.contains(&advertised.host) {
        names.push(advertised.host.clone());
    }
    CertificateSource::SelfMade(names)
}

/// What clients are told when they do not say themselves how they reached us.
fn advertised(arguments: &ServeArguments, bound: SocketAddr) -> Advertised {
    let given = arguments.advertise.as_deref().and_then(|text| {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Some(Advertised { host, port: port.parse().ok()? })
    });
    given.unwrap_or_else(|| {
        // The address "all of them" is nobody's: the machine's name is the best guess.
        let name = || hostname::get().ok().and_then(|name| name.into_string().ok());
        let host = bound.ip().is_unspecified().then(name).flatten();
        Advertised { host: host.unwrap_or_else(|| bound.ip().to_string()), port: bound.port() }
    })
}

fn ready_line(sockets: &Sockets) -> anyhow::Result<String> {
    let address = |socket: &TcpListener| socket.local_addr();
    let messaging = address(&sockets.messaging)?;
    let http = address(&sockets.http)?;
    let admin = address(&sockets.admin)?;
    Ok(format!("pinnace is ready: clients {messaging}, http {http}, admin {admin}"))
}

/// The line goes to stdout, alone there. Nobody has to read it.
fn tell(ready_line: &str) {
    let mut stdout = std::io::stdout();
    let told = writeln!(stdout, "{ready_line}").and_then(|()| stdout.flush());
    if let Err(error) = told {
        tracing::debug!(%error, "nobody reads our output");
    }
    tracing::info!("{ready_line}");
}

/// Every connection takes a descriptor; the soft limit is often 1024 while the hard one is large.
fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
