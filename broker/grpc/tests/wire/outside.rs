//! Clients that dialled an address from outside of the cluster, where nobody reaches each broker by its own name.

use std::collections::BTreeSet;

use broker_proto::admin::{ApplyClusterMapRequest, ClusterMap, MessageType};
use broker_proto::rocketmq::{Address, AddressScheme, Code, Endpoints, QueryRouteRequest};

use crate::broker::{TestBroker, as_client, code, named};
use crate::cluster::{map_of, two_brokers};

#[tokio::test]
async fn a_client_from_outside_reaches_all_shards_at_the_address_that_it_dialled() {
    let mut brokers = two_brokers(MessageType::Normal).await;
    let ports = [brokers[0].port, brokers[1].port];
    let map =
        ClusterMap { client_hosts: vec!["default-client.shop.svc".into()], ..map_of(2, ports) };
    for broker in &mut brokers {
        let request = ApplyClusterMapRequest { map: Some(map.clone()) };
        broker.admin.apply_cluster_map(request).await.unwrap();
    }
    let told = async |broker: &mut TestBroker, host: &str| {
        let address = Address { host: host.into(), port: 30_001 };
        let mut endpoints = Endpoints { addresses: vec![address], ..Endpoints::default() };
        endpoints.set_scheme(AddressScheme::DomainName);
        let request = QueryRouteRequest { topic: named("orders"), endpoints: Some(endpoints) };
        let route = broker.client.query_route(as_client("c", request)).await.unwrap().into_inner();
        assert_eq!(code(route.status.as_ref()), Code::Ok, "{:?}", route.status);
        let places = route.message_queues.into_iter().filter_map(|queue| queue.broker).map(|b| {
            let address = b.endpoints.unwrap().addresses[0].clone();
            (b.name, address.host, address.port)
        });
        places.collect::<BTreeSet<_>>()
    };
    for broker in &mut brokers {
        let place = |shard: &str, host: &str, port: u16| {
            (shard.to_owned(), host.to_owned(), i32::from(port))
        };
        let outside = [place("shard-0", "laptop", 30_001), place("shard-1", "laptop", 30_001)];
        assert_eq!(told(broker, "laptop").await, BTreeSet::from(outside));
        let inside =
            [place("shard-0", "127.0.0.1", ports[0]), place("shard-1", "127.0.0.1", ports[1])];
        assert_eq!(told(broker, "default-client").await, BTreeSet::from(inside));
    }
}
