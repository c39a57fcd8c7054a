//! GetConsumerRunningInfo: what this broker knows of a connected consumer: who it is, what it takes, and how far its
//! group is on every queue. What only the consumer knows (its cache, its times) stays 0.

use std::collections::HashMap;

use broker_engine::{Command, Outcome};
use broker_model::GroupName;
use broker_proto::rocketmq::{
    ConsumerRunningInfo, GetConsumerRunningInfoRequest, GetConsumerRunningInfoResponse,
    MessageQueueItem, ProcessQueueInfo,
};
use broker_replication::TopicEntry;

use super::consumers::{Consumer, consumer};
use super::{existing_group, resource, signed};
use crate::clock::unix_ms_of;
use crate::context::BrokerContext;
use crate::convert::route::message_queue;
use crate::status::{self, Failure};

pub(super) async fn get_consumer_running_info(
    context: &BrokerContext,
    request: &GetConsumerRunningInfoRequest,
) -> Result<GetConsumerRunningInfoResponse, Failure> {
    let entry = existing_group(context, request.group.as_ref())?;
    let consumer = consumer(context, &entry.group.name, &request.client_id)?;
    let mut queues = Vec::new();
    for (topic, _) in consumer.subscriptions() {
        if let Some(topic) = context.catalog.topic(topic) {
            queues.extend(queue_items(context, &topic, &entry.group.name).await?);
        }
    }
    let subscriptions =
        consumer.subscriptions().map(|(topic, expression)| (topic.to_owned(), expression));
    let info = ConsumerRunningInfo {
        properties: properties(context, &consumer),
        subscriptions: subscriptions.collect(),
        message_queue_table: queues,
        consume_status_table: HashMap::new(),
    };
    let consumer_running_info = Some(info);
    Ok(GetConsumerRunningInfoResponse { status: Some(status::ok()), consumer_running_info })
}

fn properties(context: &BrokerContext, consumer: &Consumer) -> HashMap<String, String> {
    let info = consumer.info(context);
    let pairs = [
        ("clientType", consumer.settings.client_type().as_str_name().to_owned()),
        ("clientVersion", info.version),
        ("language", info.language),
        ("hostname", info.hostname),
        ("egressIp", info.egress_ip),
        ("lastHeartbeatTimestamp", unix_ms_of(consumer.session.last_seen_ms()).to_string()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Every consumer of a group draws from every queue.
async fn queue_items(
    context: &BrokerContext,
    entry: &TopicEntry,
    group: &GroupName,
) -> Result<Vec<MessageQueueItem>, Failure> {
    let topic = &entry.topic;
    let endpoints = context.endpoints.for_request(None);
    let mut items = Vec::new();
    for shard in context.local_shards(topic) {
        let Some(address) = endpoints.of(shard.id(), true) else { continue };
        for queue in 0..topic.queues_on(shard.id()) {
            let (group, name) = (group.clone(), topic.name.clone());
            let command = Command::ReadOffset { group, topic: name, queue };
            let Outcome::Offset(offset) = shard.submit(command).await? else { continue };
            let id = i32::try_from(queue).unwrap_or(i32::MAX);
            let of = resource(topic.name.as_str());
            items.push(MessageQueueItem {
                message_queue: Some(message_queue(&of, topic, shard.name(), address, id)),
                process_queue_info: Some(ProcessQueueInfo {
                    commit_offset: signed(offset.unwrap_or(0)),
                    ..ProcessQueueInfo::default()
                }),
            });
        }
    }
    Ok(items)
}
