//! RecallMessage: takes a delayed message back before its time (protocol section 3.5). Once it is due it is too late.

use broker_engine::{Command, Recall, Refusal};
use broker_model::{MessageType, RecallHandle};
use broker_proto::rocketmq::{Code, RecallMessageRequest, RecallMessageResponse};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::peers;
use crate::status::{self, Failure};

pub(crate) async fn recall_message(
    context: &BrokerContext,
    request: Request<RecallMessageRequest>,
) -> Result<RecallMessageResponse, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    let entry = context.topic(request.topic.as_ref())?;
    let topic = entry.topic.name.clone();
    if entry.topic.message_type != MessageType::Delay {
        let text = format!(
            "topic {topic} takes {} messages; only delayed ones can be recalled",
            entry.topic.message_type
        );
        return Err(Failure::new(Code::MessagePropertyConflictWithType, text));
    }
    let handle = RecallHandle::decode(&request.recall_handle).map_err(|_| {
        Failure::new(
            Code::BadRequest,
            "the recall handle was not made by this system, or is damaged",
        )
    })?;
    let message_id = handle.message_id.clone();
    let Some(shard) = context.catalog.shard(handle.shard) else {
        let (mut peer, request) = peers::pass_on(context, handle.shard, &caller, request)?;
        return peers::answer_of(peer.recall_message(request).await);
    };
    let recall = Command::Recall(Recall { topic, handle });
    shard.submit(recall).await.map_err(|refusal| match refusal {
        Refusal::ForeignHandle => Failure::new(Code::BadRequest, refusal.to_string()),
        other => other.into(),
    })?;
    Ok(RecallMessageResponse { status: Some(status::ok()), message_id })
}
