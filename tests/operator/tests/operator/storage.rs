//! Disks that are lost or full are seen.

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use operator_api::{BrokerCluster, Topic};
use serde_json::json;

use crate::deletion::events;
use crate::fake_broker::FakeBroker;
use crate::steadiness::all_writes;
use crate::world::{World, condition};

/// A cluster of two brokers whose disks were noted.
async fn noted(world: &World) -> [FakeBroker; 2] {
    let brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    world.apply::<BrokerCluster>("default", json!({"brokers": 2})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    for broker in 0..2 {
        let claim = format!("data-default-broker-{broker}-0");
        let noted = |claim: &PersistentVolumeClaim| {
            let disk = claim.annotations().get("pinnace.dev/disk-id");
            disk.is_some_and(|disk| *disk == format!("disk-{broker}-0"))
        };
        world.wait::<PersistentVolumeClaim>(&claim, "a note of its disk", noted).await;
    }
    let recorded = |map: &ConfigMap| {
        let disks = map.data.as_ref().and_then(|data| data.get("disks.json"));
        disks.is_some_and(|disks| disks.contains("disk-0-0") && disks.contains("disk-1-0"))
    };
    world.wait::<ConfigMap>("default-cluster-map", "a record of the disks", recorded).await;
    brokers
}

async fn accept(world: &World, disk: &str) {
    let patch =
        Patch::Merge(json!({"metadata": {"annotations": {"pinnace.dev/accept-disks": disk}}}));
    let clusters = world.api::<BrokerCluster>();
    clusters.patch("default", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_holds_the_cluster_until_somebody_accepts_the_new_one() {
    let world = World::new().await;
    let operator = world.operator("a");
    let [_first, mut second] = noted(&world).await;
    world.apply::<Topic>("orders", json!({})).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    second.kill();
    second.forget();
    second.serve().await;
    let stalled =
        world.wait_condition::<BrokerCluster>("default", "Stalled", "True", "DiskReplaced").await;
    for part in ["broker 1 runs on disk disk-1-1", "messages of shard-1 were on disk disk-1-0"] {
        assert!(stalled.message.contains(part), "{}", stalled.message);
    }
    assert!(stalled.message.ends_with("pinnace.dev/accept-disks=disk-1-1"), "{}", stalled.message);
    world.wait_condition::<BrokerCluster>("default", "DiskReplaced", "True", "DiskReplaced").await;
    // Another disk than the one that was accepted.
    accept(&world, "disk-1-0").await;
    operator.stop().await;
    let operator = world.operator("b");
    world.wait_condition::<BrokerCluster>("default", "Stalled", "True", "DiskReplaced").await;
    accept(&world, "disk-1-1").await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let noted = |claim: &PersistentVolumeClaim| {
        claim.annotations().get("pinnace.dev/disk-id").is_some_and(|disk| disk == "disk-1-1")
    };
    world.wait::<PersistentVolumeClaim>("data-default-broker-1-0", "the new disk", noted).await;

    // The next loss needs a word of its own, once the topic is there again.
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    second.kill();
    second.forget();
    second.serve().await;
    world.wait_condition::<BrokerCluster>("default", "Stalled", "True", "DiskReplaced").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_without_a_queue_holds_nobody_and_is_told_of() {
    let world = World::new().await;
    let operator = world.operator("a");
    let mut brokers = noted(&world).await;
    // One queue, and with it one broker.
    world.apply::<Topic>("orders", json!({"queues": 1})).await;
    let topic = world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    let placed = brokers[0].memory().topics["orders"].placement[0].shard.clone();
    let (used, unused) = if placed == "shard-0" { (0, 1) } else { (1, 0) };
    let lost = &mut brokers[unused];
    lost.kill();
    lost.forget();
    lost.serve().await;
    let told = events(&world, "EmptyDiskReplaced").await;
    let words =
        format!("broker {unused} runs on disk disk-{unused}-1 in the place of disk-{unused}-0; ");
    assert!(told[0].starts_with(&words), "{told:?} after {topic:?}");
    let new = format!("disk-{unused}-1");
    let noted = |claim: &PersistentVolumeClaim| {
        claim.annotations().get("pinnace.dev/disk-id").is_some_and(|disk| *disk == new)
    };
    let claim = format!("data-default-broker-{unused}-0");
    world.wait::<PersistentVolumeClaim>(&claim, "the new disk", noted).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;

    // The other one has the queue, and may have had messages.
    let lost = &mut brokers[used];
    lost.kill();
    lost.forget();
    lost.serve().await;
    let stalled =
        world.wait_condition::<BrokerCluster>("default", "Stalled", "True", "DiskReplaced").await;
    let words = format!("broker {used} runs on disk disk-{used}-1");
    assert!(stalled.message.starts_with(&words), "{}", stalled.message);
    assert_eq!(events(&world, "EmptyDiskReplaced").await.len(), 1);
    assert_eq!(events(&world, "DiskReplaced").await.len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_age_of_the_oldest_message_is_said_and_is_no_reason_to_write() {
    let world = World::new().await;
    let hours_ago =
        |hours: i64| u64::try_from(Timestamp::now().as_millisecond() - hours * 3_600_000).unwrap();
    let broker = world.broker("default", 0).await;
    broker.change(|memory| memory.oldest_message_ms = hours_ago(76));
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let storage = ("StorageHealthy", "True", "HasRoom");
    let told =
        world.wait_condition::<BrokerCluster>("default", storage.0, storage.1, storage.2).await;
    assert!(told.message.ends_with("; oldest message kept: 3d"), "{}", told.message);
    let mut settling = all_writes(&world).await;
    let pause = std::time::Duration::from_secs(3);
    while tokio::time::timeout(pause, settling.next()).await.is_ok() {}

    for hours in [200, 50, 1, 100, 30] {
        broker.change_and_tell(|memory| memory.oldest_message_ms = hours_ago(hours));
    }
    let written = tokio::time::timeout(pause, settling.next()).await;
    assert!(written.is_err(), "written for an age: {written:?}");
    broker.change_and_tell(|memory| memory.disk_used_bytes = 95);
    let storage = ("StorageHealthy", "False", "NearlyFull");
    let told =
        world.wait_condition::<BrokerCluster>("default", storage.0, storage.1, storage.2).await;
    assert!(told.message.ends_with("; oldest message kept: 1d"), "{}", told.message);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_and_a_cluster_that_takes_no_sends_is_not_ready() {
    let world = World::new().await;
    let operator = world.operator("a");
    let brokers = noted(&world).await;
    world.wait_condition::<BrokerCluster>("default", "StorageHealthy", "True", "HasRoom").await;
    brokers[0].change_and_tell(|memory| memory.disk_used_bytes = 95);
    let little = world
        .wait_condition::<BrokerCluster>("default", "StorageHealthy", "False", "NearlyFull")
        .await;
    assert!(little.message.contains("volume of broker 0 is free"), "{}", little.message);
    brokers[0].change_and_tell(|memory| memory.refuses_sends = true);
    let full = ("StorageHealthy", "False", "SendsRefused");
    world.wait_condition::<BrokerCluster>("default", full.0, full.1, full.2).await;
    let cluster = world.api::<BrokerCluster>().get("default").await.unwrap();
    assert_eq!(condition(&cluster, "Ready").unwrap().reason, "Serving");
    brokers[1].change_and_tell(|memory| memory.refuses_sends = true);
    world.wait_condition::<BrokerCluster>("default", "Ready", "False", "SendsRefused").await;
    for broker in &brokers {
        broker
            .change_and_tell(|memory| (memory.refuses_sends, memory.disk_used_bytes) = (false, 0));
    }
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    world.wait_condition::<BrokerCluster>("default", "StorageHealthy", "True", "HasRoom").await;
    operator.stop().await;
}

/// A StorageClass whose volumes may grow or not, and a volume of it for each broker of the cluster.
async fn volumes(world: &World, class: &str, may_grow: bool) {
    let object = json!({
        "metadata": {"name": class}, "provisioner": "pinnace.dev/none", "allowVolumeExpansion": may_grow,
    });
    let classes: Api<StorageClass> = Api::all(world.client.clone());
    let object = serde_json::from_value(object).unwrap();
    classes.create(&PostParams::default(), &object).await.unwrap();
    let object = json!({
        "metadata": {"name": class},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "persistentVolumeReclaimPolicy": "Delete", "hostPath": {"path": "/nowhere"},
            "claimRef": {"namespace": world.namespace, "name": "data-default-broker-0-0"},
        },
    });
    let all: Api<PersistentVolume> = Api::all(world.client.clone());
    let object = serde_json::from_value(object).unwrap();
    all.create(&PostParams::default(), &object).await.unwrap();
}

/// A cluster of one broker whose claim is bound to a volume of 1Gi.
async fn bound(world: &World, class: &str, may_grow: bool) -> FakeBroker {
    volumes(world, class, may_grow).await;
    let broker = world.broker("default", 0).await;
    let spec = json!({"storage": {"size": "1Gi", "className": class}});
    world.apply::<BrokerCluster>("default", spec).await;
    let bound = |claim: &PersistentVolumeClaim| asked_and_has(claim).1.as_deref() == Some("1Gi");
    world.wait::<PersistentVolumeClaim>("data-default-broker-0-0", "a volume", bound).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    broker
}

fn asked_and_has(claim: &PersistentVolumeClaim) -> (Option<String>, Option<String>) {
    let claim = serde_json::to_value(claim).unwrap();
    let text = |value: &serde_json::Value| value["storage"].as_str().map(str::to_owned);
    (text(&claim["spec"]["resources"]["requests"]), text(&claim["status"]["capacity"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_grow_with_the_spec_and_what_somebody_resized_stays() {
    let world = World::new().await;
    let operator = world.operator("a");
    let class = format!("grows-{}", world.namespace);
    let _broker = bound(&world, &class, true).await;
    let spec = json!({"storage": {"size": "2Gi", "className": class}});
    world.apply::<BrokerCluster>("default", spec).await;
    let waits =
        world.wait_condition::<BrokerCluster>("default", "Ready", "False", "VolumesGrow").await;
    assert!(waits.message.contains("2Gi: data-default-broker-0-0"), "{}", waits.message);
    let asked = |claim: &PersistentVolumeClaim| asked_and_has(claim).0.as_deref() == Some("2Gi");
    world.wait::<PersistentVolumeClaim>("data-default-broker-0-0", "a larger claim", asked).await;
    // What the resizer of a StorageClass does, for more than was asked.
    let claims = world.api::<PersistentVolumeClaim>();
    let more = Patch::Merge(json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}}));
    claims.patch("data-default-broker-0-0", &PatchParams::default(), &more).await.unwrap();
    let more = Patch::Merge(json!({"status": {"capacity": {"storage": "3Gi"}}}));
    claims.patch_status("data-default-broker-0-0", &PatchParams::default(), &more).await.unwrap();
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let claim = claims.get("data-default-broker-0-0").await.unwrap();
    assert_eq!(asked_and_has(&claim).0.as_deref(), Some("3Gi"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_may_not_grow_is_said_with_the_words_of_kubernetes() {
    let world = World::new().await;
    let operator = world.operator("a");
    let class = format!("stays-{}", world.namespace);
    let _broker = bound(&world, &class, false).await;
    let spec = json!({"storage": {"size": "2Gi", "className": class}});
    world.apply::<BrokerCluster>("default", spec).await;
    let stalled = world
        .wait_condition::<BrokerCluster>("default", "Stalled", "True", "VolumesCannotGrow")
        .await;
    for part in
        ["data-default-broker-0-0 cannot grow to 2Gi", "storageclass", "allowVolumeExpansion"]
    {
        assert!(stalled.message.contains(part), "{}", stalled.message);
    }
    operator.stop().await;
}
