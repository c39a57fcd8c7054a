//! ForwardMessageToDeadLetterQueue: the client gave up on a delivery (protocol section 3.9).
//! Answered OK as well when there is nothing left to forward.

use std::time::Duration;

use broker_engine::{Command, ForwardToDeadLetter, Refusal};
use broker_model::{ReceiptHandle, TopicName};
use broker_proto::rocketmq::{
    Code, ForwardMessageToDeadLetterQueueRequest, ForwardMessageToDeadLetterQueueResponse,
};
use broker_replication::CatalogChange;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::timeout;
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::limits::TOPIC_KNOWN_MS_MAX;
use crate::peers;
use crate::status::{self, Failure};

pub(crate) async fn forward_message_to_dead_letter_queue(
    context: &BrokerContext,
    request: Request<ForwardMessageToDeadLetterQueueRequest>,
) -> Result<ForwardMessageToDeadLetterQueueResponse, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    let group = context.group_name(request.group.as_ref())?;
    let topic = context.topic_name(request.topic.as_ref())?;
    let answer = ForwardMessageToDeadLetterQueueResponse { status: Some(status::ok()) };
    // Clients repeat a forward for ever unless it is answered OK, so what is gone already counts as done.
    let Ok(handle) = ReceiptHandle::decode(&request.receipt_handle) else { return Ok(answer) };
    if peers::is_elsewhere(context, handle.shard, &caller) {
        let (mut peer, request) = peers::pass_on(context, handle.shard, &caller, request)?;
        return peers::answer_of(peer.forward_message_to_dead_letter_queue(request).await);
    }
    let Some(shard) = context.catalog.shard(handle.shard) else { return Ok(answer) };
    let dead_letters = TopicName::dead_letter_of(&group);
    let changes = context.catalog.changes();
    let command = ForwardToDeadLetter { group, topic, handle };
    match shard.submit(Command::ForwardToDeadLetter(command)).await {
        Ok(_) => until_known(context, &dead_letters, changes).await,
        // Nothing of ours is given up by it.
        Err(Refusal::ForeignHandle) => return Ok(answer),
        Err(refusal) => {
            let failure = Failure::settling(refusal);
            if failure.code != Code::InvalidReceiptHandle {
                return Err(failure);
            }
        }
    }
    context.renewals.settled(&handle);
    Ok(answer)
}

/// The first dead letter of a group makes a topic, which the catalog hears of a moment later. Whoever was answered finds it.
async fn until_known(
    context: &BrokerContext,
    topic: &TopicName,
    mut changes: broadcast::Receiver<CatalogChange>,
) {
    let heard = async {
        while context.catalog.topic(topic.as_str()).is_none() {
            if matches!(changes.recv().await, Err(RecvError::Closed)) {
                return;
            }
        }
    };
    // A group that discards its dead letters has no such topic.
    let _late = timeout(Duration::from_millis(TOPIC_KNOWN_MS_MAX), heard).await;
}
