//! ListGroups: all consumer groups, or the named ones, with members and lag.
//! Members and lag are views of now, stored nowhere.

use std::collections::BTreeSet;

use broker_proto::admin::{ListGroupsRequest, ListGroupsResponse};
use tonic::Status;

use super::group_status::group_statuses;
use crate::context::BrokerContext;
use crate::convert::admin::group_to;
use crate::status::admin_refusal;

/// Names that do not exist are left out.
pub(super) async fn list_groups(
    context: &BrokerContext,
    request: &ListGroupsRequest,
) -> Result<ListGroupsResponse, Status> {
    let names: BTreeSet<&str> = request.names.iter().map(String::as_str).collect();
    let mut entries = context.catalog.groups();
    entries.retain(|entry| names.is_empty() || names.contains(entry.group.name.as_str()));
    entries.sort_by(|a, b| a.group.name.cmp(&b.group.name));
    let mut all = group_statuses(context).await.map_err(|e| admin_refusal(&e))?;
    let status = entries.iter().filter_map(|e| all.remove(e.group.name.as_str())).collect();
    let groups = entries.iter().map(|entry| group_to(entry)).collect();
    Ok(ListGroupsResponse { groups, status })
}
