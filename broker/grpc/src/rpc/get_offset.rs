//! GetOffset: the progress of a group on one queue (protocol section 3.12).

use broker_engine::{Command, Outcome};
use broker_proto::rocketmq::{Code, GetOffsetRequest, GetOffsetResponse};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::status::{self, Failure};

pub(crate) async fn get_offset(
    context: &BrokerContext,
    request: Request<GetOffsetRequest>,
) -> Result<GetOffsetResponse, Failure> {
    Caller::of_request(&request)?;
    let request = request.into_inner();
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
