//! When brokers restart: for whom, by whose leave, and one after the other.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use operator_api::BrokerCluster;
use operator_api::update::{UpdateCause, UpdateGate, UpdateStatus};
use serde_json::{Value, json};

use crate::fake_broker::FakeBroker;
use crate::world::{RunningOperator, World};

/// The image of operators whose version of brokers is not set otherwise.
const OLD: &str = "pinnace.dev/pinnace:0.1.0";
const NEW: &str = "pinnace.dev/pinnace:0.2.0";

fn pod_of(broker: u32) -> String {
    format!("default-broker-{broker}-0")
}

async fn brokers(world: &World) -> Vec<FakeBroker> {
    let mut brokers = Vec::new();
    for id in 0..3 {
        brokers.push(world.broker("default", id).await);
    }
    brokers
}

/// Three brokers that serve, by an operator of version 0.1.0.
async fn serve(world: &World, spec: Value) -> RunningOperator {
    let operator = upgraded(world, "a", "0.1.0");
    world.apply::<BrokerCluster>("default", spec).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    world.wait_condition::<BrokerCluster>("default", "Updated", "True", "AsPlanned").await;
    operator
}

/// An operator with another version of brokers.
fn upgraded(world: &World, identity: &str, version: &str) -> RunningOperator {
    let arguments = ["--watch-namespace", &world.namespace, "--broker-version", version];
    world.operator_with(identity, &arguments)
}

async fn uids(world: &World) -> Vec<Option<String>> {
    let mut uids = Vec::new();
    for broker in 0..3 {
        uids.push(world.api::<Pod>().get(&pod_of(broker)).await.unwrap().uid());
    }
    uids
}

async fn images(world: &World) -> Vec<String> {
    let mut images = Vec::new();
    for broker in 0..3 {
        let set = world.api::<StatefulSet>().get(&format!("default-broker-{broker}")).await;
        let spec = set.unwrap().spec.template.spec.unwrap();
        images.push(spec.containers[0].image.clone().unwrap());
    }
    images
}

async fn annotate(world: &World, plan: Option<&str>) {
    let patch = json!({"metadata": {"annotations": {"pinnace.dev/approve-plan": plan}}});
    let api = world.api::<BrokerCluster>();
    api.patch("default", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

async fn update(world: &World) -> UpdateStatus {
    let cluster = world.api::<BrokerCluster>().get("default").await.unwrap();
    cluster.status.unwrap().update.unwrap()
}

async fn updated(world: &World, count: &str) -> BrokerCluster {
    let is = |cluster: &BrokerCluster| {
        let display = cluster.status.as_ref().and_then(|status| status.display.clone());
        display.is_some_and(|display| display.updated == count)
    };
    world.wait::<BrokerCluster>("default", count, is).await
}

/// Waits until the operator has looked at an annotation that approves nothing of what is planned.
async fn refused(world: &World, plan: &str) {
    annotate(world, Some(plan)).await;
    let words = format!("names {plan}, which is not this plan");
    let is_told = |cluster: &BrokerCluster| {
        let updated = crate::world::condition(cluster, "Updated");
        updated.is_some_and(|c| c.reason == "ApprovalNeeded" && c.message.contains(&words))
    };
    world.wait::<BrokerCluster>("default", &words, is_told).await;
}

/// Loses the pod of a broker; answers the image of the one that comes in its place.
async fn lose_pod(world: &World, broker: u32) -> String {
    let pods = world.api::<Pod>();
    let before = pods.get(&pod_of(broker)).await.unwrap().uid();
    pods.delete(&pod_of(broker), &DeleteParams::default().grace_period(0)).await.unwrap();
    let is_another = |pod: &Pod| pod.uid() != before;
    let pod = world.wait::<Pod>(&pod_of(broker), "another pod", is_another).await;
    pod.spec.unwrap().containers[0].image.clone().unwrap()
}

/// Says that a pod is ready which nobody else says it of.
async fn ready(world: &World, broker: u32, image: &str) {
    let is_new = |pod: &Pod| {
        let runs = pod.spec.as_ref().unwrap().containers[0].image.as_deref();
        runs == Some(image) && pod.metadata.deletion_timestamp.is_none()
    };
    world.wait::<Pod>(&pod_of(broker), image, is_new).await;
    let status = json!({"status": {
        "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
    }});
    let params = PatchParams::default();
    world.api::<Pod>().patch_status(&pod_of(broker), &params, &Patch::Merge(status)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_operator_restarts_no_broker_until_its_plan_is_approved() {
    let world = World::new().await;
    let _brokers = brokers(&world).await;
    serve(&world, json!({"brokers": 3})).await.stop().await;
    let before = uids(&world).await;

    let operator = upgraded(&world, "b", "0.2.0");
    let needed = world
        .wait_condition::<BrokerCluster>("default", "Updated", "False", "ApprovalNeeded")
        .await;
    let plan = update(&world).await;
    let command = format!(
        "kubectl annotate -n {} brokercluster default pinnace.dev/approve-plan={} --overwrite",
        world.namespace, plan.plan
    );
    assert!(needed.message.ends_with(&command), "{}", needed.message);
    assert_eq!(plan.brokers.iter().map(|one| one.broker).collect::<Vec<_>>(), [0, 1, 2]);
    for one in &plan.brokers {
        assert_eq!(one.because, [UpdateCause::Operator]);
        assert_eq!(one.waits_for, UpdateGate::Approval);
        assert_eq!(one.changes, [format!("image: {OLD} -> {NEW}")]);
    }
    updated(&world, "0/3").await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;

    refused(&world, "0123456789abcdef").await;
    assert_eq!((uids(&world).await, images(&world).await), (before, vec![OLD.to_owned(); 3]));
    assert_eq!(lose_pod(&world, 1).await, OLD, "a lost pod is no upgrade");

    // What is applied by hand to a StatefulSet that waits is repaired, and not with what waits.
    let drift = json!({"spec": {"replicas": 0}});
    let sets = world.api::<StatefulSet>();
    sets.patch("default-broker-2", &PatchParams::default(), &Patch::Merge(drift)).await.unwrap();
    let repaired = |set: &StatefulSet| set.spec.replicas == Some(1);
    world.wait::<StatefulSet>("default-broker-2", "one replica", repaired).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    assert_eq!(images(&world).await, [OLD; 3]);

    annotate(&world, Some(&plan.plan)).await;
    world.wait_condition::<BrokerCluster>("default", "Updated", "True", "AsPlanned").await;
    updated(&world, "3/3").await;
    assert_eq!(images(&world).await, [NEW; 3]);
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approval_withdrawn_in_the_middle_stops_the_roll_where_it_is() {
    let world = World::new().await;
    let _brokers = brokers(&world).await;
    let on_approval = json!({"strategy": "OnApproval"});
    let operator = serve(&world, json!({"brokers": 3, "update": on_approval})).await;
    let before = uids(&world).await;
    // Pods of the new template get ready when the test says so.
    let held = json!({"labels": {"test/hold": "yes"}});
    let spec = json!({"brokers": 3, "version": "0.2.0", "pod": held, "update": on_approval});
    world.apply::<BrokerCluster>("default", spec).await;
    world.wait_condition::<BrokerCluster>("default", "Updated", "False", "ApprovalNeeded").await;
    refused(&world, "yes").await;
    assert_eq!(uids(&world).await, before);

    let plan = update(&world).await;
    assert!(plan.brokers.iter().all(|one| one.because == [UpdateCause::Spec]), "{plan:?}");
    annotate(&world, Some(&plan.plan)).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "False", "BrokersNotReady").await;
    annotate(&world, None).await;
    world.wait_condition::<BrokerCluster>("default", "Updated", "False", "ApprovalNeeded").await;
    ready(&world, 0, NEW).await;
    let stopped = updated(&world, "1/3").await;
    assert_eq!(stopped.status.unwrap().update.unwrap().plan, plan.plan, "the plan is the same");
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    refused(&world, "no").await;
    assert_eq!(images(&world).await, [NEW, OLD, OLD]);
    assert_eq!(uids(&world).await[1..], before[1..]);

    annotate(&world, Some(&plan.plan)).await;
    ready(&world, 1, NEW).await;
    ready(&world, 2, NEW).await;
    world.wait_condition::<BrokerCluster>("default", "Updated", "True", "AsPlanned").await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_cluster_restarts_nothing_and_goes_on_when_the_pause_ends() {
    let world = World::new().await;
    let _brokers = brokers(&world).await;
    let operator = serve(&world, json!({"brokers": 3})).await;
    let before = uids(&world).await;
    let paused = json!({"brokers": 3, "version": "0.2.0", "update": {"strategy": "Paused"}});
    world.apply::<BrokerCluster>("default", paused).await;
    world.wait_condition::<BrokerCluster>("default", "Updated", "False", "Paused").await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let plan = update(&world).await;
    assert!(plan.brokers.iter().all(|one| one.waits_for == UpdateGate::Unpause), "{plan:?}");
    assert_eq!((uids(&world).await, images(&world).await), (before, vec![OLD.to_owned(); 3]));
    assert_eq!(lose_pod(&world, 0).await, OLD);
    // The change is one of the spec: without a pause nobody has to approve it.
    world.apply::<BrokerCluster>("default", json!({"brokers": 3, "version": "0.2.0"})).await;
    world.wait_condition::<BrokerCluster>("default", "Updated", "True", "AsPlanned").await;
    assert_eq!(images(&world).await, [NEW; 3]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_automatic_a_change_of_the_spec_and_a_new_operator_roll_by_themselves() {
    let world = World::new().await;
    let _brokers = brokers(&world).await;
    let silent = json!({"brokers": 3, "update": {"strategy": "Automatic"}});
    let operator = serve(&world, silent.clone()).await;
    let mut said = silent.clone();
    said["version"] = json!("0.1.5");
    world.apply::<BrokerCluster>("default", said).await;
    world.wait_condition::<BrokerCluster>("default", "Updated", "True", "AsPlanned").await;
    assert_eq!(images(&world).await, ["pinnace.dev/pinnace:0.1.5"; 3]);
    world.apply::<BrokerCluster>("default", silent).await;
    world.wait_condition::<BrokerCluster>("default", "Updated", "True", "AsPlanned").await;
    operator.stop().await;
    let operator = upgraded(&world, "b", "0.2.0");
    let is_new = |set: &StatefulSet| {
        set.spec.template.spec.as_ref().unwrap().containers[0].image.as_deref() == Some(NEW)
    };
    world.wait::<StatefulSet>("default-broker-2", NEW, is_new).await;
    assert_eq!(images(&world).await, [NEW; 3]);
    world.wait_condition::<BrokerCluster>("default", "Updated", "True", "AsPlanned").await;
    operator.stop().await;
}
