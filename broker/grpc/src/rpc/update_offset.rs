//! UpdateOffset: sets the progress of a group on one queue (protocol section 3.12).

use broker_engine::{Command, SetOffset};
use broker_proto::rocketmq::{Code, UpdateOffsetRequest, UpdateOffsetResponse};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::status::{self, Failure};

pub(crate) async fn update_offset(
    context: &BrokerContext,
    request: Request<UpdateOffsetRequest>,
) -> Result<UpdateOffsetResponse, Failure> {
    Caller::of_request(&request)?;
    let request = request.into_inner();
    let group = context.group_name(request.group.as_ref())?;
    let place = context.queue(request.message_queue.as_ref())?;
    let offset = u64::try_from(request.offset)
        .map_err(|_| Failure::new(Code::IllegalOffset, "the offset is negative"))?;
    context.catalog.ensure_group(&group).await?;
    let (topic, queue) = (place.topic, place.queue);
    place.shard.submit(Command::SetOffset(SetOffset { group, topic, queue, offset })).await?;
    Ok(UpdateOffsetResponse { status: Some(status::ok()) })
}
