//! The ConfigMap that records the cluster map.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use operator_api::broker_cluster::VolumeDeletion;

use super::metadata;
use crate::broker_cluster::map::Record;
use crate::broker_cluster::validate::ValidCluster;
use crate::broker_cluster::volumes::Disks;
use crate::names::{DISKS_KEY, MAP_KEY};

pub(super) fn cluster_map(valid: &ValidCluster, map: &Record, disks: &Disks) -> ConfigMap {
    let text = serde_json::to_string_pretty(map).expect("a record of texts and numbers");
    let mut data = BTreeMap::from([(MAP_KEY.to_owned(), text)]);
    if !disks.is_empty() {
        let text = serde_json::to_string_pretty(disks).expect("a map of numbers and texts");
        data.insert(DISKS_KEY.to_owned(), text);
    }
    let mut metadata = metadata(valid, valid.key.config_map(), valid.key.labels());
    // The record of where shards are stays as long as the volumes do.
    if valid.spec.storage.deletion == VolumeDeletion::Retain {
        metadata.owner_references = None;
    }
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}
