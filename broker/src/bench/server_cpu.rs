//! CPU time of the server process, and of ours, between two moments.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cli::failure::Failure;

/// What `utime` and `stime` of `/proc/<pid>/stat` count in: fixed on Linux for programs, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;
const METRICS_TIMEOUT: Duration = Duration::from_secs(5);
const METRICS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where the server's CPU time is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerCpu {
    /// From the kernel.
    Pid(u32),
    /// From a metrics page: `HOST:PORT` and path.
    Metrics(String, String),
    /// Nowhere: the server is elsewhere and no flag was given.
    Unknown,
}

/// CPU seconds used in the measured time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    /// By the server, when known.
    pub(super) server_s: Option<f64>,
    /// By this process.
    pub(super) generator_s: f64,
}

impl ServerCpu {
    /// Takes what the flags say, else looks for the local process that listens on the endpoint.
    pub(super) fn find(
        pid: Option<u32>,
        metrics: Option<&str>,
        endpoint: &str,
    ) -> Result<Self, Failure> {
        if let Some(pid) = pid {
            return match process_seconds(&pid.to_string()) {
                Some(_) => Ok(Self::Pid(pid)),
                None => {
                    Err(Failure::input(format!("there is no process {pid}; check --server-pid")))
                }
            };
        }
        if let Some(url) = metrics {
            let wrong = || {
                Failure::input(format!("{url:?} is no metrics page; use http://HOST:PORT/metrics"))
            };
            let (address, path) = url
                .strip_prefix("http://")
                .and_then(|rest| rest.split_once('/'))
                .ok_or_else(wrong)?;
            return Ok(Self::Metrics(address.to_owned(), format!("/{path}")));
        }
        Ok(listener(endpoint).map_or(Self::Unknown, Self::Pid))
    }

    /// CPU time used between two moments to come.
    pub(super) async fn between(&self, begin: Instant, end: Instant) -> Used {
        tokio::time::sleep_until(begin.into()).await;
        let (server, own) = (self.seconds().await, process_seconds("self"));
        tokio::time::sleep_until(end.into()).await;
        let difference = |from: Option<f64>, to: Option<f64>| Some(to? - from?);
        Used {
            server_s: difference(server, self.seconds().await),
            generator_s: difference(own, process_seconds("self")).unwrap_or(0.0),
        }
    }

    async fn seconds(&self) -> Option<f64> {
        match self {
            Self::Pid(pid) => process_seconds(&pid.to_string()),
            Self::Metrics(address, path) => {
                let page = tokio::time::timeout(METRICS_TIMEOUT, fetch(address, path)).await;
                counter(&page.ok()?.ok()?)
            }
            Self::Unknown => None,
        }
    }
}

/// User and system time of a process, its threads included.
fn process_seconds(pid: &str) -> Option<f64> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(stat: &str) -> Option<f64> {
    // The second field is the program's name in parentheses and may hold anything; utime and stime are fields 14 and 15.
    let rest = &stat[stat.rfind(')')? + 1..];
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn counter(page: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.starts_with("process_cpu_seconds_total"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

async fn fetch(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = Vec::new();
    stream.take(METRICS_BYTES_MAX).read_to_end(&mut page).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// The local process that listens on the endpoint's port, when the endpoint is on this machine and we may look.
fn listener(endpoint: &str) -> Option<u32> {
    let (host, port) = endpoint.trim_start_matches("http://").rsplit_once(':')?;
    let local = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    let port: u16 = port.trim_end_matches('/').parse().ok()?;
    let mut inodes = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        inodes.extend(listening(&std::fs::read_to_string(table).unwrap_or_default(), port));
    }
    if !local || inodes.is_empty() {
        return None;
    }
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut pids =
        processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| holds_socket(*pid, &inodes))
}

/// Inodes of sockets in state LISTEN (0A) on a port.
fn listening(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 9 && row[1].ends_with(&suffix) && row[3] == "0A")
        .map(|row| row[9].to_owned())
        .collect()
}

fn holds_socket(pid: u32, inodes: &HashSet<String>) -> bool {
    let folder = format!("/proc/{pid}/fd");
    let Ok(files) = std::fs::read_dir(Path::new(&folder)) else { return false };
    files.flatten().any(|file| {
        let target = std::fs::read_link(file.path()).unwrap_or_default();
        let target = target.to_string_lossy();
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.contains(inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_after_a_program_name_with_spaces_and_parentheses() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 5 1 1";
        assert_eq!(parse_stat(stat), Some(2.0));
        assert_eq!(parse_stat("garbage"), None);
        assert!(process_seconds("self").is_some());
    }

    #[test]
    fn the_counter_is_found_on_a_metrics_page() {
        let page = "HTTP/1.1 200 OK\r\n\r\n# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total 1.5\n";
        assert_eq!(counter(page), Some(1.5));
        assert_eq!(counter("nothing"), None);
    }

    #[test]
    fn our_own_listener_is_found_by_its_port() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        assert_eq!(listener(&address), Some(std::process::id()));
        drop(socket);
        assert_eq!(ServerCpu::find(None, None, "broker.example:8081").unwrap(), ServerCpu::Unknown);
        assert!(ServerCpu::find(None, Some("ftp://x"), "").is_err());
    }
}
