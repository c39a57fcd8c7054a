//! This broker: version, shards, disk.
//! Read from the shards and the volume when asked.

use broker_proto::admin::{BrokerStatus, ShardStatus};
use broker_replication::ShardHandle;

use crate::context::BrokerContext;

pub(super) fn broker_status(context: &BrokerContext) -> BrokerStatus {
    let disk = (context.disk)();
    BrokerStatus {
        broker_id: context.broker_id,
        version: context.version.clone(),
        started_ms: context.started_ms,
        shards: context.catalog.shards().iter().map(shard_status).collect(),
        disk_free_bytes: disk.free_bytes,
        disk_total_bytes: disk.total_bytes,
        cluster_map_version: context.endpoints.map().map_or(0, |held| held.map.version),
        endpoint: context.advertised.clone(),
        manifests: context.manifests(),
        disk_id: context.disk_id.clone(),
    }
}

fn shard_status(shard: &ShardHandle) -> ShardStatus {
    let status = shard.status();
    let failure = status.failure.or_else(|| status.damage.map(|damage| damage.to_string()));
    ShardStatus {
        id: shard.id().0,
        name: shard.name().to_owned(),
        role: status.role.to_owned(),
        log_bytes: status.log_bytes,
        durable_index: status.durable_index,
        failure: failure.unwrap_or_default(),
        refuses_sends: status.refuses_sends,
        oldest_message_ms: status.oldest_ms.unwrap_or(0),
    }
}
