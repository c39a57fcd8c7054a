//! EndTransaction: commits or rolls back a half message (protocol section 3.11). Repeating an end gives the same answer;
//! an end that does not come is asked for (`transaction_checks`).

use broker_engine::{Command, EndTransaction, Refusal};
use broker_model::TransactionId;
use broker_proto::rocketmq::{
    Code, EndTransactionRequest, EndTransactionResponse, TransactionResolution,
};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::peers;
use crate::status::{self, Failure};

pub(crate) async fn end_transaction(
    context: &BrokerContext,
    request: Request<EndTransactionRequest>,
) -> Result<EndTransactionResponse, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    let topic = context.topic_name(request.topic.as_ref())?;
    let id = TransactionId::decode(request.transaction_id.trim()).map_err(|_| {
        let text = "the transaction id is empty, or was not given by this system";
        Failure::new(Code::InvalidTransactionId, text)
    })?;
    let is_commit = match request.resolution() {
        TransactionResolution::Commit => true,
        TransactionResolution::Rollback => false,
        // The producer does not know yet; it is asked again.
        TransactionResolution::Unspecified => {
            return Ok(EndTransactionResponse { status: Some(status::ok()) });
        }
    };
    let Some(shard) = context.catalog.shard(id.shard) else {
        let (mut peer, request) = peers::pass_on(context, id.shard, &caller, request)?;
        return peers::answer_of(peer.end_transaction(request).await);
    };
    let end = Command::EndTransaction(EndTransaction { topic, id, is_commit });
    shard.submit(end).await.map_err(|refusal| match refusal {
        Refusal::ForeignHandle => Failure::new(Code::InvalidTransactionId, refusal.to_string()),
        other => other.into(),
    })?;
    Ok(EndTransactionResponse { status: Some(status::ok()) })
}
