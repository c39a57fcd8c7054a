//! ResetGroupOffset: a group goes on with the first message of a topic stored at a time or later, on every shard.

use broker_engine::{Command, OffsetAt, ResetOffsets};
use broker_proto::rocketmq::{Code, ResetGroupOffsetRequest, ResetGroupOffsetResponse};

use super::existing_group;
use crate::context::BrokerContext;
use crate::convert::time::timestamp_ms;
use crate::status::{self, Failure};

pub(super) async fn reset_group_offset(
    context: &BrokerContext,
    request: &ResetGroupOffsetRequest,
) -> Result<ResetGroupOffsetResponse, Failure> {
    let group = existing_group(context, request.group.as_ref())?.group.name.clone();
    let topic = context.topic(request.topic.as_ref())?;
    let Some(time) = &request.reset_timestamp else {
        let text = "the request has no reset timestamp; say where the group goes on";
        return Err(Failure::new(Code::BadRequest, text));
    };
    for shard in context.catalog.shards() {
        let reset = ResetOffsets {
            group: group.clone(),
            topics: vec![topic.topic.name.clone()],
            to: OffsetAt::TimeMs(timestamp_ms(time)),
            id: String::new(),
        };
        shard.submit(Command::ResetOffsets(reset)).await?;
    }
    Ok(ResetGroupOffsetResponse { status: Some(status::ok()) })
}
