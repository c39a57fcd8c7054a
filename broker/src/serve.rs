//! `pinnace serve`: one broker process from its arguments to its exit. The order is: lock the data, know what it holds
//! and who we are, take the ports, open the logs, apply the manifests, serve; and backwards at the end.

pub(crate) mod data_lock;
mod data_watch;
pub(crate) mod deaths;
mod descriptors;
mod doors;
pub(crate) mod format;
pub(crate) mod identity;
pub(crate) mod logging;
mod private;
mod threads;
pub(crate) mod whole_file;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use broker_grpc::{Advertised, BrokerContext, housekeeping};
use broker_replication::{Catalog, Memory};
use tokio_util::sync::CancellationToken;

use crate::cli::failure::Failure;
use crate::cli::serve::ServeArguments;
use crate::health::{Health, Phase};
use crate::listener::cores::Cores;
use crate::listener::tls::{CertificateSource, Tls};
use crate::manifests::Manifests;
use crate::memory_limit;
use crate::metrics::Sources;
use crate::own_thread::STOP_TIMEOUT;
use crate::shutdown::{self, Signals};
use crate::{volume, wiring};
use data_lock::{DataLock, LockError};
use descriptors::ConnectionLimits;
use doors::Doors;
use format::FormatError;
use identity::{Identity, IdentityError};
use threads::Threads;

/// Runs a broker until it is told to stop or a log fails.
///
/// # Errors
/// A [`Failure`] inside: wrong input before anything is served, else a failure while running.
pub(crate) fn run(arguments: ServeArguments) -> anyhow::Result<()> {
    logging::start(arguments.log_format)?;
    let files_max = descriptors::raise_limit();
    private::make_private_files();
    let lock = DataLock::take(&arguments.data).map_err(|error| match error {
        LockError::Taken(_) => Failure::input(error.to_string()),
        LockError::Io { .. } => Failure::runtime(error.to_string()),
    })?;
    private::tighten(&arguments.data);
    format::check_and_note(&arguments.data).map_err(|error| match error {
        FormatError::TooNew { .. } => Failure::input(error.to_string()),
        FormatError::Illegible(_) | FormatError::Io { .. } => Failure::runtime(error.to_string()),
    })?;
    let identity =
        identity::read_or_create(&arguments.data, &arguments.cluster, arguments.broker_id)
            .map_err(|error| match error {
                IdentityError::Other { .. } => Failure::input(error.to_string()),
                _ => Failure::runtime(error.to_string()),
            })?;
    deaths::note_from_now_on(&arguments.data);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        cluster = identity.cluster,
        broker = identity.broker,
        disk = identity.disk,
        "starting"
    );
    let threads = Threads::start().context("cannot start the threads")?;
    // Signals are heard here, manifests watched, and nothing runs that could take long.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let connections = connection_limits(&arguments, files_max)?;
    let outcome = runtime.block_on(Box::pin(serve(&arguments, &identity, connections, &threads)));
    // Not to its end: a long log is opened here, and a manifest may lie on a file system that hangs.
    runtime.shutdown_timeout(STOP_TIMEOUT);
    threads.stop();
    // Work that was not waited for ends with the process, and so does the lock.
    std::mem::forget(lock);
    outcome
}

async fn serve(
    arguments: &ServeArguments,
    identity: &Identity,
    connections: ConnectionLimits,
    threads: &Threads,
) -> anyhow::Result<()> {
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let doors = Doors::take(arguments, connections).await?;
    let ready_line = doors.ready_line()?;
    let advertised = advertised(arguments, doors.messaging.address()?);
    let tls = Arc::new(
        Tls::new(certificate(arguments, &advertised))
            .map_err(|error| Failure::input(error.to_string()))?,
    );
    let draining = [&doors.messaging.port, &doors.admin.port].map(Arc::clone);
    let health = Arc::new(Health::default());
    let mut ports = draining.to_vec();
    ports.push(Arc::clone(&doors.http.port));
    doors::serve_http(
        doors.http,
        Sources {
            health: Arc::clone(&health),
            ports,
            cluster: arguments.cluster.clone(),
            broker: format!("broker-{}", arguments.broker_id),
            data: arguments.data.clone(),
        },
        threads,
    );
    let opened = tokio::select! {
        opened = open(arguments, identity, advertised, &threads.cores) => opened?,
        signal = signals.next() => {
            tracing::info!(signal, "stopping before everything was open");
            return Ok(());
        }
    };
    data_watch::begin(&arguments.data).context("cannot watch the data directory")?;
    let context = opened.context;
    health.opened(Arc::clone(&context));
    tokio::spawn(housekeeping(Arc::clone(&context), opened.events));
    let watching = CancellationToken::new();
    if let Some(manifests) = opened.manifests {
        context.set_manifests(manifests.status());
        tokio::spawn(manifests.watch(Arc::clone(&context), watching.clone()));
    }
    doors::serve_messaging(doors.messaging, &tls, &threads.cores, &context);
    doors::serve_admin(doors.admin, &tls, threads, &context);
    health.enter(Phase::Serving);
    tokio::spawn(deaths::forget_later(arguments.data.clone()));
    tell(&ready_line);
    let outcome = until_told(&context, &mut signals).await;
    watching.cancel();
    // A log that failed has nothing to serve on with.
    if outcome.is_ok() {
        let delay = Duration::from_secs(arguments.stop_delay_seconds);
        shutdown::take_leave(&health, delay, &mut signals).await;
    }
    shutdown::stop(&health, &context, &draining, &mut signals).await;
    deaths::forget(&arguments.data);
    tracing::info!("stopped");
    outcome
}

/// What is there when everything is open.
struct Opened {
    context: Arc<BrokerContext>,
    events: wiring::ShardEvents,
    manifests: Option<Manifests>,
}

/// Opens the logs and puts the manifests in force.
async fn open(
    arguments: &ServeArguments,
    identity: &Identity,
    advertised: Advertised,
    cores: &Cores,
) -> anyhow::Result<Opened> {
    let data = arguments.data.clone();
    let ids = wiring::shard_ids(&data, arguments.shards, &arguments.shard_ids)?;
    let process_bytes = memory_limit::process_bytes();
    let memory = Memory::of_process(process_bytes);
    tracing::info!(mib = process_bytes >> 20, "memory that this process may have");
    let (catalog, events) = wiring::open_shards(&data, ids, &memory, cores).await?;
    catalog.complete_shards().await.context("cannot make the shards agree")?;
    let context = wiring::broker_context(catalog.clone(), identity, advertised, memory, data)?;
    match apply_manifests(arguments, &catalog).await {
        Ok(manifests) => Ok(Opened { context, events, manifests }),
        Err(failure) => {
            shutdown::stop_shards(&catalog).await;
            Err(failure.into())
        }
    }
}

/// Ends with a signal, or with the failure of a log.
async fn until_told(context: &BrokerContext, signals: &mut Signals) -> anyhow::Result<()> {
    tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping");
            Ok(())
        }
        failure = shutdown::log_failure(&context.catalog) => {
            tracing::error!("{failure}; stopping");
            Err(Failure::runtime(failure).into())
        }
    }
}

/// Puts the manifests in force once; they are to be watched from then on.
async fn apply_manifests(
    arguments: &ServeArguments,
    catalog: &Catalog,
) -> Result<Option<Manifests>, Failure> {
    let Some(directory) = &arguments.manifests else { return Ok(None) };
    let ServeArguments { data, cluster, .. } = arguments.clone();
    Manifests::start(directory.clone(), data, cluster, catalog).await.map(Some)
}

/// What connections may have of the files that the process may open.
fn connection_limits(
    arguments: &ServeArguments,
    files_max: u64,
) -> Result<ConnectionLimits, Failure> {
    let listed = arguments.shard_ids.len() as u64;
    let shards = if listed > 0 { listed } else { u64::from(arguments.shards) };
    let volume_bytes = wiring::disk_space(&arguments.data).total_bytes;
    descriptors::connection_limits(
        files_max,
        shards,
        volume_bytes / volume::segment_bytes(volume_bytes, shards),
    )
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

/// The line goes to stdout, alone there. Nobody has to read it.
fn tell(ready_line: &str) {
    let mut stdout = std::io::stdout();
    let told = writeln!(stdout, "{ready_line}").and_then(|()| stdout.flush());
    if let Err(error) = told {
        tracing::debug!(%error, "nobody reads our output");
    }
    tracing::info!("{ready_line}");
}
