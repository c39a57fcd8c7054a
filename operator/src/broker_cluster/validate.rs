//! From what was observed to a cluster that can be built, or the reason why not. Pure. Later steps use the validated
//! struct and never the raw spec.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use operator_api::broker_cluster::{BrokerClusterSpec, Listener, PullPolicy};
use operator_api::quantity::SizeText;
use operator_api::rules;

use super::fetch::Observed;
use super::standing;
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
    /// Size of the volume of each broker.
    pub storage_size: SizeText,
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
    /// Where the operator runs.
    pub operator_namespace: String,
    /// The rest of the spec, used as it is.
    pub spec: BrokerClusterSpec,
}

/// Checks the spec as the API server did: an older definition may have let something pass.
///
/// # Errors
/// The verdict that says what to change.
pub fn validate(observed: &Observed, settings: &Settings) -> Result<ValidCluster, Verdict> {
    let spec = &observed.cluster.spec;
    if let Some(violation) = rules::check_broker_cluster(&observed.key.name, spec).first() {
        let message = format!("{}: {}", violation.field, violation.message);
        return Err(Verdict::stalled("InvalidSpec", message));
    }
    let owner = observed
        .cluster
        .controller_owner_ref(&())
        .ok_or_else(|| Verdict::waiting("InvalidSpec", "the object has no uid yet"))?;
    let version = spec.version.clone().unwrap_or_else(|| settings.broker_version.clone());
    let mut listeners = spec.listeners.clone();
    if listeners.is_empty() {
        listeners.push(Listener::default());
    }
    let size = standing::size(observed);
    let image = spec.image.clone().unwrap_or_default();
    Ok(ValidCluster {
        key: observed.key.clone(),
        owner,
        brokers: size.brokers,
        shards: size.shards,
        storage_size: size.storage_size,
        image: image_name(&image, &settings.broker_image, &version),
        version,
        pull_policy: image.pull_policy,
        pull_secrets: image.pull_secrets,
        listeners,
        operator_namespace: settings.namespace.clone(),
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
