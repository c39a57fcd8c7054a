//! UpdateOffset: sets the progress of a group on one queue (protocol section 3.12).

use broker_engine::{Command, SetOffset};
use broker_proto::rocketmq::{Code, UpdateOffsetRequest, UpdateOffsetResponse};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::peers;
use crate::status::{self, Failure};

pub(crate) async fn update_offset(
    context: &BrokerContext,
    request: Request<UpdateOffsetRequest>,
) -> Result<UpdateOffsetResponse, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    if let Some(shard) = peers::queue_elsewhere(context, request.message_queue.as_ref(), &caller) {
        let (mut peer, request) = peers::pass_on(context, shard, &caller, request)?;
        return peers::answer_of(peer.update_offset(request).await);
    }
    let group = context.group_name(request.group.as_ref())?;
    let place = context.queue(request.message_queue.as_ref())?;
    let offset = u64::try_from(request.offset)
        .map_err(|_| Failure::new(Code::IllegalOffset, "the offset is negative"))?;
    context.catalog.ensure_group(&group).await?;
    let (topic, queue) = (place.topic, place.queue);
    place.shard.submit(Command::SetOffset(SetOffset { group, topic, queue, offset })).await?;
    Ok(UpdateOffsetResponse { status: Some(status::ok()) })
}
