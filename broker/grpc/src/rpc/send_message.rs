//! SendMessage: one message or a batch for one topic, stored durably before the answer (protocol section 3.4).
//! The queue that the client names is not used: the broker goes round the shards, a shard round its queues.

use broker_engine::{Command, NewMessage, Outcome, Refusal, Send, SentMessage};
use broker_model::limits::{SEND_BATCH_MESSAGES_MAX, SEND_REQUEST_BYTES_MAX};
use broker_model::{MessageType, Topic, TopicName};
use broker_proto::rocketmq::{
    self as wire, Code, Resource, SendMessageRequest, SendMessageResponse, SendResultEntry,
};
use broker_replication::ShardHandle;
use tonic::Request;

use crate::caller::Caller;
use crate::clock::now_ms;
use crate::context::BrokerContext;
use crate::convert::message::{Arrival, to_stored};
use crate::status::{self, Failure};
use crate::validate;

pub(crate) async fn send_message(
    context: &BrokerContext,
    request: Request<SendMessageRequest>,
) -> Result<SendMessageResponse, Failure> {
    let remote = Caller::of_request(&request)?.remote;
    let messages = request.into_inner().messages;
    let entry = context.topic(Some(common_topic(&messages)?))?;
    if !entry.topic.writable {
        return Err(Refusal::NotWritable(entry.topic.name.clone()).into());
    }
    let arrival = Arrival { message_type: MessageType::Normal, remote, now_ms: now_ms() };
    let (stored, ids) = prepare(messages, &entry.topic, arrival)?;
    let bytes = stored.iter().map(|message| message.head.len() + message.body.len()).sum();
    let sent = store(context, &entry.topic, stored).await?;
    context.traffic.came_in(&entry.topic.name, sent.len(), bytes);
    Ok(answer(&sent, ids))
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
    if actual != MessageType::Normal {
        return Err(Failure::not_served(&format!("sending {actual} messages")));
    }
    Ok(())
}

/// Stores the messages on one shard, all or none. A shard that is not available changed nothing, so the next is tried.
async fn store(
    context: &BrokerContext,
    topic: &Topic,
    messages: Vec<NewMessage>,
) -> Result<Vec<SentMessage>, Failure> {
    let shards = context.local_shards(topic);
    let count = shards.clone().count();
    if count == 0 {
        return Err(Refusal::Unavailable.into());
    }
    let first = context.next_turn() % count;
    let mut tries = shards.cycle().skip(first).take(count).peekable();
    while let Some(shard) = tries.next() {
        if tries.peek().is_none() {
            return Ok(submit(shard, &topic.name, messages).await?);
        }
        match submit(shard, &topic.name, messages.clone()).await {
            Err(Refusal::Unavailable) => {}
            decided => return Ok(decided?),
        }
    }
    Err(Refusal::Unavailable.into())
}

async fn submit(
    shard: &ShardHandle,
    topic: &TopicName,
    messages: Vec<NewMessage>,
) -> Result<Vec<SentMessage>, Refusal> {
    match shard.submit(Command::Send(Send { topic: topic.clone(), messages })).await? {
        Outcome::Sent(sent) => Ok(sent),
        other => Err(Refusal::LogFailed(format!("a send was answered with {other:?}"))),
    }
}

/// One entry per message, in their order, each with the id that the client gave.
fn answer(sent: &[SentMessage], ids: Vec<String>) -> SendMessageResponse {
    let entry = |(place, message_id): (&SentMessage, String)| SendResultEntry {
        status: Some(status::ok()),
        message_id,
        offset: i64::try_from(place.offset).unwrap_or(i64::MAX),
        ..SendResultEntry::default()
    };
    let entries = sent.iter().zip(ids).map(entry).collect();
    SendMessageResponse { status: Some(status::ok()), entries }
}

#[cfg(test)]
mod tests;
