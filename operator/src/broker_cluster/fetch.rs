//! Reads everything that a cluster's reconcile needs, and nothing else.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use kube::{Resource as _, ResourceExt as _};
use operator_api::BrokerCluster;

use super::map::Record;
use crate::context::Context;
use crate::error::Error;
use crate::names::{CLUSTER_LABEL, ClusterKey, MANAGED_BY, MANAGED_BY_LABEL, MAP_KEY};

/// What was found.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The cluster.
    pub cluster: Arc<BrokerCluster>,
    /// Its namespace and name.
    pub key: ClusterKey,
    /// Its StatefulSets.
    pub stateful_sets: Vec<StatefulSet>,
    /// The cluster map as it was recorded last.
    pub recorded: Option<Record>,
    /// The newest map version that any broker holds.
    pub map_version: u64,
}

/// Reads it.
///
/// # Errors
/// [`Error::Fetch`].
pub async fn fetch(cluster: &Arc<BrokerCluster>, context: &Context) -> Result<Observed, Error> {
    let key =
        ClusterKey { namespace: cluster.namespace().unwrap_or_default(), name: cluster.name_any() };
    let failed = |what: &str| {
        let what = format!("{what} of {key}");
        move |source: kube::Error| Error::Fetch { what, source: Box::new(source) }
    };
    let labels = format!("{MANAGED_BY_LABEL}={MANAGED_BY},{CLUSTER_LABEL}={}", key.name);
    let sets: Api<StatefulSet> = Api::namespaced(context.client.clone(), &key.namespace);
    let sets = sets.list(&ListParams::default().labels(&labels)).await;
    let mut stateful_sets = sets.map_err(failed("the StatefulSets"))?.items;
    stateful_sets.retain(|set| is_owned(&set.metadata, cluster));
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &key.namespace);
    let recorded = maps.get_opt(&key.config_map()).await.map_err(failed("the cluster map"))?;
    let recorded = recorded.filter(|map| is_owned(&map.metadata, cluster));
    let recorded = recorded.and_then(|map| map.data).and_then(|mut data| data.remove(MAP_KEY));
    // A map that cannot be read is as good as none: it is made anew with a newer version.
    let recorded = recorded.and_then(|text| serde_json::from_str(&text).ok());
    let reports = context.links.reports(&key);
    let held = reports.iter().map(|report| report.map_version).max().unwrap_or_default();
    let told = cluster.status.as_ref().and_then(|status| status.map_version).unwrap_or_default();
    let cluster = Arc::clone(cluster);
    Ok(Observed { cluster, key, stateful_sets, recorded, map_version: held.max(told) })
}

/// Whether an object belongs to the cluster.
#[must_use]
pub fn is_owned(
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    cluster: &BrokerCluster,
) -> bool {
    let uid = cluster.meta().uid.as_deref();
    let owners = metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| Some(owner.uid.as_str()) == uid)
}
