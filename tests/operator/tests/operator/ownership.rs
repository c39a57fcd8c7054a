//! Who may declare a name, what is taken over, and what a refusal tells.

use broker_proto::admin::{
    ApplyGroupRequest, ApplyTopicRequest, Group, GroupStatus, Model, Retention, RetryPolicy,
    Topic as WireTopic, TopicLag,
};
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use serde_json::json;

use crate::real_broker::{RealBroker, scratch};
use crate::world::{World, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_not_allowed_keeps_nobody_from_a_name_and_learns_no_names() {
    let home = World::alone().await;
    let guest = home.neighbour().await;
    let _broker = home.broker("default", 0).await;
    let operator = home.operator_of_all("a", &[]).await;
    home.apply::<BrokerCluster>("default", json!({})).await;
    let reference = json!({"clusterRef": {"name": "default", "namespace": home.namespace}});
    guest.apply::<Topic>("payments", reference.clone()).await;
    guest.apply::<ConsumerGroup>("billing", reference.clone()).await;
    let refused = ("Stalled", "True", "NamespaceNotAllowed");
    let told = guest.wait_condition::<Topic>("payments", refused.0, refused.1, refused.2).await;
    assert!(told.message.contains("ask whoever looks after it"), "{}", told.message);
    guest.wait_condition::<ConsumerGroup>("billing", refused.0, refused.1, refused.2).await;

    // The guest's objects are older.
    home.apply::<Topic>("payments", json!({})).await;
    home.apply::<ConsumerGroup>("billing", json!({})).await;
    home.wait_condition::<Topic>("payments", "Ready", "True", "Synced").await;
    home.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;

    let open = json!({"allowedNamespaces": {"from": "All"}});
    home.apply::<BrokerCluster>("default", open).await;
    let refused = ("Stalled", "True", "OwnedByAnother");
    let topic = guest.wait_condition::<Topic>("payments", refused.0, refused.1, refused.2).await;
    let group =
        guest.wait_condition::<ConsumerGroup>("billing", refused.0, refused.1, refused.2).await;
    for told in [topic.message, group.message] {
        assert!(told.contains("by an object of another namespace"), "{told}");
        assert!(!told.contains(&home.namespace), "{told}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broker_holds_of_nobody_is_adopted_only_when_all_of_it_is_the_same() {
    let world = World::new().await;
    let data = scratch(&world);
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    let broker = RealBroker::of(&world, "default", 0, &data).await;
    let admin = broker.admin().await;
    let mut retention = Retention { time: Some(Default::default()), bytes: None };
    retention.time.as_mut().unwrap().seconds = 360_000;
    let topic = WireTopic {
        name: "orders".to_owned(),
        r#type: 1,
        queues: 8,
        retention: Some(retention),
        ..WireTopic::default()
    };
    let apply_topic =
        |topic| admin.apply_topic(ApplyTopicRequest { topic: Some(topic), ..Default::default() });
    let apply_group =
        |group| admin.apply_group(ApplyGroupRequest { group: Some(group), ..Default::default() });
    apply_topic(topic.clone()).await.unwrap();
    apply_topic(WireTopic { name: "plain".to_owned(), retention: None, ..topic }).await.unwrap();
    let retry = Some(RetryPolicy { max_attempts: 3, backoff: None });
    let group = Group { name: "billing".to_owned(), retry, ..Group::default() };
    apply_group(group).await.unwrap();
    apply_group(Group { name: "plain".to_owned(), ..Group::default() }).await.unwrap();
    // The address is known now: a new operator connects to it.
    operator.stop().await;
    let operator = world.operator("b");

    world.apply::<Topic>("plain", json!({})).await;
    world.apply::<ConsumerGroup>("plain", json!({})).await;
    world.wait_condition::<Topic>("plain", "Ready", "True", "Synced").await;
    world.wait_condition::<ConsumerGroup>("plain", "Ready", "True", "Synced").await;

    world.apply::<Topic>("orders", json!({"retention": {"time": "1m"}})).await;
    let refused = ("Stalled", "True", "ExistsDifferent");
    let told = world.wait_condition::<Topic>("orders", refused.0, refused.1, refused.2).await;
    let difference = "differs: retention.time (has 100h, wanted 1m);";
    assert!(told.message.contains(difference), "{}", told.message);
    world.apply::<ConsumerGroup>("billing", json!({"model": "Broadcasting"})).await;
    let told =
        world.wait_condition::<ConsumerGroup>("billing", refused.0, refused.1, refused.2).await;
    let differences =
        "model (has Clustering, wanted Broadcasting), retry.maxAttempts (has 3, wanted 17)";
    assert!(told.message.contains(differences), "{}", told.message);

    world.apply::<Topic>("orders", json!({"retention": {"time": "100h"}})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    world.apply::<Topic>("orders", json!({"retention": {"time": "1m"}})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    operator.stop().await;
    drop(broker);
    eventually("the scratch folder is gone", || async { std::fs::remove_dir_all(&data).ok() })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_does_not_change_by_deleting_and_creating_while_there_is_progress() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<ConsumerGroup>("billing", json!({})).await;
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
    let progress = |never_polled| GroupStatus {
        name: "billing".to_owned(),
        topics: vec![TopicLag { topic: "orders".to_owned(), never_polled, ..Default::default() }],
        ..GroupStatus::default()
    };
    broker.report(progress(false));
    let told = |group: &ConsumerGroup| {
        group.status.as_ref().is_some_and(|status| !status.topics.is_empty())
    };
    world.wait::<ConsumerGroup>("billing", "progress", told).await;
    world.delete::<ConsumerGroup>("billing").await;
    world.wait_gone::<ConsumerGroup>("billing").await;
    world.apply::<ConsumerGroup>("billing", json!({"model": "Broadcasting"})).await;
    let refused = ("Stalled", "True", "ImmutableChange");
    let told =
        world.wait_condition::<ConsumerGroup>("billing", refused.0, refused.1, refused.2).await;
    assert!(told.message.contains("has the model Clustering and progress"), "{}", told.message);
    assert_eq!(broker.memory().groups["billing"].model(), Model::Clustering);
    broker.report(progress(true));
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
    assert_eq!(broker.memory().groups["billing"].model(), Model::Broadcasting);
    operator.stop().await;
}
