//! FindMessages: messages of a topic by id, by key or by time, from the logs of all shards.

use broker_model::TopicName;
use broker_proto::admin::find_messages_request::By as Asked;
use broker_proto::admin::{FindMessagesRequest, FindMessagesResponse};
use tonic::Status;

use crate::context::BrokerContext;
use crate::convert::stored_message::stored_message;
use crate::limits::{FIND_MESSAGES_DEFAULT, FIND_MESSAGES_MAX};
use crate::lookup::{self, By, Cursor, Find};
use crate::status::admin_refusal;

pub(super) async fn find_messages(
    context: &BrokerContext,
    request: FindMessagesRequest,
) -> Result<FindMessagesResponse, Status> {
    let topic = existing_topic(context, &request.topic)?;
    let (begin_ms, end_ms) = (request.begin_ms.unwrap_or(0), request.end_ms.unwrap_or(u64::MAX));
    if begin_ms > end_ms {
        let text = format!("the time range ends ({end_ms} ms) before it begins ({begin_ms} ms)");
        return Err(Status::invalid_argument(text));
    }
    let messages_max = match request.messages_max {
        0 => FIND_MESSAGES_DEFAULT,
        asked => asked.min(FIND_MESSAGES_MAX),
    };
    let find = Find {
        topic,
        times: begin_ms..=end_ms,
        by: by(request.by)?,
        messages_max: messages_max as usize,
        cursor: cursor(&request.cursor)?,
    };
    let answer = lookup::find(context, &find).await.map_err(|refusal| admin_refusal(&refusal))?;
    let cursor = if answer.is_complete { String::new() } else { answer.next.to_string() };
    let messages = answer.all.into_iter();
    let messages =
        messages.map(|located| stored_message(located.found, &find.topic, located.shard.name()));
    Ok(FindMessagesResponse {
        messages: messages.collect(),
        complete: answer.is_complete,
        until_ms: answer.until_ms,
        cursor,
    })
}

fn by(asked: Option<Asked>) -> Result<By, Status> {
    match asked {
        None => Ok(By::All),
        Some(Asked::MessageId(id)) if !id.is_empty() => Ok(By::Id(id)),
        Some(Asked::Key(key)) if !key.is_empty() => Ok(By::Key(key)),
        Some(_) => Err(Status::invalid_argument("the message id or key is empty; name one")),
    }
}

fn cursor(text: &str) -> Result<Option<Cursor>, Status> {
    let is_illegal = || Status::invalid_argument(format!("{text:?} is no cursor of a search"));
    let cursor = Some(text).filter(|text| !text.is_empty());
    cursor.map(|text| Cursor::parse(text).ok_or_else(is_illegal)).transpose()
}

/// A topic whose messages can be searched.
pub(super) fn existing_topic(context: &BrokerContext, name: &str) -> Result<TopicName, Status> {
    let topic = TopicName::parse(name);
    let topic = topic.map_err(|error| Status::invalid_argument(error.to_string()))?;
    if topic.is_dead_letter() {
        let text = format!(
            "{topic} holds references only; search the topic that the dead letters were sent to"
        );
        return Err(Status::invalid_argument(text));
    }
    match context.catalog.topic(name) {
        Some(_) => Ok(topic),
        None => Err(Status::not_found(format!("topic {topic} does not exist"))),
    }
}
