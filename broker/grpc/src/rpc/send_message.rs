//! SendMessage: one message or a batch for one topic, stored durably before the answer (protocol section 3.4).
//! The queue that the client names is not used: messages with a message group go to the queue of their group, those with
//! a priority to the queue of their level, those of a lite topic to its own; for all others the broker goes round the
//! shards, a shard round its queues.

use std::time::Duration;

use broker_engine::{Command, Hidden, NewMessage, Outcome, Refusal, Send, SentMessage, Target};
use broker_model::limits::{SEND_BATCH_MESSAGES_MAX, SEND_REQUEST_BYTES_MAX};
use broker_model::{MessageType, RecallHandle, ShardId, Topic, TransactionId, message_group_hash};
use broker_proto::rocketmq::{
    self as wire, Code, Resource, SendMessageRequest, SendMessageResponse, SendResultEntry,
};
use broker_replication::ShardHandle;
use tokio::time::{Instant, timeout};
use tonic::Request;

use crate::caller::Caller;
use crate::clock::now_ms;
use crate::context::BrokerContext;
use crate::convert::message::{Arrival, to_stored};
use crate::limits::{LAYOUT_TRY_MS, LAYOUT_WAIT_MS_MAX};
use crate::peers;
use crate::status::{self, Failure};
use crate::validate;

pub(crate) async fn send_message(
    context: &BrokerContext,
    request: Request<SendMessageRequest>,
) -> Result<SendMessageResponse, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    let remote = caller.remote;
    let session = context.sessions.get(caller.client_id);
    let messages = request.messages;
    let entry = context.topic(Some(common_topic(&messages)?))?;
    if !entry.topic.writable {
        return Err(Refusal::NotWritable(entry.topic.name.clone()).into());
    }
    let route = route(&messages, &entry.topic)?;
    if let Some(shard) = route.shard.filter(|shard| context.catalog.shard(*shard).is_none()) {
        if caller.is_passed_on() && matches!(route.target, Target::QueueOf { .. }) {
            // The other broker does not know that the topic grew, or this one does not.
            return Err(Refusal::LayoutChanges(entry.topic.name.clone()).into());
        }
        let request = SendMessageRequest { messages };
        let (mut peer, request) = peers::pass_on(context, shard, &caller, request)?;
        return peers::answer_of(peer.send_message(request).await);
    }
    let arrival = Arrival { message_type: route.message_type, remote, now_ms: now_ms() };
    let (stored, ids) = prepare(messages, &entry.topic, arrival)?;
    let bytes = stored.iter().map(|message| message.head.len() + message.body.len()).sum();
    if let Some(session) = session.filter(|_| route.message_type == MessageType::Transaction) {
        // It may be asked about its transactions, whatever its settings say.
        session.note_producer_of(&entry.topic.name);
    }
    let (shard, sent) = match route.target {
        Target::QueueOf { .. } => store_in_layout(context, &entry.topic, route, stored).await?,
        _ => store(context, &entry.topic, &route, stored).await?,
    };
    context.traffic.came_in(&entry.topic.name, sent.len(), bytes);
    Ok(answer(shard, &sent, ids))
}

/// Where the messages of one request go: all of them to one queue.
struct Route {
    message_type: MessageType,
    target: Target,
    /// The one shard that holds the queue; none = any.
    shard: Option<ShardId>,
}

fn route(messages: &[wire::Message], topic: &Topic) -> Result<Route, Failure> {
    let default = wire::SystemProperties::default();
    let first = messages.first().and_then(|m| m.system_properties.as_ref()).unwrap_or(&default);
    let message_type = validate::message_type(first);
    let is_alike = |message: &wire::Message| {
        message.system_properties.as_ref().is_some_and(|properties| {
            properties.message_group == first.message_group
                && properties.lite_topic == first.lite_topic
                && properties.priority == first.priority
        })
    };
    if messages.len() > 1 && !messages.iter().all(is_alike) {
        let text =
            "the messages of one request must have one message group, lite topic and priority";
        return Err(Failure::new(Code::MessageCorrupted, text));
    }
    let (target, shard) = match message_type {
        MessageType::Fifo => {
            let hash = message_group_hash(first.message_group.as_deref());
            let (target, shard) = queue_of(topic, hash)?;
            (target, Some(shard))
        }
        MessageType::Priority => {
            let priority = u32::try_from(first.priority.unwrap_or(0)).map_err(|_| {
                Failure::new(Code::BadRequest, "the priority is negative; use 0 or more")
            })?;
            let placement = topic.placement.first().ok_or(Refusal::Unavailable)?;
            let level = priority.min(placement.queues.saturating_sub(1));
            (Target::Queue(level), Some(placement.shard))
        }
        MessageType::Lite => {
            let name = first.lite_topic.as_deref().unwrap_or("");
            validate::lite_topic(name)?;
            (Target::LiteTopic(name.into()), topic.shard_of_lite_topic(name))
        }
        _ => (Target::AnyQueue, None),
    };
    Ok(Route { message_type, target, shard })
}

/// The queue of a message group, as the topic is laid out now.
fn queue_of(topic: &Topic, message_group_hash: u64) -> Result<(Target, ShardId), Refusal> {
    let (shard, queue) = topic.queue_of(message_group_hash).ok_or(Refusal::Unavailable)?;
    Ok((Target::QueueOf { queue, layout: topic.queues }, shard))
}

/// All messages of a request are of one topic, and there is at least one.
fn common_topic(messages: &[wire::Message]) -> Result<&Resource, Failure> {
    let Some(first) = messages.first() else {
        return Err(Failure::new(Code::MessageCorrupted, "the request has no message to send"));
    };
    if messages.len() > SEND_BATCH_MESSAGES_MAX {
        let text = format!(
            "the request has {} messages; at most {SEND_BATCH_MESSAGES_MAX} are allowed",
            messages.len()
        );
        return Err(Failure::new(Code::PayloadTooLarge, text));
    }
    let Some(topic) = &first.topic else {
        return Err(Failure::new(Code::IllegalTopic, "the message names no topic"));
    };
    let is_same =
        |message: &wire::Message| message.topic.as_ref().is_some_and(|t| t.name == topic.name);
    if !messages.iter().all(is_same) {
        let text = "the messages of one request must be of one topic";
        return Err(Failure::new(Code::MessageCorrupted, text));
    }
    Ok(topic)
}

/// Checks every message before any is stored, and turns them into what a shard takes.
fn prepare(
    messages: Vec<wire::Message>,
    topic: &Topic,
    arrival: Arrival,
) -> Result<(Vec<NewMessage>, Vec<String>), Failure> {
    let mut stored = Vec::with_capacity(messages.len());
    let mut ids = Vec::with_capacity(messages.len());
    let mut bytes = 0;
    for message in messages {
        validate::message(&message, topic.max_message_bytes, arrival.now_ms)?;
        check_type(&message, topic)?;
        let (new, id) = to_stored(message, arrival)?;
        bytes += new.head.len() + new.body.len();
        stored.push(new);
        ids.push(id);
    }
    if bytes > SEND_REQUEST_BYTES_MAX {
        let text = format!(
            "the messages of the request have {bytes} bytes; at most {SEND_REQUEST_BYTES_MAX} are allowed"
        );
        return Err(Failure::new(Code::PayloadTooLarge, text));
    }
    Ok((stored, ids))
}

/// A topic takes messages of its own type. Dead letters take what is sent to them as ordinary messages.
fn check_type(message: &wire::Message, topic: &Topic) -> Result<(), Failure> {
    let properties = message.system_properties.as_ref();
    let actual = properties.map_or(MessageType::Normal, validate::message_type);
    if actual != topic.message_type && !topic.name.is_dead_letter() {
        let text = format!(
            "topic {} takes {} messages, but this is a {actual} message",
            topic.name, topic.message_type
        );
        return Err(Failure::new(Code::MessagePropertyConflictWithType, text));
    }
    Ok(())
}

/// Stores the messages on one shard, all or none. A shard that is not available changed nothing, so the next is tried
/// when any will do.
async fn store(
    context: &BrokerContext,
    topic: &Topic,
    route: &Route,
    messages: Vec<NewMessage>,
) -> Result<(ShardId, Vec<SentMessage>), Refusal> {
    let send =
        |messages| Send { topic: topic.name.clone(), messages, target: route.target.clone() };
    if let Some(id) = route.shard {
        let shard = context.catalog.shard(id).ok_or(Refusal::Unavailable)?;
        return Ok((id, submit(shard, send(messages)).await?));
    }
    let shards = context.local_shards(topic);
    let count = shards.clone().count();
    if count == 0 {
        return Err(Refusal::Unavailable);
    }
    let first = context.next_turn() % count;
    let mut tries = shards.cycle().skip(first).take(count).peekable();
    while let Some(shard) = tries.next() {
        if tries.peek().is_none() {
            return Ok((shard.id(), submit(shard, send(messages)).await?));
        }
        match submit(shard, send(messages.clone())).await {
            Err(Refusal::Unavailable) => {}
            decided => return Ok((shard.id(), decided?)),
        }
    }
    Err(Refusal::Unavailable)
}

/// As [`store`], for messages in order. While the topic grows no shard takes any; once all have its new layout they go where
/// that says.
async fn store_in_layout(
    context: &BrokerContext,
    topic: &Topic,
    mut route: Route,
    messages: Vec<NewMessage>,
) -> Result<(ShardId, Vec<SentMessage>), Refusal> {
    let hash = messages.first().map_or(0, |message| message.message_group_hash);
    let until = Instant::now() + Duration::from_millis(LAYOUT_WAIT_MS_MAX);
    let mut changes = context.catalog.changes();
    loop {
        let stored = store(context, topic, &route, messages.clone()).await;
        if !matches!(stored, Err(Refusal::LayoutChanges(_))) || Instant::now() >= until {
            return stored;
        }
        let _told = timeout(Duration::from_millis(LAYOUT_TRY_MS), changes.recv()).await;
        let entry = context.catalog.topic(topic.name.as_str()).ok_or(Refusal::Unavailable)?;
        let (target, shard) = queue_of(&entry.topic, hash)?;
        if context.catalog.shard(shard).is_none() {
            // It is at another broker now: the client is told to send again, and comes there.
            return stored;
        }
        (route.target, route.shard) = (target, Some(shard));
    }
}

async fn submit(shard: &ShardHandle, send: Send) -> Result<Vec<SentMessage>, Refusal> {
    match shard.submit(Command::Send(send)).await? {
        Outcome::Sent(sent) => Ok(sent),
        other => Err(Refusal::LogFailed(format!("a send was answered with {other:?}"))),
    }
}

/// One entry per message, in their order, each with the id that the client gave.
fn answer(shard: ShardId, sent: &[SentMessage], ids: Vec<String>) -> SendMessageResponse {
    let entry = |(place, message_id): (&SentMessage, String)| {
        let topic = place.topic;
        let (mut transaction_id, mut recall_handle) = (String::new(), String::new());
        match place.hidden {
            Some(Hidden::Half { number, code }) => {
                let code = Some(code);
                transaction_id = TransactionId { shard, topic, number, code }.encode();
            }
            Some(Hidden::Timed { number, due_ms, code }) => {
                let (message_id, code) = (message_id.clone(), Some(code));
                let handle = RecallHandle { shard, topic, number, due_ms, message_id, code };
                recall_handle = handle.encode();
            }
            None => {}
        }
        SendResultEntry {
            status: Some(status::ok()),
            message_id,
            transaction_id,
            offset: i64::try_from(place.offset).unwrap_or(i64::MAX),
            recall_handle,
        }
    };
    let entries = sent.iter().zip(ids).map(entry).collect();
    SendMessageResponse { status: Some(status::ok()), entries }
}

#[cfg(test)]
mod tests;
