//! `pinnace send`: sends one or more messages to a topic and prints what the broker made of each.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use broker_proto::rocketmq::{Encoding, Message, MessageType, SystemProperties};
use bytes::Bytes;
use clap::Args;
use futures::stream::{self, StreamExt};
use operator_api::quantity::{DurationText, TimeText};
use serde::Serialize;

use super::client::{Client, MessageIds, Role, host_name, proto_now, resource};
use super::failure::Failure;
use super::output::{Lines, OutputArguments};
use super::topic::any_name;

/// Requests under way at once; one at a time with a message group or lite topic, because order is what it is for.
const REQUESTS_IN_FLIGHT: usize = 64;
/// A time this far away is a slip, and would be beyond what timestamps hold.
const FAR_MS: u64 = 1_000 * 366 * 86_400_000;
/// The body when none is given.
const BODY_DEFAULT: &str = "message";

/// The flag `--endpoint` that all client verbs share.
#[derive(Debug, Clone, Args)]
pub(crate) struct EndpointArguments {
    /// Address of the broker for clients.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "PINNACE_ENDPOINT",
        default_value = "127.0.0.1:8081"
    )]
    pub(crate) endpoint: String,
}

/// Arguments of `pinnace send`.
#[derive(Debug, Args)]
pub(crate) struct SendArguments {
    /// Topic to send to.
    #[arg(value_parser = any_name)]
    topic: String,
    /// Body of the message; numbered when --count is more than 1.
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    body: Option<String>,
    /// File that holds the body; - for standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Tag that consumers can filter by.
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Key to find the message by.
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
    /// User property; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE", value_parser = property)]
    property: Vec<(String, String)>,
    /// Message group of a FIFO topic: messages of one group are consumed in the order they were sent.
    #[arg(long, value_name = "GROUP", visible_alias = "message-group")]
    group: Option<String>,
    /// When a message of a DELAY topic becomes visible: a time like 2026-01-31T08:00:00Z, or +DURATION from now.
    #[arg(long, value_name = "WHEN", value_parser = moment,
          conflicts_with_all = ["group", "priority", "lite_topic"])]
    deliver_at: Option<Moment>,
    /// Level of a message of a PRIORITY topic; higher ones are delivered first.
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(i32).range(0..), conflicts_with_all = ["group", "lite_topic"])]
    priority: Option<i32>,
    /// Lite topic of a LITE topic.
    #[arg(long, value_name = "NAME", conflicts_with = "group")]
    lite_topic: Option<String>,
    /// Number of messages.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    #[command(flatten)]
    endpoint: EndpointArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// When a delayed message becomes visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Unix time.
    AtMs(u64),
    /// After it is sent.
    InMs(u64),
}

impl Moment {
    fn timestamp(self) -> prost_types::Timestamp {
        let since_1970 = |ms| std::time::UNIX_EPOCH + Duration::from_millis(ms);
        match self {
            Self::AtMs(unix_ms) => since_1970(unix_ms).into(),
            Self::InMs(ms) => (std::time::SystemTime::now() + Duration::from_millis(ms)).into(),
        }
    }
}

/// What is printed about a sent message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SentView {
    message_id: String,
    offset: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    transaction_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    recall_handle: String,
}

impl SentView {
    fn row(&self) -> String {
        format!("{:<36} {}", self.message_id, self.offset)
    }
}

/// Runs `pinnace send`.
pub(crate) async fn run(arguments: SendArguments) -> Result<(), Failure> {
    let body = body(&arguments)?;
    let client =
        Client::start(&arguments.endpoint.endpoint, &arguments.topic, Role::Producer).await?;
    let outcome = send_all(&client, &arguments, &body).await;
    client.stop().await;
    outcome
}

async fn send_all(client: &Client, arguments: &SendArguments, body: &Body) -> Result<(), Failure> {
    let body_bytes = body.bytes(arguments.count, arguments.count).len();
    if let Some(max) = client.body_bytes_max().filter(|max| body_bytes > *max) {
        return Err(Failure::input(format!(
            "the body has {body_bytes} bytes; the broker takes at most {max}, send a smaller one"
        )));
    }
    let mut ids = MessageIds::new();
    let is_ordered = arguments.group.is_some() || arguments.lite_topic.is_some();
    let window = if is_ordered { 1 } else { REQUESTS_IN_FLIGHT };
    let messages = (1..=arguments.count).map(|number| message(arguments, body, number, ids.next()));
    let mut answers =
        stream::iter(messages).map(|message| client.send(vec![message])).buffered(window);
    let mut lines =
        Lines::new(arguments.output.format, "MESSAGE ID                           OFFSET");
    let mut accepted = 0;
    while let Some(answer) = answers.next().await {
        let entries =
            answer.map_err(|failure| count_accepted(failure, accepted, arguments.count))?;
        for entry in entries {
            accepted += 1;
            let view = SentView {
                message_id: entry.message_id,
                offset: entry.offset,
                transaction_id: entry.transaction_id,
                recall_handle: entry.recall_handle,
            };
            lines.print(&view, SentView::row)?;
        }
    }
    Ok(())
}

/// Says how far a run of several messages came.
fn count_accepted(failure: Failure, accepted: u64, count: u64) -> Failure {
    match failure {
        Failure::Runtime(text) if count > 1 => {
            Failure::Runtime(format!("{text}; {accepted} of {count} messages were accepted before"))
        }
        other => other,
    }
}

/// Where the bodies come from.
enum Body {
    /// Numbered when there are several.
    Text(String),
    /// Sent as it is.
    Data(Bytes),
}

impl Body {
    fn bytes(&self, number: u64, count: u64) -> Bytes {
        match self {
            Self::Text(text) if count > 1 => Bytes::from(format!("{text} {number}")),
            Self::Text(text) => Bytes::from(text.clone()),
            Self::Data(data) => data.clone(),
        }
    }
}

fn body(arguments: &SendArguments) -> Result<Body, Failure> {
    let Some(path) = &arguments.file else {
        return Ok(Body::Text(arguments.body.clone().unwrap_or_else(|| BODY_DEFAULT.to_owned())));
    };
    let data = if path == Path::new("-") {
        let mut data = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut data).map(|_| data)
    } else {
        std::fs::read(path)
    };
    data.map(|data| Body::Data(Bytes::from(data))).map_err(|error| {
        Failure::input(format!("cannot read {}: {error}; give a readable file", path.display()))
    })
}

fn message(arguments: &SendArguments, body: &Body, number: u64, id: String) -> Message {
    Message {
        topic: Some(resource(&arguments.topic)),
        user_properties: arguments.property.iter().cloned().collect::<HashMap<_, _>>(),
        system_properties: Some(SystemProperties {
            tag: arguments.tag.clone(),
            keys: arguments.key.clone(),
            message_id: id,
            body_encoding: Encoding::Identity.into(),
            message_type: message_type(arguments).into(),
            born_timestamp: Some(proto_now()),
            born_host: host_name(),
            message_group: arguments.group.clone(),
            delivery_timestamp: arguments.deliver_at.map(Moment::timestamp),
            priority: arguments.priority,
            lite_topic: arguments.lite_topic.clone(),
            ..SystemProperties::default()
        }),
        body: body.bytes(number, arguments.count),
    }
}

/// What only one type has says which type it is.
fn message_type(arguments: &SendArguments) -> MessageType {
    if arguments.group.is_some() {
        MessageType::Fifo
    } else if arguments.deliver_at.is_some() {
        MessageType::Delay
    } else if arguments.priority.is_some() {
        MessageType::Priority
    } else if arguments.lite_topic.is_some() {
        MessageType::Lite
    } else {
        MessageType::Normal
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    let moment = match text.strip_prefix('+') {
        Some(span) => DurationText(span.to_owned()).as_ms().map(Moment::InMs),
        None => TimeText(text.to_owned()).as_unix_ms().map(Moment::AtMs),
    };
    let is_far = |moment: &Moment| {
        let (Moment::AtMs(ms) | Moment::InMs(ms)) = moment;
        *ms > FAR_MS
    };
    match moment {
        Ok(moment) if is_far(&moment) => Err("is more than 1000 years away".to_owned()),
        moment => moment.map_err(|error| error.to_string()),
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("use NAME=VALUE, as in region=north".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plus_sign_counts_from_now() {
        assert_eq!(moment("+1h30m"), Ok(Moment::InMs(5_400_000)));
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(Moment::AtMs(1_000)));
        for wrong in ["", "+", "+3d", "tomorrow", "1h", "+99999999h"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
