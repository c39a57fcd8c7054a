//! Is this request legal? The limits of protocol section 5.6 with the codes of section 2.3, one function per thing that
//! can be wrong. Nothing here asks a shard or the catalog.

mod reserved;

use broker_model::limits::{
    ATTEMPT_ID_BYTES_MAX, BODY_BYTES_MAX, INVISIBLE_DURATION_MS_MAX, INVISIBLE_DURATION_MS_MIN,
    MESSAGE_GROUP_BYTES_LIMIT, POLLING_MS_MAX, POLLING_MS_MIN, POLLING_RESERVE_MS,
    PROPERTIES_BYTES_MAX, RECEIVE_BATCH_MESSAGES_MAX, USER_PROPERTIES_MAX,
};
use broker_model::{Filter, GroupName, MessageType, TopicName};
use broker_proto::rocketmq::{
    self as wire, Code, FilterExpression, FilterType, Resource, SystemProperties,
};
use prost_types::Duration;

use crate::convert::time::{duration_ms, timestamp_ms};
use crate::limits::{DELIVERY_DELAY_MS_MAX, LITE_TOPIC_BYTES_MAX, TRANSACTION_RECOVERY_MS_MAX};
use crate::status::Failure;

/// The topic a request names. The namespace of a resource is echoed, but is no part of the identity.
pub(crate) fn topic(resource: Option<&Resource>) -> Result<TopicName, Failure> {
    let name = resource.map_or("", |r| r.name.as_str());
    TopicName::parse(name).map_err(|e| Failure::topic_name(&e))
}

/// The consumer group a request names.
pub(crate) fn group(resource: Option<&Resource>) -> Result<GroupName, Failure> {
    let name = resource.map_or("", |r| r.name.as_str());
    GroupName::parse(name).map_err(|e| Failure::group_name(&e))
}

/// The type that a message really has, which its declared type only tells for transactions (protocol section 3.4).
pub(crate) fn message_type(properties: &SystemProperties) -> MessageType {
    if properties.message_type() == wire::MessageType::Transaction {
        MessageType::Transaction
    } else if properties.delivery_timestamp.is_some() {
        MessageType::Delay
    } else if properties.message_group.as_ref().is_some_and(|g| !g.is_empty()) {
        MessageType::Fifo
    } else if properties.lite_topic.is_some() {
        MessageType::Lite
    } else if properties.priority.is_some() {
        MessageType::Priority
    } else {
        MessageType::Normal
    }
}

/// Everything about one message to send but its topic. `body_bytes_max` is the topic's own limit.
pub(crate) fn message(
    message: &wire::Message,
    body_bytes_max: Option<u32>,
    now_ms: u64,
) -> Result<(), Failure> {
    let Some(properties) = &message.system_properties else {
        return Err(Failure::new(Code::IllegalMessageId, "the message has no system properties"));
    };
    if properties.message_id.trim().is_empty() {
        return Err(Failure::new(Code::IllegalMessageId, "the message id is empty"));
    }
    body(message.body.len(), body_bytes_max)?;
    tag(properties.tag.as_deref().unwrap_or(""))?;
    properties.keys.iter().try_for_each(|k| key(k))?;
    message_group(properties.message_group.as_deref().unwrap_or(""))?;
    user_properties(message, properties)?;
    times(properties, now_ms)?;
    properties.lite_topic.as_deref().map_or(Ok(()), lite_topic)
}

fn body(bytes: usize, bytes_max: Option<u32>) -> Result<(), Failure> {
    if bytes == 0 {
        return Err(Failure::new(Code::MessageBodyEmpty, "the message body is empty"));
    }
    let max = bytes_max.map_or(BODY_BYTES_MAX, |max| BODY_BYTES_MAX.min(max as usize));
    if bytes > max {
        let message = format!("the message body has {bytes} bytes; at most {max} are allowed");
        return Err(Failure::new(Code::MessageBodyTooLarge, message));
    }
    Ok(())
}

fn tag(tag: &str) -> Result<(), Failure> {
    let refuse = |message: &'static str| Err(Failure::new(Code::IllegalMessageTag, message));
    if is_blank(tag) {
        return refuse("the tag is only white space; leave it out or name one");
    }
    if tag.contains('|') {
        return refuse("the tag contains '|', which separates tags in filters");
    }
    if has_control(tag) {
        return refuse("the tag contains a control character");
    }
    Ok(())
}

fn key(key: &str) -> Result<(), Failure> {
    let refuse = |message: &'static str| Err(Failure::new(Code::IllegalMessageKey, message));
    if is_blank(key) {
        return refuse("a key is only white space; leave it out or name one");
    }
    if has_control(key) {
        return refuse("a key contains a control character");
    }
    Ok(())
}

fn message_group(group: &str) -> Result<(), Failure> {
    let refuse = |message: String| Err(Failure::new(Code::IllegalMessageGroup, message));
    if is_blank(group) {
        return refuse("the message group is only white space".to_owned());
    }
    if group.len() >= MESSAGE_GROUP_BYTES_LIMIT {
        return refuse(format!(
            "the message group has {} bytes; less than {MESSAGE_GROUP_BYTES_LIMIT} are allowed",
            group.len()
        ));
    }
    if has_control(group) {
        return refuse("the message group contains a control character".to_owned());
    }
    Ok(())
}

fn user_properties(message: &wire::Message, properties: &SystemProperties) -> Result<(), Failure> {
    let count = message.user_properties.len();
    if count > USER_PROPERTIES_MAX {
        let text = format!("{count} user properties; at most {USER_PROPERTIES_MAX} are allowed");
        return Err(Failure::new(Code::MessagePropertiesTooLarge, text));
    }
    let mut bytes = properties.tag.as_ref().map_or(0, String::len);
    bytes = properties.keys.iter().fold(bytes, |bytes, key| bytes.saturating_add(key.len()));
    for (name, value) in &message.user_properties {
        bytes = bytes.saturating_add(name.len()).saturating_add(value.len());
        property(name, value)?;
    }
    if bytes > PROPERTIES_BYTES_MAX {
        let text = format!(
            "user properties, tag and keys have {bytes} bytes; at most {PROPERTIES_BYTES_MAX} are allowed"
        );
        return Err(Failure::new(Code::MessagePropertiesTooLarge, text));
    }
    Ok(())
}

fn property(name: &str, value: &str) -> Result<(), Failure> {
    let refuse = |message: String| Err(Failure::new(Code::IllegalMessagePropertyKey, message));
    if reserved::is_reserved(name) {
        return refuse(format!("the property name {name} is reserved for the system"));
    }
    if has_control(name) {
        return refuse("the name of a property contains a control character".to_owned());
    }
    if has_control(value) {
        return refuse(format!("the value of property {name} contains a control character"));
    }
    Ok(())
}

fn times(properties: &SystemProperties, now_ms: u64) -> Result<(), Failure> {
    let due_ms = properties.delivery_timestamp.as_ref().map_or(0, timestamp_ms);
    if due_ms > now_ms.saturating_add(DELIVERY_DELAY_MS_MAX) {
        let text = format!(
            "the delivery time is {} ms ahead; at most {DELIVERY_DELAY_MS_MAX} ms are allowed",
            due_ms.saturating_sub(now_ms)
        );
        return Err(Failure::new(Code::IllegalDeliveryTime, text));
    }
    let recovery = properties.orphaned_transaction_recovery_duration.as_ref();
    match recovery.map(duration_ms) {
        Some(None) => {
            Err(Failure::new(Code::BadRequest, "the transaction recovery time is negative"))
        }
        Some(Some(ms)) if ms > TRANSACTION_RECOVERY_MS_MAX => {
            let text = format!(
                "the transaction recovery time is {ms} ms; at most {TRANSACTION_RECOVERY_MS_MAX} ms are allowed"
            );
            Err(Failure::new(Code::BadRequest, text))
        }
        _ => Ok(()),
    }
}

/// The name of a lite topic.
pub(crate) fn lite_topic(name: &str) -> Result<(), Failure> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if name.is_empty() || name.len() > LITE_TOPIC_BYTES_MAX || !name.bytes().all(legal) {
        let text =
            format!("the lite topic needs 1 to {LITE_TOPIC_BYTES_MAX} letters, digits, '_' or '-'");
        return Err(Failure::new(Code::IllegalLiteTopic, text));
    }
    Ok(())
}

/// The filter of a receive. An unspecified type is a tag expression (protocol section 6).
pub(crate) fn filter(expression: Option<&FilterExpression>) -> Result<Filter, Failure> {
    let Some(expression) = expression else { return Ok(Filter::All) };
    Ok(match expression.r#type() {
        FilterType::Sql => Filter::parse_sql(&expression.expression)?,
        FilterType::Tag | FilterType::Unspecified => Filter::parse_tags(&expression.expression)?,
    })
}

/// The id under which a receive asks for the same messages again.
pub(crate) fn attempt_id(id: &str) -> Result<(), Failure> {
    if id.len() <= ATTEMPT_ID_BYTES_MAX {
        return Ok(());
    }
    let text = format!(
        "the attempt id has {} bytes; at most {ATTEMPT_ID_BYTES_MAX} are allowed",
        id.len()
    );
    Err(Failure::new(Code::BadRequest, text))
}

/// How many messages a receive may give: what is asked, but at least one and at most the limit (section 3.6).
pub(crate) fn batch_size(asked: i32) -> u32 {
    u32::try_from(asked).unwrap_or(1).clamp(1, RECEIVE_BATCH_MESSAGES_MAX)
}

/// The invisible duration of a receive without automatic prolonging.
pub(crate) fn invisible_at_receive(duration: Option<&Duration>) -> Result<u64, Failure> {
    invisible(duration, INVISIBLE_DURATION_MS_MIN)
}

/// The invisible duration of a change, where 0 means visible at once.
pub(crate) fn invisible_at_change(duration: Option<&Duration>) -> Result<u64, Failure> {
    invisible(duration, 0)
}

fn invisible(duration: Option<&Duration>, ms_min: u64) -> Result<u64, Failure> {
    let ms = duration.map_or(Some(0), duration_ms);
    match ms {
        Some(ms) if (ms_min..=INVISIBLE_DURATION_MS_MAX).contains(&ms) => Ok(ms),
        _ => {
            let given = ms.map_or_else(|| "negative".to_owned(), |ms| format!("{ms} ms"));
            let text = format!(
                "the invisible duration is {given}; {ms_min} to {INVISIBLE_DURATION_MS_MAX} ms are allowed"
            );
            Err(Failure::new(Code::IllegalInvisibleTime, text))
        }
    }
}

/// What decides how long a receive may wait.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PollingWish<'a> {
    /// `long_polling_timeout` of the request.
    pub(crate) asked_ms: Option<u64>,
    /// Time until the caller gives up.
    pub(crate) remaining_ms: Option<u64>,
    /// `request_timeout` of the client's settings.
    pub(crate) request_timeout_ms: u64,
    /// Version of the client library.
    pub(crate) client_version: &'a str,
}

/// How long a receive waits for messages (section 3.6): between 5 s and 20 s whatever is asked, answered a little before
/// the caller gives up, refused when the caller gives less than 5 s.
pub(crate) fn polling_ms(wish: &PollingWish<'_>) -> Result<u64, Failure> {
    let derived = || {
        let remaining = wish.remaining_ms.unwrap_or(POLLING_MS_MAX);
        remaining.saturating_sub(wish.request_timeout_ms / 2)
    };
    let wanted = wish.asked_ms.unwrap_or_else(derived).clamp(POLLING_MS_MIN, POLLING_MS_MAX);
    let Some(remaining) = wish.remaining_ms else { return Ok(wanted) };
    if remaining < POLLING_MS_MIN {
        // Clients before 5.0.3 do not know the newer code.
        let old = wish.client_version < "5.0.3";
        let code = if old { Code::BadRequest } else { Code::IllegalPollingTime };
        let text = format!(
            "the deadline leaves {remaining} ms; a receive needs at least {POLLING_MS_MIN} ms"
        );
        return Err(Failure::new(code, text));
    }
    let reserve = POLLING_RESERVE_MS.max(remaining / 50);
    Ok(wanted.min(remaining.saturating_sub(reserve)))
}

fn is_blank(text: &str) -> bool {
    !text.is_empty() && text.trim().is_empty()
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|b| b < 0x20 || b == 0x7f)
        || (!text.is_ascii() && text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests;
