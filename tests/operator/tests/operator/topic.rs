//! Topics: the same in every broker, and every reason why not.

use broker_proto::admin::{Owner, Topic as WireTopic};
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt as _;
use kube::api::ListParams;
use operator_api::topic::MessageType;
use operator_api::{BrokerCluster, Topic};
use serde_json::json;

use crate::world::{World, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_gets_into_every_broker_with_its_queues_placed() {
    let world = World::new().await;
    let brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    let operator = world.operator("a");
    // The topic comes first, as it may from Git.
    world.apply::<Topic>("orders", json!({"queues": 5, "retention": {"time": "72h"}})).await;
    world.wait_condition::<Topic>("orders", "Reconciling", "True", "ClusterNotFound").await;
    let note = eventually("an event tells it", || async {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
        let told = events.into_iter().find(|e| e.reason.as_deref() == Some("ClusterNotFound"));
        told.and_then(|event| event.message)
    })
    .await;
    assert!(note.starts_with("there is no BrokerCluster"), "{note}");
    world.apply::<BrokerCluster>("default", json!({"brokers": 2})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    let topic = world.api::<Topic>().get("orders").await.unwrap();
    let status = topic.status.clone().unwrap();
    assert_eq!((status.queues, status.topic_name.as_deref()), (Some(5), Some("orders")));
    let mut counts: Vec<_> = status.placement.iter().map(|p| p.queues).collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 3]);
    for broker in &brokers {
        let held = broker.memory().topics["orders"].clone();
        assert_eq!(held.retention.unwrap().time.unwrap().seconds, 72 * 3600);
        let owner = held.owner.unwrap();
        assert_eq!((owner.namespace, owner.name), (world.namespace.clone(), "orders".to_owned()));
        assert_eq!(owner.uid, topic.uid().unwrap());
    }
    world.apply::<Topic>("orders", json!({"queues": 8, "retention": {"time": "72h"}})).await;
    let grown = |topic: &Topic| topic.status.as_ref().unwrap().queues == Some(8);
    world.wait("orders", "8 queues", grown).await;
    for placed in &status.placement {
        let grown = world.api::<Topic>().get("orders").await.unwrap().status.unwrap().placement;
        let now = grown.iter().find(|p| p.shard == placed.shard).unwrap();
        assert!(now.queues >= placed.queues, "queues left {}", placed.shard);
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_object_of_a_name_is_told_who_has_it_and_gets_it_when_the_first_goes() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("orders", json!({})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    world.apply::<Topic>("again", json!({"topicName": "orders", "queues": 9})).await;
    let stalled = world.wait_condition::<Topic>("again", "Stalled", "True", "OwnedByAnother").await;
    let owner = format!("is declared by {}/orders", world.namespace);
    assert!(stalled.message.contains(&owner), "{}", stalled.message);
    assert_eq!(broker.memory().topics["orders"].queues, 8);
    world.delete::<Topic>("orders").await;
    world.wait_condition::<Topic>("again", "Ready", "True", "Synced").await;
    let held = broker.memory().topics["orders"].clone();
    assert_eq!((held.queues, held.owner.unwrap().name.as_str()), (9, "again"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_declared_in_the_broker_is_taken_over_only_on_request() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let owner = Owner { instance: "cli".to_owned(), name: "ada".to_owned(), ..Owner::default() };
    let topic = WireTopic {
        name: "orders".to_owned(),
        r#type: 1,
        queues: 8,
        owner: Some(owner),
        version: 1,
        ..WireTopic::default()
    };
    broker.change(|memory| {
        memory.version = 1;
        memory.topics.insert("orders".to_owned(), topic);
    });
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("orders", json!({})).await;
    let stalled =
        world.wait_condition::<Topic>("orders", "Stalled", "True", "OwnedByAnother").await;
    assert!(
        stalled.message.contains("cli ada; set spec.adoptionPolicy to Adopt"),
        "{}",
        stalled.message
    );
    world.apply::<Topic>("orders", json!({"adoptionPolicy": "Adopt"})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    assert_eq!(broker.memory().topics["orders"].owner.as_ref().unwrap().instance, "kubernetes");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_says_less_leaves_type_and_queues_as_they_are() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("orders", json!({"messageType": "FIFO", "queues": 12})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    world.apply::<Topic>("orders", json!({"retention": {"time": "1h"}})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    let status = world.api::<Topic>().get("orders").await.unwrap().status.unwrap();
    assert_eq!((status.message_type, status.queues), (Some(MessageType::Fifo), Some(12)));
    let held = broker.memory().topics["orders"].clone();
    assert_eq!((held.queues, held.retention.is_some()), (12, true));
    for (spec, words) in [
        (json!({"queues": 8}), "queues can only grow"),
        (json!({"messageType": "NORMAL"}), "messageType of a topic that exists cannot be changed"),
    ] {
        let error = world.try_apply::<Topic>("orders", spec).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    world.apply::<Topic>("new", json!({})).await;
    world.wait_condition::<Topic>("new", "Ready", "True", "Synced").await;
    let status = world.api::<Topic>().get("new").await.unwrap().status.unwrap();
    assert_eq!((status.message_type, status.queues), (Some(MessageType::Normal), Some(8)));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_never_changes_and_what_brokers_refuse_is_told_in_their_words() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("orders", json!({})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    world.delete::<Topic>("orders").await;
    world.wait_gone::<Topic>("orders").await;
    world.apply::<Topic>("orders", json!({"messageType": "FIFO"})).await;
    let stalled =
        world.wait_condition::<Topic>("orders", "Stalled", "True", "ImmutableChange").await;
    assert!(stalled.message.contains("has the type NORMAL"), "{}", stalled.message);
    assert_eq!(broker.memory().topics["orders"].r#type, 1);
    broker.change(|memory| memory.full = true);
    world.apply::<Topic>("refunds", json!({})).await;
    let stalled = world.wait_condition::<Topic>("refunds", "Stalled", "True", "LimitReached").await;
    assert!(stalled.message.contains("holds 1 topics, its limit"), "{}", stalled.message);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_arrives_with_its_own_placement_and_settings() {
    let world = World::new().await;
    let brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({"brokers": 2})).await;
    for (name, kind) in
        [("fifo", "FIFO"), ("delay", "DELAY"), ("transaction", "TRANSACTION"), ("lite", "LITE")]
    {
        let mut spec = json!({"messageType": kind, "queues": 4});
        if kind == "LITE" {
            spec["liteExpiry"] = "90s".into();
        }
        world.apply::<Topic>(name, spec).await;
        world.wait_condition::<Topic>(name, "Ready", "True", "Synced").await;
        let held = brokers[0].memory().topics[name].clone();
        assert_eq!(held.r#type().as_str_name(), kind);
        assert_eq!(held.placement.len(), 2);
    }
    let expiry = brokers[1].memory().topics["lite"].lite_expiry.unwrap();
    assert_eq!(expiry.seconds, 90);
    // Its queues are its levels: one owner keeps their order.
    let spec = |queues: u32| json!({"messageType": "PRIORITY", "queues": queues});
    world.apply::<Topic>("alarms", spec(4)).await;
    world.wait_condition::<Topic>("alarms", "Ready", "True", "Synced").await;
    let first = brokers[0].memory().topics["alarms"].placement.clone();
    assert_eq!((first.len(), first[0].queues), (1, 4));
    world.apply::<Topic>("alarms", spec(9)).await;
    let grown = |topic: &Topic| topic.status.as_ref().unwrap().queues == Some(9);
    world.wait::<Topic>("alarms", "9 levels", grown).await;
    let placement = brokers[1].memory().topics["alarms"].placement.clone();
    assert_eq!((placement.len(), &placement[0].shard), (1, &first[0].shard));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lost_its_disk_gets_everything_again() {
    let world = World::new().await;
    let mut broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("orders", json!({})).await;
    world.apply::<Topic>("payments", json!({})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    world.wait_condition::<Topic>("payments", "Ready", "True", "Synced").await;
    let before = world.api::<Topic>().get("orders").await.unwrap();
    broker.kill();
    broker.forget();
    broker.serve().await;
    eventually("both topics and the map are back", || async {
        let memory = broker.memory();
        (memory.topics.len() == 2 && memory.map.version == 1).then_some(())
    })
    .await;
    // It was short: nothing was written about it.
    let after = world.api::<Topic>().get("orders").await.unwrap();
    assert_eq!(before.resource_version(), after.resource_version());
    assert_eq!(
        before.status.unwrap().placement[0].shard,
        broker.memory().topics["orders"].placement[0].shard
    );
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_deleted_behind_the_operators_back_comes_back() {
    use broker_proto::admin::DeleteTopicRequest;
    use operator::broker_admin::{BrokerEndpoint, Connect as _, GrpcConnector};

    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("orders", json!({})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    let version = broker.memory().topics["orders"].version;
    let host = broker.address.ip().to_string();
    let endpoint = BrokerEndpoint { broker: 0, host, port: broker.address.port() };
    let request = DeleteTopicRequest { name: "orders".to_owned(), ..Default::default() };
    GrpcConnector.connect(&endpoint).unwrap().delete_topic(request).await.unwrap();
    eventually("the topic is back", || async {
        broker.memory().topics.get("orders").filter(|topic| topic.version > version).map(|_| ())
    })
    .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_the_object_deletes_the_topic_only_when_it_says_so() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("kept", json!({})).await;
    world.apply::<Topic>("gone", json!({"deletionPolicy": "Delete"})).await;
    world.wait_condition::<Topic>("kept", "Ready", "True", "Synced").await;
    world.wait_condition::<Topic>("gone", "Ready", "True", "Synced").await;
    let finalizers = world.api::<Topic>().get("gone").await.unwrap().finalizers().to_vec();
    assert_eq!(finalizers, ["pinnace.dev/cleanup"]);
    assert!(world.api::<Topic>().get("kept").await.unwrap().finalizers().is_empty());
    world.delete::<Topic>("kept").await;
    world.delete::<Topic>("gone").await;
    world.wait_gone::<Topic>("kept").await;
    world.wait_gone::<Topic>("gone").await;
    let names: Vec<_> = broker.memory().topics.into_keys().collect();
    assert_eq!(names, ["kept"]);
    operator.stop().await;
}
