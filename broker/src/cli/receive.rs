//! `pinnace receive`: prints messages of a topic as they come to a consumer group, and acknowledges each after printing.
//! One poll per broker of the route is under way at a time; together they never ask for more than `--count` messages.

use std::sync::Mutex;
use std::time::Duration;

use clap::Args;
use futures::stream::{FuturesUnordered, StreamExt, TryStreamExt};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::client::{Client, Poll, Received, Role, Trouble, by_sql, by_tags};
use super::failure::Failure;
use super::group::group_name;
use super::output::{Lines, OutputArguments};
use super::send::EndpointArguments;
use super::topic::{any_name, or_dash};

/// Most messages asked for in one poll.
const BATCH_MAX: usize = 32;
/// Acknowledgements under way at once.
const ACKS_IN_FLIGHT: usize = 64;
/// How long a printed message may take to be acknowledged before the group sees it again.
const INVISIBLE: Duration = Duration::from_secs(30);
/// The server holds a poll no longer and no shorter than this.
const WAIT_MIN: Duration = Duration::from_secs(5);
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Pause after a broken poll.
const BROKEN_PAUSE: Duration = Duration::from_secs(1);

/// Arguments of `pinnace receive`.
#[derive(Debug, Args)]
pub(crate) struct ReceiveArguments {
    /// Topic to receive from; a dead-letter topic is named %DLQ%GROUP.
    #[arg(value_parser = any_name)]
    topic: String,
    /// Consumer group to receive for.
    #[arg(long, value_name = "GROUP", value_parser = group_name)]
    group: String,
    /// Stop after this many messages; exit 1 when fewer came [default: all that come].
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Stop when no message came for this many seconds (a poll lasts at least 5).
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Only messages with one of these tags, as in 'paid || shipped'; a condition with --sql.
    #[arg(long, value_name = "EXPRESSION", default_value = "*")]
    filter: String,
    /// The filter is an SQL92 condition over properties, as in "region = 'north' AND amount > 10".
    #[arg(long, requires = "filter")]
    sql: bool,
    #[command(flatten)]
    endpoint: EndpointArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// What is printed about a received message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReceivedView {
    message_id: String,
    queue: String,
    offset: i64,
    attempt: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    keys: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    /// When a delayed message was to be delivered, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lite_topic: Option<String>,
    properties: std::collections::BTreeMap<String, String>,
    /// As text; bytes that are no UTF-8 are replaced.
    body: String,
    body_bytes: usize,
}

impl ReceivedView {
    fn new(received: &Received, broker: &str) -> Self {
        let message = &received.message;
        let properties = message.system_properties.clone().unwrap_or_default();
        Self {
            message_id: properties.message_id,
            queue: format!("{broker}/{}", properties.queue_id),
            offset: properties.queue_offset.unwrap_or_default(),
            attempt: properties.delivery_attempt.unwrap_or_default(),
            tag: properties.tag,
            keys: properties.keys,
            message_group: properties.message_group,
            priority: properties.priority,
            deliver_at: properties.delivery_timestamp.map(|time| time.to_string()),
            lite_topic: properties.lite_topic,
            properties: message.user_properties.clone().into_iter().collect(),
            body: String::from_utf8_lossy(&message.body).into_owned(),
            body_bytes: message.body.len(),
        }
    }

    fn row(&self) -> String {
        let tag = self.tag.as_deref().unwrap_or("-");
        let keys = if self.keys.is_empty() { "-".to_owned() } else { self.keys.join(",") };
        // Control characters of a body must not reach the terminal.
        let body: String =
            self.body.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!(
            "{:<36} {:<12} {:<7} {:<10} {:<10} {:<10} {body}",
            self.message_id,
            self.queue,
            self.attempt,
            tag,
            keys,
            self.particulars()
        )
    }

    /// What only messages of some types have.
    fn particulars(&self) -> String {
        let named =
            |name: &str, value: Option<String>| value.map(|value| format!("{name}={value}"));
        let all = [
            named("group", self.message_group.clone()),
            named("priority", self.priority.map(|level| level.to_string())),
            named("at", self.deliver_at.clone()),
            named("lite", self.lite_topic.clone()),
        ];
        or_dash(all.into_iter().flatten().collect::<Vec<_>>().join(","))
    }
}

const HEADER: &str = "MESSAGE ID                           QUEUE        ATTEMPT TAG        KEY        MORE       BODY";

/// What the pollers share.
struct Shared {
    /// A permit per message that may still be asked for.
    wanted: Semaphore,
    /// Moves on with every message.
    deadline: Mutex<Instant>,
    timeout: Duration,
}

impl Shared {
    fn deadline(&self) -> Instant {
        *self.deadline.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn extend(&self) {
        let mut deadline = self.deadline.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *deadline = Instant::now() + self.timeout;
    }
}

/// Runs `pinnace receive`.
pub(crate) async fn run(arguments: ReceiveArguments) -> Result<(), Failure> {
    let filter = if arguments.sql { by_sql(&arguments.filter) } else { by_tags(&arguments.filter) };
    let role = Role::SimpleConsumer { group: arguments.group.clone(), filter };
    let client = Client::start(&arguments.endpoint.endpoint, &arguments.topic, role).await?;
    let outcome = receive_all(&client, &arguments).await;
    client.stop().await;
    let printed = outcome?;
    match arguments.count {
        Some(count) if printed < u64::from(count) => Err(Failure::runtime(format!(
            "{printed} of {count} messages came; none in the last {} s",
            arguments.timeout
        ))),
        _ => Ok(()),
    }
}

async fn receive_all(client: &Client, arguments: &ReceiveArguments) -> Result<u64, Failure> {
    let timeout = Duration::from_secs(arguments.timeout);
    let shared = Shared {
        wanted: Semaphore::new(arguments.count.map_or(Semaphore::MAX_PERMITS, |n| n as usize)),
        deadline: Mutex::new(Instant::now() + timeout),
        timeout,
    };
    let (sender, received) = mpsc::channel(BATCH_MAX);
    let pollers: FuturesUnordered<_> = (0..client.brokers().len())
        .map(|broker| poll(client, broker, &shared, sender.clone()))
        .collect();
    drop(sender);
    let polling = pollers.try_collect::<Vec<()>>();
    let printing = print_and_ack(client, arguments, &shared, received);
    let (_, printed) = futures::future::try_join(polling, printing).await?;
    Ok(printed)
}

/// Polls one broker until enough was asked for, or nothing came for the timeout. Every broker is looked at least once:
/// the one message that is wanted may lie on the last of them.
async fn poll(
    client: &Client,
    broker: usize,
    shared: &Shared,
    sender: mpsc::Sender<Received>,
) -> Result<(), Failure> {
    let pollers = client.brokers().len();
    let mut looked = false;
    while !looked || Instant::now() < shared.deadline() {
        let Some(mut permits) = acquire(shared, pollers, looked).await else {
            if shared.wanted.is_closed() {
                return Ok(());
            }
            continue;
        };
        looked = true;
        let left = shared.deadline().saturating_duration_since(Instant::now());
        // Whoever holds the last permits keeps the other brokers waiting.
        let wait_max =
            if shared.wanted.available_permits() < pollers { WAIT_MIN } else { WAIT_MAX };
        let wait = left.clamp(WAIT_MIN, if pollers == 1 { WAIT_MAX } else { wait_max });
        let batch = i32::try_from(permits.num_permits()).unwrap_or(1);
        match client.receive(broker, Poll { batch, invisible: INVISIBLE, wait }).await {
            Ok(messages) => {
                if let Some(used) = permits.split(messages.len()) {
                    used.forget();
                }
                drop(permits);
                for message in messages {
                    shared.extend();
                    if sender.send(message).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Err(Trouble::Passing(_)) if Instant::now() + BROKEN_PAUSE < shared.deadline() => {
                drop(permits);
                tokio::time::sleep(BROKEN_PAUSE).await;
            }
            Err(trouble) => return Err(trouble.into()),
        }
    }
    Ok(())
}

/// A fair share of the messages still wanted, at most a batch. None when no more are wanted, or (for a broker that was
/// looked at already) when the deadline passes first.
async fn acquire(
    shared: &Shared,
    pollers: usize,
    looked: bool,
) -> Option<tokio::sync::SemaphorePermit<'_>> {
    let mut permits = if looked {
        tokio::time::timeout_at(shared.deadline(), shared.wanted.acquire()).await.ok()?.ok()?
    } else {
        shared.wanted.acquire().await.ok()?
    };
    let share = (shared.wanted.available_permits() / pollers).min(BATCH_MAX - 1);
    if let Ok(more) = shared.wanted.try_acquire_many(u32::try_from(share).unwrap_or(0)) {
        permits.merge(more);
    }
    Some(permits)
}

/// Prints each message, then acknowledges it; several acknowledgements may be under way.
async fn print_and_ack(
    client: &Client,
    arguments: &ReceiveArguments,
    shared: &Shared,
    mut received: mpsc::Receiver<Received>,
) -> Result<u64, Failure> {
    let mut lines = Lines::new(arguments.output.format, HEADER);
    let mut acks = FuturesUnordered::new();
    let mut printed = 0;
    loop {
        tokio::select! {
            next = received.recv(), if acks.len() < ACKS_IN_FLIGHT => {
                let Some(message) = next else { break };
                let broker = &client.brokers()[message.broker].name;
                lines.print(&ReceivedView::new(&message, broker), ReceivedView::row)?;
                printed += 1;
                if arguments.count.is_some_and(|count| printed == u64::from(count)) {
                    shared.wanted.close();
                }
                acks.push(async move { client.ack(&message).await });
            }
            Some(acked) = acks.next() => acked?,
        }
    }
    while let Some(acked) = acks.next().await {
        acked?;
    }
    Ok(printed)
}
