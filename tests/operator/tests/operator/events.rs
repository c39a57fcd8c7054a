//! What people are told as events, once each, and what is counted with it.

use broker_proto::admin::{GroupStatus, Retention, TopicLag};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, Service};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use serde_json::json;

use crate::world::{World, eventually};

/// Messages of the events of a reason, oldest first, as soon as there are so many.
async fn told(world: &World, reason: &str, count: usize) -> Vec<String> {
    eventually(&format!("{count} events {reason}"), || async {
        let mut events = world.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        events.retain(|event| event.reason.as_deref() == Some(reason));
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        let told: Vec<_> = events.into_iter().filter_map(|event| event.message).collect();
        assert!(told.len() <= count, "{told:?}");
        (told.len() == count).then_some(told)
    })
    .await
}

fn behind(lag_messages: u64) -> GroupStatus {
    let topic = "orders".to_owned();
    let lag = TopicLag { topic, lag_messages, ..TopicLag::default() };
    GroupStatus { name: "billing".to_owned(), topics: vec![lag], ..GroupStatus::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_does_in_a_broker_is_put_back_and_told_with_what_is_lost() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.open_shop().await;
    broker.report(behind(5000));
    let heard = |group: &ConsumerGroup| {
        group.status.as_ref().and_then(|status| status.totals.as_ref()).is_some_and(|t| t.lag > 0)
    };
    world.wait::<ConsumerGroup>("billing", "its lag", heard).await;

    broker.lose_topic("orders");
    let lost = told(&world, "LostAndMadeAgain", 1).await;
    let words = "somebody else deleted topic \"orders\" on broker 0; it is made again, empty on shard-0: its messages there \
                 are gone, 5000 among them that group \"billing\" had yet to get";
    assert_eq!(lost, [words]);
    assert!(broker.memory().topics.contains_key("orders"));
    let wanted = broker.memory().topics["orders"].clone();
    broker.change_topic("orders", |topic| {
        topic.retention = Some(Retention { time: None, bytes: Some(1) });
    });
    let changed = told(&world, "DriftRepaired", 1).await;
    assert!(
        changed[0].ends_with("it is put back: retention.bytes (has 1, wanted none)"),
        "{changed:?}"
    );
    assert_eq!(broker.memory().topics["orders"].retention, wanted.retention);
    let repaired = "pinnace_operator_drift_repaired_total";
    for drift in ["gone", "changed"] {
        let drift = format!("drift=\"{drift}\"");
        assert_eq!(operator.metric(repaired, &["kind=\"topic\"", &drift]).await, 1, "{drift}");
    }

    // What its own object asks for is no loss.
    world.apply::<Topic>("payments", json!({"deletionPolicy": "Delete"})).await;
    world.wait_condition::<Topic>("payments", "Ready", "True", "Synced").await;
    world.delete::<Topic>("payments").await;
    world.wait_gone::<Topic>("payments").await;
    let deleted = told(&world, "DeletedFromBrokers", 1).await;
    assert_eq!(deleted, ["topic \"payments\" is deleted with all it held from broker 0"]);
    world.apply::<Topic>("payments", json!({"deletionPolicy": "Delete"})).await;
    world.wait_condition::<Topic>("payments", "Ready", "True", "Synced").await;
    told(&world, "LostAndMadeAgain", 1).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_that_is_done_or_refused_is_told_once() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    let reset = |id: &str| json!({"offsetReset": {"id": id, "to": {"position": "Latest"}}});
    world.apply::<ConsumerGroup>("billing", reset("one")).await;
    world
        .wait_condition::<ConsumerGroup>("billing", "OffsetResetComplete", "True", "Completed")
        .await;
    let done = told(&world, "OffsetResetCompleted", 1).await;
    assert!(done[0].contains("reset \"one\""), "{done:?}");
    world.apply::<ConsumerGroup>("billing", reset("two")).await;
    let done = told(&world, "OffsetResetCompleted", 2).await;
    assert!(done[1].contains("reset \"two\""), "{done:?}");
    broker.change(|memory| memory.resets_refused = true);
    world.apply::<ConsumerGroup>("billing", reset("three")).await;
    let refused = ("OffsetResetComplete", "False", "RefusedByBroker");
    world.wait_condition::<ConsumerGroup>("billing", refused.0, refused.1, refused.2).await;
    // A look at it that finds nothing new.
    broker.report(behind(1));
    broker.report(behind(0));
    let told = told(&world, "OffsetResetRefusedByBroker", 1).await;
    assert!(told[0].contains("refuses reset \"three\": the time lies ahead"), "{told:?}");
    let outcomes = "pinnace_operator_offset_resets_total";
    assert_eq!(operator.metric(outcomes, &["outcome=\"Completed\""]).await, 2);
    assert_eq!(operator.metric(outcomes, &["outcome=\"RefusedByBroker\""]).await, 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_restart_are_told_of_one_by_one_and_when_they_are_back() {
    let world = World::new().await;
    let _brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({"brokers": 2})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let spec = json!({"brokers": 2, "pod": {"priorityClassName": "important"}});
    let admission = json!({
        "metadata": {"name": "important"}, "value": 1, "globalDefault": false, "description": "brokers",
    });
    let classes: kube::Api<k8s_openapi::api::scheduling::v1::PriorityClass> =
        kube::Api::all(world.client.clone());
    let admission = serde_json::from_value(admission).unwrap();
    let _there_already = classes.create(&kube::api::PostParams::default(), &admission).await;
    world.apply::<BrokerCluster>("default", spec).await;
    let restarts = told(&world, "BrokerRestarts", 2).await;
    for (broker, note) in restarts.iter().enumerate() {
        let words = format!(
            "broker {broker} restarts, because its pod is to be different: spec.priorityClassName (has none, wanted \
             important)"
        );
        assert_eq!(*note, words);
    }
    let back = told(&world, "BrokerBack", 2).await;
    assert!(back[0].starts_with("broker 0 serves its shards again, "), "{back:?}");
    assert!(back[1].starts_with("broker 1 serves its shards again, "), "{back:?}");
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    assert_eq!(operator.metric("pinnace_operator_broker_restarts_total", &[]).await, 2);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_somebody_deletes_or_changes_are_put_back_and_told_of() {
    let world = World::new().await;
    let _broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    world.api::<Service>().delete("default-client", &DeleteParams::default()).await.unwrap();
    let gone = told(&world, "DriftRepaired", 1).await;
    let words = format!(
        "somebody else deleted Service {}/default-client; it is made again",
        world.namespace
    );
    assert_eq!(gone, [words]);
    let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let sets = world.api::<StatefulSet>();
    sets.patch("default-broker-0", &PatchParams::default(), &patch).await.unwrap();
    let told = told(&world, "DriftRepaired", 2).await;
    let words = format!(
        "somebody else changed StatefulSet {}/default-broker-0; it is put back: spec.replicas (has 0, wanted 1)",
        world.namespace
    );
    assert_eq!(told[1], words);
    assert_eq!(sets.get("default-broker-0").await.unwrap().spec.replicas, Some(1));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_again_writes_nothing_also_where_somebody_else_added_a_condition() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("orders", json!({})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    let foreign = json!({
        "apiVersion": "pinnace.dev/v1alpha1", "kind": "Topic", "metadata": {"name": "orders"},
        "status": {"conditions": [{
            "type": "Foreign", "status": "True", "observedGeneration": 1, "reason": "Because", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    });
    let foreign = Patch::Apply(foreign);
    let topics = world.api::<Topic>();
    topics.patch_status("orders", &PatchParams::apply("somebody"), &foreign).await.unwrap();
    let reconciles = |controller: &'static str| {
        let label = format!("controller=\"{controller}\"");
        let operator = &operator;
        async move { operator.metric("pinnace_operator_reconciles_total", &[&label]).await }
    };
    let clusters = world.api::<BrokerCluster>();
    let mut writes = None;
    for round in 0..6 {
        // The first rounds see the last of what Kubernetes says of new objects.
        if round == 2 {
            writes = Some(operator.writes().await);
        }
        let (topics, seen) = (reconciles("topic").await, reconciles("broker-cluster").await);
        broker.change_topic("orders", |_| {});
        let note = Patch::Merge(json!({"metadata": {"annotations": {"round": round.to_string()}}}));
        clusters.patch("default", &PatchParams::default(), &note).await.unwrap();
        eventually("both were looked at", || async {
            let both =
                reconciles("topic").await > topics && reconciles("broker-cluster").await > seen;
            both.then_some(())
        })
        .await;
    }
    assert_eq!(Some(operator.writes().await), writes);
    let orders = topics.get("orders").await.unwrap();
    assert_eq!(orders.status.unwrap().conditions.len(), 2);
    assert!(orders.metadata.managed_fields.is_some());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_deletions_and_connections_are_counted_by_state_and_reason() {
    let world = World::new().await;
    let mut broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.apply::<Topic>("orders", json!({"deletionPolicy": "Delete"})).await;
    world.apply::<Topic>("lost", json!({"clusterRef": {"name": "nowhere"}})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    world.wait_condition::<Topic>("lost", "Ready", "False", "ClusterNotFound").await;
    let counted = |name: &'static str, labels: &'static [&'static str], wanted: u64| {
        let operator = &operator;
        async move {
            eventually(&format!("{name} {labels:?} is {wanted}"), || async {
                (operator.metric(name, labels).await == wanted).then_some(())
            })
            .await;
        }
    };
    let objects = "pinnace_operator_objects";
    counted(objects, &["kind=\"Topic\"", "state=\"ready\"", "reason=\"Synced\""], 1).await;
    counted(objects, &["kind=\"Topic\"", "reason=\"ClusterNotFound\""], 1).await;
    counted("pinnace_operator_broker_links", &["connected"], 1).await;
    broker.kill();
    world.delete::<Topic>("orders").await;
    world.wait_condition::<Topic>("orders", "Ready", "False", "DeletionWaitsForBroker").await;
    counted("pinnace_operator_deletions_waiting", &["kind=\"Topic\""], 1).await;
    counted("pinnace_operator_broker_links", &["silent"], 1).await;
    eventually("an age", || async {
        let age = operator.metric("pinnace_operator_deletion_oldest_seconds", &["Topic"]).await;
        (age >= 1).then_some(())
    })
    .await;
    broker.serve().await;
    world.wait_gone::<Topic>("orders").await;
    counted("pinnace_operator_deletions_waiting", &[], 0).await;
    assert!(world.api::<Topic>().get("lost").await.unwrap().uid().is_some());
    operator.stop().await;
}
