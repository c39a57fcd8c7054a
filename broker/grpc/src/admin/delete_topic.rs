//! DeleteTopic: removes a topic with all its messages.
//! What another owner declared is only deleted by force.

use broker_model::TopicName;
use broker_proto::admin::{DeleteTopicRequest, DeleteTopicResponse};
use tonic::Status;

use crate::context::BrokerContext;
use crate::convert::admin::owner_from;
use crate::status::admin_failure;

pub(super) async fn delete_topic(
    context: &BrokerContext,
    request: DeleteTopicRequest,
) -> Result<DeleteTopicResponse, Status> {
    let name = TopicName::parse(&request.name)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let owner = request.owner.map(owner_from);
    let deleted = context.catalog.delete_topic(&name, owner.as_ref(), request.force).await;
    Ok(DeleteTopicResponse { existed: deleted.map_err(admin_failure)? })
}
