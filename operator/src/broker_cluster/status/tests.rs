//! What is said of a cluster when pods and brokers say this or that.

use std::collections::BTreeMap;

use broker_proto::admin::{BrokerStatus, ShardStatus as WireShard};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use operator_api::broker_cluster::Endpoint;
use operator_api::{BrokerCluster, BrokerClusterSpec};

use super::*;
use crate::broker_admin::{BrokerEndpoint, Connect as _, GrpcConnector};
use crate::broker_cluster::map::Record;
use crate::broker_cluster::plan::BrokerPlan;
use crate::broker_cluster::samples::{self, key};
use crate::links::Silence;

fn observed(pods_ready: bool) -> Observed {
    let mut cluster = BrokerCluster::new("default", BrokerClusterSpec::default());
    cluster.metadata.generation = Some(1);
    let mut set = StatefulSet::default();
    set.metadata.labels = Some(key().broker_selector(0));
    let count = Some(i32::from(pods_ready));
    set.status = Some(StatefulSetStatus {
        ready_replicas: count,
        updated_replicas: Some(1),
        ..StatefulSetStatus::default()
    });
    Observed { stateful_sets: vec![set], ..samples::observed(cluster) }
}

fn plan() -> Plan {
    let brokers = vec![BrokerPlan { id: 0, shards: vec![0], claim_size: None }];
    let map = Record::next(&key(), &brokers, Vec::new(), None, 0);
    Plan {
        brokers,
        map,
        version: "0.1.0".to_owned(),
        restarting: Vec::new(),
        held_back: Vec::new(),
        update: crate::broker_cluster::rollout::Update::default(),
        storage_size: operator_api::quantity::SizeText("10Gi".to_owned()),
        growth: crate::broker_cluster::growth::Growth::default(),
        disks: BTreeMap::new(),
        replaced: Vec::new(),
        empty_lost: Vec::new(),
    }
}

fn outside() -> Outside {
    let address = "default-client.shop.svc:8081".to_owned();
    let endpoint = Endpoint { listener: "client".to_owned(), address, ..Endpoint::default() };
    Outside { endpoints: vec![endpoint], ..Outside::default() }
}

fn report(silent_s: Option<u64>, map_version: u64, failure: &str) -> BrokerReport {
    let endpoint = BrokerEndpoint { broker: 0, host: "localhost".to_owned(), port: 1 };
    let silence = |s| Silence { lasted: Duration::from_secs(s), error: "refused".to_owned() };
    let shard = WireShard {
        name: "shard-0".to_owned(),
        role: "leader".to_owned(),
        failure: failure.to_owned(),
        ..WireShard::default()
    };
    BrokerReport {
        broker: 0,
        admin: GrpcConnector.connect(&endpoint).unwrap(),
        silence: silent_s.map(silence),
        map_version,
        status: Some(BrokerStatus { shards: vec![shard], ..BrokerStatus::default() }),
        empty_disks: Vec::new(),
    }
}

fn said(pods_ready: bool, report: BrokerReport, before: &BrokerClusterStatus) -> Outcome {
    let (observed, plan) = (observed(pods_ready), plan());
    let outside = outside();
    let (plan, reports) = (Ok(&plan), &[report]);
    let input = Input { observed: &observed, plan, reports, before, outside: &outside };
    status(&input, at("2026-01-01T00:00:00Z"))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn ready_word(outcome: &Outcome) -> (Truth, &str) {
    let ready = &outcome.status.conditions[0];
    (ready.status, ready.reason.as_str())
}

fn serving() -> BrokerClusterStatus {
    said(true, report(None, 1, ""), &BrokerClusterStatus::default()).status
}

#[tokio::test]
async fn a_cluster_serves_when_pods_brokers_and_map_are_there() {
    let outcome = said(true, report(None, 1, ""), &BrokerClusterStatus::default());
    assert_eq!(ready_word(&outcome), (Truth::True, "Serving"));
    assert_eq!(outcome.status.shards[0].state, ShardState::Leading);
    assert_eq!(outcome.status.display.as_ref().unwrap().shards, "1/1");
    assert_eq!(outcome.status.endpoints[0].address, "default-client.shop.svc:8081");
    let early = said(true, report(None, 0, ""), &BrokerClusterStatus::default());
    assert_eq!(ready_word(&early), (Truth::False, "MapNotHeld"));
    let mut untold = report(None, 1, "");
    untold.status = Some(BrokerStatus::default());
    let untold = said(true, untold, &serving());
    assert_eq!(ready_word(&untold), (Truth::False, "ShardsUnknown"));
}

#[tokio::test]
async fn a_broker_that_is_to_restart_is_not_ready_though_its_pod_was_seen_ready() {
    let observed = observed(true);
    let plan = Plan { restarting: vec![0], ..plan() };
    let (outside, before, reports) = (outside(), serving(), [report(None, 1, "")]);
    let input = Input {
        observed: &observed,
        plan: Ok(&plan),
        reports: &reports,
        before: &before,
        outside: &outside,
    };
    let outcome = status(&input, at("2026-01-01T00:00:00Z"));
    assert_eq!(ready_word(&outcome), (Truth::False, "BrokersNotReady"));
}

#[tokio::test]
async fn a_short_silence_of_a_broker_changes_nothing_and_a_long_one_is_unknown() {
    let before = serving();
    let short = said(true, report(Some(10), 0, ""), &before);
    assert_eq!(short.status.conditions, before.conditions);
    assert_eq!(short.again_after, Some(Duration::from_secs(20)));
    let long = said(true, report(Some(31), 0, ""), &before);
    assert_eq!(ready_word(&long), (Truth::Unknown, "BrokersUnreachable"));
    let new = said(true, report(Some(1), 0, ""), &BrokerClusterStatus::default());
    assert_eq!(ready_word(&new), (Truth::False, "BrokersUnreachable"));
}

#[tokio::test]
async fn shards_of_a_broker_that_is_away_are_not_counted() {
    let counted = |outcome: &Outcome| outcome.status.display.clone().unwrap().shards;
    let restarts = said(true, report(Some(10), 0, ""), &serving());
    assert_eq!(counted(&restarts), "1/1");
    let silent = said(true, report(Some(31), 0, ""), &serving());
    assert_eq!(
        (counted(&silent), silent.status.shards[0].state),
        ("0/1".to_owned(), ShardState::Unknown)
    );
    let dead = said(false, report(Some(1), 0, ""), &serving());
    assert_eq!(counted(&dead), "0/1");
    let message = &dead.status.conditions[0].message;
    assert!(message.ends_with("waits for the pods of broker 0; not served: shard-0"), "{message}");
}

#[tokio::test]
async fn a_pod_that_is_not_ready_and_a_failed_shard_are_said_at_once() {
    let outcome = said(false, report(None, 1, ""), &serving());
    assert_eq!(ready_word(&outcome), (Truth::False, "BrokersNotReady"));
    let outcome = said(true, report(None, 1, "sync failed"), &serving());
    assert_eq!(ready_word(&outcome), (Truth::False, "ShardFailed"));
    assert!(
        outcome.status.conditions[0].message.contains("shard-0 on broker 0 stopped: sync failed")
    );
    assert_eq!(outcome.status.shards[0].state, ShardState::Failed);
}

#[tokio::test]
async fn a_refused_change_says_why_and_leaves_the_rest_as_it_was() {
    let (observed, before) = (observed(true), serving());
    let refusal = Verdict::stalled("ReplicationNotServed", "set it to 1");
    let (plan, outside) = (Err(refusal), Outside::default());
    let (before, outside) = (&before, &outside);
    let input = Input { observed: &observed, plan, reports: &[], before, outside };
    let outcome = status(&input, at("2026-01-01T00:00:01Z"));
    assert_eq!(ready_word(&outcome), (Truth::False, "ReplicationNotServed"));
    assert_eq!(outcome.status.shards, before.shards);
    assert_eq!(outcome.status.conditions[1].type_, operator_api::condition::STALLED);
}
