//! ApplyGroup: creates a consumer group or makes it what is asked. Idempotent.
//! The catalog decides about owners, versions and differences.

use broker_proto::admin::{ApplyGroupRequest, ApplyGroupResponse};
use broker_replication::ApplyOptions;
use tonic::Status;

use crate::context::BrokerContext;
use crate::convert::admin::{group_from, group_to};
use crate::status::admin_failure;

pub(super) async fn apply_group(
    context: &BrokerContext,
    request: ApplyGroupRequest,
) -> Result<ApplyGroupResponse, Status> {
    let group =
        request.group.ok_or_else(|| Status::invalid_argument("the request has no group"))?;
    let group = group_from(group).map_err(Status::invalid_argument)?;
    let options = ApplyOptions {
        create_only: request.create_only,
        take_ownership: request.take_ownership,
        if_version: request.if_version,
    };
    let (entry, changed) =
        context.catalog.apply_group(group, options).await.map_err(admin_failure)?;
    Ok(ApplyGroupResponse { group: Some(group_to(&entry)), changed })
}
