//! Echo without a map, the map's names with one.

use broker_proto::admin::{BrokerAddress, ClusterMap, Shard};

use super::*;

fn plan() -> EndpointPlan {
    EndpointPlan::new(&Advertised { host: "10.1.2.3".into(), port: 8081 })
}

fn access_point(scheme: AddressScheme, hosts: &[(&str, i32)]) -> Endpoints {
    let addresses =
        hosts.iter().map(|(host, port)| Address { host: (*host).into(), port: *port }).collect();
    Endpoints { scheme: scheme.into(), addresses }
}

fn map(version: u64) -> ClusterMap {
    ClusterMap {
        version,
        cluster: "main".into(),
        brokers: vec![BrokerAddress {
            broker_id: 0,
            host: "main-0.main.default.svc".into(),
            port: 8081,
            admin_port: 8083,
        }],
        shards: vec![Shard {
            id: 1,
            name: "shard-1".into(),
            leader_broker: 0,
            replica_brokers: vec![0],
        }],
        client_hosts: Vec::new(),
    }
}

#[test]
fn a_broker_alone_echoes_the_access_point() {
    let asked = access_point(AddressScheme::DomainName, &[("mq.example.org", 443)]);
    let view = plan().for_request(Some(&asked));
    assert_eq!(view.of(ShardId(0), true), Some(&asked));
    assert_eq!(view.of(ShardId(9), false), None);
}

#[test]
fn what_clients_cannot_use_is_not_echoed() {
    let own = access_point(AddressScheme::IPv4, &[("10.1.2.3", 8081)]);
    let useless = [
        None,
        Some(access_point(AddressScheme::IPv4, &[])),
        Some(access_point(AddressScheme::IPv4, &[("", 8081)])),
        Some(access_point(AddressScheme::IPv4, &[("10.0.0.1", 0)])),
        Some(access_point(AddressScheme::IPv4, &[("10.0.0.1", 70_000)])),
    ];
    for asked in useless {
        assert_eq!(
            plan().for_request(asked.as_ref()).of(ShardId(0), true),
            Some(&own),
            "{asked:?}"
        );
    }
    let unspecified = access_point(AddressScheme::Unspecified, &[("mq", 8081)]);
    let view = plan().for_request(Some(&unspecified));
    let echoed = view.of(ShardId(0), true).unwrap();
    assert_eq!(echoed.scheme(), AddressScheme::DomainName);
}

#[test]
fn a_cluster_map_names_the_leader_of_each_shard() {
    let plan = plan();
    assert_eq!(plan.apply(map(3)), Ok((3, true)));
    let asked = access_point(AddressScheme::IPv4, &[("127.0.0.1", 9000)]);
    let view = plan.for_request(Some(&asked));
    let leader = access_point(AddressScheme::DomainName, &[("main-0.main.default.svc", 8081)]);
    assert_eq!(view.of(ShardId(1), false), Some(&leader));
    assert_eq!(view.of(ShardId(7), true), Some(&asked));
    assert_eq!(plan.apply(map(2)), Ok((3, false)), "an older map changes nothing");
    assert_eq!(plan.apply(map(4)), Ok((4, true)));
}

#[test]
fn a_client_from_outside_is_told_the_address_that_it_dialled() {
    let plan = plan();
    let clients = vec!["main-client.default.svc".to_owned()];
    plan.apply(ClusterMap { client_hosts: clients, ..map(1) }).unwrap();
    let told = |hosts: &[(&str, i32)]| {
        let asked = access_point(AddressScheme::DomainName, hosts);
        let view = plan.for_request(Some(&asked));
        assert_eq!(view.of(ShardId(7), false), None, "nobody knows that shard");
        let told = view.of(ShardId(1), false).unwrap();
        (told.addresses[0].host.clone(), told.addresses[0].port)
    };
    let leader = ("main-0.main.default.svc".to_owned(), 8081);
    let inside = [
        "main-client",
        "main-client.default",
        "main-client.default.svc",
        "main-client.default.svc.cluster.local",
        "Main-Client.default.svc.cluster.local.",
        "main-0.main.default.svc.cluster.local",
    ];
    for host in inside {
        assert_eq!(told(&[(host, 8081)]), leader, "{host}");
    }
    let outside = ["localhost", "127.0.0.1", "mq.example.org", "main-cli", "main-client.def"];
    for host in outside {
        assert_eq!(told(&[(host, 30_001)]), (host.to_owned(), 30_001), "{host}");
    }
    let one_of_two = [("main-client", 8081), ("mq.example.org", 443)];
    assert_eq!(told(&one_of_two), ("main-client".to_owned(), 8081), "a name that may not resolve");
    let view = plan.for_request(None);
    assert_eq!(view.of(ShardId(1), false).unwrap().addresses[0].host, leader.0);
}

#[test]
fn an_inconsistent_map_is_refused_with_its_reason() {
    let change = |change: fn(&mut ClusterMap)| {
        let mut changed = map(1);
        change(&mut changed);
        plan().apply(changed).unwrap_err()
    };
    assert_eq!(change(|m| m.version = 0), MapError::NoVersion);
    assert_eq!(change(|m| m.brokers.push(m.brokers[0].clone())), MapError::SameBroker(0));
    assert_eq!(change(|m| m.brokers[0].port = 0), MapError::NoAddress(0));
    assert_eq!(change(|m| m.shards.push(m.shards[0].clone())), MapError::SameShard(1));
    assert_eq!(
        change(|m| m.shards[0].leader_broker = 8),
        MapError::NoLeader { shard: 1, broker: 8 }
    );
    assert!(matches!(change(|m| m.shards[0].name = "a".into()), MapError::Name { .. }));
    let crowd = |m: &mut ClusterMap| m.shards = vec![m.shards[0].clone(); MAP_SHARDS_LIMIT + 1];
    assert!(matches!(change(crowd), MapError::TooMany { .. }));
    let hosts = |m: &mut ClusterMap| m.client_hosts = vec!["good".into(), "not good".into()];
    assert_eq!(change(hosts), MapError::ClientHost("not good".into()));
    let hosts = |m: &mut ClusterMap| m.client_hosts = vec!["a".into(); 65];
    assert!(matches!(change(hosts), MapError::TooMany { .. }));
}

const MAP_SHARDS_LIMIT: usize = crate::limits::MAP_SHARDS_MAX;
