//! A message to store and a message to deliver. Stored is the body as it came, and a head: the wire form of the message
//! without topic and body, cleaned of what only a server may say. The delivered message is built around it (section 3A).

use std::net::SocketAddr;

use broker_engine::{NewMessage, Visible};
use broker_model::limits::TRANSACTION_CHECK_AFTER_MS;
use broker_model::{MessageType, message_group_hash, tag_hash};
use broker_proto::rocketmq::{
    self as wire, Code, DeadLetterQueue, Digest, DigestType, Encoding, Resource, SystemProperties,
};
use broker_replication::DeliveredMessage;
use bytes::Bytes;
use md5::{Digest as _, Md5};
use prost::Message as _;

use crate::convert::route::message_type;
use crate::convert::time::{duration_ms, timestamp, timestamp_ms};
use crate::limits::HEAD_BYTES_MAX;
use crate::status::Failure;

/// What a send knows beside the message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The type found by [`crate::validate::message_type`].
    pub(crate) message_type: MessageType,
    /// Where the producer's connection comes from.
    pub(crate) remote: Option<SocketAddr>,
    /// Unix time.
    pub(crate) now_ms: u64,
}

/// The form a shard stores, and the message id for the answer.
///
/// # Errors
/// BAD_REQUEST when the producer's own digest does not fit the body, MESSAGE_PROPERTIES_TOO_LARGE for a head over the limit.
pub(crate) fn to_stored(
    message: wire::Message,
    arrival: Arrival,
) -> Result<(NewMessage, String), Failure> {
    let wire::Message { user_properties, system_properties, body, .. } = message;
    let mut properties = system_properties.unwrap_or_default();
    verify_digest(properties.body_digest.as_ref(), &body)?;
    clean(&mut properties, arrival);
    let tag = properties.tag.as_deref().filter(|tag| !tag.is_empty());
    let tag_hash = tag_hash(tag);
    let is_fifo = arrival.message_type == MessageType::Fifo;
    let message_group = properties.message_group.as_deref().filter(|_| is_fifo);
    let message_group_hash = message_group_hash(message_group);
    let visible = visible(&properties, arrival);
    let mut head = wire::Message {
        topic: None,
        user_properties,
        system_properties: Some(properties),
        body: Bytes::new(),
    };
    let head_bytes = head.encode_to_vec();
    if head_bytes.len() > HEAD_BYTES_MAX {
        let text = format!(
            "the message without its body has {} bytes; at most {HEAD_BYTES_MAX} are allowed",
            head_bytes.len()
        );
        return Err(Failure::new(Code::MessagePropertiesTooLarge, text));
    }
    let message_id = head.system_properties.take().map(|p| p.message_id).unwrap_or_default();
    let head = head_bytes.into();
    Ok((NewMessage { tag_hash, message_group_hash, visible, head, body }, message_id))
}

/// A time that has come already means at once (protocol section 5.3).
fn visible(properties: &SystemProperties, arrival: Arrival) -> Visible {
    match arrival.message_type {
        MessageType::Delay => {
            let due_ms = properties.delivery_timestamp.as_ref().map_or(0, timestamp_ms);
            if due_ms > arrival.now_ms { Visible::At { due_ms } } else { Visible::AtOnce }
        }
        MessageType::Transaction => {
            let asked = properties.orphaned_transaction_recovery_duration.as_ref();
            let asked_ms = asked.and_then(duration_ms).filter(|ms| *ms > 0);
            Visible::OnCommit { check_after_ms: asked_ms.unwrap_or(TRANSACTION_CHECK_AFTER_MS) }
        }
        _ => Visible::AtOnce,
    }
}

/// Keeps what the producer may say, fills in what it left out, and drops what is the server's to say.
fn clean(properties: &mut SystemProperties, arrival: Arrival) {
    properties.body_digest = None;
    properties.store_timestamp = None;
    properties.store_host.clear();
    properties.receipt_handle = None;
    properties.queue_id = 0;
    properties.queue_offset = None;
    properties.invisible_duration = None;
    properties.delivery_attempt = None;
    properties.dead_letter_queue = None;
    if properties.body_encoding() == Encoding::Unspecified {
        properties.set_body_encoding(Encoding::Identity);
    }
    properties.set_message_type(message_type(arrival.message_type));
    if properties.born_timestamp.is_none() {
        properties.born_timestamp = Some(timestamp(arrival.now_ms));
    }
    if properties.born_host.is_empty()
        && let Some(remote) = arrival.remote
    {
        properties.born_host = remote.to_string();
    }
}

/// Only MD5 is verified: the clients print CRC32 in different forms, and none sends SHA1.
fn verify_digest(digest: Option<&Digest>, body: &Bytes) -> Result<(), Failure> {
    let Some(digest) = digest else { return Ok(()) };
    let is_md5 = digest.r#type() == DigestType::Md5 && !digest.checksum.is_empty();
    if is_md5 && !digest.checksum.eq_ignore_ascii_case(&md5_text(body)) {
        let text = "the MD5 digest does not fit the body; the message was damaged on its way";
        return Err(Failure::new(Code::BadRequest, text));
    }
    Ok(())
}

/// The delivered message. `topic` is the resource that the consumer asked for, so that it finds its own subscription.
/// None when the stored head cannot be read.
pub(crate) fn to_delivered(
    delivered: DeliveredMessage,
    topic: &Resource,
    store_host: &str,
) -> Option<wire::Message> {
    let DeliveredMessage { stored_ms, head, body, .. } = delivered;
    let mut message = to_shown(head, body, stored_ms, topic, store_host)?;
    let properties = message.system_properties.as_mut()?;
    // A message that was only read has no delivery to settle.
    let is_pulled = delivered.handle.attempt == 0;
    properties.receipt_handle = (!is_pulled).then(|| delivered.handle.encode());
    properties.queue_id = i32::try_from(delivered.handle.queue).unwrap_or(i32::MAX);
    properties.queue_offset = Some(i64::try_from(delivered.handle.offset).unwrap_or(i64::MAX));
    // Never 0: some clients compute their pause from it and fail.
    let attempt = i32::try_from(delivered.handle.attempt).unwrap_or(i32::MAX);
    properties.delivery_attempt = Some(attempt.max(1));
    if let Some(origin) = delivered.origin_topic {
        properties.dead_letter_queue = Some(DeadLetterQueue {
            topic: origin.as_str().to_owned(),
            message_id: properties.message_id.clone(),
        });
    }
    Some(message)
}

/// The message without anything about a delivery: what a producer is asked about. None when the stored head cannot be
/// read.
pub(crate) fn to_shown(
    head: Bytes,
    body: Bytes,
    stored_ms: u64,
    topic: &Resource,
    store_host: &str,
) -> Option<wire::Message> {
    let head = wire::Message::decode(head).ok()?;
    let mut properties = head.system_properties?;
    properties.body_digest =
        Some(Digest { r#type: DigestType::Md5.into(), checksum: md5_text(&body) });
    properties.store_timestamp = Some(timestamp(stored_ms));
    store_host.clone_into(&mut properties.store_host);
    properties.orphaned_transaction_recovery_duration = None;
    Some(wire::Message {
        topic: Some(topic.clone()),
        user_properties: head.user_properties,
        system_properties: Some(properties),
        body,
    })
}

/// MD5 as upper-case hex, the one form that all clients compare (section 3A).
fn md5_text(body: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let sum = Md5::digest(body);
    sum.iter().flat_map(|b| [b >> 4, b & 15]).map(|half| DIGITS[usize::from(half)]).collect()
}

#[cfg(test)]
mod tests;
