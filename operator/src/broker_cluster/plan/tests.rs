//! Where shards go, and which brokers may restart.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSetStatus;
use operator_api::{BrokerCluster, BrokerClusterSpec};

use super::*;
use crate::broker_cluster::build::build;
use crate::broker_cluster::validate::validate;
use crate::context::Settings;
use crate::names::ClusterKey;

fn settings() -> Settings {
    Settings {
        instance: "kubernetes".to_owned(),
        broker_image: "pinnace.dev/pinnace".to_owned(),
        broker_version: "0.1.0".to_owned(),
    }
}

fn observed(brokers: u32, shards: Option<u32>, sets: Vec<StatefulSet>) -> Observed {
    let spec = BrokerClusterSpec { brokers, shards, ..BrokerClusterSpec::default() };
    let mut cluster = BrokerCluster::new("default", spec);
    cluster.metadata.namespace = Some("shop".to_owned());
    cluster.metadata.uid = Some("uid-1".to_owned());
    Observed {
        cluster: Arc::new(cluster),
        key: ClusterKey { namespace: "shop".to_owned(), name: "default".to_owned() },
        stateful_sets: sets,
        recorded: None,
        map_version: 0,
    }
}

fn planned(observed: &Observed) -> Result<Plan, Verdict> {
    plan(observed, &validate(observed, &settings()).unwrap())
}

/// The StatefulSets as they would be, each ready or not.
fn running(observed: &Observed, ready: &[bool]) -> Vec<StatefulSet> {
    let valid = validate(observed, &settings()).unwrap();
    let objects = build(&valid, &plan(observed, &valid).unwrap());
    let sets = objects.stateful_sets.into_iter().zip(ready);
    sets.map(|((_, set), &ready)| {
        let count = Some(i32::from(ready));
        let status = StatefulSetStatus {
            ready_replicas: count,
            updated_replicas: Some(1),
            ..StatefulSetStatus::default()
        };
        StatefulSet { status: Some(status), ..set }
    })
    .collect()
}

fn shards_of_brokers(plan: &Plan) -> Vec<Vec<u32>> {
    plan.brokers.iter().map(|broker| broker.shards.clone()).collect()
}

#[test]
fn on_a_new_cluster_shard_i_is_on_broker_i_modulo_brokers() {
    let plan = planned(&observed(3, Some(7), Vec::new())).unwrap();
    assert_eq!(shards_of_brokers(&plan), [vec![0, 3, 6], vec![1, 4], vec![2, 5]]);
    assert_eq!(plan.map.shards[4].leader, 1);
    assert_eq!(plan.map.brokers[2].host, "default-broker-2-0.default-brokers.shop.svc");
}

#[test]
fn a_placed_shard_stays_when_brokers_and_shards_are_added() {
    let before = observed(2, Some(4), Vec::new());
    let sets = running(&before, &[true, true]);
    let plan = planned(&observed(3, Some(6), sets)).unwrap();
    assert_eq!(shards_of_brokers(&plan), [vec![0, 2], vec![1, 3], vec![4, 5]]);
}

#[test]
fn a_broker_that_would_have_nothing_to_do_is_refused() {
    let sets = running(&observed(2, Some(4), Vec::new()), &[true, true]);
    let refused = planned(&observed(3, Some(4), sets)).unwrap_err();
    assert_eq!(refused.reason().word, "BrokerWithoutShard");
    assert!(refused.reason().message.contains("at least 5"), "{refused:?}");
}

#[test]
fn brokers_never_go_with_their_shards() {
    let sets = running(&observed(3, None, Vec::new()), &[true, true, true]);
    let refused = planned(&observed(2, None, sets)).unwrap_err();
    assert_eq!(refused.reason().word, "ScaleInNotServed");
}

fn rolled(ready: &[bool]) -> Rollout {
    let count = u32::try_from(ready.len()).unwrap();
    let before = observed(count, None, Vec::new());
    let after = observed(count, None, running(&before, ready));
    let mut settings = settings();
    settings.broker_version = "0.2.0".to_owned();
    let valid = validate(&after, &settings).unwrap();
    let objects = build(&valid, &plan(&after, &valid).unwrap());
    rollout(&after, &objects.stateful_sets)
}

#[test]
fn a_new_version_restarts_one_broker_when_all_are_ready() {
    let rollout = rolled(&[true, true, true]);
    assert_eq!(rollout.apply, BTreeSet::from([0]));
    assert_eq!(rollout.held_back, [1, 2]);
}

#[test]
fn a_broker_that_is_not_ready_is_repaired_and_the_others_wait() {
    let rollout = rolled(&[true, false, true]);
    assert_eq!(rollout.apply, BTreeSet::from([1]));
    assert_eq!(rollout.held_back, [0, 2]);
}

#[test]
fn what_restarts_nothing_is_applied_everywhere() {
    let before = observed(3, None, Vec::new());
    let after = observed(3, None, running(&before, &[true, false, true]));
    let valid = validate(&after, &settings()).unwrap();
    let objects = build(&valid, &plan(&after, &valid).unwrap());
    let rollout = rollout(&after, &objects.stateful_sets);
    assert_eq!(rollout.apply, BTreeSet::from([0, 1, 2]));
    assert!(rollout.held_back.is_empty());
}
