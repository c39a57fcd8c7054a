//! DeleteGroup: removes a consumer group with its progress.
//! What another owner declared is only deleted by force.

use broker_model::GroupName;
use broker_proto::admin::{DeleteGroupRequest, DeleteGroupResponse};
use tonic::Status;

use crate::context::BrokerContext;
use crate::convert::admin::owner_from;
use crate::status::admin_failure;

pub(super) async fn delete_group(
    context: &BrokerContext,
    request: DeleteGroupRequest,
) -> Result<DeleteGroupResponse, Status> {
    let name = GroupName::parse(&request.name)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let owner = request.owner.map(owner_from);
    let deleted = context.catalog.delete_group(&name, owner.as_ref(), request.force).await;
    Ok(DeleteGroupResponse { existed: deleted.map_err(admin_failure)? })
}
