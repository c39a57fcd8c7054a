//! Two brokers with a shard each: a call for the other one's shard is passed on.

use broker_model::ShardId;
use broker_proto::admin::{
    ApplyClusterMapRequest, ApplyTopicRequest, BrokerAddress, ClusterMap, MessageType,
    QueuePlacement, Shard, Topic,
};
use broker_proto::rocketmq::{Code, Message, RecallMessageRequest};

use crate::broker::{TestBroker, as_client, code, message, named, receive, start_with};

async fn two_brokers(kind: MessageType) -> [TestBroker; 2] {
    let mut brokers =
        [start_with([ShardId(0)].into_iter()).await, start_with([ShardId(1)].into_iter()).await];
    let address = |(id, broker): (u32, &TestBroker)| BrokerAddress {
        broker_id: id,
        host: "127.0.0.1".into(),
        port: broker.port.into(),
        admin_port: broker.port.into(),
    };
    let shard = |id: u32| Shard {
        id,
        name: format!("shard-{id}"),
        leader_broker: id,
        replica_brokers: vec![id],
    };
    let map = ClusterMap {
        version: 1,
        cluster: "default".into(),
        brokers: (0..).zip(&brokers).map(address).collect(),
        shards: vec![shard(0), shard(1)],
    };
    let placed = |shard: &str| QueuePlacement { shard: shard.into(), queues: 2 };
    let topic = Topic {
        name: "orders".into(),
        r#type: kind.into(),
        queues: 4,
        placement: vec![placed("shard-0"), placed("shard-1")],
        ..Topic::default()
    };
    for broker in &mut brokers {
        let request = ApplyClusterMapRequest { map: Some(map.clone()) };
        broker.admin.apply_cluster_map(request).await.unwrap();
        let request =
            ApplyTopicRequest { topic: Some(topic.clone()), ..ApplyTopicRequest::default() };
        broker.admin.apply_topic(request).await.unwrap();
    }
    brokers
}

fn grouped(n: usize) -> Message {
    let mut message = message("orders", &n.to_string(), "x");
    message.system_properties.as_mut().unwrap().message_group = Some(format!("group-{n}"));
    message
}

#[tokio::test]
async fn a_message_group_has_one_queue_whichever_broker_is_asked() {
    let [mut first, mut second] = two_brokers(MessageType::Fifo).await;
    for n in 0..16 {
        for broker in [&mut first, &mut second] {
            let answer = broker.send(vec![grouped(n)]).await;
            assert_eq!(code(answer.status.as_ref()), Code::Ok, "{:?}", answer.status);
        }
    }
    let mut groups = Vec::new();
    for (broker, shard) in [(&mut first, "shard-0"), (&mut second, "shard-1")] {
        let (_, messages) =
            broker.receive(as_client("c", receive("orders", "billing", shard))).await;
        let group = |m: &Message| m.system_properties.clone().unwrap().message_group.unwrap();
        let mut held: Vec<_> = messages.iter().map(group).collect();
        held.sort();
        let pairs = held.chunks(2).all(|pair| pair[0] == *pair.last().unwrap());
        assert!(pairs && held.len() % 2 == 0, "a group is split: {held:?}");
        groups.push(held.len());
    }
    assert!(groups.iter().all(|count| *count > 0) && groups.iter().sum::<usize>() == 32);
}

#[tokio::test]
async fn a_recall_finds_its_shard_and_a_broker_that_is_gone_is_said() {
    let [mut first, mut second] = two_brokers(MessageType::Delay).await;
    let mut delayed = message("orders", "1", "x");
    let soon = prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 };
    delayed.system_properties.as_mut().unwrap().delivery_timestamp = Some(soon);
    let refused = second.send(vec![delayed.clone()]).await;
    assert_eq!(code(refused.status.as_ref()), Code::IllegalDeliveryTime);
    let hour = std::time::SystemTime::now() + std::time::Duration::from_secs(3_600);
    delayed.system_properties.as_mut().unwrap().delivery_timestamp = Some(hour.into());
    let sent = second.send(vec![delayed]).await;
    let request = || {
        let recall_handle = sent.entries[0].recall_handle.clone();
        as_client("c", RecallMessageRequest { topic: named("orders"), recall_handle })
    };
    let answer = first.client.recall_message(request()).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::Ok, "{:?}", answer.status);
    let gone = ClusterMap {
        version: 2,
        cluster: "default".into(),
        brokers: vec![BrokerAddress {
            broker_id: 1,
            host: "127.0.0.1".into(),
            port: 1,
            admin_port: 1,
        }],
        shards: vec![Shard {
            id: 1,
            name: "shard-1".into(),
            leader_broker: 1,
            replica_brokers: vec![1],
        }],
    };
    let request_map = ApplyClusterMapRequest { map: Some(gone) };
    first.admin.apply_cluster_map(request_map).await.unwrap();
    let answer = first.client.recall_message(request()).await.unwrap().into_inner();
    assert_eq!(code(answer.status.as_ref()), Code::HaNotAvailable);
}
