//! QueryOffset: the first or last offset of a queue, or the one of a time (protocol section 3.12).

use broker_engine::{Command, OffsetAt, Outcome};
use broker_proto::rocketmq::{Code, QueryOffsetPolicy, QueryOffsetRequest, QueryOffsetResponse};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::convert::time::timestamp_ms;
use crate::peers;
use crate::status::{self, Failure};

pub(crate) async fn query_offset(
    context: &BrokerContext,
    request: Request<QueryOffsetRequest>,
) -> Result<QueryOffsetResponse, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    if let Some(shard) = peers::queue_elsewhere(context, request.message_queue.as_ref(), &caller) {
        let (mut peer, request) = peers::pass_on(context, shard, &caller, request)?;
        return peers::answer_of(peer.query_offset(request).await);
    }
    let place = context.queue(request.message_queue.as_ref())?;
    let at = match request.query_offset_policy() {
        QueryOffsetPolicy::Beginning => OffsetAt::Earliest,
        QueryOffsetPolicy::End => OffsetAt::Latest,
        QueryOffsetPolicy::Timestamp => {
            let time = request.timestamp.as_ref().ok_or_else(|| {
                Failure::new(Code::BadRequest, "the policy TIMESTAMP needs a timestamp")
            })?;
            OffsetAt::TimeMs(timestamp_ms(time))
        }
    };
    let command = Command::QueryOffset { topic: place.topic, queue: place.queue, at };
    let Outcome::Offset(offset) = place.shard.submit(command).await? else {
        return Err(Failure::new(Code::InternalServerError, "the shard gave no offset"));
    };
    let offset = i64::try_from(offset.unwrap_or(0)).unwrap_or(i64::MAX);
    Ok(QueryOffsetResponse { status: Some(status::ok()), offset })
}
