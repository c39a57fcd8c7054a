//! Reads everything that a cluster's reconcile needs, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use kube::{Resource as _, ResourceExt as _};
use operator_api::BrokerCluster;

use super::map::Record;
use super::missing;
use super::pods::{Trouble, trouble};
use super::volumes::{Disks, Found, Volume, reported};
use crate::context::Context;
use crate::error::Error;
use crate::names::{CLUSTER_LABEL, ClusterKey, DISKS_KEY, MANAGED_BY, MANAGED_BY_LABEL, MAP_KEY};

/// What was found.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The cluster.
    pub cluster: Arc<BrokerCluster>,
    /// Its namespace and name.
    pub key: ClusterKey,
    /// Its StatefulSets.
    pub stateful_sets: Vec<StatefulSet>,
    /// What keeps its pods from being ready.
    pub troubles: Vec<Trouble>,
    /// Brokers that have a StatefulSet and no pod.
    pub without_pod: Vec<u32>,
    /// The cluster map as it was recorded last, maybe for an earlier cluster of this name.
    pub recorded: Option<Record>,
    /// The volumes of its brokers, those from before it was there included.
    pub volumes: Vec<Volume>,
    /// What brokers found on their volumes, by their own word.
    pub reported: BTreeMap<u32, Found>,
    /// The disks as they were recorded last.
    pub recorded_disks: Disks,
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
    stateful_sets
        .retain(|set| is_owned(&set.metadata, cluster) || is_left_behind(&set.metadata, &key));
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &key.namespace);
    let map = maps.get_opt(&key.config_map()).await.map_err(failed("the cluster map"))?;
    let (recorded, recorded_disks) =
        map.map(|map| recorded(map, cluster, &key)).unwrap_or_default();
    let labels: Vec<String> = key.selector().iter().map(|(k, v)| format!("{k}={v}")).collect();
    let labelled = ListParams::default().labels(&labels.join(","));
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let pods = pods.list(&labelled).await.map_err(failed("the pods"))?;
    let without_pod = missing::without_pod(&stateful_sets, &pods.items);
    let mut troubles: Vec<Trouble> = pods.iter().filter_map(trouble).collect();
    troubles.extend(missing::trouble(&key, &without_pod, context).await);
    let without_pod = without_pod.into_iter().map(|(broker, _)| broker).collect();
    let claims: Api<PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), &key.namespace);
    let claims = claims.list(&labelled).await;
    let claims = claims.map_err(failed("the volumes"))?;
    let volumes = claims.iter().filter_map(|claim| Volume::of(&key, claim)).collect();
    let reports = context.links.reports(&key);
    let held = reports.iter().map(|report| report.map_version).max().unwrap_or_default();
    let reported = reported(&reports);
    let told = cluster.status.as_ref().and_then(|status| status.map_version).unwrap_or_default();
    let cluster = Arc::clone(cluster);
    let map_version = held.max(told);
    Ok(Observed {
        cluster,
        key,
        stateful_sets,
        troubles,
        without_pod,
        recorded,
        volumes,
        reported,
        recorded_disks,
        map_version,
    })
}

/// The map and the disks that a ConfigMap records. One that goes with a cluster counts for that cluster only; one without
/// owner is what is left of an earlier cluster, as its volumes are.
fn recorded(map: ConfigMap, cluster: &BrokerCluster, key: &ClusterKey) -> (Option<Record>, Disks) {
    if !is_owned(&map.metadata, cluster) && !is_left_behind(&map.metadata, key) {
        return Default::default();
    }
    let data = map.data.unwrap_or_default();
    // What cannot be read is as good as none: it is made anew, a map with a newer version.
    let record = data.get(MAP_KEY).and_then(|text| serde_json::from_str(text).ok());
    let disks = data.get(DISKS_KEY).and_then(|text| serde_json::from_str(text).ok());
    (record, disks.unwrap_or_default())
}

/// Whether an object goes with an earlier cluster of this name: it is about to be collected, or was restored with it.
#[must_use]
pub fn is_of_earlier(metadata: &ObjectMeta, key: &ClusterKey) -> bool {
    let owners = metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| owner.kind == "BrokerCluster" && owner.name == key.name)
}

/// Whether this operator made an object for a cluster of this name, and it goes with no cluster.
#[must_use]
pub fn is_left_behind(metadata: &ObjectMeta, key: &ClusterKey) -> bool {
    let label = |name: &str| metadata.labels.as_ref()?.get(name).map(String::as_str);
    metadata.owner_references.as_ref().is_none_or(Vec::is_empty)
        && label(MANAGED_BY_LABEL) == Some(MANAGED_BY)
        && label(CLUSTER_LABEL) == Some(&key.name)
}

/// Whether an object belongs to the cluster.
#[must_use]
pub fn is_owned(metadata: &ObjectMeta, cluster: &BrokerCluster) -> bool {
    let uid = cluster.meta().uid.as_deref();
    let owners = metadata.owner_references.iter().flatten();
    owners.into_iter().any(|owner| Some(owner.uid.as_str()) == uid)
}
