//! Where shards go.

use k8s_openapi::api::apps::v1::StatefulSetStatus;
use operator_api::{BrokerCluster, BrokerClusterSpec};

use super::*;
use crate::broker_cluster::build::stateful_sets;
use crate::broker_cluster::samples::{self, settings};
use crate::broker_cluster::validate::validate;
use crate::broker_cluster::volumes::{Found, Volume};

fn observed(brokers: u32, shards: Option<u32>, sets: Vec<StatefulSet>) -> Observed {
    let spec = BrokerClusterSpec { brokers: Some(brokers), shards, ..BrokerClusterSpec::default() };
    let observed = samples::observed(BrokerCluster::new("default", spec));
    Observed { stateful_sets: sets, ..observed }
}

fn planned(observed: &Observed) -> Result<Plan, Verdict> {
    plan(observed, &validate(observed, &settings()).unwrap())
}

/// The StatefulSets as they would be, each ready or not.
fn running(observed: &Observed, ready: &[bool]) -> Vec<StatefulSet> {
    let valid = validate(observed, &settings()).unwrap();
    let plan = plan(observed, &valid).unwrap();
    let sets = stateful_sets(&valid, &plan.brokers).into_iter().zip(ready);
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

fn noted(volumes: &[(u32, Option<&str>)]) -> Vec<Volume> {
    let key = samples::key();
    let volume = |&(broker, shards): &(u32, Option<&str>)| Volume {
        broker,
        name: key.volume(broker),
        uid: None,
        shards: shards.map(parse),
        disk: None,
        asked: None,
        capacity: None,
    };
    volumes.iter().map(volume).collect()
}

/// One broker with two shards that grew to two brokers with three.
const GROWN: [(u32, Option<&str>); 2] = [(0, Some("0,1")), (1, Some("2"))];

#[test]
fn volumes_alone_tell_where_shards_are() {
    let mut again = observed(2, Some(3), Vec::new());
    again.volumes = noted(&GROWN);
    assert_eq!(shards_of_brokers(&planned(&again).unwrap()), [vec![0, 1], vec![2]]);
}

#[test]
fn the_record_alone_tells_where_shards_are() {
    let mut grown = observed(2, Some(3), Vec::new());
    grown.volumes = noted(&GROWN);
    let record = planned(&grown).unwrap().map;
    let mut again = observed(2, Some(3), Vec::new());
    again.recorded = Some(record.clone());
    let plan = planned(&again).unwrap();
    assert_eq!(shards_of_brokers(&plan), [vec![0, 1], vec![2]]);
    assert_eq!(plan.map, record);
}

#[test]
fn a_stateful_set_that_is_made_again_gets_its_shards_back() {
    let mut before = observed(2, Some(3), Vec::new());
    before.volumes = noted(&GROWN);
    let mut sets = running(&before, &[true, true]);
    let record = planned(&before).unwrap().map;
    sets.remove(0);
    let mut after = observed(2, Some(3), sets);
    after.recorded = Some(record);
    assert_eq!(shards_of_brokers(&planned(&after).unwrap()), [vec![0, 1], vec![2]]);
}

#[test]
fn what_is_on_a_volume_counts_more_than_what_was_planned() {
    let mut wrong = observed(2, Some(3), Vec::new());
    wrong.recorded = Some(planned(&wrong).unwrap().map);
    wrong.stateful_sets = running(&wrong, &[false, false]);
    assert_eq!(shards_of_brokers(&planned(&wrong).unwrap()), [vec![0, 2], vec![1]]);
    wrong.volumes = noted(&GROWN);
    assert_eq!(shards_of_brokers(&planned(&wrong).unwrap()), [vec![0, 1], vec![2]]);
    wrong.volumes = Vec::new();
    let found = |shards: &str| Found { shards: parse(shards), ..Found::default() };
    wrong.reported = BTreeMap::from([(0, found("0,1")), (1, found("2"))]);
    assert_eq!(shards_of_brokers(&planned(&wrong).unwrap()), [vec![0, 1], vec![2]]);
}

#[test]
fn a_volume_that_nobody_would_serve_is_refused() {
    let mut small = observed(1, None, Vec::new());
    small.volumes = noted(&GROWN);
    let refused = planned(&small).unwrap_err();
    assert!(matches!(refused, Verdict::Stalled(_)), "{refused:?}");
    assert_eq!(refused.reason().word, "ShardsElsewhere");
    let said = "PersistentVolumeClaim data-default-broker-1-0 of broker 1 (shard-2)";
    assert!(refused.reason().message.contains(said), "{refused:?}");
    assert!(refused.reason().message.contains("set spec.brokers to at least 2"), "{refused:?}");
    small.volumes = noted(&[(1, None)]);
    assert_eq!(planned(&small).unwrap_err().reason().word, "ShardsElsewhere");
    small.volumes = Vec::new();
    small.recorded = Some(planned(&observed(3, None, Vec::new())).unwrap().map);
    let refused = planned(&small).unwrap_err();
    assert_eq!(refused.reason().word, "ShardsElsewhere");
    assert!(refused.reason().message.contains("ConfigMap default-cluster-map"), "{refused:?}");
    assert!(refused.reason().message.contains("broker 2 holds shard-2"), "{refused:?}");
}

#[test]
fn a_shard_on_two_volumes_is_refused() {
    let mut twice = observed(2, None, Vec::new());
    twice.volumes = noted(&[(0, Some("0,1")), (1, Some("1"))]);
    let refused = planned(&twice).unwrap_err();
    assert_eq!(refused.reason().word, "ShardsElsewhere");
    assert!(refused.reason().message.contains("shard-1 is on the volumes of broker 0 and"));
}
