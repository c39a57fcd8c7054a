//! ForwardMessageToDeadLetterQueue: the client gave up on a delivery (protocol section 3.9).
//! Answered OK as well when there is nothing left to forward.

use broker_engine::{Command, ForwardToDeadLetter};
use broker_model::ReceiptHandle;
use broker_proto::rocketmq::{
    Code, ForwardMessageToDeadLetterQueueRequest, ForwardMessageToDeadLetterQueueResponse,
};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::status::{self, Failure};

pub(crate) async fn forward_message_to_dead_letter_queue(
    context: &BrokerContext,
    request: Request<ForwardMessageToDeadLetterQueueRequest>,
) -> Result<ForwardMessageToDeadLetterQueueResponse, Failure> {
    Caller::of_request(&request)?;
    let request = request.into_inner();
    let group = context.group_name(request.group.as_ref())?;
    let topic = context.topic_name(request.topic.as_ref())?;
    let answer = ForwardMessageToDeadLetterQueueResponse { status: Some(status::ok()) };
    // Clients repeat a forward for ever unless it is answered OK, so what is gone already counts as done.
    let Ok(handle) = ReceiptHandle::decode(&request.receipt_handle) else { return Ok(answer) };
    let Some(shard) = context.catalog.shard(handle.shard) else { return Ok(answer) };
    let settlement = context.renewals.settle(handle).await;
    let command = ForwardToDeadLetter { group, topic, handle: settlement.handle };
    match shard.submit(Command::ForwardToDeadLetter(command)).await.map_err(Failure::settling) {
        Err(failure) if failure.code != Code::InvalidReceiptHandle => Err(failure),
        _ => {
            settlement.done();
            Ok(answer)
        }
    }
}
