//! A shard is the unit of storage, replication and ownership; on the wire it is what RocketMQ calls a broker.

/// Number of a shard, unique in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u32);

/// The name under which clients see the shard: `broker.name` of their queues.
#[must_use]
pub fn shard_name(id: ShardId) -> String {
    format!("shard-{}", id.0)
}
