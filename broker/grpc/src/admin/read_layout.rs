//! The question of another broker about a FIFO topic that grew, for the shards of this one.

use broker_model::{GroupName, TopicName};
use broker_proto::admin::{ReadLayoutRequest, ReadLayoutResponse};
use broker_replication::LayoutQuestion;
use tonic::Status;

use crate::context::BrokerContext;
use crate::status::admin_refusal;

pub(super) async fn read_layout(
    context: &BrokerContext,
    request: ReadLayoutRequest,
) -> Result<ReadLayoutResponse, Status> {
    let topic = TopicName::parse(&request.topic)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let group = match request.group.as_str() {
        "" => None,
        group => Some(
            GroupName::parse(group).map_err(|error| Status::invalid_argument(error.to_string()))?,
        ),
    };
    let question = LayoutQuestion { topic, layout: request.queues, group };
    let passed = context.catalog.is_passed_here(&question).await.map_err(|e| admin_refusal(&e))?;
    Ok(ReadLayoutResponse { passed })
}
