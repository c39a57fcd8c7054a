//! What is to be done: which broker serves which shards, and which StatefulSets may be applied now. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt as _;

use super::fetch::Observed;
use super::map::Record;
use super::validate::ValidCluster;
use crate::names::{BROKER_LABEL, SHARDS_ANNOTATION, TEMPLATE_ANNOTATION};
use crate::verdict::Verdict;

/// What is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Every broker.
    pub brokers: Vec<BrokerPlan>,
    /// The map that brokers are to hold.
    pub map: Record,
    /// Version that the brokers are to run.
    pub version: String,
    /// Where clients connect: listener and address.
    pub endpoints: Vec<(String, String)>,
    /// Brokers whose change waits for others.
    pub held_back: Vec<u32>,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerPlan {
    /// Its number.
    pub id: u32,
    /// The shards that it serves.
    pub shards: Vec<u32>,
}

/// Number of the broker that a StatefulSet runs.
fn broker_of(set: &StatefulSet) -> Option<u32> {
    set.labels().get(BROKER_LABEL)?.parse().ok()
}

fn shards_of(set: &StatefulSet) -> impl Iterator<Item = u32> {
    let text = set.annotations().get(SHARDS_ANNOTATION).map_or("", String::as_str);
    text.split(',').filter_map(|id| id.parse().ok())
}

/// Places shards on brokers. A placed shard stays where its log is; new ones go where there are fewest, so that on a new
/// cluster shard i is on broker i modulo the number of brokers.
fn place_shards(observed: &Observed, valid: &ValidCluster) -> Result<Vec<BrokerPlan>, Verdict> {
    let mut placed: BTreeMap<u32, u32> = BTreeMap::new();
    for set in &observed.stateful_sets {
        let Some(broker) = broker_of(set) else { continue };
        if broker >= valid.brokers {
            let message = format!(
                "broker {broker} exists, but only {} brokers are asked for; moving shards away from a broker is not \
                 served yet: set spec.brokers to at least {}",
                valid.brokers,
                broker + 1
            );
            return Err(Verdict::stalled("ScaleInNotServed", message));
        }
        for shard in shards_of(set) {
            placed.entry(shard).or_insert(broker);
        }
    }
    let mut brokers: Vec<BrokerPlan> =
        (0..valid.brokers).map(|id| BrokerPlan { id, shards: Vec::new() }).collect();
    for (&shard, &broker) in &placed {
        brokers[broker as usize].shards.push(shard);
    }
    for shard in (0..valid.shards).filter(|shard| !placed.contains_key(shard)) {
        let fewest = brokers.iter_mut().min_by_key(|broker| (broker.shards.len(), broker.id));
        if let Some(fewest) = fewest {
            fewest.shards.push(shard);
        }
    }
    let idle = brokers.iter().filter(|broker| broker.shards.is_empty()).count();
    if idle > 0 {
        let enough = brokers.iter().map(|b| b.shards.len()).sum::<usize>() + idle;
        let message = format!(
            "{idle} of {} brokers would serve no shard; set spec.shards to at least {enough}",
            valid.brokers
        );
        return Err(Verdict::stalled("BrokerWithoutShard", message));
    }
    Ok(brokers)
}

/// Plans a validated cluster.
///
/// # Errors
/// The verdict that says why it cannot be.
pub fn plan(observed: &Observed, valid: &ValidCluster) -> Result<Plan, Verdict> {
    let brokers = place_shards(observed, valid)?;
    let recorded = observed.recorded.as_ref();
    let services =
        valid.listeners.iter().map(|listener| valid.key.listener_service(&listener.name));
    let client_hosts = services.map(|service| valid.key.service_host(&service)).collect();
    let map = Record::next(&valid.key, &brokers, client_hosts, recorded, observed.map_version);
    let address = |listener: &operator_api::broker_cluster::Listener| {
        let host = valid.key.service_host(&valid.key.listener_service(&listener.name));
        (listener.name.clone(), format!("{host}:{}", listener.port))
    };
    Ok(Plan {
        brokers,
        map,
        version: valid.version.clone(),
        endpoints: valid.listeners.iter().map(address).collect(),
        held_back: Vec::new(),
    })
}

/// Which brokers may be applied now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollout {
    /// These.
    pub apply: BTreeSet<u32>,
    /// These wait, so that not more than one broker is away at a time.
    pub held_back: Vec<u32>,
}

/// Whether the pod of a StatefulSet runs what the StatefulSet says, and is ready.
#[must_use]
pub fn is_ready(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    status.observed_generation >= set.metadata.generation
        && status.ready_replicas.unwrap_or_default() >= 1
        && status.updated_replicas.unwrap_or_default() >= 1
        && status.update_revision == status.current_revision
}

/// New brokers and those whose pod template stays are applied; of those that would restart, the ones that are not ready,
/// and one that is when all others are. So a change that breaks brokers stops at the first.
#[must_use]
pub fn rollout(observed: &Observed, wanted: &[(u32, StatefulSet)]) -> Rollout {
    let existing: BTreeMap<u32, &StatefulSet> =
        observed.stateful_sets.iter().filter_map(|set| Some((broker_of(set)?, set))).collect();
    let restarts = |broker: &u32, set: &StatefulSet| {
        existing.get(broker).is_some_and(|live| {
            live.annotations().get(TEMPLATE_ANNOTATION)
                != set.annotations().get(TEMPLATE_ANNOTATION)
        })
    };
    let ready = |broker: &u32| existing.get(broker).is_some_and(|live| is_ready(live));
    let all_ready = wanted.iter().all(|(broker, _)| ready(broker));
    let mut rollout = Rollout::default();
    let mut restarting = false;
    for (broker, set) in wanted {
        if !restarts(broker, set) || !ready(broker) {
            rollout.apply.insert(*broker);
        } else if all_ready && !restarting {
            restarting = true;
            rollout.apply.insert(*broker);
        } else {
            rollout.held_back.push(*broker);
        }
    }
    rollout
}

impl Plan {
    /// The same plan that says what waits.
    #[must_use]
    pub fn with_rollout(mut self, rollout: &Rollout) -> Self {
        self.held_back.clone_from(&rollout.held_back);
        self
    }
}

#[cfg(test)]
mod tests;
