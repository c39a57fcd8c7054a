//! The command line. Every flag is also an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use operator_api::limits::NAMESPACE_DELETION_WAIT_SECONDS_DEFAULT;

/// Runs Pinnace on Kubernetes: BrokerClusters, Topics and ConsumerGroups.
#[derive(Debug, Parser)]
#[command(name = "pinnace-operator", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator.
    Run(Box<RunArguments>),
    /// Print the custom resource definitions, or write them as files.
    Crds {
        /// Directory to write to, one file for each definition; printed when absent.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Print the permissions that the operator needs, as roles.
    Rbac,
}

/// How to run.
#[derive(Debug, Clone, Args)]
pub struct RunArguments {
    /// Namespace of the operator's Lease; that of its service account when absent, else `default`.
    #[arg(long, env = "PINNACE_OPERATOR_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// A namespace to look after; several when repeated or parted by commas; all when absent or empty.
    #[arg(
        long,
        env = "PINNACE_OPERATOR_WATCH_NAMESPACE",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespace: Vec<String>,
    /// DNS domain of the Kubernetes cluster, for certificates; the one that this pod searches in when absent.
    #[arg(long, env = "PINNACE_OPERATOR_CLUSTER_DOMAIN", value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(
        long,
        env = "PINNACE_OPERATOR_HTTP",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080"
    )]
    pub http: SocketAddr,
    /// Name of this process in the Lease; the host name when absent.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,
    /// Name of the Lease.
    #[arg(
        long,
        env = "PINNACE_OPERATOR_LEASE_NAME",
        value_name = "NAME",
        default_value = "pinnace-operator"
    )]
    pub lease_name: String,
    /// Name under which brokers know this operator as owner; unlike that of any other Kubernetes cluster.
    #[arg(
        long,
        env = "PINNACE_OPERATOR_INSTANCE",
        value_name = "NAME",
        default_value = "kubernetes"
    )]
    pub instance: String,
    /// Image of the brokers, without tag.
    #[arg(
        long,
        env = "PINNACE_OPERATOR_BROKER_IMAGE",
        value_name = "REPOSITORY",
        default_value = "pinnace.dev/pinnace"
    )]
    pub broker_image: String,
    /// Version of brokers whose cluster names none, and tag of their image.
    #[arg(long, env = "PINNACE_OPERATOR_BROKER_VERSION", value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    pub broker_version: String,
    /// For how many seconds the deletion of an object waits for brokers when its whole namespace is being deleted. Then the
    /// object goes, and what brokers hold of it stays.
    #[arg(long, env = "PINNACE_OPERATOR_NAMESPACE_DELETION_WAIT", value_name = "SECONDS", default_value_t = NAMESPACE_DELETION_WAIT_SECONDS_DEFAULT, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub namespace_deletion_wait: u64,
    /// Objects of one kind that are worked on at once.
    #[arg(long, env = "PINNACE_OPERATOR_CONCURRENCY", value_name = "COUNT", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// What to log, like `info` or `operator=debug,info`.
    #[arg(long, env = "PINNACE_OPERATOR_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How to log.
    #[arg(long, env = "PINNACE_OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs, one object a line.
    Json,
}
