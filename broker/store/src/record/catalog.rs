//! Layout of the settings of topics and groups inside their Put records. Optional numbers are a flag byte and a value.

use broker_model::{
    Backoff, ConsumerGroup, DeadLetterPolicy, GroupName, MessageType, Model, Order, Owner,
    QueuePlacement, RetryPolicy, ShardId, StartFrom, Subscription, Topic, TopicName,
};
use bytes::BytesMut;

use super::RecordError;
use super::fields::{Reader, put_text, put_u32, put_u64};

/// What has a name. Numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum NameKind {
    /// A topic.
    Topic = 1,
    /// A consumer group.
    Group = 2,
}

impl NameKind {
    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Topic, Self::Group].into_iter().find(|kind| *kind as u8 == number)
    }
}

pub(super) fn name_kind(number: u8) -> Result<NameKind, RecordError> {
    NameKind::from_number(number).ok_or(RecordError::IllegalField("kind of name"))
}

pub(super) fn encode_topic(topic: &Topic, payload: &mut BytesMut) {
    put_text(payload, topic.name.as_str());
    payload.extend_from_slice(&[
        topic.message_type as u8,
        u8::from(topic.readable),
        u8::from(topic.writable),
    ]);
    put_u32(payload, topic.queues);
    put_count(payload, topic.placement.len());
    for placement in &topic.placement {
        put_u32(payload, placement.shard.0);
        put_u32(payload, placement.queues);
    }
    put_owner(payload, topic.owner.as_ref());
    put_option(payload, topic.retention_ms);
    put_option(payload, topic.retention_bytes);
    put_option(payload, topic.max_message_bytes.map(u64::from));
    put_option(payload, topic.lite_expiry_ms);
    if let Some(first_queues) = topic.first_queues {
        put_u32(payload, first_queues);
    }
}

pub(super) fn decode_topic(reader: &mut Reader) -> Result<Topic, RecordError> {
    let name = topic_name(&reader.text()?)?;
    let message_type =
        MessageType::from_number(reader.u8()?).ok_or(RecordError::IllegalField("message type"))?;
    let (readable, writable) = (reader.u8()? != 0, reader.u8()? != 0);
    let queues = reader.u32()?;
    let mut placement = Vec::new();
    for _ in 0..reader.count()? {
        placement.push(QueuePlacement { shard: ShardId(reader.u32()?), queues: reader.u32()? });
    }
    let owner = owner(reader)?;
    let (retention_ms, retention_bytes) = (option(reader)?, option(reader)?);
    let max_message_bytes = option(reader)?
        .map(u32::try_from)
        .transpose()
        .map_err(|_| RecordError::IllegalField("largest message"))?;
    let lite_expiry_ms = option(reader)?;
    let first_queues = if reader.is_empty() { None } else { Some(reader.u32()?) };
    Ok(Topic {
        name,
        message_type,
        queues,
        placement,
        first_queues,
        owner,
        retention_ms,
        retention_bytes,
        max_message_bytes,
        lite_expiry_ms,
        readable,
        writable,
    })
}

pub(super) fn encode_group(group: &ConsumerGroup, payload: &mut BytesMut) {
    put_text(payload, group.name.as_str());
    payload.extend_from_slice(&[group.model as u8, group.order as u8]);
    put_u32(payload, group.retry.max_attempts);
    match &group.retry.backoff {
        Backoff::Exponential { initial_ms, max_ms, multiplier } => {
            payload.extend_from_slice(&[1]);
            put_u64(payload, *initial_ms);
            put_u64(payload, *max_ms);
            put_u64(payload, multiplier.to_bits());
        }
        Backoff::Customized { next_ms } => {
            payload.extend_from_slice(&[2]);
            put_count(payload, next_ms.len());
            next_ms.iter().for_each(|pause_ms| put_u64(payload, *pause_ms));
        }
    }
    put_count(payload, group.subscriptions.len());
    for subscription in &group.subscriptions {
        put_text(payload, subscription.topic.as_str());
        payload.extend_from_slice(&[u8::from(subscription.is_sql)]);
        put_text(payload, &subscription.expression);
        payload.extend_from_slice(&[subscription.start_from as u8]);
    }
    payload.extend_from_slice(&[group.dead_letter as u8, u8::from(group.is_consuming)]);
    put_text(payload, group.lite_topic.as_ref().map_or("", TopicName::as_str));
    put_owner(payload, group.owner.as_ref());
}

pub(super) fn decode_group(reader: &mut Reader) -> Result<ConsumerGroup, RecordError> {
    let name = reader.text()?;
    let name = GroupName::parse(&name).map_err(|_| RecordError::IllegalField("group name"))?;
    let model = match reader.u8()? {
        1 => Model::Clustering,
        2 => Model::Broadcasting,
        _ => return Err(RecordError::IllegalField("group model")),
    };
    let order = match reader.u8()? {
        1 => Order::Concurrent,
        2 => Order::Fifo,
        _ => return Err(RecordError::IllegalField("group order")),
    };
    let max_attempts = reader.u32()?;
    let backoff = backoff(reader)?;
    let mut subscriptions = Vec::new();
    for _ in 0..reader.count()? {
        subscriptions.push(subscription(reader)?);
    }
    let dead_letter = match reader.u8()? {
        1 => DeadLetterPolicy::Store,
        2 => DeadLetterPolicy::Discard,
        _ => return Err(RecordError::IllegalField("dead-letter policy")),
    };
    let is_consuming = reader.u8()? != 0;
    let lite_topic = Some(reader.text()?).filter(|name| !name.is_empty());
    let lite_topic = lite_topic.as_deref().map(topic_name).transpose()?;
    Ok(ConsumerGroup {
        name,
        model,
        order,
        retry: RetryPolicy { max_attempts, backoff },
        subscriptions,
        dead_letter,
        lite_topic,
        is_consuming,
        owner: owner(reader)?,
    })
}

fn subscription(reader: &mut Reader) -> Result<Subscription, RecordError> {
    let topic = topic_name(&reader.text()?)?;
    let is_sql = reader.u8()? != 0;
    let expression = reader.text()?;
    let start_from = match reader.u8()? {
        1 => StartFrom::Earliest,
        2 => StartFrom::Latest,
        _ => return Err(RecordError::IllegalField("start of a subscription")),
    };
    Ok(Subscription { topic, is_sql, expression, start_from })
}

fn topic_name(name: &str) -> Result<TopicName, RecordError> {
    TopicName::parse(name).map_err(|_| RecordError::IllegalField("topic name"))
}

fn backoff(reader: &mut Reader) -> Result<Backoff, RecordError> {
    match reader.u8()? {
        1 => Ok(Backoff::Exponential {
            initial_ms: reader.u64()?,
            max_ms: reader.u64()?,
            multiplier: f64::from_bits(reader.u64()?),
        }),
        2 => {
            let count = reader.count()?;
            let next_ms = (0..count).map(|_| reader.u64()).collect::<Result<_, _>>()?;
            Ok(Backoff::Customized { next_ms })
        }
        _ => Err(RecordError::IllegalField("backoff")),
    }
}

fn put_count(payload: &mut BytesMut, count: usize) {
    put_u32(payload, u32::try_from(count).expect("lists in settings have small limits"));
}

fn put_option(payload: &mut BytesMut, value: Option<u64>) {
    payload.extend_from_slice(&[u8::from(value.is_some())]);
    put_u64(payload, value.unwrap_or(0));
}

fn option(reader: &mut Reader) -> Result<Option<u64>, RecordError> {
    let (is_some, value) = (reader.u8()? != 0, reader.u64()?);
    Ok(is_some.then_some(value))
}

fn put_owner(payload: &mut BytesMut, owner: Option<&Owner>) {
    payload.extend_from_slice(&[u8::from(owner.is_some())]);
    if let Some(owner) = owner {
        for text in [&owner.instance, &owner.namespace, &owner.name, &owner.uid] {
            put_text(payload, text);
        }
    }
}

fn owner(reader: &mut Reader) -> Result<Option<Owner>, RecordError> {
    if reader.u8()? == 0 {
        return Ok(None);
    }
    let (instance, namespace) = (reader.text()?, reader.text()?);
    Ok(Some(Owner { instance, namespace, name: reader.text()?, uid: reader.text()? }))
}
