//! Clients and administrators from outside of the cluster, who reach one address and no broker by its own name.

use std::collections::BTreeSet;

use broker_grpc::admin::FOR_BROKER;
use broker_proto::admin::{
    ApplyClusterMapRequest, AskProducerRequest, ClusterMap, GetBrokerRequest, MessageType,
    WatchStateRequest,
};
use broker_proto::rocketmq::{
    Address, AddressScheme, Code, Endpoints, QueryRouteRequest, TransactionResolution,
};
use tonic::Request;

use crate::broker::{TestBroker, as_client, code, named};
use crate::clients::{Link, producer};
use crate::cluster::{map_of, two_brokers};
use crate::message_types::{end, half};

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

#[tokio::test]
async fn a_producer_is_asked_of_a_transaction_by_the_broker_that_it_is_connected_to() {
    let [mut first, mut second] = two_brokers(MessageType::Transaction).await;
    let mut link = Link::open(&mut first, "p").await;
    link.say(producer()).await;
    link.hear().await;
    // Its message came to a shard of the other broker, where it has no connection.
    second.send(vec![half("open", 1)]).await;
    let question = link.hear_question().await;
    assert_eq!(&*question.message.unwrap().body, b"open");
    let id = question.transaction_id;
    assert_eq!(end(&mut first, &id, TransactionResolution::Commit).await, Code::Ok);
    assert_eq!(
        end(&mut second, &id, TransactionResolution::Rollback).await,
        Code::PreconditionFailed
    );

    let question = |topic: &str, question: &[u8]| AskProducerRequest {
        topic: topic.to_owned(),
        question: question.to_vec(),
    };
    let nobody = second.admin.ask_producer(question("orders", b"")).await.unwrap().into_inner();
    assert!(!nobody.asked, "its producer is not connected here");
    for (topic, bytes) in [("no topic", &b""[..]), ("orders", &b"\xff\xff"[..])] {
        let refused = first.admin.ask_producer(question(topic, bytes)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }
}

#[tokio::test]
async fn an_admin_call_reaches_the_broker_that_it_is_for_through_any_other() {
    let mut brokers = two_brokers(MessageType::Normal).await;
    let for_broker = |id: &str| {
        let mut request = Request::new(GetBrokerRequest {});
        request.metadata_mut().insert(FOR_BROKER, id.parse().unwrap());
        request
    };
    for broker in &mut brokers {
        for id in [0, 1] {
            let answer = broker.admin.get_broker(for_broker(&id.to_string())).await.unwrap();
            assert_eq!(answer.into_inner().broker.unwrap().broker_id, id);
        }
        let unknown = broker.admin.get_broker(for_broker("7")).await.unwrap_err();
        assert_eq!(unknown.code(), tonic::Code::FailedPrecondition);
        assert!(unknown.message().contains("knows no broker 7"), "{}", unknown.message());
        let wrong = broker.admin.get_broker(for_broker("first")).await.unwrap_err();
        assert_eq!(wrong.code(), tonic::Code::InvalidArgument);
    }

    // A stream comes through as well, and a broker that is gone is named.
    let mut request = Request::new(WatchStateRequest::default());
    request.metadata_mut().insert(FOR_BROKER, "1".parse().unwrap());
    let mut events = brokers[0].admin.watch_state(request).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().is_some());
    let map = map_of(3, [brokers[0].port, 1]);
    let request = ApplyClusterMapRequest { map: Some(map) };
    brokers[0].admin.apply_cluster_map(request).await.unwrap();
    let gone = brokers[0].admin.get_broker(for_broker("1")).await.unwrap_err();
    assert_eq!(gone.code(), tonic::Code::Unavailable);
    assert!(gone.message().contains("broker 1 does not answer"), "{}", gone.message());
}
