//! `pinnace topic create|list|describe|delete`, over the admin API.

use std::time::Duration;

use broker_model::limits::{QUEUES_DEFAULT, QUEUES_PER_TOPIC_MAX};
use broker_model::{MessageType, TopicName};
use broker_proto::admin::{self, Retention, Topic, TopicStatus};
use clap::{Args, Subcommand};
use operator_api::limits::RETENTION_MS_MIN;
use operator_api::quantity::{DurationText, SizeText};
use serde::Serialize;

use super::admin::{AdminArguments, owner};
use super::client::proto_duration;
use super::cluster::Cluster;
use super::declared::{Kind, ListArguments, View, print_list, print_one};
use super::failure::Failure;
use super::output::{OutputArguments, bytes, duration, fields, print};

const KIND: Kind = Kind { noun: "topic", verb: "topic" };

/// The verbs on topics.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicVerb {
    /// Create a topic; does nothing when it exists with the same settings.
    Create(CreateArguments),
    /// List topics.
    List(ListArguments),
    /// Show one topic with its placement, size and groups.
    Describe(DescribeArguments),
    /// Delete a topic and its messages.
    Delete(DeleteArguments),
}

/// Arguments of `pinnace topic create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Name of the topic.
    #[arg(value_parser = declared_name)]
    name: String,
    /// Message type: NORMAL, FIFO, DELAY, TRANSACTION, PRIORITY or LITE [default: NORMAL].
    #[arg(long = "type", value_name = "TYPE", value_parser = message_type)]
    message_type: Option<MessageType>,
    /// Number of queues over all shards [default: 8].
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(QUEUES_PER_TOPIC_MAX)))]
    queues: Option<u32>,
    /// LITE only: a lite topic that nobody used for so long is deleted [default: 24h].
    #[arg(long, value_name = "DURATION", value_parser = expiry_ms)]
    lite_expiry: Option<u64>,
    /// Oldest age kept, like 72h, at least one minute [default: no limit].
    #[arg(long, value_name = "DURATION", value_parser = retention_ms)]
    retention_time: Option<u64>,
    /// Most bytes kept over all shards, like 10Gi [default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = retention_bytes)]
    retention_bytes: Option<u64>,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Arguments of `pinnace topic describe`.
#[derive(Debug, Args)]
pub(crate) struct DescribeArguments {
    /// Name of the topic.
    #[arg(value_parser = any_name)]
    name: String,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Arguments of `pinnace topic delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    /// Name of the topic.
    #[arg(value_parser = any_name)]
    name: String,
    /// Delete even what a manifest or a custom resource declared.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// What is printed about a topic.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TopicView {
    name: String,
    message_type: &'static str,
    queues: u32,
    placement: Vec<PlacementView>,
    messages: u64,
    bytes: u64,
    groups: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_message_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lite_expiry_ms: Option<u64>,
    read: bool,
    write: bool,
    owner: String,
    version: u64,
}

/// The queues of a topic on one shard.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlacementView {
    shard: String,
    queues: u32,
}

impl TopicView {
    fn new(topic: Topic, status: Option<TopicStatus>) -> Self {
        let status = status.unwrap_or_default();
        let retention = topic.retention.unwrap_or_default();
        let placement = topic.placement.into_iter();
        Self {
            message_type: type_name(topic.r#type),
            queues: topic.queues,
            placement: placement
                .map(|p| PlacementView { shard: p.shard, queues: p.queues })
                .collect(),
            messages: status.messages,
            bytes: status.bytes,
            groups: status.groups,
            retention_ms: retention.time.as_ref().map(milliseconds),
            retention_bytes: retention.bytes,
            max_message_bytes: topic.max_message_bytes,
            lite_expiry_ms: topic.lite_expiry.as_ref().map(milliseconds),
            read: topic.read.unwrap_or(true),
            write: topic.write.unwrap_or(true),
            owner: owner_text(topic.owner.as_ref()),
            version: topic.version,
            name: topic.name,
        }
    }

    fn retention(&self) -> String {
        let limits = [self.retention_ms.map(duration), self.retention_bytes.map(bytes)];
        or_dash(limits.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl View for TopicView {
    const HEADER: &'static [&'static str] =
        &["NAME", "TYPE", "QUEUES", "MESSAGES", "SIZE", "GROUPS", "OWNER"];

    fn row(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.message_type.to_owned(),
            self.queues.to_string(),
            self.messages.to_string(),
            bytes(self.bytes),
            self.groups.len().to_string(),
            self.owner.clone(),
        ]
    }

    fn details(&self) -> String {
        let placement: Vec<_> =
            self.placement.iter().map(|p| format!("{} ({})", p.shard, p.queues)).collect();
        let access = match (self.read, self.write) {
            (true, true) => "read, write",
            (true, false) => "read",
            (false, true) => "write",
            (false, false) => "none",
        };
        fields(&[
            ("Name", self.name.clone()),
            ("Type", self.message_type.to_owned()),
            ("Queues", self.queues.to_string()),
            ("Placement", placement.join(", ")),
            ("Access", access.to_owned()),
            ("Messages", self.messages.to_string()),
            ("Size", bytes(self.bytes)),
            ("Retention", self.retention()),
            (
                "Largest body",
                self.max_message_bytes.map_or_else(|| "-".into(), |n| bytes(n.into())),
            ),
            ("Lite expiry", or_dash(self.lite_expiry_ms.map(duration).unwrap_or_default())),
            ("Groups", or_dash(self.groups.join(", "))),
            ("Owner", self.owner.clone()),
            ("Version", self.version.to_string()),
        ])
    }
}

/// Runs a verb on topics.
pub(crate) async fn run(verb: TopicVerb) -> Result<(), Failure> {
    match verb {
        TopicVerb::Create(arguments) => create(arguments).await,
        TopicVerb::List(arguments) => {
            let topics = Cluster::connect(&arguments.admin).await?.topics(&[]).await?;
            let views: Vec<_> = topics.into_iter().map(|(t, s)| TopicView::new(t, s)).collect();
            print_list(arguments.output.format, &views)
        }
        TopicVerb::Describe(arguments) => {
            let mut cluster = Cluster::connect(&arguments.admin).await?;
            let found = cluster.topics(&[&arguments.name]).await?.pop();
            let (topic, status) = found.ok_or_else(|| KIND.none(&arguments.name))?;
            print_one(arguments.output.format, &TopicView::new(topic, status))
        }
        TopicVerb::Delete(arguments) => {
            let mut cluster = Cluster::connect(&arguments.admin).await?;
            let existed = cluster.delete_topic(&arguments.name, arguments.force).await?;
            KIND.deleted(&arguments.name, existed)
        }
    }
}

async fn create(arguments: CreateArguments) -> Result<(), Failure> {
    let message_type = arguments.message_type.unwrap_or(MessageType::Normal);
    if arguments.lite_expiry.is_some() && message_type != MessageType::Lite {
        return Err(Failure::input(
            "--lite-expiry is for LITE topics; give --type LITE, or leave it out",
        ));
    }
    let mut cluster = Cluster::connect(&arguments.admin).await?;
    if let Some((topic, status)) = cluster.topics(&[&arguments.name]).await?.pop() {
        KIND.same(&arguments.name, &differences(&arguments, &topic))?;
        return created(&arguments, topic, status, "exists already with these settings");
    }
    let topic = Topic {
        name: arguments.name.clone(),
        r#type: type_number(message_type).into(),
        queues: arguments.queues.unwrap_or(QUEUES_DEFAULT),
        owner: Some(owner()),
        lite_expiry: arguments.lite_expiry.map(|ms| proto_duration(Duration::from_millis(ms))),
        retention: retention(&arguments),
        ..Topic::default()
    };
    let topic = cluster.create_topic(topic).await?;
    created(&arguments, topic, None, "created")
}

fn retention(arguments: &CreateArguments) -> Option<Retention> {
    let is_given = arguments.retention_time.is_some() || arguments.retention_bytes.is_some();
    let time = arguments.retention_time.map(|ms| proto_duration(Duration::from_millis(ms)));
    is_given.then_some(Retention { time, bytes: arguments.retention_bytes })
}

fn created(
    arguments: &CreateArguments,
    topic: Topic,
    status: Option<TopicStatus>,
    what: &str,
) -> Result<(), Failure> {
    print(arguments.output.format, &TopicView::new(topic, status), |view| {
        format!("topic {} {what}: {}, {} queues\n", view.name, view.message_type, view.queues)
    })
}

/// Only flags that were given are compared: `create NAME` alone accepts any topic of that name.
fn differences(arguments: &CreateArguments, held: &Topic) -> Vec<String> {
    let mut differences = Vec::new();
    let held_type = type_name(held.r#type);
    if let Some(wanted) = arguments.message_type.filter(|wanted| wanted.as_str() != held_type) {
        differences.push(format!("its type is {held_type}, not {wanted}"));
    }
    if let Some(wanted) = arguments.queues.filter(|wanted| *wanted != held.queues) {
        differences.push(format!("it has {} queues, not {wanted}", held.queues));
    }
    let held_expiry = held.lite_expiry.as_ref().map(milliseconds);
    if let Some(wanted) = arguments.lite_expiry.filter(|wanted| Some(*wanted) != held_expiry) {
        let held = or_dash(held_expiry.map(duration).unwrap_or_default());
        differences.push(format!("its lite expiry is {held}, not {}", duration(wanted)));
    }
    let retention = held.retention.unwrap_or_default();
    let held_ms = retention.time.as_ref().map(milliseconds);
    if let Some(wanted) = arguments.retention_time.filter(|wanted| Some(*wanted) != held_ms) {
        let held = held_ms.map_or_else(|| "without limit".to_owned(), duration);
        differences.push(format!("it keeps messages {held}, not {}", duration(wanted)));
    }
    let held_bytes = retention.bytes;
    if let Some(wanted) = arguments.retention_bytes.filter(|wanted| Some(*wanted) != held_bytes) {
        let held = held_bytes.map_or_else(|| "bytes without limit".to_owned(), bytes);
        differences.push(format!("it keeps {held}, not {}", bytes(wanted)));
    }
    differences
}

/// Parses the name of a topic to be created.
pub(crate) fn declared_name(text: &str) -> Result<String, String> {
    TopicName::parse_declared(text).map(|name| name.to_string()).map_err(|error| error.to_string())
}

/// Parses the name of any topic, dead-letter topics included.
pub(crate) fn any_name(text: &str) -> Result<String, String> {
    TopicName::parse(text).map(|name| name.to_string()).map_err(|error| error.to_string())
}

fn message_type(text: &str) -> Result<MessageType, String> {
    text.to_ascii_uppercase().parse()
}

fn expiry_ms(text: &str) -> Result<u64, String> {
    match DurationText(text.to_owned()).as_ms().map_err(|error| error.to_string())? {
        0 => Err("it must be longer than nothing, like 12h".to_owned()),
        ms => Ok(ms),
    }
}

fn retention_ms(text: &str) -> Result<u64, String> {
    let ms = DurationText(text.to_owned()).as_ms().map_err(|error| error.to_string())?;
    if ms < RETENTION_MS_MIN {
        return Err("it must be at least one minute, like 72h".to_owned());
    }
    Ok(ms)
}

fn retention_bytes(text: &str) -> Result<u64, String> {
    match SizeText(text.to_owned()).as_bytes().map_err(|error| error.to_string())? {
        0 => Err("it must be more than nothing, like 10Gi".to_owned()),
        bytes => Ok(bytes),
    }
}

fn type_number(message_type: MessageType) -> admin::MessageType {
    match message_type {
        MessageType::Normal => admin::MessageType::Normal,
        MessageType::Fifo => admin::MessageType::Fifo,
        MessageType::Delay => admin::MessageType::Delay,
        MessageType::Transaction => admin::MessageType::Transaction,
        MessageType::Lite => admin::MessageType::Lite,
        MessageType::Priority => admin::MessageType::Priority,
    }
}

fn type_name(number: i32) -> &'static str {
    admin::MessageType::try_from(number).map_or("UNKNOWN", |t| t.as_str_name())
}

/// `kubernetes/shop/orders`, `manifests/topic.yaml`, `cli`, or a dash.
pub(super) fn owner_text(owner: Option<&admin::Owner>) -> String {
    let Some(owner) = owner else { return "-".to_owned() };
    let parts = [&owner.instance, &owner.namespace, &owner.name];
    let parts: Vec<_> = parts.into_iter().filter(|p| !p.is_empty()).map(String::as_str).collect();
    or_dash(parts.join("/"))
}

/// Empty cells are shown as a dash.
pub(super) fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// A protobuf duration in milliseconds; negative ones count as zero.
pub(super) fn milliseconds(duration: &prost_types::Duration) -> u64 {
    let ms = i128::from(duration.seconds) * 1000 + i128::from(duration.nanos) / 1_000_000;
    u64::try_from(ms.max(0)).unwrap_or(u64::MAX)
}
