//! What is to be: which broker serves which shards, on which disks, and where clients connect. Which StatefulSets may be
//! applied now stands in `rollout`. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt as _;
use operator_api::quantity::SizeText;

use super::fetch::Observed;
use super::growth::{Growth, growth};
use super::map::Record;
use super::rollout::{Rollout, Update};
use super::validate::ValidCluster;
use super::volumes::{DiskFindings, Disks, Replaced, disks, parse};
use crate::names::{ACCEPT_DISKS_ANNOTATION, BROKER_LABEL, SHARDS_ANNOTATION, shard_name};
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
    /// Brokers that restart because of what is applied: what was seen of them before says nothing any more.
    pub restarting: Vec<u32>,
    /// Brokers whose change waits for others.
    pub held_back: Vec<u32>,
    /// What restarts are to come, and how many brokers need none.
    pub update: Update,
    /// The disks of brokers from now on.
    pub disks: Disks,
    /// Size of the volume of each broker.
    pub storage_size: SizeText,
    /// Volumes that are smaller.
    pub growth: Growth,
    /// Disks that came in the place of others, and that nobody accepted yet.
    pub replaced: Vec<Replaced>,
    /// Disks that came in the place of others on which nothing was stored.
    pub empty_lost: Vec<Replaced>,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerPlan {
    /// Its number.
    pub id: u32,
    /// The shards that it serves.
    pub shards: Vec<u32>,
    /// The size in the claim of its StatefulSet, which cannot be changed after it was made; none = as the spec says.
    pub claim_size: Option<String>,
}

/// The size in the claim of a StatefulSet.
fn claim_size(set: &StatefulSet) -> Option<String> {
    let claim = set.spec.volume_claim_templates.as_ref()?.first()?;
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Some(requests.get("storage")?.0.clone())
}

/// Number of the broker that a StatefulSet runs.
pub(super) fn broker_of(set: &StatefulSet) -> Option<u32> {
    set.labels().get(BROKER_LABEL)?.parse().ok()
}

/// Which broker holds a shard by one kind of evidence.
type Placed = BTreeMap<u32, u32>;

/// What volumes hold, by the notes on their claims and by the word of their brokers.
///
/// # Errors
/// A verdict when two volumes hold the same shard.
fn on_volumes(observed: &Observed) -> Result<Placed, Verdict> {
    let noted = observed.volumes.iter().filter_map(|v| Some((v.broker, v.shards.as_ref()?)));
    let told = observed.reported.iter().map(|(&broker, found)| (broker, &found.shards));
    let mut placed = Placed::new();
    for (broker, shards) in noted.chain(told) {
        for &shard in shards {
            let first = *placed.entry(shard).or_insert(broker);
            if first != broker {
                let message = format!(
                    "{} is on the volumes of broker {first} and of broker {broker}, and only one of them can be served; \
                     compare the annotation {SHARDS_ANNOTATION} of PersistentVolumeClaims {} and {} with what is on the \
                     volumes, and correct it",
                    shard_name(shard),
                    observed.key.volume(first),
                    observed.key.volume(broker),
                );
                return Err(Verdict::stalled("ShardsElsewhere", message));
            }
        }
    }
    Ok(placed)
}

/// Where shards are: on the volumes first, then by the recorded map, then by StatefulSets.
fn placed_before(observed: &Observed) -> Result<Placed, Verdict> {
    let mut placed = on_volumes(observed)?;
    let recorded = observed.recorded.iter().flat_map(|record| &record.shards);
    for shard in recorded {
        placed.entry(shard.id).or_insert(shard.leader);
    }
    for set in &observed.stateful_sets {
        let Some(broker) = broker_of(set) else { continue };
        for shard in parse(set.annotations().get(SHARDS_ANNOTATION).map_or("", String::as_str)) {
            placed.entry(shard).or_insert(broker);
        }
    }
    Ok(placed)
}

/// Refuses a plan that leaves out a broker with messages.
fn serve_everything(
    observed: &Observed,
    valid: &ValidCluster,
    placed: &Placed,
) -> Result<(), Verdict> {
    let brokers = valid.brokers;
    let runs = observed.stateful_sets.iter().filter_map(broker_of).filter(|id| *id >= brokers);
    if let Some(broker) = runs.max() {
        let message = format!(
            "broker {broker} exists, but only {brokers} brokers are asked for; moving shards away from a broker is not \
             served yet: set spec.brokers to at least {}",
            broker.saturating_add(1)
        );
        return Err(Verdict::stalled("ScaleInNotServed", message));
    }
    let record = observed.key.config_map();
    let has_volume = |broker: u32| observed.volumes.iter().any(|v| v.broker == broker);
    let volumes = observed.volumes.iter().map(|volume| volume.broker);
    let left_out = volumes.chain(placed.values().copied()).filter(|id| *id >= brokers).max();
    let Some(broker) = left_out else { return Ok(()) };
    let held = placed.iter().filter(|(_, holder)| **holder == broker);
    let held: Vec<String> = held.map(|(&shard, _)| shard_name(shard)).collect();
    let shards = if held.is_empty() { "no shard by record".to_owned() } else { held.join(", ") };
    let enough = broker.saturating_add(1);
    let message = if has_volume(broker) {
        format!(
            "PersistentVolumeClaim {} of broker {broker} ({shards}) is there from before, and {brokers} brokers would not \
             serve its messages; set spec.brokers to at least {enough}, or delete it and ConfigMap {record} when \
             nobody needs them",
            observed.key.volume(broker)
        )
    } else if observed.reported.contains_key(&broker) {
        format!(
            "broker {broker} runs and serves {shards}, and only {brokers} brokers are asked for; set spec.brokers to at \
             least {enough}"
        )
    } else {
        format!(
            "ConfigMap {record} says that broker {broker} holds {shards}, and only {brokers} brokers are asked for; set \
             spec.brokers to at least {enough}, or delete the ConfigMap when that volume is gone for good"
        )
    };
    Err(Verdict::stalled("ShardsElsewhere", message))
}

/// Places shards on brokers. A placed shard stays where its log is; new ones go where there are fewest, so that on a new
/// cluster shard i is on broker i modulo the number of brokers.
fn place_shards(observed: &Observed, valid: &ValidCluster) -> Result<Vec<BrokerPlan>, Verdict> {
    let placed = placed_before(observed)?;
    serve_everything(observed, valid, &placed)?;
    let mut brokers: Vec<BrokerPlan> = (0..valid.brokers)
        .map(|id| BrokerPlan { id, shards: Vec::new(), claim_size: None })
        .collect();
    for set in &observed.stateful_sets {
        if let Some(broker) = broker_of(set).and_then(|id| brokers.get_mut(id as usize)) {
            broker.claim_size = claim_size(set);
        }
    }
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
    let storage_size = &valid.storage_size;
    let accepted = observed.cluster.annotations().get(ACCEPT_DISKS_ANNOTATION);
    let accepted = accepted.map_or("", String::as_str).split(',').map(str::trim).collect();
    let DiskFindings { expected, replaced, empty } =
        disks(&observed.recorded_disks, &observed.volumes, &observed.reported, &accepted);
    let recorded = observed.recorded.as_ref();
    let services =
        valid.listeners.iter().map(|listener| valid.key.listener_service(&listener.name));
    let client_hosts = services.map(|service| valid.key.service_host(&service)).collect();
    let map = Record::next(&valid.key, &brokers, client_hosts, recorded, observed.map_version);
    Ok(Plan {
        brokers,
        map,
        version: valid.version.clone(),
        restarting: Vec::new(),
        held_back: Vec::new(),
        update: Update::default(),
        storage_size: storage_size.clone(),
        growth: growth(&observed.volumes, valid.brokers, storage_size),
        disks: expected,
        replaced,
        empty_lost: empty,
    })
}

impl Plan {
    /// The same plan that says what waits, with a map of what is served meanwhile: nobody is led to a shard whose broker is
    /// not told of it.
    #[must_use]
    pub fn with_rollout(mut self, observed: &Observed, rollout: &Rollout) -> Self {
        self.restarting.clone_from(&rollout.restarting);
        self.held_back.clone_from(&rollout.held_back);
        self.update = rollout.update.clone();
        if !rollout.unserved.is_empty() {
            let mut brokers = self.brokers.clone();
            for broker in &mut brokers {
                broker.shards.retain(|shard| !rollout.unserved.contains(shard));
            }
            let (hosts, recorded) = (self.map.client_hosts, observed.recorded.as_ref());
            self.map = Record::next(&observed.key, &brokers, hosts, recorded, observed.map_version);
        }
        self
    }
}

#[cfg(test)]
mod tests;
