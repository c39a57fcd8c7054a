//! DescribeGroupAccumulation: how far a group is behind, in all and per topic.

use std::collections::HashMap;

use broker_engine::GroupTopicProgress;
use broker_proto::rocketmq::describe_group_accumulation_response::GroupAccumulation;
use broker_proto::rocketmq::{DescribeGroupAccumulationRequest, DescribeGroupAccumulationResponse};

use super::{existing_group, signed};
use crate::clock::now_ms;
use crate::context::BrokerContext;
use crate::convert::time::duration;
use crate::status::{self, Failure};

pub(super) async fn describe_group_accumulation(
    context: &BrokerContext,
    request: &DescribeGroupAccumulationRequest,
) -> Result<DescribeGroupAccumulationResponse, Failure> {
    if request.lite_topic.is_some() {
        return Err(Failure::not_served("the accumulation of one lite topic"));
    }
    let entry = existing_group(context, request.group.as_ref())?;
    let wanted: Vec<_> = request.topics.iter().map(|topic| topic.name.as_str()).collect();
    let mut rows = context.catalog.progress(Some(entry.group.name.clone())).await?;
    rows.retain(|row| wanted.is_empty() || wanted.contains(&row.topic.as_str()));
    let now_ms = now_ms();
    let topics: HashMap<String, GroupAccumulation> =
        rows.iter().map(|row| (row.topic.to_string(), accumulation(&[row], now_ms))).collect();
    Ok(DescribeGroupAccumulationResponse {
        status: Some(status::ok()),
        accumulation: Some(accumulation(&rows.iter().collect::<Vec<_>>(), now_ms)),
        topic_accumulation: topics,
        lite_topic_accumulation: HashMap::new(),
    })
}

/// When the group last acknowledged anything is not held; that field stays 0.
fn accumulation(rows: &[&GroupTopicProgress], now_ms: u64) -> GroupAccumulation {
    let lag: u64 = rows.iter().map(|row| row.lag_messages).sum();
    let inflight: u64 = rows.iter().map(|row| row.inflight_messages).sum();
    let oldest_ms = rows.iter().filter_map(|row| row.oldest_ms).min();
    GroupAccumulation {
        inflight_messages: signed(inflight),
        ready_messages: signed(lag.saturating_sub(inflight)),
        accumulation: signed(lag),
        deliver_delay_time: Some(duration(oldest_ms.map_or(0, |ms| now_ms.saturating_sub(ms)))),
        last_consume_timestamp: 0,
    }
}
