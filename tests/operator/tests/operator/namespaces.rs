//! Which namespaces an operator looks after, and what a namespace forbids.

use k8s_openapi::api::core::v1::{ResourceQuota, Service, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::PostParams;
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use serde_json::{Value, json};

use crate::world::{World, condition};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_of_two_namespaces_looks_after_both_and_no_other() {
    let first = World::alone().await;
    let second = first.neighbour().await;
    let other = first.neighbour().await;
    first.permit_in(&second).await;
    let _brokers = [first.broker("default", 0).await, second.broker("default", 0).await];
    let both = format!("{},{}", first.namespace, second.namespace);
    let operator = first.operator_with("a", &["--watch-namespace", &both]);
    for world in [&first, &second, &other] {
        world.apply::<BrokerCluster>("default", json!({})).await;
        world.apply::<Topic>("orders", json!({"deletionPolicy": "Delete"})).await;
        world.apply::<ConsumerGroup>("billing", json!({})).await;
    }
    for world in [&first, &second] {
        world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
        world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
        world.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
        // Objects that belong to a cluster are watched in both.
        let uid = world.api::<Service>().get("default-client").await.unwrap().uid();
        world.delete::<Service>("default-client").await;
        let is_another = |service: &Service| service.uid() != uid;
        world.wait::<Service>("default-client", "a successor", is_another).await;
        world.delete::<Topic>("orders").await;
        world.wait_gone::<Topic>("orders").await;
    }
    // What the definitions say of an object at which nobody has looked.
    let topic = other.api::<Topic>().get("orders").await.unwrap().status.unwrap();
    assert_eq!(topic.observed_generation, Some(-1));
    let cluster = other.api::<BrokerCluster>().get("default").await.unwrap().status.unwrap();
    assert_eq!(cluster.observed_generation, Some(-1));
    operator.stop().await;
}

fn quota(hard: &Value) -> ResourceQuota {
    let metadata = json!({"name": "tight"});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"hard": hard}})).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_quota_forbids_is_said_and_tried_again() {
    let world = World::new().await;
    let _brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    let hard = json!({"count/statefulsets.apps": "1", "services.nodeports": "0"});
    let api = world.api::<ResourceQuota>();
    api.create(&PostParams::default(), &quota(&hard)).await.unwrap();
    let is_enforced = |quota: &ResourceQuota| {
        quota.status.as_ref().is_some_and(|status| status.hard.is_some() && status.used.is_some())
    };
    world.wait::<ResourceQuota>("tight", "its limits", is_enforced).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({"brokers": 2})).await;
    let forbidden = ("Ready", "False", "ForbiddenByKubernetes");
    let told =
        world.wait_condition::<BrokerCluster>("default", forbidden.0, forbidden.1, forbidden.2);
    let told = told.await.message;
    assert!(told.contains("default-broker-1") && told.contains("exceeded quota"), "{told}");
    // Nothing tells the operator that there is room now.
    world.delete::<ResourceQuota>("tight").await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;

    // A listener that is forbidden keeps nothing else from being done.
    api.create(&PostParams::default(), &quota(&json!({"services.nodeports": "0"}))).await.unwrap();
    world.wait::<ResourceQuota>("tight", "its limits", is_enforced).await;
    let listeners = json!([{"name": "client"}, {"name": "out", "type": "NodePort"}]);
    let spec = json!({"brokers": 2, "listeners": listeners, "version": "9.9.9"});
    world.apply::<BrokerCluster>("default", spec).await;
    let told =
        world.wait_condition::<BrokerCluster>("default", forbidden.0, forbidden.1, forbidden.2);
    let told = told.await.message;
    assert!(told.contains("exceeded quota"), "{told}");
    world.wait_condition::<BrokerCluster>("default", "Updated", "True", "AsPlanned").await;
    operator.stop().await;
}

/// Waits until the cluster says why a pod is missing.
async fn said_of_pods(world: &World, words: &str) -> String {
    let said = |cluster: &BrokerCluster| {
        condition(cluster, "Ready")
            .is_some_and(|ready| ready.reason == "BrokersNotReady" && ready.message.contains(words))
    };
    let cluster = world.wait::<BrokerCluster>("default", words, said).await;
    condition(&cluster, "Ready").unwrap().message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_cannot_be_made_is_told_with_the_words_of_the_api_server() {
    let world = World::new().await;
    let _brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    let operator = world.operator("a");
    let spec = |brokers: u32| json!({"brokers": brokers, "pod": {"serviceAccountName": "nobody"}});
    world.apply::<BrokerCluster>("default", spec(1)).await;
    let told = said_of_pods(&world, "serviceaccount \"nobody\" not found").await;
    assert!(told.contains("; broker 0: FailedCreate: Create Pod default-broker-0-0"), "{told}");
    let account = serde_json::from_value(json!({"metadata": {"name": "nobody"}})).unwrap();
    world.api::<ServiceAccount>().create(&PostParams::default(), &account).await.unwrap();
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;

    let api = world.api::<ResourceQuota>();
    api.create(&PostParams::default(), &quota(&json!({"pods": "1"}))).await.unwrap();
    let is_enforced = |quota: &ResourceQuota| {
        let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
        used.is_some_and(|used| used.get("pods").is_some_and(|pods| pods.0 == "1"))
    };
    world.wait::<ResourceQuota>("tight", "its limits", is_enforced).await;
    world.apply::<BrokerCluster>("default", spec(2)).await;
    let told = said_of_pods(&world, "exceeded quota: tight").await;
    assert!(told.contains("1 of 2 brokers are ready"), "{told}");
    assert!(told.contains("; broker 1: FailedCreate: Create Pod default-broker-1-0"), "{told}");
    world.delete::<ResourceQuota>("tight").await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    operator.stop().await;
}
