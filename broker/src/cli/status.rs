//! `pinnace status`: one broker at a glance: version, disk, shards, and whether its manifests are in force.

use broker_proto::admin::{BrokerStatus, ManifestsStatus, ShardStatus};
use clap::Args;
use serde::Serialize;

use super::admin::{Admin, AdminArguments};
use super::failure::Failure;
use super::message::rfc3339;
use super::output::{OutputArguments, bytes, columns, fields, print};

/// Arguments of `pinnace status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusView {
    broker: u32,
    version: String,
    started: String,
    endpoint: String,
    disk_free_bytes: u64,
    disk_total_bytes: u64,
    cluster_map_version: u64,
    /// None when the broker follows no manifests.
    manifests: Option<ManifestsView>,
    shards: Vec<ShardView>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestsView {
    directory: String,
    in_force: bool,
    objects: u32,
    problems_total: u32,
    problems: Vec<String>,
    notices: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShardView {
    name: String,
    role: String,
    log_bytes: u64,
    durable_entries: u64,
    /// None when no message is kept.
    oldest_message: Option<String>,
    failure: Option<String>,
}

/// Runs `pinnace status`.
pub(crate) async fn run(arguments: StatusArguments) -> Result<(), Failure> {
    let status = Admin::connect(&arguments.admin).await?.broker().await?;
    print(arguments.output.format, &StatusView::from(status), table)
}

impl From<BrokerStatus> for StatusView {
    fn from(status: BrokerStatus) -> Self {
        Self {
            broker: status.broker_id,
            version: status.version,
            started: rfc3339(status.started_ms),
            endpoint: status.endpoint,
            disk_free_bytes: status.disk_free_bytes,
            disk_total_bytes: status.disk_total_bytes,
            cluster_map_version: status.cluster_map_version,
            manifests: status.manifests.map(ManifestsView::from),
            shards: status.shards.into_iter().map(ShardView::from).collect(),
        }
    }
}

impl From<ManifestsStatus> for ManifestsView {
    fn from(status: ManifestsStatus) -> Self {
        let ManifestsStatus { directory, objects, in_force, problems, problems_total, notices } =
            status;
        Self { directory, in_force, objects, problems_total, problems, notices }
    }
}

impl From<ShardStatus> for ShardView {
    fn from(status: ShardStatus) -> Self {
        Self {
            name: status.name,
            role: status.role,
            log_bytes: status.log_bytes,
            durable_entries: status.durable_index,
            oldest_message: Some(status.oldest_message_ms).filter(|ms| *ms > 0).map(rfc3339),
            failure: Some(status.failure).filter(|failure| !failure.is_empty()),
        }
    }
}

fn table(view: &StatusView) -> String {
    let disk = (bytes(view.disk_free_bytes), bytes(view.disk_total_bytes));
    let map = match view.cluster_map_version {
        0 => "-".to_owned(),
        version => format!("version {version}"),
    };
    let mut text = fields(&[
        ("Broker", view.broker.to_string()),
        ("Version", view.version.clone()),
        ("Started", view.started.clone()),
        ("Clients", view.endpoint.clone()),
        ("Disk", format!("{} free of {}", disk.0, disk.1)),
        ("Cluster map", map),
        ("Manifests", view.manifests.as_ref().map_or_else(|| "-".to_owned(), summary)),
    ]);
    if let Some(manifests) = &view.manifests {
        let (told, total) = (manifests.problems.len(), manifests.problems_total as usize);
        let more = total.saturating_sub(told);
        let more = (more > 0).then(|| format!("and {more} more problems; see the broker's log"));
        for line in manifests.problems.iter().chain(&more).chain(&manifests.notices) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    let row = |shard: &ShardView| {
        vec![
            shard.name.clone(),
            shard.role.clone(),
            bytes(shard.log_bytes),
            shard.durable_entries.to_string(),
            shard.oldest_message.clone().unwrap_or_else(|| "-".to_owned()),
            shard.failure.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let header = ["SHARD", "ROLE", "LOG", "DURABLE ENTRIES", "OLDEST MESSAGE", "FAILURE"];
    text + "\n" + &columns(&header, view.shards.iter().map(row).collect())
}

fn summary(manifests: &ManifestsView) -> String {
    let ManifestsView { directory, objects, problems_total, .. } = manifests;
    if manifests.in_force {
        format!("in force, {objects} objects from {directory}")
    } else {
        format!("NOT in force, {problems_total} problems in {directory}")
    }
}
