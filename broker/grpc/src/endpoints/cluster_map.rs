//! The cluster map: which broker leads which shard, and where brokers are reached. Versioned; checked before it is held.
//! A map that contradicts itself is refused whole.

use std::collections::{HashMap, HashSet};

use broker_model::{ShardId, shard_name};
use broker_proto::admin;
use broker_proto::rocketmq::Endpoints;

use super::endpoints_of;
use crate::limits::{
    MAP_BROKERS_MAX, MAP_CLIENT_HOSTS_MAX, MAP_HOST_BYTES_MAX, MAP_SHARDS_MAX, MAP_VERSION_MAX,
    MAP_VERSION_STEP_MAX,
};

/// Why a map is refused; says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MapError {
    #[error("the cluster map has {have} {what}; at most {max} are allowed")]
    TooMany { what: &'static str, have: usize, max: usize },
    #[error("the cluster map has version 0; count versions from 1")]
    NoVersion,
    #[error("the cluster map has version {0}; at most {MAP_VERSION_MAX} is taken, count from 1")]
    Version(u64),
    #[error(
        "the cluster map has version {wanted} where {have} is held, and may be at most {MAP_VERSION_STEP_MAX} ahead; \
         read the map held, and count on from its version"
    )]
    Jump { have: u64, wanted: u64 },
    #[error("the cluster map names broker {0} twice; give each broker an id of its own")]
    SameBroker(u32),
    #[error("broker {0} has no host or no port between 1 and 65535 in the cluster map")]
    NoAddress(u32),
    #[error(
        "the host of broker {0} in the cluster map is no name and no IP address; use letters, digits, '-', '.' and ':', \
         at most {MAP_HOST_BYTES_MAX} of them"
    )]
    Host(u32),
    #[error(
        "{0:?} in the client hosts of the cluster map is no name and no IP address; use letters, digits, '-', '.' and ':', \
         at most {MAP_HOST_BYTES_MAX} of them"
    )]
    ClientHost(String),
    #[error("the cluster map names shard {0} twice")]
    SameShard(u32),
    #[error("shard {shard} is called {name:?} in the cluster map; its name is {expected:?}")]
    Name { shard: u32, name: String, expected: String },
    #[error("shard {shard} is led by broker {broker}, which the cluster map does not list")]
    NoLeader { shard: u32, broker: u32 },
}

/// A map that was checked.
#[derive(Debug)]
pub(crate) struct HeldMap {
    pub(crate) map: admin::ClusterMap,
    endpoints: HashMap<ShardId, Endpoints>,
}

impl HeldMap {
    pub(crate) fn check(map: admin::ClusterMap) -> Result<Self, MapError> {
        count("brokers", map.brokers.len(), MAP_BROKERS_MAX)?;
        count("shards", map.shards.len(), MAP_SHARDS_MAX)?;
        count("client hosts", map.client_hosts.len(), MAP_CLIENT_HOSTS_MAX)?;
        if map.version == 0 {
            return Err(MapError::NoVersion);
        }
        if map.version > MAP_VERSION_MAX {
            return Err(MapError::Version(map.version));
        }
        if let Some(wrong) = map.client_hosts.iter().find(|host| host.is_empty() || !is_host(host))
        {
            return Err(MapError::ClientHost(wrong.chars().take(MAP_HOST_BYTES_MAX).collect()));
        }
        let mut brokers = HashMap::new();
        for broker in &map.brokers {
            let id = broker.broker_id;
            let port = u16::try_from(broker.port).unwrap_or(0);
            if broker.host.is_empty() || port == 0 {
                return Err(MapError::NoAddress(id));
            }
            if !is_host(&broker.host) {
                return Err(MapError::Host(id));
            }
            if brokers.insert(id, endpoints_of(&broker.host, port)).is_some() {
                return Err(MapError::SameBroker(id));
            }
        }
        let mut seen = HashSet::new();
        let mut endpoints = HashMap::new();
        for shard in &map.shards {
            let id = ShardId(shard.id);
            if !seen.insert(id) {
                return Err(MapError::SameShard(shard.id));
            }
            let expected = shard_name(id);
            if shard.name != expected {
                return Err(MapError::Name { shard: shard.id, name: shard.name.clone(), expected });
            }
            let Some(leader) = brokers.get(&shard.leader_broker) else {
                return Err(MapError::NoLeader { shard: shard.id, broker: shard.leader_broker });
            };
            endpoints.insert(id, leader.clone());
        }
        Ok(Self { map, endpoints })
    }

    /// Where the other brokers are reached, seen from this one.
    pub(crate) fn others(&self, broker_id: u32) -> impl Iterator<Item = Endpoints> {
        let others = self.map.brokers.iter().filter(move |broker| broker.broker_id != broker_id);
        others.map(|broker| endpoints_of(&broker.host, u16::try_from(broker.port).unwrap_or(0)))
    }

    /// Where the admin API of a broker is reached.
    pub(crate) fn admin_endpoints(&self, broker_id: u32) -> Option<Endpoints> {
        let broker = self.map.brokers.iter().find(|broker| broker.broker_id == broker_id)?;
        let port = u16::try_from(broker.admin_port).ok().filter(|port| *port > 0)?;
        Some(endpoints_of(&broker.host, port))
    }

    /// Whether the map may follow one of this version. A jump would let nobody count on from it; a broker without a map
    /// takes the one that it is given.
    pub(crate) fn check_step(&self, have: Option<u64>) -> Result<(), MapError> {
        let wanted = self.map.version;
        match have {
            Some(have) if wanted > have.saturating_add(MAP_VERSION_STEP_MAX) => {
                Err(MapError::Jump { have, wanted })
            }
            _ => Ok(()),
        }
    }

    /// Whether a client that dialled this name or address can be expected to reach the hosts of all brokers.
    pub(crate) fn is_inside(&self, dialled: &str) -> bool {
        let mut known = self.map.client_hosts.iter();
        let mut brokers = self.map.brokers.iter();
        self.map.client_hosts.is_empty()
            || known.any(|host| is_same_host(dialled, host))
            || brokers.any(|broker| is_same_host(dialled, &broker.host))
    }

    /// Where the shard's leader is reached.
    pub(crate) fn endpoints(&self, shard: ShardId) -> Option<&Endpoints> {
        self.endpoints.get(&shard)
    }
}

/// Whether a name is the known one, begins it (a search domain completes it), or goes on where it ends (the domain of the
/// Kubernetes cluster).
fn is_same_host(dialled: &str, known: &str) -> bool {
    let dialled = dialled.trim_end_matches('.').to_ascii_lowercase();
    let known = known.trim_end_matches('.').to_ascii_lowercase();
    let goes_on = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    !dialled.is_empty() && (goes_on(&known, &dialled) || goes_on(&dialled, &known))
}

/// What a client can be told to connect to: a DNS name or an IP address.
fn is_host(host: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_');
    host.len() <= MAP_HOST_BYTES_MAX && host.bytes().all(legal)
}

fn count(what: &'static str, have: usize, max: usize) -> Result<(), MapError> {
    if have > max { Err(MapError::TooMany { what, have, max }) } else { Ok(()) }
}
