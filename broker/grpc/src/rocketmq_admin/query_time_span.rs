//! QueryTimeSpan: per queue, when its oldest and its newest message were stored, and the first one that is not done for
//! a group.

use std::sync::Arc;

use broker_engine::{Command, OffsetAt, Outcome, Pull};
use broker_model::{Filter, GroupName, TopicName};
use broker_proto::rocketmq::query_time_span_response::QueueTimeSpan;
use broker_proto::rocketmq::{Code, QueryTimeSpanRequest, QueryTimeSpanResponse};
use broker_replication::{ShardHandle, TopicEntry};

use super::{existing_group, resource, signed};
use crate::clock::now_ms;
use crate::context::BrokerContext;
use crate::convert::route::message_queue;
use crate::limits::ADMIN_TOPICS_MAX;
use crate::status::{self, Failure};

pub(super) async fn query_time_span(
    context: &BrokerContext,
    request: &QueryTimeSpanRequest,
) -> Result<QueryTimeSpanResponse, Failure> {
    let group = existing_group(context, request.group.as_ref())?.group.name.clone();
    let mut spans = Vec::new();
    for entry in topics(context, request, &group).await? {
        let topic = &entry.topic;
        let endpoints = context.endpoints.for_request(None);
        for shard in context.local_shards(topic) {
            let Some(address) = endpoints.of(shard.id(), true) else { continue };
            for queue in 0..topic.queues_on(shard.id()) {
                let id = i32::try_from(queue).unwrap_or(i32::MAX);
                let of = resource(topic.name.as_str());
                let message_queue = Some(message_queue(&of, topic, shard.name(), address, id));
                let queue = Queue { shard, topic: &topic.name, number: queue };
                spans.push(QueueTimeSpan { message_queue, ..queue.span(&group).await? });
            }
        }
    }
    Ok(QueryTimeSpanResponse { status: Some(status::ok()), queue_time_span_list: spans })
}

/// Those that the request names, or all that the group has progress on.
async fn topics(
    context: &BrokerContext,
    request: &QueryTimeSpanRequest,
    group: &GroupName,
) -> Result<Vec<Arc<TopicEntry>>, Failure> {
    let topics: Vec<_> = if request.topics.is_empty() {
        let rows = context.catalog.progress(Some(group.clone())).await?;
        rows.iter().filter_map(|row| context.catalog.topic(row.topic.as_str())).collect()
    } else {
        request.topics.iter().map(|topic| context.topic(Some(topic))).collect::<Result<_, _>>()?
    };
    if topics.len() > ADMIN_TOPICS_MAX {
        let text = format!("{} topics at once; name at most {ADMIN_TOPICS_MAX}", topics.len());
        return Err(Failure::new(Code::BadRequest, text));
    }
    Ok(topics)
}

struct Queue<'a> {
    shard: &'a ShardHandle,
    topic: &'a TopicName,
    number: u32,
}

impl Queue<'_> {
    /// Zeros where there is no message.
    async fn span(&self, group: &GroupName) -> Result<QueueTimeSpan, Failure> {
        let earliest = self.offset(OffsetAt::Earliest).await?;
        let end = self.offset(OffsetAt::Latest).await?;
        if earliest >= end {
            return Ok(QueueTimeSpan::default());
        }
        let (group, topic, queue) = (group.clone(), self.topic.clone(), self.number);
        let command = Command::ReadOffset { group, topic, queue };
        let next = match self.shard.submit(command).await? {
            Outcome::Offset(Some(offset)) => offset.max(earliest),
            _ => earliest,
        };
        let max_ms = self.stored_ms(end - 1).await?;
        let (consume_ms, delay_ms) = if next < end {
            let stored_ms = self.stored_ms(next).await?;
            (stored_ms, now_ms().saturating_sub(stored_ms))
        } else {
            (max_ms, 0)
        };
        Ok(QueueTimeSpan {
            message_queue: None,
            min_timestamp: signed(self.stored_ms(earliest).await?),
            max_timestamp: signed(max_ms),
            consume_timestamp: signed(consume_ms),
            delay_time_ms: signed(delay_ms),
        })
    }

    async fn offset(&self, at: OffsetAt) -> Result<u64, Failure> {
        let command = Command::QueryOffset { topic: self.topic.clone(), queue: self.number, at };
        match self.shard.submit(command).await? {
            Outcome::Offset(offset) => Ok(offset.unwrap_or(0)),
            _ => Ok(0),
        }
    }

    async fn stored_ms(&self, offset: u64) -> Result<u64, Failure> {
        let pull = Pull {
            topic: self.topic.clone(),
            queue: self.number,
            offset,
            filter: Filter::All,
            messages_max: 1,
            poll_until_ms: 0,
        };
        let pulled = self.shard.pull(pull).await?;
        Ok(pulled.messages.first().map_or(0, |message| message.stored_ms))
    }
}
