//! The arguments of `pinnace serve`. What is done with them stands in `crate::serve`, whose
//! `run(ServeArguments) -> anyhow::Result<()>` returns when the broker has stopped. A `Failure::input` inside its error
//! becomes exit code 2, every other error exit code 1.

use std::net::SocketAddr;
use std::path::PathBuf;

use broker_model::limits::SHARDS_PER_BROKER_MAX;
use clap::{Args, ValueEnum};

use crate::listener::proxies::Network;

/// Longest time that a broker serves on after it was told to stop: whoever runs it kills it some time later.
const STOP_DELAY_SECONDS_MAX: u64 = 60;

/// How the broker's log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Arguments of `pinnace serve`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServeArguments {
    /// Directory that holds everything that survives; made when missing.
    #[arg(long, value_name = "DIR", env = "PINNACE_DATA", default_value = "./pinnace-data")]
    pub(crate) data: PathBuf,
    /// Directory of Topic and ConsumerGroup manifests (YAML or JSON, in folders too) to apply and to watch.
    #[arg(long, value_name = "DIR", env = "PINNACE_MANIFESTS")]
    pub(crate) manifests: Option<PathBuf>,
    /// Address for clients.
    #[arg(long, value_name = "IP:PORT", env = "PINNACE_LISTEN", default_value = "127.0.0.1:8081")]
    pub(crate) listen: SocketAddr,
    /// Networks of proxies that say from where clients come (PROXY protocol, version 1 or 2), comma separated; all
    /// connections from there must begin with its header, and no others may [default: none].
    #[arg(long, value_name = "NETWORKS", env = "PINNACE_PROXY_PROTOCOL", value_delimiter = ',')]
    pub(crate) proxy_protocol: Vec<Network>,
    /// Connections that one client address may have [default: half of all that clients may have].
    #[arg(long, value_name = "N", env = "PINNACE_CONNECTIONS_PER_ADDRESS", value_parser = one_or_more)]
    pub(crate) connections_per_address: Option<usize>,
    /// Address for /readyz, /healthz and /metrics.
    #[arg(long, value_name = "IP:PORT", env = "PINNACE_HTTP", default_value = "127.0.0.1:8082")]
    pub(crate) http: SocketAddr,
    /// Address for the admin API.
    #[arg(long, value_name = "IP:PORT", env = "PINNACE_ADMIN", default_value = "127.0.0.1:8083")]
    pub(crate) admin: SocketAddr,
    /// Number of shards of this broker.
    #[arg(long, value_name = "N", env = "PINNACE_SHARDS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(SHARDS_PER_BROKER_MAX)))]
    pub(crate) shards: u32,
    /// Ids of the shards of this broker, comma separated [default: 0 to N-1].
    #[arg(long, value_name = "LIST", env = "PINNACE_SHARD_IDS", value_delimiter = ',')]
    pub(crate) shard_ids: Vec<u32>,
    /// Number of this broker in its cluster.
    #[arg(long, value_name = "N", env = "PINNACE_BROKER_ID", default_value_t = 0)]
    pub(crate) broker_id: u32,
    /// Name of the cluster.
    #[arg(long, value_name = "NAME", env = "PINNACE_CLUSTER", default_value = "default")]
    pub(crate) cluster: String,
    /// Address that clients are told to use [default: the address of --listen].
    #[arg(long, value_name = "HOST:PORT", env = "PINNACE_ADVERTISE", value_parser = host_and_port)]
    pub(crate) advertise: Option<String>,
    /// Certificate chain (PEM) [default: a self-made certificate].
    #[arg(long, value_name = "FILE", env = "PINNACE_TLS_CERTIFICATE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Private key (PEM) of the certificate.
    #[arg(long, value_name = "FILE", env = "PINNACE_TLS_KEY", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// For how many seconds after SIGTERM everything is served on while /readyz says no, so that load balancers lead clients to
    /// other brokers before connections are closed [default: 0].
    #[arg(long, value_name = "SECONDS", env = "PINNACE_STOP_DELAY_SECONDS", default_value_t = 0, hide_default_value = true,
          value_parser = clap::value_parser!(u64).range(0..=STOP_DELAY_SECONDS_MAX))]
    pub(crate) stop_delay_seconds: u64,
    /// How log lines look.
    #[arg(long, value_enum, env = "PINNACE_LOG_FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

fn one_or_more(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| "use a number from 1 on".to_owned())
}

/// Accepts `HOST:PORT`, `IPV4:PORT` and `[IPV6]:PORT`.
pub(crate) fn host_and_port(text: &str) -> Result<String, String> {
    let hint = "use HOST:PORT, as in 127.0.0.1:8081";
    let (host, port) = text.rsplit_once(':').ok_or(hint)?;
    if host.is_empty() || host.contains('/') || (host.contains(':') && !host.starts_with('[')) {
        return Err(hint.to_owned());
    }
    match port.parse::<u16>() {
        Ok(1..) => Ok(text.to_owned()),
        _ => Err(format!("{port:?} is no port; {hint}")),
    }
}
