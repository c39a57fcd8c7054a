//! Reads what a topic's reconcile needs from what the process holds in memory: objects and brokers' states.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use broker_proto::admin;
use kube::ResourceExt as _;
use operator_api::topic::{AdoptionPolicy, ClusterRef};
use operator_api::{BrokerCluster, Topic};

use super::validate::allows;
use crate::claims::{Claims, Entry};
use crate::context::Context;
use crate::links::ClusterView;
use crate::names::ClusterKey;
use crate::ownership::Claim;

/// What was found.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The topic.
    pub topic: Arc<Topic>,
    /// Its name in the cluster.
    pub name: String,
    /// The cluster that it names.
    pub cluster_key: ClusterKey,
    /// That cluster.
    pub cluster: Option<Arc<BrokerCluster>>,
    /// The topic in every broker; none when the cluster is not set up yet.
    pub view: Option<ClusterView<admin::Topic>>,
    /// Other objects that claim the same name in the same cluster, and may.
    pub rivals: Vec<Claim>,
    /// Groups that draw from it.
    pub groups: BTreeSet<String>,
    /// For how long this process has been at work.
    pub uptime: Duration,
}

/// The cluster that an object in a namespace names.
#[must_use]
pub fn cluster_key(reference: &ClusterRef, namespace: &str) -> ClusterKey {
    ClusterKey {
        namespace: reference.namespace.clone().unwrap_or_else(|| namespace.to_owned()),
        name: reference.name.clone(),
    }
}

/// The cluster of a topic and the topic's name there.
#[must_use]
pub fn target(topic: &Topic) -> (ClusterKey, String) {
    let namespace = topic.namespace().unwrap_or_default();
    let key = cluster_key(&topic.spec.cluster_ref, &namespace);
    (key, topic.spec.topic_name(&topic.name_any()).to_owned())
}

/// What the index of claims keeps of a topic.
#[must_use]
pub fn entry(topic: &Topic) -> Entry {
    Entry {
        claim: claim(topic),
        is_deleted: topic.metadata.deletion_timestamp.is_some(),
        takes_over: topic.spec.adoption_policy != AdoptionPolicy::Never,
        topics: BTreeSet::new(),
    }
}

/// An object's claim.
#[must_use]
pub fn claim(object: &impl kube::ResourceExt) -> Claim {
    Claim {
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        created: object.creation_timestamp().map(|time| time.0.to_string()).unwrap_or_default(),
    }
}

/// The claims that count: only those of namespaces that the cluster allows.
#[must_use]
pub fn rivals(
    claims: &Claims,
    key: &ClusterKey,
    cluster: Option<&Arc<BrokerCluster>>,
    name: &str,
    claim: &Claim,
) -> Vec<Entry> {
    let Some(cluster) = cluster else { return Vec::new() };
    let mut rivals = claims.rivals(key, name, claim);
    rivals.retain(|rival| allows(key, cluster, &rival.claim.namespace));
    rivals
}

/// Reads it.
#[must_use]
pub fn fetch(topic: &Arc<Topic>, context: &Context) -> Observed {
    let (cluster_key, name) = target(topic);
    let cluster = context.cluster(&cluster_key);
    let claim = claim(topic.as_ref());
    let rivals = rivals(&context.topic_claims, &cluster_key, cluster.as_ref(), &name, &claim);
    Observed {
        topic: Arc::clone(topic),
        cluster,
        view: context.links.view(&cluster_key, &name),
        rivals: rivals.into_iter().map(|rival| rival.claim).collect(),
        groups: context.links.groups_of(&cluster_key, &name),
        uptime: context.started.elapsed(),
        name,
        cluster_key,
    }
}
