//! The model <-> the admin API's types. Errors are sentences for INVALID_ARGUMENT: what is wrong and what to do.
//! Whether what they ask for is legal and possible is for the model and the catalog to say.

use broker_model::limits::{ATTEMPTS_DEFAULT, QUEUES_DEFAULT};
use broker_model::{
    Backoff, ConsumerGroup, DeadLetterPolicy, GroupName, MessageType, Model, Order, Owner,
    QueuePlacement, RetryPolicy, StartFrom, Subscription, Topic, TopicName, shard_name,
    shard_of_name,
};
use broker_proto::admin as wire;
use broker_replication::{GroupEntry, TopicEntry};

use crate::convert::time::{duration, duration_ms};

/// A topic as asked for.
pub(crate) fn topic_from(topic: wire::Topic) -> Result<Topic, String> {
    let name = TopicName::parse_declared(&topic.name).map_err(|e| e.to_string())?;
    let message_type = message_type_from(topic.r#type())?;
    let placement = topic.placement.iter().map(placement_from).collect::<Result<Vec<_>, _>>()?;
    let placed: u32 = placement.iter().map(|p| p.queues).fold(0, u32::saturating_add);
    let queues = match (topic.queues, placed) {
        (0, 0) => QUEUES_DEFAULT,
        (0, placed) => placed,
        (queues, _) => queues,
    };
    let retention = topic.retention.unwrap_or_default();
    let retention_ms = match &retention.time {
        None => None,
        Some(time) => Some(duration_ms(time).ok_or("the retention time is negative")?),
    };
    let lite_expiry_ms = topic
        .lite_expiry
        .as_ref()
        .map(|expiry| duration_ms(expiry).ok_or("the expiry of lite topics is negative"));
    Ok(Topic {
        name,
        message_type,
        queues,
        placement,
        first_queues: topic.first_queues,
        owner: topic.owner.map(owner_from),
        retention_ms,
        retention_bytes: retention.bytes,
        max_message_bytes: topic.max_message_bytes,
        lite_expiry_ms: lite_expiry_ms.transpose()?,
        readable: topic.read.unwrap_or(true),
        writable: topic.write.unwrap_or(true),
    })
}

/// A topic as it is.
pub(crate) fn topic_to(entry: &TopicEntry) -> wire::Topic {
    let topic = &entry.topic;
    let has_retention = topic.retention_ms.is_some() || topic.retention_bytes.is_some();
    wire::Topic {
        name: topic.name.as_str().to_owned(),
        r#type: message_type_to(topic.message_type).into(),
        queues: topic.queues,
        placement: topic
            .placement
            .iter()
            .map(|p| wire::QueuePlacement { shard: shard_name(p.shard), queues: p.queues })
            .collect(),
        owner: topic.owner.as_ref().map(owner_to),
        version: entry.version,
        retention: has_retention.then(|| wire::Retention {
            time: topic.retention_ms.map(duration),
            bytes: topic.retention_bytes,
        }),
        max_message_bytes: topic.max_message_bytes,
        read: Some(topic.readable),
        write: Some(topic.writable),
        lite_expiry: topic.lite_expiry_ms.map(duration),
        first_queues: topic.first_queues,
    }
}

fn placement_from(placement: &wire::QueuePlacement) -> Result<QueuePlacement, String> {
    let shard = shard_of_name(&placement.shard).ok_or_else(|| {
        format!("{:?} is no shard name; use shard-0, shard-1, ...", placement.shard)
    })?;
    if placement.queues == 0 {
        return Err(format!("the placement gives {} no queue; leave it out", placement.shard));
    }
    Ok(QueuePlacement { shard, queues: placement.queues })
}

fn message_type_from(kind: wire::MessageType) -> Result<MessageType, String> {
    match kind {
        wire::MessageType::Unspecified => {
            Err("the topic has no type; use NORMAL, FIFO, DELAY, TRANSACTION, PRIORITY or LITE"
                .into())
        }
        wire::MessageType::Normal => Ok(MessageType::Normal),
        wire::MessageType::Fifo => Ok(MessageType::Fifo),
        wire::MessageType::Delay => Ok(MessageType::Delay),
        wire::MessageType::Transaction => Ok(MessageType::Transaction),
        wire::MessageType::Lite => Ok(MessageType::Lite),
        wire::MessageType::Priority => Ok(MessageType::Priority),
    }
}

fn message_type_to(kind: MessageType) -> wire::MessageType {
    match kind {
        MessageType::Normal => wire::MessageType::Normal,
        MessageType::Fifo => wire::MessageType::Fifo,
        MessageType::Delay => wire::MessageType::Delay,
        MessageType::Transaction => wire::MessageType::Transaction,
        MessageType::Lite => wire::MessageType::Lite,
        MessageType::Priority => wire::MessageType::Priority,
    }
}

pub(crate) fn owner_from(owner: wire::Owner) -> Owner {
    let wire::Owner { instance, namespace, name, uid } = owner;
    Owner { instance, namespace, name, uid }
}

fn owner_to(owner: &Owner) -> wire::Owner {
    let Owner { instance, namespace, name, uid } = owner.clone();
    wire::Owner { instance, namespace, name, uid }
}

/// A group as asked for.
pub(crate) fn group_from(group: wire::Group) -> Result<ConsumerGroup, String> {
    let name = GroupName::parse(&group.name).map_err(|e| e.to_string())?;
    let lite_topic = Some(group.lite_topic.as_str()).filter(|name| !name.is_empty());
    let lite_topic = lite_topic.map(TopicName::parse).transpose().map_err(|e| e.to_string())?;
    let dead_letter = match group.dead_letter() {
        wire::DeadLetterPolicy::Discard => DeadLetterPolicy::Discard,
        wire::DeadLetterPolicy::Store | wire::DeadLetterPolicy::Unspecified => {
            DeadLetterPolicy::Store
        }
    };
    let is_consuming = group.consume.unwrap_or(true);
    let model = match group.model() {
        wire::Model::Broadcasting => Model::Broadcasting,
        wire::Model::Clustering | wire::Model::Unspecified => Model::Clustering,
    };
    let order = match group.order() {
        wire::Order::Ordered => Order::Fifo,
        wire::Order::Concurrent | wire::Order::Unspecified => Order::Concurrent,
    };
    let retry = group.retry.map_or_else(|| Ok(RetryPolicy::default()), retry_from)?;
    let subscriptions =
        group.subscriptions.into_iter().map(subscription_from).collect::<Result<_, _>>()?;
    let owner = group.owner.map(owner_from);
    Ok(ConsumerGroup {
        name,
        model,
        order,
        retry,
        subscriptions,
        dead_letter,
        lite_topic,
        is_consuming,
        owner,
    })
}

/// A group as it is.
pub(crate) fn group_to(entry: &GroupEntry) -> wire::Group {
    let group = &entry.group;
    let model = match group.model {
        Model::Clustering => wire::Model::Clustering,
        Model::Broadcasting => wire::Model::Broadcasting,
    };
    let order = match group.order {
        Order::Concurrent => wire::Order::Concurrent,
        Order::Fifo => wire::Order::Ordered,
    };
    wire::Group {
        name: group.name.as_str().to_owned(),
        model: model.into(),
        order: order.into(),
        retry: Some(retry_to(&group.retry)),
        subscriptions: group.subscriptions.iter().map(subscription_to).collect(),
        owner: group.owner.as_ref().map(owner_to),
        version: entry.version,
        lite_topic: group.lite_topic.as_ref().map(ToString::to_string).unwrap_or_default(),
        dead_letter: match group.dead_letter {
            DeadLetterPolicy::Store => wire::DeadLetterPolicy::Store,
            DeadLetterPolicy::Discard => wire::DeadLetterPolicy::Discard,
        }
        .into(),
        consume: Some(group.is_consuming),
        auto_created: !entry.is_declared,
    }
}

fn subscription_from(subscription: wire::Subscription) -> Result<Subscription, String> {
    let topic = TopicName::parse(&subscription.topic).map_err(|e| e.to_string())?;
    let is_sql = subscription.filter_type() == wire::FilterType::Sql92;
    let start_from = match subscription.start_from() {
        wire::StartFrom::Latest => StartFrom::Latest,
        wire::StartFrom::Earliest | wire::StartFrom::Unspecified => StartFrom::Earliest,
    };
    Ok(Subscription { topic, is_sql, expression: subscription.expression, start_from })
}

fn subscription_to(subscription: &Subscription) -> wire::Subscription {
    let filter_type =
        if subscription.is_sql { wire::FilterType::Sql92 } else { wire::FilterType::Tag };
    wire::Subscription {
        topic: subscription.topic.as_str().to_owned(),
        filter_type: filter_type.into(),
        expression: subscription.expression.clone(),
        start_from: match subscription.start_from {
            StartFrom::Earliest => wire::StartFrom::Earliest,
            StartFrom::Latest => wire::StartFrom::Latest,
        }
        .into(),
    }
}

fn retry_from(policy: wire::RetryPolicy) -> Result<RetryPolicy, String> {
    let max_attempts = match policy.max_attempts {
        0 => ATTEMPTS_DEFAULT,
        attempts => attempts,
    };
    let ms = |pause: &prost_types::Duration| {
        duration_ms(pause).ok_or_else(|| "a pause of the retry policy is negative".to_owned())
    };
    let backoff = match policy.backoff {
        None => RetryPolicy::default().backoff,
        Some(wire::retry_policy::Backoff::Customized(list)) => {
            let next_ms = list.next.iter().map(ms).collect::<Result<Vec<_>, _>>()?;
            Backoff::Customized { next_ms }
        }
        Some(wire::retry_policy::Backoff::Exponential(curve)) => {
            let initial_ms = curve.initial.as_ref().map_or(Ok(0), ms)?;
            let max_ms = curve.max.as_ref().map_or(Ok(initial_ms), ms)?;
            Backoff::Exponential { initial_ms, max_ms, multiplier: curve.multiplier }
        }
    };
    Ok(RetryPolicy { max_attempts, backoff })
}

fn retry_to(policy: &RetryPolicy) -> wire::RetryPolicy {
    let backoff = match &policy.backoff {
        Backoff::Exponential { initial_ms, max_ms, multiplier } => {
            wire::retry_policy::Backoff::Exponential(wire::ExponentialBackoff {
                initial: Some(duration(*initial_ms)),
                max: Some(duration(*max_ms)),
                multiplier: *multiplier,
            })
        }
        Backoff::Customized { next_ms } => {
            let next = next_ms.iter().copied().map(duration).collect();
            wire::retry_policy::Backoff::Customized(wire::CustomizedBackoff { next })
        }
    };
    wire::RetryPolicy { max_attempts: policy.max_attempts, backoff: Some(backoff) }
}

#[cfg(test)]
mod tests;
