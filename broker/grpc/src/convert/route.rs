//! Queues, permissions and message types as clients see them (protocol section 3.1).
//! Names and endpoints are given by the caller; this only builds the values.

use broker_model::{MessageType, Topic};
use broker_proto::rocketmq::{self as wire, Broker, Endpoints, MessageQueue, Permission, Resource};

/// The wire's number of a message type. Both count alike; the wire's zero never occurs.
pub(crate) fn message_type(kind: MessageType) -> wire::MessageType {
    match kind {
        MessageType::Normal => wire::MessageType::Normal,
        MessageType::Fifo => wire::MessageType::Fifo,
        MessageType::Delay => wire::MessageType::Delay,
        MessageType::Transaction => wire::MessageType::Transaction,
        MessageType::Lite => wire::MessageType::Lite,
        MessageType::Priority => wire::MessageType::Priority,
    }
}

/// What clients may do with the topic's queues.
pub(crate) fn permission(topic: &Topic) -> Permission {
    match (topic.readable, topic.writable) {
        (true, true) => Permission::ReadWrite,
        (true, false) => Permission::Read,
        (false, true) => Permission::Write,
        (false, false) => Permission::None,
    }
}

/// One queue. `resource` is echoed as the client sent it; `broker_name` is the shard's name.
pub(crate) fn message_queue(
    resource: &Resource,
    topic: &Topic,
    broker_name: &str,
    endpoints: &Endpoints,
    id: i32,
) -> MessageQueue {
    MessageQueue {
        topic: Some(resource.clone()),
        id,
        permission: permission(topic).into(),
        broker: Some(Broker {
            name: broker_name.to_owned(),
            id: 0,
            endpoints: Some(endpoints.clone()),
        }),
        accept_message_types: vec![message_type(topic.message_type).into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_same_numbers_on_both_sides() {
        for kind in MessageType::ALL {
            assert_eq!(message_type(kind) as i32, i32::from(kind as u8), "{kind}");
            assert_eq!(message_type(kind).as_str_name(), kind.as_str());
        }
    }
}
