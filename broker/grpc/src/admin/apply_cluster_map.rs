//! ApplyClusterMap: takes a newer map and keeps it beyond the process.
//! An older or equal version changes nothing and is answered with the version held.

use broker_proto::admin::{ApplyClusterMapRequest, ApplyClusterMapResponse};
use prost::Message as _;
use tonic::Status;

use crate::context::BrokerContext;
use crate::endpoints::HeldMap;

pub(super) fn apply_cluster_map(
    context: &BrokerContext,
    request: ApplyClusterMapRequest,
) -> Result<ApplyClusterMapResponse, Status> {
    let map = request.map.ok_or_else(|| Status::invalid_argument("the request has no map"))?;
    let invalid = |error: crate::endpoints::MapError| Status::invalid_argument(error.to_string());
    let have = context.endpoints.map().map(|held| held.map.version);
    if have.is_none_or(|have| map.version > have) {
        // Kept before it is used: what clients were told must not be forgotten by a restart.
        HeldMap::check(map.clone()).and_then(|map| map.check_step(have)).map_err(invalid)?;
        (context.keep_map)(&map.encode_to_vec()).map_err(|error| {
            Status::internal(format!("the cluster map cannot be kept: {error}"))
        })?;
    }
    let (version, _) = context.endpoints.apply(map).map_err(invalid)?;
    Ok(ApplyClusterMapResponse { version })
}
