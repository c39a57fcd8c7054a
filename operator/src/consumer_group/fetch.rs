//! Reads what a group's reconcile needs from what the process holds in memory: objects and brokers' states.

use std::sync::Arc;
use std::time::Duration;

use broker_proto::admin;
use kube::ResourceExt as _;
use operator_api::topic::AdoptionPolicy;
use operator_api::{BrokerCluster, ConsumerGroup};

use crate::claims::Entry;
use crate::context::Context;
use crate::links::ClusterView;
use crate::names::ClusterKey;
use crate::ownership::Claim;
use crate::reach::Shards;
use crate::topic::fetch::{claim, cluster_key, rivals};

/// What was found.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The group.
    pub group: Arc<ConsumerGroup>,
    /// Its name in the cluster.
    pub name: String,
    /// The cluster that it names.
    pub cluster_key: ClusterKey,
    /// That cluster.
    pub cluster: Option<Arc<BrokerCluster>>,
    /// The group in every broker; none when the cluster is not set up yet.
    pub view: Option<ClusterView<admin::Group>>,
    /// Other objects that claim the same name in the same cluster, and may.
    pub rivals: Vec<Claim>,
    /// Members and lag, a part from each broker.
    pub parts: Vec<admin::GroupStatus>,
    /// Declared topics that no broker holds.
    pub missing_topics: Vec<String>,
    /// Shards with queues of the topics that it draws from.
    pub shards: Shards,
    /// Ids of the resets of progress that every broker carried out.
    pub resets_done: Vec<String>,
    /// For how long this process has been at work.
    pub uptime: Duration,
}

/// The cluster of a group and the group's name there.
#[must_use]
pub fn target(group: &ConsumerGroup) -> (ClusterKey, String) {
    let namespace = group.namespace().unwrap_or_default();
    let key = cluster_key(&group.spec.cluster_ref, &namespace);
    (key, group.spec.group_name(&group.name_any()).to_owned())
}

/// What the index of claims keeps of a group.
#[must_use]
pub fn entry(group: &ConsumerGroup) -> Entry {
    Entry {
        claim: claim(group),
        is_deleted: group.metadata.deletion_timestamp.is_some(),
        takes_over: group.spec.adoption_policy != AdoptionPolicy::Never,
        topics: group.spec.subscriptions.iter().map(|s| s.topic.clone()).collect(),
    }
}

/// Reads it.
#[must_use]
pub fn fetch(group: &Arc<ConsumerGroup>, context: &Context) -> Observed {
    let (cluster_key, name) = target(group);
    let cluster = context.cluster(&cluster_key);
    let claim = claim(group.as_ref());
    let rivals = rivals(&context.group_claims, &cluster_key, cluster.as_ref(), &name, &claim);
    let declared = group.spec.subscriptions.iter().map(|s| &s.topic);
    let missing = declared.filter(|topic| !context.links.has_topic(&cluster_key, topic));
    let missing_topics = missing.cloned().collect();
    let parts = context.links.group_status(&cluster_key, &name);
    let drawn = parts.iter().flat_map(|part| part.topics.iter().map(|lag| lag.topic.as_str()));
    let declared = group.spec.subscriptions.iter().map(|s| s.topic.as_str());
    let shards = context.links.shards_of(&cluster_key, &drawn.chain(declared).collect());
    // What was written is newer than what the watch brought.
    let status = context.group_status.before(group.as_ref(), group.status.as_ref()).status;
    Observed {
        group: Arc::clone(group),
        cluster,
        view: context.links.view(&cluster_key, &name),
        rivals: rivals.into_iter().map(|rival| rival.claim).collect(),
        missing_topics,
        parts,
        shards,
        resets_done: status.resets_done().map(|done| done.id.clone()).collect(),
        uptime: context.started.elapsed(),
        name,
        cluster_key,
    }
}
