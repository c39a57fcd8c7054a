//! Deletions: what they destroy, what they wait for and say, and what makes them give way.

use std::time::Duration;

use broker_proto::admin::{GroupStatus, Member, Subscription, TopicLag};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, Namespace, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use serde_json::{Value, json};

use crate::world::{World, eventually, install_definitions};

/// Declares something that is to go with its object.
fn fleeting(mut spec: Value) -> Value {
    spec["deletionPolicy"] = "Delete".into();
    spec
}

/// Events of a reason, as soon as there are any.
pub(crate) async fn events(world: &World, reason: &str) -> Vec<String> {
    eventually(&format!("an event {reason}"), || async {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
        let told = events.into_iter().filter(|event| event.reason.as_deref() == Some(reason));
        let told: Vec<_> = told.filter_map(|event| event.message).collect();
        (!told.is_empty()).then_some(told)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_object_declares_too_is_handed_over_and_not_destroyed() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("stock", fleeting(json!({}))).await;
    world.apply::<ConsumerGroup>("billing", fleeting(json!({}))).await;
    world.wait_condition::<Topic>("stock", "Ready", "True", "Synced").await;
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
    let made = (broker.memory().topics["stock"].version, broker.memory().groups["billing"].version);
    world.apply::<Topic>("inventory", fleeting(json!({"topicName": "stock"}))).await;
    world.apply::<ConsumerGroup>("invoices", fleeting(json!({"groupName": "billing"}))).await;
    let refused = ("Stalled", "True", "OwnedByAnother");
    world.wait_condition::<Topic>("inventory", refused.0, refused.1, refused.2).await;
    world.wait_condition::<ConsumerGroup>("invoices", refused.0, refused.1, refused.2).await;

    world.delete::<Topic>("stock").await;
    world.delete::<ConsumerGroup>("billing").await;
    world.wait_condition::<Topic>("inventory", "Ready", "True", "Synced").await;
    world.wait_condition::<ConsumerGroup>("invoices", "Ready", "True", "Synced").await;
    let memory = broker.memory();
    assert_eq!((memory.deletes.len(), memory.topics.len(), memory.groups.len()), (0, 1, 1));
    assert!(memory.topics["stock"].version > made.0 && memory.groups["billing"].version > made.1);
    assert_eq!(memory.topics["stock"].owner.as_ref().unwrap().name, "inventory");
    assert_eq!(memory.groups["billing"].owner.as_ref().unwrap().name, "invoices");

    // Nobody is left to take it over.
    world.delete::<Topic>("inventory").await;
    world.delete::<ConsumerGroup>("invoices").await;
    world.wait_gone::<Topic>("inventory").await;
    world.wait_gone::<ConsumerGroup>("invoices").await;
    assert_eq!(broker.memory().deletes, ["stock", "billing"].map(str::to_owned).into());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_waits_for_every_broker_before_it_asks_the_first_and_says_so() {
    let world = World::new().await;
    let first = world.broker("default", 0).await;
    let mut second = world.broker("default", 1).await;
    // It looks whether the namespace stays, which its role must allow.
    let arguments = ["--watch-namespace", &world.namespace, "--namespace-deletion-wait", "1"];
    let operator = world.operator_with("a", &arguments);
    world.apply::<BrokerCluster>("default", json!({"brokers": 2})).await;
    world.apply::<Topic>("orders", fleeting(json!({}))).await;
    world.apply::<Topic>("payments", fleeting(json!({}))).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    world.wait_condition::<Topic>("payments", "Ready", "True", "Synced").await;
    second.kill();
    world.delete::<Topic>("orders").await;
    world.delete::<Topic>("payments").await;
    let told =
        world.wait_condition::<Topic>("orders", "Ready", "False", "DeletionWaitsForBroker").await;
    assert!(told.message.contains("no answer from broker 1"), "{}", told.message);
    assert!(told.message.contains("set spec.deletionPolicy to Retain"), "{}", told.message);
    assert_eq!(first.memory().topics.len(), 2);
    let told = events(&world, "DeletionWaitsForBroker").await;
    assert!(told[0].contains("no answer from broker 1"), "{told:?}");

    // What the message advises.
    world.apply::<Topic>("payments", json!({"deletionPolicy": "Retain"})).await;
    world.wait_gone::<Topic>("payments").await;
    second.serve().await;
    world.wait_gone::<Topic>("orders").await;
    for broker in [&first, &second] {
        assert_eq!(broker.memory().topics.into_keys().collect::<Vec<_>>(), ["payments"]);
    }
    assert_eq!(events(&world, "DeletionWaitsForBroker").await.len(), 2);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_never_served_is_named_by_the_deletion_that_waits_for_it() {
    let world = World::new().await;
    let operator = world.operator("a");
    // A name that is taken keeps the cluster from being set up.
    let taken = json!({"metadata": {"name": "default-client"}, "spec": {"ports": [{"port": 80}]}});
    let taken: Service = serde_json::from_value(taken).unwrap();
    world.api::<Service>().create(&PostParams::default(), &taken).await.unwrap();
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<ConsumerGroup>("billing", fleeting(json!({}))).await;
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "False", "ClusterNotReady").await;
    world.delete::<ConsumerGroup>("billing").await;
    let waits = ("Ready", "False", "DeletionWaitsForCluster");
    world.wait_condition::<ConsumerGroup>("billing", waits.0, waits.1, waits.2).await;
    world.delete::<BrokerCluster>("default").await;
    world.wait_gone::<ConsumerGroup>("billing").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_not_held_for_ever_by_a_broker_that_is_away() {
    let home = World::alone().await;
    let tenant = home.neighbour().await;
    let mut broker = home.broker("default", 0).await;
    let operator = home.operator_of_all("a", &["--namespace-deletion-wait", "1"]).await;
    home.apply::<BrokerCluster>("default", json!({"allowedNamespaces": {"from": "All"}})).await;
    let reference = json!({"clusterRef": {"name": "default", "namespace": home.namespace}});
    tenant.apply::<Topic>("orders", fleeting(reference.clone())).await;
    tenant.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    home.apply::<Topic>("payments", fleeting(json!({}))).await;
    home.wait_condition::<Topic>("payments", "Ready", "True", "Synced").await;
    broker.kill();
    let namespaces: Api<Namespace> = Api::all(tenant.client.clone());
    namespaces.delete(&tenant.namespace, &DeleteParams::default()).await.unwrap();
    home.delete::<Topic>("payments").await;
    tenant.wait_gone::<Topic>("orders").await;
    let told = events(&home, "LeftInBrokers").await;
    assert!(told[0].starts_with("topic \"orders\" may still be in brokers"), "{told:?}");
    assert!(told[0].contains("pinnace topic delete orders --force"), "{told:?}");
    // A namespace that stays keeps its deletion waiting.
    home.wait_condition::<Topic>("payments", "Ready", "False", "DeletionWaitsForBroker").await;
    let topics: Vec<_> = broker.memory().topics.into_keys().collect();
    assert_eq!(topics, ["orders", "payments"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_goes_with_its_cluster_and_the_operator_makes_nothing_there_any_more() {
    let home = World::alone().await;
    let tenant = home.neighbour().await;
    let _broker = tenant.broker("default", 0).await;
    let operator = home.operator_of_all("a", &[]).await;
    tenant.apply::<BrokerCluster>("default", json!({})).await;
    tenant.apply::<Topic>("orders", fleeting(json!({}))).await;
    tenant.apply::<ConsumerGroup>("billing", fleeting(json!({}))).await;
    tenant.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    tenant.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    tenant.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
    // The cluster stays to the end, while Kubernetes takes one after the other of its objects away.
    let held = Patch::Merge(json!({"metadata": {"finalizers": ["tests.pinnace.dev/last"]}}));
    let clusters = tenant.api::<BrokerCluster>();
    clusters.patch("default", &PatchParams::default(), &held).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(tenant.client.clone());
    namespaces.delete(&tenant.namespace, &DeleteParams::default()).await.unwrap();
    tenant.wait_gone::<Topic>("orders").await;
    tenant.wait_gone::<ConsumerGroup>("billing").await;
    tenant.wait_gone::<StatefulSet>("default-broker-0").await;
    tenant.wait_gone::<Service>("default-client").await;
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    clusters.patch("default", &PatchParams::default(), &free).await.unwrap();
    let gone = await_condition(namespaces, &tenant.namespace, |object: Option<&Namespace>| {
        object.is_none()
    });
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it goes").unwrap();
    let failed = "pinnace_operator_reconciles_total";
    for outcome in ["fetch", "apply", "status", "finalizer", "connect"] {
        let label = format!("outcome=\"{outcome}\"");
        assert_eq!(operator.metric(failed, &[&label]).await, 0, "{outcome}");
    }
    let refused = operator.metric("pinnace_operator_api_requests_total", &["code=\"403\""]).await;
    // Not more than one for each object that goes, and its event.
    assert!(refused <= 30, "{refused} requests were refused");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removing_the_definitions_destroys_nothing_in_a_broker() {
    let world = World::alone().await;
    let broker = world.broker("default", 0).await;
    // What other tests left goes as well.
    let operator = world.operator_of_all("a", &[]).await;
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("orders", fleeting(json!({}))).await;
    world.apply::<ConsumerGroup>("billing", fleeting(json!({}))).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    for name in ["topics.pinnace.dev", "consumergroups.pinnace.dev"] {
        let uid = definitions.get(name).await.unwrap().uid().unwrap();
        definitions.delete(name, &DeleteParams::default()).await.unwrap();
        let gone = conditions::is_deleted(&uid);
        let gone = await_condition(definitions.clone(), name, gone);
        let waited = tokio::time::timeout(Duration::from_secs(60), gone).await;
        waited.expect("the definition goes with its objects").unwrap();
    }
    operator.stop().await;
    install_definitions(&world.client).await;
    let memory = broker.memory();
    assert_eq!((memory.topics.len(), memory.groups.len()), (1, 1));
    assert!(memory.deletes.is_empty(), "{:?}", memory.deletes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_if_unused_waits_until_nobody_uses_it() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    let careful = json!({"deletionPolicy": "DeleteIfUnused"});
    world.apply::<Topic>("orders", careful.clone()).await;
    world.apply::<ConsumerGroup>("billing", careful).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
    let status = |lag_messages, has_member| {
        let topic = || "orders".to_owned();
        let wish = Subscription { topic: topic(), ..Subscription::default() };
        let member = Member { subscriptions: vec![wish], ..Member::default() };
        GroupStatus {
            name: "billing".to_owned(),
            members: if has_member { vec![member] } else { Vec::new() },
            topics: vec![TopicLag { topic: topic(), lag_messages, ..TopicLag::default() }],
            ..GroupStatus::default()
        }
    };
    broker.report(status(3, true));
    let told = |group: &ConsumerGroup| {
        group.status.as_ref().is_some_and(|status| !status.topics.is_empty())
    };
    world.wait::<ConsumerGroup>("billing", "members", told).await;
    world.delete::<Topic>("orders").await;
    world.delete::<ConsumerGroup>("billing").await;
    let waits = ("Ready", "False", "DeletionWaitsForUse");
    let topic = world.wait_condition::<Topic>("orders", waits.0, waits.1, waits.2).await;
    let group = world.wait_condition::<ConsumerGroup>("billing", waits.0, waits.1, waits.2).await;
    assert!(topic.message.contains("consumers run of the groups: billing"), "{}", topic.message);
    assert!(topic.message.contains("left to get for the groups: billing"), "{}", topic.message);
    assert!(group.message.contains("consumers of it run"), "{}", group.message);
    broker.report(status(3, false));
    let no_members = |topic: &Topic| {
        let conditions = &topic.status.as_ref().unwrap().conditions;
        conditions.iter().any(|c| c.type_ == "Ready" && !c.message.contains("consumers run"))
    };
    world.wait::<Topic>("orders", "no word of members", no_members).await;
    assert!(broker.memory().deletes.is_empty());
    broker.report(status(0, false));
    world.wait_gone::<Topic>("orders").await;
    world.wait_gone::<ConsumerGroup>("billing").await;
    let memory = broker.memory();
    assert!(memory.topics.is_empty() && memory.groups.is_empty());
    operator.stop().await;
}
