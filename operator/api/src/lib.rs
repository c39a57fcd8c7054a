//! The custom resources of `pinnace.dev/v1alpha1` as types, their rules, and the loader of the same manifests from files.
//! Without the feature `custom-resources` nothing of Kubernetes is linked: a broker without a cluster reads the same YAML.
//! No client lives here.
#![cfg_attr(
    feature = "custom-resources",
    allow(clippy::duplicated_attributes, reason = "printer columns repeat their keys by nature")
)]

pub mod broker_cluster;
pub mod condition;
pub mod consumer_group;
#[cfg(feature = "custom-resources")]
pub mod definitions;
pub mod limits;
pub mod listener;
pub mod manifest;
pub mod network_policy;
pub mod pod;
pub mod quantity;
pub mod rules;
pub mod selector;
pub mod topic;
pub mod update;

pub use broker_cluster::BrokerClusterSpec;
pub use consumer_group::ConsumerGroupSpec;
pub use topic::TopicSpec;

#[cfg(feature = "custom-resources")]
pub use broker_cluster::BrokerCluster;
#[cfg(feature = "custom-resources")]
pub use consumer_group::ConsumerGroup;
#[cfg(feature = "custom-resources")]
pub use topic::Topic;

/// API group and version of every kind.
pub const API_VERSION: &str = "pinnace.dev/v1alpha1";
