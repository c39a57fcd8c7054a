//! The question of another broker about a transaction that stays open, for a producer that is connected here.

use broker_model::TopicName;
use broker_proto::admin::{AskProducerRequest, AskProducerResponse};
use broker_proto::rocketmq::RecoverOrphanedTransactionCommand;
use prost::Message as _;
use tonic::Status;

use crate::context::BrokerContext;
use crate::transaction_checks::put;

pub(super) fn ask_producer(
    context: &BrokerContext,
    request: &AskProducerRequest,
) -> Result<AskProducerResponse, Status> {
    let topic = TopicName::parse(&request.topic)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let question = RecoverOrphanedTransactionCommand::decode(request.question.as_slice());
    let question = question.map_err(|error| {
        Status::invalid_argument(format!(
            "question is no RecoverOrphanedTransactionCommand: {error}"
        ))
    })?;
    Ok(AskProducerResponse { asked: put(context, &topic, &question) })
}
