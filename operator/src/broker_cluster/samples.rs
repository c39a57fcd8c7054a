//! What tests of a cluster begin with: a cluster at which nobody has looked yet, and the settings of an operator.

use std::collections::BTreeMap;
use std::sync::Arc;

use operator_api::BrokerCluster;

use super::fetch::Observed;
use crate::context::Settings;
use crate::names::ClusterKey;

pub(super) fn key() -> ClusterKey {
    ClusterKey { namespace: "shop".to_owned(), name: "default".to_owned() }
}

pub(super) fn settings() -> Settings {
    Settings {
        instance: "kubernetes".to_owned(),
        namespace: "pinnace-system".to_owned(),
        broker_image: "pinnace.dev/pinnace".to_owned(),
        broker_version: "0.1.0".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
    }
}

/// The cluster in namespace `shop`, before anything was made for it.
pub(super) fn observed(mut cluster: BrokerCluster) -> Observed {
    let metadata = &mut cluster.metadata;
    metadata.namespace = Some("shop".to_owned());
    metadata.uid.get_or_insert_with(|| "uid-1".to_owned());
    let name = metadata.name.clone().unwrap_or_else(|| "default".to_owned());
    Observed {
        cluster: Arc::new(cluster),
        key: ClusterKey { namespace: "shop".to_owned(), name },
        stateful_sets: Vec::new(),
        troubles: Vec::new(),
        without_pod: Vec::new(),
        recorded: None,
        volumes: Vec::new(),
        reported: BTreeMap::new(),
        recorded_disks: BTreeMap::new(),
        map_version: 0,
    }
}
