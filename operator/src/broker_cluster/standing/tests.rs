//! A spec that says less than before changes nothing.

use std::collections::BTreeMap;

use operator_api::BrokerCluster;
use serde_json::json;

use super::*;
use crate::broker_cluster::samples;
use crate::broker_cluster::volumes::Volume;

fn observed(spec: serde_json::Value, status: serde_json::Value, shards: &[&str]) -> Observed {
    let cluster = json!({
        "apiVersion": "pinnace.dev/v1alpha1", "kind": "BrokerCluster", "metadata": {"name": "default"},
        "spec": spec, "status": status,
    });
    let cluster: BrokerCluster = serde_json::from_value(cluster).unwrap();
    let set = |(broker, shards): (usize, &&str)| {
        let labels = BTreeMap::from([(BROKER_LABEL, broker.to_string())]);
        let annotations = BTreeMap::from([(SHARDS_ANNOTATION, *shards)]);
        let claim = json!({"spec": {"resources": {"requests": {"storage": "20Gi"}}}});
        let set = json!({
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": {"selector": {}, "template": {}, "volumeClaimTemplates": [claim]},
        });
        serde_json::from_value(set).unwrap()
    };
    let stateful_sets = shards.iter().enumerate().map(set).collect();
    Observed { stateful_sets, ..samples::observed(cluster) }
}

fn sized(observed: &Observed) -> (u32, u32, String) {
    let size = size(observed);
    (size.brokers, size.shards, size.storage_size.0)
}

#[test]
fn a_new_cluster_gets_what_is_documented() {
    let new = observed(json!({}), json!(null), &[]);
    assert_eq!(sized(&new), (1, 1, "10Gi".to_owned()));
    let said = json!({"brokers": 2, "shards": 5, "storage": {"size": "1Gi"}});
    assert_eq!(sized(&observed(said, json!(null), &[])), (2, 5, "1Gi".to_owned()));
    assert_eq!(sized(&observed(json!({"brokers": 3}), json!(null), &[])).1, 3);
}

#[test]
fn what_is_taken_out_of_a_manifest_stays_as_it_is() {
    let there = ["0,2,4", "1,3"];
    assert_eq!(sized(&observed(json!({}), json!(null), &there)), (2, 5, "20Gi".to_owned()));
}

#[test]
fn volumes_that_grew_stay_as_large_as_they_are() {
    let mut grown = observed(json!({}), json!({"storageSize": "25Gi"}), &["0"]);
    assert_eq!(sized(&grown).2, "25Gi", "the claim of a StatefulSet cannot change");
    let volume = |asked: &str| Volume {
        broker: 0,
        name: "data-default-broker-0-0".to_owned(),
        uid: None,
        shards: None,
        disk: None,
        asked: Some(asked.to_owned()),
        capacity: None,
    };
    grown.volumes = vec![volume("30Gi")];
    assert_eq!(sized(&grown).2, "30Gi", "somebody resized it");
    grown.volumes = vec![volume("15Gi")];
    assert_eq!(sized(&grown).2, "25Gi");
}

#[test]
fn a_new_broker_brings_a_shard_along_where_the_number_is_not_said() {
    let there = ["0,2,4", "1,3"];
    assert_eq!(sized(&observed(json!({"brokers": 3}), json!(null), &there)).1, 6);
    // The StatefulSet of the third is there: nothing more is to come.
    assert_eq!(sized(&observed(json!({"brokers": 3}), json!(null), &["0,2,4", "1,3", "5"])).1, 6);
}

#[test]
fn the_status_remembers_what_stateful_sets_no_longer_say() {
    let shard = |id: u32| json!({"id": id, "name": format!("shard-{id}"), "leader": 0, "replicas": [0], "state": "Leading"});
    let shards: Vec<_> = (0..4).map(shard).collect();
    let status = json!({"replicas": 3, "shards": shards, "storageSize": "5Gi"});
    assert_eq!(sized(&observed(json!({}), status.clone(), &[])), (3, 4, "5Gi".to_owned()));
    assert_eq!(sized(&observed(json!({}), status, &["0,1"])), (3, 4, "20Gi".to_owned()));
}
