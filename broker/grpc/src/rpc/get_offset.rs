//! GetOffset: the progress of a group on one queue (protocol section 3.12).

use broker_engine::{Command, Outcome};
use broker_proto::rocketmq::{Code, GetOffsetRequest, GetOffsetResponse};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::peers;
use crate::status::{self, Failure};

pub(crate) async fn get_offset(
    context: &BrokerContext,
    request: Request<GetOffsetRequest>,
) -> Result<GetOffsetResponse, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    if let Some(shard) = peers::queue_elsewhere(context, request.message_queue.as_ref(), &caller) {
        let (mut peer, request) = peers::pass_on(context, shard, &caller, request)?;
        return peers::answer_of(peer.get_offset(request).await);
    }
    let group = context.group_name(request.group.as_ref())?;
    let place = context.queue(request.message_queue.as_ref())?;
    let (topic, queue) = (place.topic, place.queue);
    let text = format!("group {group} has no progress on queue {queue} of topic {topic}");
    let command = Command::ReadOffset { group, topic, queue };
    match place.shard.submit(command).await? {
        Outcome::Offset(Some(offset)) => {
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            Ok(GetOffsetResponse { status: Some(status::ok()), offset })
        }
        _ => Err(Failure::new(Code::OffsetNotFound, text)),
    }
}
