//! From what was observed to a cluster that can be built, or the reason why not. Pure. Later steps use the validated
//! struct and never the raw spec.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use operator_api::broker_cluster::{BrokerClusterSpec, Listener, ListenerType, PullPolicy};
use operator_api::rules;

use super::fetch::Observed;
use crate::context::Settings;
use crate::names::ClusterKey;
use crate::verdict::Verdict;

/// A cluster that can be built.
#[derive(Debug, Clone)]
pub struct ValidCluster {
    /// Its namespace and name.
    pub key: ClusterKey,
    /// The reference that its objects carry.
    pub owner: OwnerReference,
    /// Number of brokers.
    pub brokers: u32,
    /// Number of shards.
    pub shards: u32,
    /// Version that the brokers are to run.
    pub version: String,
    /// The image with its tag or digest.
    pub image: String,
    /// When the image is pulled.
    pub pull_policy: Option<PullPolicy>,
    /// Secrets of the registry.
    pub pull_secrets: Vec<String>,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// The rest of the spec, used as it is.
    pub spec: BrokerClusterSpec,
}

/// Checks the spec as the API server did (an older definition may have let something pass), then what this release serves.
///
/// # Errors
/// The verdict that says what to change.
pub fn validate(observed: &Observed, settings: &Settings) -> Result<ValidCluster, Verdict> {
    let spec = &observed.cluster.spec;
    if let Some(violation) = rules::check_broker_cluster(&observed.key.name, spec).first() {
        let message = format!("{}: {}", violation.field, violation.message);
        return Err(Verdict::stalled("InvalidSpec", message));
    }
    served(spec)?;
    let owner = observed
        .cluster
        .controller_owner_ref(&())
        .ok_or_else(|| Verdict::waiting("InvalidSpec", "the object has no uid yet"))?;
    let version = spec.version.clone().unwrap_or_else(|| settings.broker_version.clone());
    let mut listeners = spec.listeners.clone();
    if listeners.is_empty() {
        listeners.push(Listener::default());
    }
    let image = spec.image.clone().unwrap_or_default();
    Ok(ValidCluster {
        key: observed.key.clone(),
        owner,
        brokers: spec.brokers,
        shards: spec.shard_count(),
        image: image_name(&image, &settings.broker_image, &version),
        version,
        pull_policy: image.pull_policy,
        pull_secrets: image.pull_secrets,
        listeners,
        spec: spec.clone(),
    })
}

fn image_name(
    image: &operator_api::broker_cluster::Image,
    repository: &str,
    version: &str,
) -> String {
    let repository = image.repository.as_deref().unwrap_or(repository);
    match (&image.digest, &image.tag) {
        (Some(digest), _) => format!("{repository}@{digest}"),
        (None, Some(tag)) => format!("{repository}:{tag}"),
        (None, None) => format!("{repository}:{version}"),
    }
}

/// Refuses what a later release serves, saying what works now.
fn served(spec: &BrokerClusterSpec) -> Result<(), Verdict> {
    if spec.replication != 1 {
        let message = format!(
            "replication {} is not served yet; set spec.replication to 1",
            spec.replication
        );
        return Err(Verdict::stalled("ReplicationNotServed", message));
    }
    let other = spec.listeners.iter().find(|l| l.type_ != ListenerType::ClusterIP);
    if let Some(listener) = other {
        let message = format!(
            "listener {:?}: type {} is not served yet, because clients are sent to DNS names of pods, which only \
             resolve inside the Kubernetes cluster; use ClusterIP",
            listener.name,
            listener.type_.as_str()
        );
        return Err(Verdict::stalled("ListenerTypeNotServed", message));
    }
    Ok(())
}
