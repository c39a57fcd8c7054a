//! A shard is the unit of storage, replication and ownership; on the wire it is what RocketMQ calls a broker.

/// Number of a shard, unique in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u32);

/// The name under which clients see the shard: `broker.name` of their queues.
#[must_use]
pub fn shard_name(id: ShardId) -> String {
    format!("shard-{}", id.0)
}

/// The shard of this name; none when it is no shard's name.
#[must_use]
pub fn shard_of_name(name: &str) -> Option<ShardId> {
    let id = name.strip_prefix("shard-").and_then(|number| number.parse().ok()).map(ShardId);
    // Zeros in front and a sign are no part of a name.
    id.filter(|id| shard_name(*id) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_a_shard_names_it() {
        assert_eq!(shard_of_name("shard-12"), Some(ShardId(12)));
        for text in ["", "shard-", "shard-007", "shard-+1", "shard-4294967296", "broker-a"] {
            assert_eq!(shard_of_name(text), None, "{text}");
        }
    }
}
