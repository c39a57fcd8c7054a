//! The broker of the demo: this same binary as a process of its own, on its usual ports when they are free.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::cli::client::random;
use crate::cli::failure::Failure;

const READY_MAX: Duration = Duration::from_secs(30);
const READY_PAUSE: Duration = Duration::from_millis(10);
const STOP_MAX: Duration = Duration::from_secs(10);
/// How many lines of the broker's log an error quotes.
const LOG_LINES: usize = 5;

/// A running broker.
#[derive(Debug)]
pub(super) struct BrokerProcess {
    child: Child,
    data: PathBuf,
    keeps_data: bool,
    /// For clients.
    pub(super) endpoint: SocketAddr,
    /// For the admin API.
    pub(super) admin: SocketAddr,
    /// For readiness and metrics.
    pub(super) http: SocketAddr,
}

impl BrokerProcess {
    /// Starts the broker and waits until it is ready.
    pub(super) async fn start(manifests: &Path, data: Option<&Path>) -> Result<Self, Failure> {
        if !manifests.is_dir() {
            return Err(Failure::input(format!(
                "there is no directory {}; give one with --manifests, as in examples/orders",
                manifests.display()
            )));
        }
        let keeps_data = data.is_some();
        let fresh = || std::env::temp_dir().join(format!("pinnace-demo-{:016x}", random()));
        let data = data.map_or_else(fresh, Path::to_path_buf);
        let [endpoint, http, admin] = addresses()?;
        let child = spawn(manifests, &data, [endpoint, http, admin])?;
        let mut broker = Self { child, data, keeps_data, endpoint, admin, http };
        match broker.wait_until_ready().await {
            Ok(()) => Ok(broker),
            Err(failure) => {
                let log = broker.log_end();
                let _ = broker.stop().await;
                Err(Failure::runtime(format!("{failure}; its log ends with: {log}")))
            }
        }
    }

    async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Failure::runtime(format!("the broker ended at once ({status})")));
            }
            if is_ready(self.http).await {
                return Ok(());
            }
            tokio::time::sleep(READY_PAUSE).await;
        }
        Err(Failure::runtime(format!("the broker was not ready within {} s", READY_MAX.as_secs())))
    }

    fn log_end(&self) -> String {
        let log = std::fs::read(log_path(&self.data)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<_> = log.lines().rev().take(LOG_LINES).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        if lines.is_empty() { "nothing".to_owned() } else { lines.join(" | ") }
    }

    /// Ends the broker in an orderly way, and removes its data unless it is the user's.
    pub(super) async fn stop(mut self) -> Result<(), Failure> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(pid) = pid {
            // It may have ended in this moment.
            let _ = kill_process(pid, Signal::TERM);
        }
        let ended = tokio::time::timeout(STOP_MAX, self.child.wait()).await;
        let outcome = match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::runtime(format!(
                "the broker ended with {status}; its log ends with: {}",
                self.log_end()
            ))),
            Ok(Err(error)) => Err(Failure::runtime(format!("cannot wait for the broker: {error}"))),
            Err(_) => {
                let _ = self.child.kill().await;
                let seconds = STOP_MAX.as_secs();
                Err(Failure::runtime(format!("the broker did not stop within {seconds} s")))
            }
        };
        if !self.keeps_data {
            // What stays behind lies in the system's folder for temporary files.
            let _ = std::fs::remove_dir_all(&self.data);
        }
        outcome
    }
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn until_asked_to_stop() -> Result<(), Failure> {
    let cannot = |error| Failure::runtime(format!("cannot listen for signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn spawn(manifests: &Path, data: &Path, addresses: [SocketAddr; 3]) -> Result<Child, Failure> {
    let cannot = |error: std::io::Error| {
        Failure::runtime(format!("cannot start a broker on {}: {error}", data.display()))
    };
    std::fs::create_dir_all(data).map_err(cannot)?;
    let log = std::fs::File::create(log_path(data)).map_err(cannot)?;
    let [listen, http, admin] = addresses.map(|address| address.to_string());
    Command::new(std::env::current_exe().map_err(cannot)?)
        .arg("serve")
        .arg("--data")
        .arg(data)
        .arg("--manifests")
        .arg(manifests)
        .args(["--listen", &listen, "--http", &http, "--admin", &admin])
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(cannot)?)
        .stderr(log)
        // Ctrl-C is for the demo, which then ends the broker in an orderly way.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(cannot)
}

fn log_path(data: &Path) -> PathBuf {
    data.join("demo.log")
}

/// The usual ports of client, http and admin when all are free, else any free ones.
fn addresses() -> Result<[SocketAddr; 3], Failure> {
    let bind = |ports: [u16; 3]| -> std::io::Result<[SocketAddr; 3]> {
        let sockets = ports.map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        let [first, second, third] = sockets;
        let sockets = [first?, second?, third?];
        Ok([sockets[0].local_addr()?, sockets[1].local_addr()?, sockets[2].local_addr()?])
    };
    bind([8081, 8082, 8083])
        .or_else(|_| bind([0, 0, 0]))
        .map_err(|error| Failure::runtime(format!("there is no free port on 127.0.0.1: {error}")))
}

async fn is_ready(http: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(http).await?;
        let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match tokio::time::timeout(Duration::from_secs(1), ask).await {
        Ok(Ok(answer)) => answer.starts_with(b"HTTP/1.1 200"),
        _ => false,
    }
}
