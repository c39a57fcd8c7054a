//! Which address a client is told for a shard (protocol section 3.1). A broker alone echoes the address that the client
//! itself used, so that it works through any address translation; in a cluster the map names the broker of each shard. A
//! client from outside the cluster is told the address that it used for all shards, and every broker passes its calls on.

mod cluster_map;

use std::sync::{Arc, RwLock};

use broker_model::ShardId;
use broker_proto::admin;
use broker_proto::rocketmq::{Address, AddressScheme, Endpoints};

pub(crate) use cluster_map::{HeldMap, MapError};

use crate::limits::ACCESS_POINT_ADDRESSES_MAX;

/// Host and port under which clients reach this broker when nothing better is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised {
    /// DNS name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Knows the address of every shard.
#[derive(Debug)]
pub(crate) struct EndpointPlan {
    advertised: Endpoints,
    map: RwLock<Option<Arc<HeldMap>>>,
}

const LOCK: &str = "nothing panics while it holds the cluster map";

impl EndpointPlan {
    pub(crate) fn new(advertised: &Advertised) -> Self {
        let advertised = endpoints_of(&advertised.host, advertised.port);
        Self { advertised, map: RwLock::new(None) }
    }

    /// The map held now.
    pub(crate) fn map(&self) -> Option<Arc<HeldMap>> {
        self.map.read().expect(LOCK).clone()
    }

    /// Whether there are other brokers.
    pub(crate) fn has_others(&self) -> bool {
        self.map.read().expect(LOCK).as_ref().is_some_and(|held| held.map.brokers.len() > 1)
    }

    /// Takes the map when it is newer than the one held; answers the version held then.
    ///
    /// # Errors
    /// [`MapError`] when the map is not consistent in itself, or too far ahead.
    pub(crate) fn apply(&self, map: admin::ClusterMap) -> Result<(u64, bool), MapError> {
        let checked = HeldMap::check(map)?;
        let version = checked.map.version;
        let mut held = self.map.write().expect(LOCK);
        let have = held.as_ref().map(|h| h.map.version);
        if have.is_some_and(|have| have >= version) {
            return Ok((have.unwrap_or(version), false));
        }
        checked.check_step(have)?;
        *held = Some(Arc::new(checked));
        Ok((version, true))
    }

    /// The view for one request that came with this access point.
    pub(crate) fn for_request(&self, access_point: Option<&Endpoints>) -> RequestEndpoints {
        let echoed = access_point.filter(|e| is_usable(e)).map(echo);
        let own = echoed.unwrap_or_else(|| self.advertised.clone());
        let map = self.map();
        let is_outside = map.as_ref().is_some_and(|held| {
            let mut dialled = access_point.iter().flat_map(|endpoints| &endpoints.addresses);
            !dialled.all(|address| held.is_inside(&address.host))
        });
        RequestEndpoints { own, map, is_outside }
    }
}

/// The addresses of all shards, as told to one client.
#[derive(Debug)]
pub(crate) struct RequestEndpoints {
    own: Endpoints,
    map: Option<Arc<HeldMap>>,
    is_outside: bool,
}

impl RequestEndpoints {
    /// The endpoints of a shard; none when neither this broker nor the map knows it.
    pub(crate) fn of(&self, shard: ShardId, is_local: bool) -> Option<&Endpoints> {
        let in_map = self.map.as_ref().and_then(|held| held.endpoints(shard));
        let in_map = if self.is_outside { in_map.and(Some(&self.own)) } else { in_map };
        in_map.or_else(|| is_local.then_some(&self.own))
    }
}

/// Legal for every client: at least one address, each with a host and a port.
fn is_usable(endpoints: &Endpoints) -> bool {
    let addresses = &endpoints.addresses;
    (1..=ACCESS_POINT_ADDRESSES_MAX).contains(&addresses.len())
        && addresses.iter().all(|a| !a.host.is_empty() && (1..=65_535).contains(&a.port))
}

fn echo(endpoints: &Endpoints) -> Endpoints {
    let mut echoed = endpoints.clone();
    if echoed.scheme() == AddressScheme::Unspecified {
        // Some clients fail on it.
        let host = echoed.addresses.first().map_or("", |a| a.host.as_str());
        echoed.set_scheme(scheme_of(host));
    }
    if echoed.scheme() == AddressScheme::DomainName {
        echoed.addresses.truncate(1);
    }
    echoed
}

fn scheme_of(host: &str) -> AddressScheme {
    match host.parse() {
        Ok(std::net::IpAddr::V4(_)) => AddressScheme::IPv4,
        Ok(std::net::IpAddr::V6(_)) => AddressScheme::IPv6,
        Err(_) => AddressScheme::DomainName,
    }
}

fn endpoints_of(host: &str, port: u16) -> Endpoints {
    Endpoints {
        scheme: scheme_of(host).into(),
        addresses: vec![Address { host: host.to_owned(), port: i32::from(port) }],
    }
}

#[cfg(test)]
mod tests;
