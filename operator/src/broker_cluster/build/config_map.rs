//! The ConfigMap that records the cluster map.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::metadata;
use crate::broker_cluster::map::Record;
use crate::broker_cluster::validate::ValidCluster;
use crate::names::MAP_KEY;

pub(super) fn cluster_map(valid: &ValidCluster, map: &Record) -> ConfigMap {
    let text = serde_json::to_string_pretty(map).expect("a record of texts and numbers");
    ConfigMap {
        metadata: metadata(valid, valid.key.config_map(), valid.key.labels()),
        data: Some(BTreeMap::from([(MAP_KEY.to_owned(), text)])),
        ..ConfigMap::default()
    }
}
