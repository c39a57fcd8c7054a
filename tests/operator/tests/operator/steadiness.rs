//! Nothing is written when nothing changes: not in peace, and not when the operator starts again.

use std::time::Duration;

use futures::stream::{BoxStream, select_all};
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{ListParams, WatchEvent, WatchParams};
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use serde_json::json;

use crate::world::{Kind, World, eventually};

/// How long peace is looked at.
const PEACE: Duration = Duration::from_secs(8);

pub(crate) type Writes = BoxStream<'static, String>;

/// Every write to one kind in the namespace from now on.
async fn writes<K: Kind>(world: &World) -> Writes {
    let api = world.api::<K>();
    let now = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let stream = api.watch(&WatchParams::default(), &now).await.unwrap();
    let describe = |event: Result<WatchEvent<K>, kube::Error>| async move {
        match event.unwrap() {
            WatchEvent::Added(o) | WatchEvent::Modified(o) | WatchEvent::Deleted(o) => {
                let value = serde_json::to_value(&o).unwrap();
                // The scheduler goes on telling that there are no nodes.
                let foreign =
                    K::kind(&()) == "Event" && value["reportingComponent"] != "pinnace-operator";
                (!foreign).then(|| format!("{} {}: {value}", K::kind(&()), o.name_any()))
            }
            WatchEvent::Bookmark(_) => None,
            WatchEvent::Error(error) => panic!("{error:?}"),
        }
    };
    Box::pin(stream.filter_map(describe))
}

pub(crate) async fn all_writes(world: &World) -> Writes {
    let streams = [
        writes::<BrokerCluster>(world).await,
        writes::<Topic>(world).await,
        writes::<ConsumerGroup>(world).await,
        writes::<StatefulSet>(world).await,
        writes::<Service>(world).await,
        writes::<ConfigMap>(world).await,
        writes::<Secret>(world).await,
        writes::<PodDisruptionBudget>(world).await,
        writes::<Event>(world).await,
    ];
    Box::pin(select_all(streams))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_in_peace_nor_by_an_operator_that_starts_again() {
    let world = World::new().await;
    let broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.open_shop().await;
    // Kubernetes' own controllers still write about what was just made.
    let mut settling = all_writes(&world).await;
    while tokio::time::timeout(Duration::from_secs(3), settling.next()).await.is_ok() {}

    let mut written = all_writes(&world).await;
    let first = tokio::time::timeout(PEACE, written.next()).await;
    assert!(first.is_err(), "written in peace: {first:?}");

    let before = broker.memory();
    operator.stop().await;
    let operator = world.operator("b");
    // It has asked the broker for both again, and found both in place.
    eventually("the new operator works", || async {
        (broker.memory().applies >= before.applies + 2).then_some(())
    })
    .await;
    let first = tokio::time::timeout(PEACE, written.next()).await;
    assert!(first.is_err(), "written after a restart: {first:?}");
    assert_eq!(broker.memory().version, before.version);
    operator.stop().await;
    assert!(written.next().now_or_never().is_none(), "written at the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changes_by_hand_is_put_back() {
    use kube::api::{DeleteParams, Patch, PatchParams};

    let world = World::new().await;
    let _broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let uid = world.api::<Service>().get("default-client").await.unwrap().uid();
    world.api::<Service>().delete("default-client", &DeleteParams::default()).await.unwrap();
    world.wait::<Service>("default-client", "a successor", |service| service.uid() != uid).await;
    let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
    let sets = world.api::<StatefulSet>();
    sets.patch("default-broker-0", &PatchParams::default(), &patch).await.unwrap();
    let back =
        |set: &StatefulSet| set.spec.replicas == Some(1) && set.metadata.generation > Some(2);
    world.wait::<StatefulSet>("default-broker-0", "its pod back", back).await;
    operator.stop().await;
}
