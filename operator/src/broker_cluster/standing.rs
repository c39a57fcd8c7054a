//! What a cluster has already, for whatever its spec does not say: brokers, shards, the size of its volumes. Pure.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt as _;
use operator_api::limits::{BROKERS_DEFAULT, STORAGE_SIZE_DEFAULT};
use operator_api::quantity::SizeText;

use super::fetch::Observed;
use crate::names::{BROKER_LABEL, SHARDS_ANNOTATION};

/// How large a cluster is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// Number of brokers.
    pub brokers: u32,
    /// Number of shards.
    pub shards: u32,
    /// Size of the volume of each broker.
    pub storage_size: SizeText,
}

/// What the spec says; what it does not say is as it is now, and as documented for a new cluster. Each broker that comes brings a
/// shard along where the spec does not say how many there are.
#[must_use]
pub fn size(observed: &Observed) -> Size {
    let spec = &observed.cluster.spec;
    let (brokers_there, shards_there) = there(observed);
    let brokers = (spec.brokers)
        .or_else(|| Some(brokers_there).filter(|brokers| *brokers > 0))
        .unwrap_or(BROKERS_DEFAULT);
    let grown = shards_there.saturating_add(brokers.saturating_sub(brokers_there));
    let storage_size = (spec.storage.size.clone())
        .or_else(|| largest_volume(observed))
        .unwrap_or_else(|| SizeText(STORAGE_SIZE_DEFAULT.to_owned()));
    Size { brokers, shards: spec.shards.unwrap_or(grown), storage_size }
}

/// Brokers and shards that are there: by StatefulSets, volumes and the recorded map, or as the status remembers them.
fn there(observed: &Observed) -> (u32, u32) {
    let number = |set: &StatefulSet| set.labels().get(BROKER_LABEL)?.parse::<u32>().ok();
    let count = |last: Option<u32>| last.map_or(0, |last| last.saturating_add(1));
    let sets = observed.stateful_sets.iter();
    let shards = sets.clone().flat_map(|set| {
        let text = set.annotations().get(SHARDS_ANNOTATION).map_or("", String::as_str);
        text.split(',').filter_map(|id| id.parse::<u32>().ok())
    });
    let recorded = observed.recorded.iter().flat_map(|record| &record.shards);
    let noted = observed.volumes.iter().flat_map(|volume| &volume.shards).flatten().copied();
    let brokers = (sets.filter_map(number))
        .chain(observed.volumes.iter().map(|volume| volume.broker))
        .chain(recorded.clone().map(|shard| shard.leader));
    let shards = shards.chain(noted).chain(recorded.map(|shard| shard.id));
    let found = (count(brokers.max()), count(shards.max()));
    let status = observed.cluster.status.as_ref();
    let told = status.map_or((0, 0), |status| {
        let shards = status.shards.iter().map(|shard| shard.id).max();
        (status.replicas.unwrap_or_default(), count(shards))
    });
    if found.0 >= told.0 { found } else { told }
}

/// The largest size that was asked for: a volume that grew is larger than its StatefulSet says, whose claim cannot change.
fn largest_volume(observed: &Observed) -> Option<SizeText> {
    let sets = observed.stateful_sets.iter().filter_map(claimed);
    let volumes = observed.volumes.iter().filter_map(|volume| volume.asked.clone()).map(SizeText);
    let status = observed.cluster.status.as_ref();
    let told = status.and_then(|status| status.storage_size.clone());
    sets.chain(volumes).chain(told).max_by_key(|size| size.as_bytes().unwrap_or_default())
}

/// The size that a StatefulSet asks for.
fn claimed(set: &StatefulSet) -> Option<SizeText> {
    let claim = set.spec.volume_claim_templates.as_ref()?.first()?;
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    Some(SizeText(requests.get("storage")?.0.clone()))
}

#[cfg(test)]
mod tests;
