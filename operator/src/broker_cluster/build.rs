//! From a validated cluster and its plan to every Kubernetes object, by kind. Pure: no client.

mod config_map;
mod disruption_budget;
mod network_policy;
mod service;
mod stateful_set;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::plan::{BrokerPlan, Plan};
use super::validate::ValidCluster;
use crate::status_writer::describe;

/// Every object of a cluster.
#[derive(Debug, Clone)]
pub struct Objects {
    /// The record of the cluster map.
    pub config_map: ConfigMap,
    /// Headless first, then one for each listener.
    pub services: Vec<Service>,
    /// One for all brokers.
    pub disruption_budget: PodDisruptionBudget,
    /// Who reaches which port; none when the cluster asks for none.
    pub network_policy: Option<NetworkPolicy>,
    /// One for each broker, with its number.
    pub stateful_sets: Vec<(u32, StatefulSet)>,
}

/// Builds all but the StatefulSets, of which a rollout decides.
#[must_use]
pub fn build(valid: &ValidCluster, plan: &Plan, stateful_sets: Vec<(u32, StatefulSet)>) -> Objects {
    let headless = std::iter::once(service::headless(valid));
    let listeners = valid.listeners.iter().map(|listener| service::listener(valid, listener));
    Objects {
        config_map: config_map::cluster_map(valid, &plan.map, &plan.disks),
        services: headless.chain(listeners).collect(),
        disruption_budget: disruption_budget::brokers(valid),
        network_policy: network_policy::brokers(valid),
        stateful_sets,
    }
}

/// Builds the StatefulSet of each broker as it is to be in the end.
#[must_use]
pub fn stateful_sets(valid: &ValidCluster, brokers: &[BrokerPlan]) -> Vec<(u32, StatefulSet)> {
    let built = |broker: &BrokerPlan| (broker.id, stateful_set(valid, broker, &valid.image));
    brokers.iter().map(built).collect()
}

/// Builds the StatefulSet of one broker with some image.
#[must_use]
pub fn stateful_set(valid: &ValidCluster, broker: &BrokerPlan, image: &str) -> StatefulSet {
    stateful_set::broker(valid, broker, image)
}

/// What tells one text from another; the same for every operator.
#[must_use]
pub fn hash(text: &str) -> String {
    stateful_set::hash(text)
}

impl Objects {
    /// What each of them is called, with its kind.
    #[must_use]
    pub fn described(&self) -> BTreeSet<String> {
        let services = self.services.iter().map(describe);
        let sets = self.stateful_sets.iter().map(|(_, set)| describe(set));
        let one = [describe(&self.config_map), describe(&self.disruption_budget)];
        let policy = self.network_policy.iter().map(describe);
        services.chain(sets).chain(one).chain(policy).collect()
    }
}

/// What people say in the words of Kubernetes, as the type that Kubernetes has for it.
fn as_kubernetes<T: Serialize, K: DeserializeOwned>(said: &T) -> K {
    let value = serde_json::to_value(said).expect("plain data of texts and numbers");
    serde_json::from_value(value)
        .expect("fields are named and typed as in Kubernetes; tests make every one")
}

/// Name, labels and owner of every object.
fn metadata(valid: &ValidCluster, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(valid.key.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![valid.owner.clone()]),
        ..ObjectMeta::default()
    }
}

fn some_map<V>(map: BTreeMap<String, V>) -> Option<BTreeMap<String, V>> {
    if map.is_empty() { None } else { Some(map) }
}

fn some_list<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}

#[cfg(test)]
pub(in crate::broker_cluster) mod tests;
