//! Found messages and their traces in the words of the admin API.

use broker_model::{GroupName, TopicName};
use broker_proto::admin::trace_event::Kind;
use broker_proto::admin::{self, StoredMessage};
use broker_proto::rocketmq as wire;
use broker_replication::shard::lookup::{
    Appearance, FoundMessage, MessageTrace, TraceEvent, TraceStep,
};
use prost::Message as _;

use crate::convert::time::timestamp_ms;

/// A message as it was stored. A head that cannot be read leaves its fields empty: place and body are worth showing.
pub(crate) fn stored_message(found: FoundMessage, topic: &TopicName, shard: &str) -> StoredMessage {
    let head = wire::Message::decode(found.head).unwrap_or_default();
    let properties = head.system_properties.unwrap_or_default();
    StoredMessage {
        topic: topic.as_str().to_owned(),
        shard: shard.to_owned(),
        queue_id: found.queue,
        offset: found.offset,
        stored_ms: found.stored_ms,
        born_ms: properties.born_timestamp.as_ref().map_or(0, timestamp_ms),
        // Both enums count alike (convert/route.rs holds it for the model's).
        r#type: properties.message_type,
        due_ms: match found.appearance {
            Appearance::At(due_ms) => Some(due_ms),
            Appearance::AtOnce | Appearance::OnCommit => None,
        },
        message_id: properties.message_id,
        born_host: properties.born_host,
        tag: properties.tag.unwrap_or_default(),
        keys: properties.keys,
        properties: head.user_properties,
        message_group: properties.message_group.unwrap_or_default(),
        lite_topic: properties.lite_topic.unwrap_or_default(),
        body: found.body.to_vec(),
    }
}

/// A trace; its message comes without body.
pub(crate) fn message_trace(
    trace: MessageTrace,
    topic: &TopicName,
    shard: &str,
) -> admin::MessageTrace {
    let mut message = stored_message(trace.message, topic, shard);
    message.body.clear();
    admin::MessageTrace {
        message: Some(message),
        events: trace.events.into_iter().map(trace_event).collect(),
        events_left_out: trace.is_cut,
    }
}

fn trace_event(event: TraceEvent) -> admin::TraceEvent {
    let (kind, attempt, invisible_until_ms) = match event.step {
        TraceStep::Due => (Kind::Due, 0, 0),
        TraceStep::Recalled => (Kind::Recalled, 0, 0),
        TraceStep::ProducerAsked => (Kind::ProducerAsked, 0, 0),
        TraceStep::Committed => (Kind::Committed, 0, 0),
        TraceStep::RolledBack => (Kind::RolledBack, 0, 0),
        TraceStep::Delivered { attempt, invisible_until_ms } => {
            (Kind::Delivered, attempt, invisible_until_ms)
        }
        TraceStep::FilteredOut => (Kind::FilteredOut, 0, 0),
        TraceStep::InvisibleChanged { attempt, invisible_until_ms } => {
            (Kind::InvisibleChanged, attempt, invisible_until_ms)
        }
        TraceStep::Released => (Kind::Released, 0, 0),
        TraceStep::Acknowledged => (Kind::Acknowledged, 0, 0),
        TraceStep::DeadLettered => (Kind::DeadLettered, 0, 0),
        TraceStep::Redriven => (Kind::Redriven, 0, 0),
        TraceStep::Purged => (Kind::Purged, 0, 0),
        TraceStep::PassedOver => (Kind::PassedOver, 0, 0),
        TraceStep::Rewound => (Kind::Rewound, 0, 0),
    };
    let text = |group: Option<GroupName>| group.map_or_else(String::new, |name| name.to_string());
    let dead_letters = event.dead_letters_of.as_ref().map(TopicName::dead_letter_of);
    admin::TraceEvent {
        time_ms: event.time_ms,
        kind: kind.into(),
        group: text(event.group),
        client_id: event.client_id.map(|id| id.to_string()).unwrap_or_default(),
        attempt,
        invisible_until_ms,
        dead_letter_topic: dead_letters.map(|name| name.to_string()).unwrap_or_default(),
    }
}
