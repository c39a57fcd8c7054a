//! When a broker ends, and in which order: first say so, and serve on until load balancers have heard it; then answer who
//! waits, then let connections finish, then make everything durable. Each step has a limit; nothing acknowledged depends on
//! any of them.

use std::sync::Arc;
use std::time::Duration;

use broker_grpc::BrokerContext;
use broker_replication::Catalog;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::health::{Health, Phase};
use crate::listener::Port;

/// Open connections may take this long to finish their calls. Kubernetes waits 30 s by default.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);
/// A shard may take this long to make durable what it took in.
const SYNC_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the logs are asked whether they still work.
const FAILURE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// SIGTERM and SIGINT, caught from now on.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn catch() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt })
    }

    /// Ends with the name of the next signal.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Ends when a log has failed for good, with the reason.
pub(crate) async fn log_failure(catalog: &Catalog) -> String {
    loop {
        for shard in catalog.shards() {
            if let Some(failure) = shard.status().failure {
                return format!("the log of {} has failed: {failure}", shard.name());
            }
        }
        tokio::time::sleep(FAILURE_CHECK_INTERVAL).await;
    }
}

/// Says that this broker stops, and serves on for a while: whoever asks /readyz, or is told by Kubernetes, leads clients to
/// others before their connections are closed. Another signal ends that.
pub(crate) async fn take_leave(health: &Health, delay: Duration, signals: &mut Signals) {
    health.enter(Phase::Stopping);
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        signal = signals.next() => tracing::warn!(signal, "again: stops at once"),
    }
}

/// Ends everything in order. A second signal skips waiting for connections.
pub(crate) async fn stop(
    health: &Health,
    context: &BrokerContext,
    ports: &[Arc<Port>],
    signals: &mut Signals,
) {
    health.enter(Phase::Stopping);
    context.stop();
    for port in ports {
        port.stop.cancel();
        port.connections.close();
    }
    let drained = async {
        for port in ports {
            port.connections.wait().await;
        }
    };
    tokio::select! {
        ended = timeout(DRAIN_TIMEOUT, drained) => {
            if ended.is_err() {
                let open: usize = ports.iter().map(|port| port.open()).sum();
                tracing::warn!(open, "connections did not finish in time and are cut");
            }
        }
        signal = signals.next() => tracing::warn!(signal, "again: open connections are cut"),
    }
    stop_shards(&context.catalog).await;
}

/// Everything taken in becomes durable.
pub(crate) async fn stop_shards(catalog: &Catalog) {
    for shard in catalog.shards() {
        if timeout(SYNC_TIMEOUT, shard.stop()).await.is_err() {
            tracing::error!(
                shard = shard.name(),
                "did not stop in time; its log is read again at start"
            );
        }
    }
}
