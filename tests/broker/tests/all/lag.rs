//! Lag as the command line, the admin API and Prometheus tell it, from the declaration of a group on.

use std::fs;

use serde_json::Value;
use tests_broker::Server;

const MANIFEST: &str = "apiVersion: pinnace.dev/v1alpha1
kind: Topic
metadata:
  name: orders
spec:
  queues: 6
---
apiVersion: pinnace.dev/v1alpha1
kind: ConsumerGroup
metadata:
  name: billing
spec:
  subscriptions:
    - topic: orders
---
apiVersion: pinnace.dev/v1alpha1
kind: ConsumerGroup
metadata:
  name: alerts
spec:
  subscriptions:
    - topic: orders
      filter: {type: Tag, expression: error || fatal}
";

fn json(server: &Server, verb: &[&str]) -> Value {
    let verb = [verb, &["-o", "json"]].concat();
    serde_json::from_str(&server.run(&verb).ok()).expect("one JSON value")
}

fn check(server: &Server) {
    let told = server.run(&["lag", "billing"]).ok();
    assert!(told.lines().nth(1).unwrap().contains("never polled"), "{told}");
    let lag = json(server, &["lag", "billing"]);
    assert_eq!(lag[0]["topics"][0]["lagMessages"], 10, "{lag}");
    assert_eq!(lag[0]["topics"][0]["neverPolled"], true, "{lag}");
    let label = "consumer_group=\"billing\",topic=\"orders\"";
    assert_eq!(server.broker().metric("rocketmq_consumer_lag_messages", label), 10.0);
    assert_eq!(server.broker().metric("pinnace_consumer_polled", label), 0.0);
    let of_alerts = json(server, &["lag", "alerts"]);
    assert_eq!(of_alerts[0]["topics"][0]["lagMessages"], 3, "what its filter lets through");
    let told = server.run(&["topic", "describe", "orders"]).ok();
    assert!(told.contains("alerts, billing"), "{told}");
}

#[test]
fn a_declared_group_that_nobody_started_lags_on_every_shard_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    fs::write(manifests.join("shop.yaml"), MANIFEST).unwrap();
    let arguments = ["--shards", "3", "--manifests", manifests.to_str().unwrap()];
    let mut server = Server::start(&folder.path().join("data"), &arguments);
    let _ = server.run(&["send", "orders", "--count", "7", "--body", "x"]).ok();
    let _ = server.run(&["send", "orders", "--count", "3", "--tag", "fatal", "--body", "x"]).ok();
    check(&server);
    server.kill_and_reopen();
    check(&server);
    // A reset before the first poll is one.
    let _ = server.run(&["group", "reset", "billing", "--to", "latest"]).ok();
    let lag = json(&server, &["lag", "billing"]);
    assert_eq!(lag[0]["topics"][0]["lagMessages"], 0, "{lag}");
    let _ = server.run(&["group", "reset", "billing", "--to", "earliest"]).ok();
    let receive = ["receive", "orders", "--group", "billing", "--count", "10"];
    assert_eq!(server.run(&receive).ok().lines().filter(|line| line.contains('x')).count(), 10);
    let lag = json(&server, &["lag", "billing"]);
    assert_eq!(lag[0]["topics"][0]["neverPolled"], false, "{lag}");
}

#[test]
fn a_group_that_polled_and_never_acknowledged_keeps_its_lag_and_one_without_topics_is_not_reset() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("data"), &[]);
    let _ = server.run(&["topic", "create", "orders", "--queues", "1"]).ok();
    let _ = server.run(&["group", "create", "billing"]).ok();
    let line = server.run(&["group", "reset", "billing", "--to", "latest"]).refused(1);
    assert!(line.contains("billing") && line.contains("--topic"), "{line}");
    let _ = server.run(&["receive", "orders", "--group", "billing", "--timeout", "1"]).ok();
    let _ = server.run(&["send", "orders", "--count", "5", "--body", "x"]).ok();
    for _ in 0..2 {
        let lag = json(&server, &["lag", "billing"]);
        assert_eq!(lag[0]["topics"][0]["lagMessages"], 5, "{lag}");
        server.kill_and_reopen();
    }
}
