//! `pinnace message find|trace`: stored messages by id, key or time, and what became of one, over the admin API.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker_proto::admin::find_messages_request::By;
use broker_proto::admin::trace_event::Kind;
use broker_proto::admin::{
    FindMessagesRequest, MessageTrace, MessageType, StoredMessage, TraceEvent, TraceMessageRequest,
};
use clap::{Args, Subcommand};
use prost_types::Timestamp;
use serde::Serialize;

use super::admin::AdminArguments;
use super::cluster::Cluster;
use super::failure::Failure;
use super::output::{OutputArguments, columns, fields, print};
use super::topic::{any_name, or_dash};

/// Characters of a body shown in a table.
const BODY_SHOWN_MAX: usize = 60;

/// The verbs on messages.
#[derive(Debug, Subcommand)]
pub(crate) enum MessageVerb {
    /// Find stored messages by id, by key or by the time they were stored.
    Find(FindArguments),
    /// Tell what became of a message: every delivery, acknowledgement and dead letter.
    Trace(TraceArguments),
}

/// Arguments of `pinnace message find`.
#[derive(Debug, Args)]
pub(crate) struct FindArguments {
    /// Topic that the messages were sent to.
    #[arg(value_parser = any_name)]
    topic: String,
    /// The message with this id.
    #[arg(long, value_name = "ID", conflicts_with = "key")]
    id: Option<String>,
    /// Messages with this key.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Stored then or later: 2026-01-31T12:00:00Z, Unix milliseconds, or how long ago, as 15m or 2h.
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<u64>,
    /// Stored then or before.
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<u64>,
    /// Show at most this many, the oldest.
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    max: u32,
    /// Go on where an answer ended that says so; --from counts no more.
    #[arg(long, value_name = "CURSOR", default_value = "", hide_default_value = true)]
    cursor: String,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Arguments of `pinnace message trace`.
#[derive(Debug, Args)]
pub(crate) struct TraceArguments {
    /// Topic that the message was sent to.
    #[arg(value_parser = any_name)]
    topic: String,
    /// Id of the message.
    #[arg(long, value_name = "ID")]
    id: String,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// What is printed about a stored message. Times are RFC 3339 in UTC.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageView {
    message_id: String,
    topic: String,
    queue: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    stored: String,
    born: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<String>,
    born_host: String,
    message_type: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    tag: String,
    keys: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lite_topic: String,
    properties: BTreeMap<String, String>,
    /// As text; bytes that are no UTF-8 are replaced. A trace leaves it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// The result of a search.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FoundView {
    messages: Vec<MessageView>,
    complete: bool,
    /// When the search is not complete: where it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// What became of one stored copy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TraceView {
    message: MessageView,
    events: Vec<EventView>,
    events_left_out: bool,
}

/// Something that happened.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EventView {
    time: String,
    event: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    client_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invisible_until: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    dead_letter_topic: String,
}

impl MessageView {
    pub(super) fn new(message: StoredMessage, with_body: bool) -> Self {
        let body = with_body.then(|| String::from_utf8_lossy(&message.body).into_owned());
        Self {
            queue: format!("{}/{}", message.shard, message.queue_id),
            offset: message.offset,
            stored: rfc3339(message.stored_ms),
            born: rfc3339(message.born_ms),
            due: message.due_ms.map(rfc3339),
            message_type: MessageType::try_from(message.r#type)
                .map_or("UNKNOWN", |kind| kind.as_str_name()),
            message_id: message.message_id,
            topic: message.topic,
            born_host: message.born_host,
            tag: message.tag,
            keys: message.keys,
            message_group: message.message_group,
            lite_topic: message.lite_topic,
            properties: message.properties.into_iter().collect(),
            body,
        }
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.stored.clone(),
            self.message_id.clone(),
            self.queue.clone(),
            self.offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string()),
            or_dash(self.tag.clone()),
            or_dash(self.keys.join(",")),
            self.body_in_a_table(),
        ]
    }

    pub(super) fn id(&self) -> &str {
        &self.message_id
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// The beginning of the body, on one line.
    pub(super) fn body_in_a_table(&self) -> String {
        // Control characters of a body must not reach the terminal.
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let body = self.body.as_deref().unwrap_or("").chars().map(plain);
        body.take(BODY_SHOWN_MAX).collect()
    }

    /// Everything about the message, the body last; of control characters only line breaks and tabs are kept.
    pub(super) fn details_with_body(&self) -> String {
        let properties = self.properties.iter().map(|(name, value)| format!("{name}={value}"));
        let properties: Vec<_> = properties.collect();
        let plain = |c: char| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c };
        let body: String = self.body.as_deref().unwrap_or("").chars().map(plain).collect();
        let more = fields(&[("Properties", or_dash(properties.join(", ")))]);
        format!("{}{more}\n{body}\n", self.details())
    }

    fn details(&self) -> String {
        let offset = self.offset.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        fields(&[
            ("Message", self.message_id.clone()),
            ("Topic", self.topic.clone()),
            ("Type", self.message_type.to_owned()),
            ("Queue", self.queue.clone()),
            ("Offset", offset),
            ("Sent", format!("{} by {}", self.born, or_dash(self.born_host.clone()))),
            ("Stored", self.stored.clone()),
            ("Due", or_dash(self.due.clone().unwrap_or_default())),
            ("Tag", or_dash(self.tag.clone())),
            ("Keys", or_dash(self.keys.join(", "))),
        ])
    }
}

impl From<TraceEvent> for EventView {
    fn from(event: TraceEvent) -> Self {
        let has_attempt = event.attempt > 0;
        Self {
            time: rfc3339(event.time_ms),
            event: event_name(event.kind()),
            attempt: has_attempt.then_some(event.attempt),
            invisible_until: has_attempt.then(|| rfc3339(event.invisible_until_ms)),
            group: event.group,
            client_id: event.client_id,
            dead_letter_topic: event.dead_letter_topic,
        }
    }
}

impl From<MessageTrace> for TraceView {
    fn from(trace: MessageTrace) -> Self {
        Self {
            message: MessageView::new(trace.message.unwrap_or_default(), false),
            events: trace.events.into_iter().map(EventView::from).collect(),
            events_left_out: trace.events_left_out,
        }
    }
}

impl TraceView {
    fn details(&self) -> String {
        let row = |event: &EventView| {
            vec![
                event.time.clone(),
                event.event.to_owned(),
                or_dash(event.group.clone()),
                or_dash(event.client_id.clone()),
                event.attempt.map_or_else(|| "-".to_owned(), |attempt| attempt.to_string()),
                or_dash(event.invisible_until.clone().unwrap_or_default()),
                or_dash(event.dead_letter_topic.clone()),
            ]
        };
        let header = ["TIME", "EVENT", "GROUP", "CLIENT", "ATTEMPT", "INVISIBLE UNTIL", "FROM"];
        let mut text = self.message.details() + "\n";
        if self.events.is_empty() {
            return text + "nothing happened to it yet\n";
        }
        text += &columns(&header, self.events.iter().map(row).collect());
        if self.events_left_out {
            text += "later events are left out\n";
        }
        text
    }
}

/// Runs a verb on messages.
pub(crate) async fn run(verb: MessageVerb) -> Result<(), Failure> {
    match verb {
        MessageVerb::Find(arguments) => find(arguments).await,
        MessageVerb::Trace(arguments) => trace(arguments).await,
    }
}

async fn find(arguments: FindArguments) -> Result<(), Failure> {
    let by = match (arguments.id, arguments.key) {
        (Some(id), _) => Some(By::MessageId(id)),
        (None, key) => key.map(By::Key),
    };
    let request = FindMessagesRequest {
        topic: arguments.topic,
        by,
        // How long ago is another time now than it was on the page before.
        begin_ms: arguments.from.filter(|_| arguments.cursor.is_empty()),
        end_ms: arguments.to,
        messages_max: arguments.max,
        cursor: arguments.cursor,
    };
    let answer = Cluster::connect(&arguments.admin).await?.find_messages(request).await?;
    let messages = answer.messages.into_iter().map(|message| MessageView::new(message, true));
    let view = FoundView {
        messages: messages.collect(),
        complete: answer.complete,
        cursor: Some(answer.cursor).filter(|cursor| !cursor.is_empty()),
    };
    print(arguments.output.format, &view, |view| {
        let header = ["STORED", "MESSAGE ID", "QUEUE", "OFFSET", "TAG", "KEYS", "BODY"];
        let table = columns(&header, view.messages.iter().map(MessageView::row).collect());
        let more = view.cursor.as_ref();
        table + &more.map_or_else(String::new, |at| format!("there may be more: --cursor {at}\n"))
    })
}

async fn trace(arguments: TraceArguments) -> Result<(), Failure> {
    let TraceArguments { topic, id, admin, output } = arguments;
    let request = TraceMessageRequest { topic: topic.clone(), message_id: id.clone() };
    let answer = Cluster::connect(&admin).await?.trace_message(request).await?;
    if answer.traces.is_empty() {
        let hint = match answer.complete {
            true => "it is not kept any more, or was sent to another topic or broker".to_owned(),
            false => format!("the log was read to {} only", rfc3339(answer.until_ms)),
        };
        return Err(Failure::runtime(format!("topic {topic} has no message {id} here: {hint}")));
    }
    let views: Vec<_> = answer.traces.into_iter().map(TraceView::from).collect();
    print(output.format, &views, |views| {
        let mut text = views.iter().map(TraceView::details).collect::<Vec<_>>().join("\n");
        if !answer.complete {
            text += &format!("the log was read to {} only\n", rfc3339(answer.until_ms));
        }
        text
    })
}

fn event_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "unknown",
        Kind::Due => "due",
        Kind::Recalled => "recalled",
        Kind::ProducerAsked => "producer asked",
        Kind::Committed => "committed",
        Kind::RolledBack => "rolled back",
        Kind::Delivered => "delivered",
        Kind::FilteredOut => "filtered out",
        Kind::InvisibleChanged => "invisible changed",
        Kind::Acknowledged => "acknowledged",
        Kind::DeadLettered => "dead-lettered",
        Kind::Redriven => "redriven",
        Kind::Purged => "purged",
        Kind::PassedOver => "passed over",
        Kind::Rewound => "rewound",
        Kind::Released => "released",
    }
}

/// RFC 3339 in UTC, with milliseconds.
pub(crate) fn rfc3339(ms: u64) -> String {
    let nanos = i32::try_from(ms % 1000).unwrap_or(0) * 1_000_000;
    // The end of the year 9999 is the last that a timestamp can say.
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX).min(253_402_300_799);
    Timestamp { seconds, nanos }.to_string()
}

/// Unix milliseconds of a time as people write it.
fn time(text: &str) -> Result<u64, String> {
    let ago_ms = |text: &str| {
        let (digits, unit_ms) = [("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
            .into_iter()
            .find_map(|(unit, unit_ms)| Some((text.strip_suffix(unit)?, unit_ms)))?;
        digits.parse::<u64>().ok()?.checked_mul(unit_ms)
    };
    if let Ok(ms) = text.parse::<u64>() {
        return Ok(ms);
    }
    if let Some(ago_ms) = ago_ms(text) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        return Ok(now_ms.saturating_sub(ago_ms));
    }
    let timestamp: Timestamp = text.parse().map_err(|_| {
        "not a time; write 2026-01-31T12:00:00Z, Unix milliseconds, or how long ago, as 15m"
            .to_owned()
    })?;
    let ms = i128::from(timestamp.seconds) * 1000 + i128::from(timestamp.nanos) / 1_000_000;
    u64::try_from(ms).map_err(|_| "times before 1970 are not served".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_and_programs_write_them() {
        assert_eq!(time("1700000000123"), Ok(1_700_000_000_123));
        assert_eq!(time("2023-11-14T22:13:20.123Z"), Ok(1_700_000_000_123));
        assert_eq!(time("2023-11-14T23:13:20+01:00"), Ok(1_700_000_000_000));
        assert_eq!(time(&rfc3339(1_700_000_000_123)), Ok(1_700_000_000_123));
        let hour = time("0s").unwrap() - time("60m").unwrap();
        assert!((3_599_000..=3_600_000).contains(&hour), "{hour}");
        for wrong in ["", "yesterday", "5x", "-3m", "2023-13-01T00:00:00Z"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_body_does_not_reach_the_terminal_as_it_is() {
        let body = b"a\x1b[31mb\n".to_vec();
        let message = StoredMessage { body, shard: "shard-0".into(), ..Default::default() };
        let row = MessageView::new(message, true).row();
        assert_eq!(row.last().map(String::as_str), Some("a [31mb "));
    }
}
