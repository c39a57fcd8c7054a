//! Does to several brokers what only the operator does: gives them a cluster map, and places topics over their shards.
//! `cluster map BROKER...` and `cluster topic NAME TYPE QUEUES BROKER...`; a BROKER is `CLIENTS/ADMIN/SHARDS`, as in
//! `127.0.0.1:8081/127.0.0.1:8083/0,1`, and the brokers are numbered from 0 in the order in which they stand.

use std::net::SocketAddr;
use std::process::ExitCode;

use broker_proto::admin::admin_client::AdminClient;
use broker_proto::admin::{
    ApplyClusterMapRequest, ApplyTopicRequest, BrokerAddress, ClusterMap, MessageType,
    QueuePlacement, Shard, Topic,
};
use tonic::transport::{Channel, Endpoint};

/// One broker as it is named on the command line.
#[derive(Debug)]
struct Broker {
    clients: SocketAddr,
    admin: SocketAddr,
    shards: Vec<u32>,
}

fn broker(text: &str) -> Broker {
    let parts: Vec<_> = text.split('/').collect();
    let [clients, admin, shards] = parts.try_into().expect("CLIENTS/ADMIN/SHARDS");
    let shards = shards.split(',').map(|id| id.parse().expect("a shard id")).collect();
    Broker {
        clients: clients.parse().expect("the address for clients"),
        admin: admin.parse().expect("the address of the admin API"),
        shards,
    }
}

async fn connect(broker: &Broker) -> AdminClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", broker.admin)).expect("an address");
    AdminClient::new(endpoint.connect().await.expect("the broker is up"))
}

fn cluster_map(brokers: &[Broker]) -> ClusterMap {
    let address = |(id, broker): (u32, &Broker)| BrokerAddress {
        broker_id: id,
        host: broker.clients.ip().to_string(),
        port: broker.clients.port().into(),
        admin_port: broker.admin.port().into(),
    };
    let shards = (0..).zip(brokers).flat_map(|(leader, broker)| {
        broker.shards.iter().map(move |id| Shard {
            id: *id,
            name: format!("shard-{id}"),
            leader_broker: leader,
            replica_brokers: vec![leader],
        })
    });
    ClusterMap {
        version: 1,
        cluster: "default".to_owned(),
        brokers: (0..).zip(brokers).map(address).collect(),
        shards: shards.collect(),
        client_hosts: Vec::new(),
    }
}

/// Spread evenly; the queues of a PRIORITY topic are its levels, and stay together.
fn placed_topic(name: &str, kind: MessageType, queues: u32, brokers: &[Broker]) -> Topic {
    let mut shards: Vec<_> = brokers.iter().flat_map(|broker| &broker.shards).collect();
    if kind == MessageType::Priority {
        shards.truncate(1);
    }
    let count = u32::try_from(shards.len()).expect("few shards");
    let placement = (0..).zip(shards).map(|(at, id)| QueuePlacement {
        shard: format!("shard-{id}"),
        queues: queues / count + u32::from(at < queues % count),
    });
    Topic {
        name: name.to_owned(),
        r#type: kind.into(),
        queues,
        placement: placement.filter(|placed| placed.queues > 0).collect(),
        ..Topic::default()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match &words[..] {
        ["map", brokers @ ..] => {
            let brokers: Vec<_> = brokers.iter().map(|text| broker(text)).collect();
            let map = cluster_map(&brokers);
            for broker in &brokers {
                let request = ApplyClusterMapRequest { map: Some(map.clone()) };
                connect(broker).await.apply_cluster_map(request).await.expect("the map is taken");
            }
        }
        ["topic", name, kind, queues, brokers @ ..] => {
            let brokers: Vec<_> = brokers.iter().map(|text| broker(text)).collect();
            let kind = MessageType::from_str_name(kind).expect("a message type");
            let topic = placed_topic(name, kind, queues.parse().expect("a number"), &brokers);
            for broker in &brokers {
                let request = ApplyTopicRequest {
                    topic: Some(topic.clone()),
                    ..ApplyTopicRequest::default()
                };
                connect(broker).await.apply_topic(request).await.expect("the topic is taken");
            }
        }
        _ => {
            eprintln!("usage: cluster map BROKER... | cluster topic NAME TYPE QUEUES BROKER...");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
