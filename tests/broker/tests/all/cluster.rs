//! The command line against a cluster of three brokers, reached through one of them.

use std::collections::BTreeSet;

use broker_proto::admin::{ApplyClusterMapRequest, BrokerAddress, ClusterMap, Shard};
use serde_json::Value;
use tests_broker::{Broker, Server};

/// Gives brokers, numbered from 0, the map of a cluster: of each shard, also numbered from 0, the broker that leads it.
pub(crate) async fn tell_map(brokers: &[&Broker], leaders: &[u32]) {
    let address = |(broker_id, broker): (u32, &&Broker)| BrokerAddress {
        broker_id,
        host: "127.0.0.1".to_owned(),
        port: broker.listen.port().into(),
        admin_port: broker.admin.port().into(),
    };
    let led = |(id, leader_broker): (u32, &u32)| Shard {
        id,
        name: format!("shard-{id}"),
        leader_broker: *leader_broker,
        replica_brokers: vec![*leader_broker],
    };
    let map = ClusterMap {
        version: 1,
        cluster: "default".to_owned(),
        brokers: (0..).zip(brokers).map(address).collect(),
        shards: (0..).zip(leaders).map(led).collect(),
        client_hosts: Vec::new(),
    };
    for broker in brokers {
        let request = ApplyClusterMapRequest { map: Some(map.clone()) };
        broker.admin().await.apply_cluster_map(request).await.unwrap();
    }
}

/// Three brokers, the first with two shards, that know each other.
fn three_brokers(folder: &std::path::Path) -> Vec<Server> {
    let shards = ["0,1", "2", "3"];
    let start = |(id, shards): (usize, &&str)| {
        let id = id.to_string();
        let arguments = ["--broker-id", &id, "--shard-ids", shards];
        Server::start(&folder.join(format!("data-{id}")), &arguments)
    };
    let servers: Vec<_> = shards.iter().enumerate().map(start).collect();
    let brokers: Vec<&Broker> = servers.iter().map(Server::broker).collect();
    let told = tell_map(&brokers, &[0, 0, 1, 2]);
    tokio::runtime::Runtime::new().unwrap().block_on(told);
    servers
}

fn json(server: &Server, verb: &[&str]) -> Value {
    let verb = [verb, &["-o", "json"]].concat();
    serde_json::from_str(&server.run(&verb).ok()).expect("one JSON value")
}

fn lag(server: &Server, more: &[&str]) -> u64 {
    let told = json(server, &[&["lag", "billing"], more].concat());
    let topics = told[0]["topics"].as_array().expect("a list");
    topics.iter().map(|topic| topic["lagMessages"].as_u64().expect("a number")).sum()
}

#[test]
fn every_verb_means_the_whole_cluster_whichever_broker_it_reaches() {
    let folder = tempfile::tempdir().unwrap();
    let servers = three_brokers(folder.path());
    let through = &servers[1];

    let _ = through.run(&["topic", "create", "orders", "--queues", "8"]).ok();
    let topic = json(&servers[2], &["topic", "describe", "orders"]);
    let placed = |placed: &Value| {
        (placed["shard"].as_str().unwrap().to_owned(), placed["queues"].as_u64().unwrap())
    };
    let shards: BTreeSet<_> = topic["placement"].as_array().unwrap().iter().map(placed).collect();
    let everywhere = (0..4).map(|id| (format!("shard-{id}"), 2)).collect();
    assert_eq!(shards, everywhere);
    let _ = through.run(&["group", "create", "billing", "--max-attempts", "1"]).ok();
    for server in &servers {
        assert!(server.run(&["group", "create", "billing"]).ok().contains("exists already"));
    }

    let receive = ["receive", "orders", "--group", "billing", "--count", "1"];
    let _ = through.run(&["send", "orders", "--count", "1"]).ok();
    let _ = through.run(&receive).ok();
    let _ = through.run(&["send", "orders", "--count", "40", "--key", "k"]).ok();
    let _ =
        through.run(&["group", "reset", "billing", "--topic", "orders", "--to", "earliest"]).ok();
    let parts: Vec<u64> =
        ["0", "1", "2"].iter().map(|id| lag(through, &["--broker", id])).collect();
    assert!(parts.iter().all(|part| *part > 0), "{parts:?}");
    for server in &servers {
        assert_eq!(lag(server, &[]), 41, "{parts:?}");
        assert_eq!(json(server, &["topic", "describe", "orders"])["messages"], 41);
    }
    assert_eq!(parts.iter().sum::<u64>(), 41);

    let mut found = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let find = ["message", "find", "orders", "--key", "k", "--max", "7"];
        let page = json(through, &[&find[..], &["--cursor", &cursor]].concat());
        let messages = page["messages"].as_array().unwrap().iter();
        found.extend(messages.map(|message| message["messageId"].as_str().unwrap().to_owned()));
        match page["cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(found.len(), 40);
    for id in &found {
        let traces = json(through, &["message", "trace", "orders", "--id", id]);
        assert_eq!(traces.as_array().unwrap().len(), 1, "{traces}");
    }

    let _ = servers[0].run(&["group", "pause", "billing"]).ok();
    for id in ["0", "1", "2"] {
        let group = json(through, &["group", "describe", "billing", "--broker", id]);
        assert_eq!(group["consume"], false, "broker {id}");
    }
    let _ = servers[2].run(&["topic", "delete", "orders"]).ok();
    for id in ["0", "1", "2"] {
        let refused = through.run(&["topic", "describe", "orders", "--broker", id]).refused(1);
        assert!(refused.contains("there is no topic orders"), "{refused}");
    }
}

#[test]
fn a_part_is_never_shown_as_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut servers = three_brokers(folder.path());
    let _ = servers[0].run(&["group", "create", "billing"]).ok();
    assert!(servers.pop().unwrap().terminate().success());
    let refused = servers[0].run(&["lag", "billing"]).refused(1);
    assert!(refused.contains("broker 2 does not answer"), "{refused}");
    assert!(refused.contains("--broker ID"), "{refused}");
    let _ = servers[0].run(&["lag", "billing", "--broker", "1"]).ok();
    let refused = servers[0].run(&["group", "delete", "billing"]).refused(1);
    assert!(refused.contains("brokers 0, 1 have done it"), "{refused}");
    let refused = servers[0].run(&["lag", "--broker", "9"]).refused(1);
    assert!(refused.contains("knows no broker 9"), "{refused}");
}
