//! One broker of three is away; who is ready?

use std::sync::Arc;

use broker_proto::admin::{ClusterMap, Shard, Topic};
use operator_api::condition::merge;

use super::*;
use crate::broker_admin::{AdminError, BrokerEndpoint, Connect as _, GrpcConnector};
use crate::links::{BrokerView, Silence};

fn shards(names: &[&str]) -> Shards {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Three brokers that lead a shard each; how long each has been silent, in seconds.
fn view(silent_s: [Option<u64>; 3]) -> ClusterView<Topic> {
    let shard =
        |id: u32| Shard { id, name: format!("shard-{id}"), leader_broker: id, ..Shard::default() };
    let map = ClusterMap { shards: (0..3).map(shard).collect(), ..ClusterMap::default() };
    let endpoint = BrokerEndpoint { broker: 0, host: "localhost".to_owned(), port: 1 };
    let broker = |(broker, silent): (u32, Option<u64>)| BrokerView {
        broker,
        admin: GrpcConnector.connect(&endpoint).unwrap(),
        session: 1,
        silence: silent
            .map(|s| Silence { lasted: Duration::from_secs(s), error: "gone".to_owned() }),
        held: None,
        pushed: None,
    };
    ClusterView { map: Arc::new(map), brokers: (0..3).zip(silent_s).map(broker).collect() }
}

fn missing(brokers: &[u32]) -> Pushed {
    let one = |&broker: &u32| Missing { broker, error: "gone".to_owned() };
    Pushed::Missing(brokers.iter().map(one).collect())
}

fn ready(status: Truth) -> Vec<Condition> {
    let verdict = Verdict::Ready(Reason::new("Synced", ""));
    let mut conditions = merge(&[], &verdict.findings(), 3, "t");
    conditions[0].status = status;
    conditions
}

#[tokio::test]
async fn only_what_has_queues_on_the_shards_of_a_lost_broker_is_not_served() {
    let view = view([None, None, Some(100)]);
    let lost = judge(&missing(&[2]), Some(&view), &shards(&["shard-1", "shard-2"]));
    assert_eq!(lost.reason().word, "ShardUnavailable");
    assert_eq!(lost.reason().message, "shard-2 on broker 2 is not served: gone");
    let served = judge(&missing(&[2]), Some(&view), &shards(&["shard-0", "shard-1"]));
    assert!(served.is_ready(), "{served:?}");
    assert!(served.reason().message.starts_with("held by 2 of 3 brokers"), "{served:?}");
    assert!(served.reason().message.contains("broker 2 gets it"), "{served:?}");
    let nobody = judge(&missing(&[0, 1, 2]), Some(&view), &shards(&[]));
    assert_eq!(nobody.reason().word, "ClusterNotReady");
}

#[tokio::test]
async fn the_silence_of_brokers_that_matter_counts_first() {
    let view = view([Some(1), None, Some(100)]);
    let of = |names: &[&str]| silence(Some(&view), Duration::from_secs(7), &shards(names));
    assert_eq!(of(&["shard-0", "shard-1"]), Duration::from_secs(1));
    assert_eq!(of(&["shard-2"]), Duration::from_secs(100));
    assert_eq!(of(&["shard-1"]), Duration::from_secs(100));
    assert_eq!(
        silence::<Topic>(None, Duration::from_secs(7), &shards(&[])),
        Duration::from_secs(7)
    );
}

fn unavailable() -> Verdict {
    Verdict::waiting(UNAVAILABLE, "shard-2 on broker 2 is not served: gone")
}

#[test]
fn a_short_silence_of_a_broker_is_no_news() {
    let settled = settle(unavailable(), &ready(Truth::True), 3, Duration::from_secs(10));
    assert!(settled.verdict.is_none());
    assert_eq!(settled.again_after, Some(Duration::from_secs(20)));
    let unanswered = settle(unavailable(), &ready(Truth::True), 3, Duration::ZERO);
    assert_eq!(unanswered.again_after, Some(ASK_AGAIN));
    let elsewhere = Verdict::Ready(Reason::new("Synced", "held by 2 of 3 brokers"));
    let short = settle(elsewhere.clone(), &ready(Truth::True), 3, Duration::from_secs(10));
    assert!(short.verdict.is_none());
    assert_eq!(short.again_after, Some(Duration::from_secs(20)));
    let changed = settle(elsewhere.clone(), &ready(Truth::True), 4, Duration::from_secs(10));
    assert_eq!(changed.verdict, Some(elsewhere.clone()));
    let long = settle(elsewhere.clone(), &ready(Truth::True), 3, SILENCE_MAX);
    assert_eq!(long.verdict, Some(elsewhere));
}

#[test]
fn a_long_silence_makes_readiness_unknown_and_not_false() {
    let settled = settle(unavailable(), &ready(Truth::True), 3, SILENCE_MAX);
    assert_eq!(settled.again_after, None);
    let findings = settled.verdict.unwrap().findings();
    assert_eq!((findings[0].status, findings[0].reason), (Truth::Unknown, "ShardUnavailable"));
    let nobody = Verdict::waiting("ClusterNotReady", "");
    let settled = settle(nobody, &ready(Truth::True), 3, SILENCE_MAX);
    assert_eq!(settled.verdict.unwrap().reason().word, "ClusterUnreachable");
}

#[test]
fn an_object_that_never_was_ready_says_at_once_what_it_waits_for() {
    for before in [Vec::new(), ready(Truth::False)] {
        let settled = settle(unavailable(), &before, 3, Duration::ZERO);
        assert_eq!(settled.verdict.unwrap().reason().word, "ShardUnavailable");
    }
    let changed = settle(unavailable(), &ready(Truth::True), 4, Duration::ZERO);
    assert!(changed.verdict.is_some());
}

#[test]
fn a_refusal_by_a_broker_waits_for_a_person() {
    let error = AdminError {
        code: tonic::Code::Unimplemented,
        message: "this broker is older than the operator".to_owned(),
    };
    let refused = Pushed::Refused { broker: 0, error };
    let verdict = judge::<Topic>(&refused, None, &shards(&[]));
    assert_eq!(verdict.findings()[1].type_, operator_api::condition::STALLED);
    assert_eq!(verdict.reason().word, "NotServed");
}
