//! The cluster map as it is recorded in a ConfigMap and given to brokers: where brokers are and who leads which shard.
//! Pure.

use broker_proto::admin::{BrokerAddress, ClusterMap, Shard};
use serde::{Deserialize, Serialize};

use super::plan::BrokerPlan;
use crate::names::{ADMIN_PORT, CLIENT_PORT, ClusterKey, shard_name};

/// Largest version that brokers take.
const VERSION_MAX: u64 = 1 << 48;

/// The map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Grows with every change.
    pub version: u64,
    /// Name of the cluster.
    pub cluster: String,
    /// Where brokers are, by number.
    pub brokers: Vec<BrokerRecord>,
    /// Shards by number.
    pub shards: Vec<ShardRecord>,
    /// DNS names by which clients of the Kubernetes cluster reach any broker: of the Services of the listeners.
    #[serde(default)]
    pub client_hosts: Vec<String>,
}

/// Where one broker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerRecord {
    /// Its number.
    pub id: u32,
    /// DNS name of its pod.
    pub host: String,
    /// Port for clients.
    pub port: u16,
    /// Port of the admin API.
    pub admin_port: u16,
}

/// One shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardRecord {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// The broker that leads it.
    pub leader: u32,
    /// The brokers that hold a copy.
    pub replicas: Vec<u32>,
}

impl Record {
    /// The map of planned brokers: the recorded one when it says the same, else one with a newer version than any known.
    #[must_use]
    pub fn next(
        key: &ClusterKey,
        brokers: &[BrokerPlan],
        client_hosts: Vec<String>,
        recorded: Option<&Self>,
        known_version: u64,
    ) -> Self {
        let mut shards: Vec<ShardRecord> = brokers
            .iter()
            .flat_map(|broker| broker.shards.iter().map(|&id| (id, broker.id)))
            .map(|(id, leader)| ShardRecord {
                id,
                name: shard_name(id),
                leader,
                replicas: vec![leader],
            })
            .collect();
        shards.sort_by_key(|shard| shard.id);
        let address = |broker: &BrokerPlan| BrokerRecord {
            id: broker.id,
            host: key.broker_host(broker.id),
            port: CLIENT_PORT,
            admin_port: ADMIN_PORT,
        };
        // A version that no broker takes is none to count on from.
        let usable = |version: u64| Some(version).filter(|version| *version <= VERSION_MAX);
        let recorded_version = recorded.and_then(|recorded| usable(recorded.version));
        let known_version = usable(known_version).unwrap_or(0);
        let mut next = Self {
            version: recorded_version.unwrap_or(0),
            cluster: key.name.clone(),
            brokers: brokers.iter().map(address).collect(),
            shards,
            client_hosts,
        };
        let same = recorded == Some(&next);
        if !same || known_version > next.version {
            next.version = next.version.max(known_version).saturating_add(1);
        }
        next
    }

    /// The map as brokers take it.
    #[must_use]
    pub fn to_proto(&self) -> ClusterMap {
        let address = |broker: &BrokerRecord| BrokerAddress {
            broker_id: broker.id,
            host: broker.host.clone(),
            port: broker.port.into(),
            admin_port: broker.admin_port.into(),
        };
        let shard = |shard: &ShardRecord| Shard {
            id: shard.id,
            name: shard.name.clone(),
            leader_broker: shard.leader,
            replica_brokers: shard.replicas.clone(),
        };
        ClusterMap {
            version: self.version,
            cluster: self.cluster.clone(),
            brokers: self.brokers.iter().map(address).collect(),
            shards: self.shards.iter().map(shard).collect(),
            client_hosts: self.client_hosts.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_grows_only_when_the_map_says_something_else() {
        let key = ClusterKey { namespace: "shop".to_owned(), name: "default".to_owned() };
        let one = [BrokerPlan { id: 0, shards: vec![0], claim_size: None }];
        let first = Record::next(&key, &one, Vec::new(), None, 0);
        assert_eq!(first.version, 1);
        assert_eq!(Record::next(&key, &one, Vec::new(), Some(&first), 1), first);
        let two = [
            BrokerPlan { id: 0, shards: vec![0], claim_size: None },
            BrokerPlan { id: 1, shards: vec![1], claim_size: None },
        ];
        let second = Record::next(&key, &two, Vec::new(), Some(&first), 1);
        assert_eq!((second.version, second.shards.len()), (2, 2));
    }

    #[test]
    fn a_lost_record_never_leads_to_an_older_version_than_brokers_hold() {
        let key = ClusterKey { namespace: "shop".to_owned(), name: "default".to_owned() };
        let one = [BrokerPlan { id: 0, shards: vec![0], claim_size: None }];
        assert_eq!(Record::next(&key, &one, Vec::new(), None, 7).version, 8);
        assert_eq!(
            Record::next(&key, &one, Vec::new(), None, u64::MAX).version,
            1,
            "no broker holds it"
        );
        let restored = Record::next(&key, &one, Vec::new(), None, 0);
        assert_eq!(Record::next(&key, &one, Vec::new(), Some(&restored), 7).version, 8);
    }
}
