//! BrokerClusters: the objects that are made, and what is said of them.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::PostParams;
use operator_api::broker_cluster::ShardState;
use operator_api::{BrokerCluster, Topic};
use serde_json::json;

use crate::world::{World, condition, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_gets_its_objects_and_serves() {
    let world = World::new().await;
    let brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({"brokers": 2, "shards": 3})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let cluster = world.api::<BrokerCluster>().get("default").await.unwrap();
    let status = cluster.status.clone().unwrap();
    assert_eq!(status.display.unwrap().brokers, "2/2");
    let shards: Vec<_> =
        status.shards.iter().map(|s| (s.name.as_str(), s.leader, s.state)).collect();
    let leading = ShardState::Leading;
    assert_eq!(shards, [("shard-0", 0, leading), ("shard-1", 1, leading), ("shard-2", 0, leading)]);
    let address = format!("default-client.{}.svc:8081", world.namespace);
    assert_eq!(status.endpoints[0].address, address);
    let (stalled, working) = (condition(&cluster, "Stalled"), condition(&cluster, "Reconciling"));
    assert_eq!((stalled, working), (None, None));

    let set = world.api::<StatefulSet>().get("default-broker-0").await.unwrap();
    assert_eq!(set.annotations()["pinnace.dev/shard-ids"], "0,2");
    assert_eq!(set.metadata.owner_references.as_ref().unwrap()[0].uid, cluster.uid().unwrap());
    let container = &set.spec.template.spec.as_ref().unwrap().containers[0];
    let arguments = container.args.as_ref().unwrap().join(" ");
    let advertised =
        format!("--advertise default-broker-0-0.default-brokers.{}.svc:8081", world.namespace);
    assert!(arguments.contains(&format!("{advertised} ")), "{arguments}");
    assert!(arguments.ends_with("--tls-key /etc/pinnace/tls/tls.key"), "{arguments}");
    let headless = world.api::<Service>().get("default-brokers").await.unwrap().spec.unwrap();
    assert_eq!(headless.publish_not_ready_addresses, Some(true));
    world.api::<PodDisruptionBudget>().get("default-brokers").await.unwrap();
    let map = world.api::<ConfigMap>().get("default-cluster-map").await.unwrap();
    assert!(map.data.unwrap()["cluster-map.json"].contains("\"version\": 1"));
    for broker in &brokers {
        let map = broker.memory().map;
        assert_eq!((map.version, map.brokers.len(), map.shards.len()), (1, 2, 3));
    }
    let claim = world.api::<PersistentVolumeClaim>().get("data-default-broker-1-0").await.unwrap();
    // The volume is nobody's child: it stays when the cluster goes.
    assert_eq!(claim.metadata.owner_references, None);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_says_less_leaves_brokers_shards_and_volumes_as_they_are() {
    let world = World::new().await;
    let _brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    let operator = world.operator("a");
    let said = json!({"brokers": 2, "shards": 3, "storage": {"size": "5Gi"}});
    world.apply::<BrokerCluster>("default", said).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let cluster = world.apply::<BrokerCluster>("default", json!({})).await;
    assert_eq!(cluster.spec, operator_api::BrokerClusterSpec::default());
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let status = world.api::<BrokerCluster>().get("default").await.unwrap().status.unwrap();
    assert_eq!((status.replicas, status.shards.len()), (Some(2), 3));
    assert_eq!(status.storage_size.unwrap().0, "5Gi");
    // What a manifest does not say any more is remembered: going back is refused all the same.
    for (less, words) in [
        (json!({"brokers": 1}), "brokers can only grow"),
        (json!({"shards": 2}), "shards can only grow"),
        (json!({"storage": {"size": "4Gi"}}), "storage.size can only grow"),
    ] {
        let error = world.try_apply::<BrokerCluster>("default", less).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_by_mistake_goes_no_further_than_was_allowed() {
    let world = World::new().await;
    let api = world.api::<BrokerCluster>();
    let params = kube::api::PatchParams::default();
    let to = |brokers: u32| kube::api::Patch::Merge(json!({"spec": {"replicas": brokers}}));
    world.apply::<BrokerCluster>("silent", json!({})).await;
    let scaled = api.patch_scale("silent", &params, &to(2)).await.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(2), "a manifest that does not say brokers");
    world.apply::<BrokerCluster>("default", json!({"brokers": 2})).await;
    api.patch_scale("default", &params, &to(3)).await.unwrap();
    let error = api.patch_scale("default", &params, &to(64)).await.unwrap_err().to_string();
    assert!(error.contains("to have more, set spec.maxBrokers as well"), "{error}");
    let most = kube::api::Patch::Merge(json!({"spec": {"maxBrokers": 5}}));
    api.patch("default", &params, &most).await.unwrap();
    api.patch_scale("default", &params, &to(5)).await.unwrap();
    assert!(api.patch_scale("default", &params, &to(6)).await.is_err());
    assert!(api.patch_scale("default", &params, &to(4)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_somebody_else_is_not_taken() {
    let world = World::new().await;
    let object = json!({"metadata": {"name": "default-client"}, "spec": {"ports": [{"port": 80}]}});
    let service: Service = serde_json::from_value(object).unwrap();
    world.api::<Service>().create(&PostParams::default(), &service).await.unwrap();
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    let stalled =
        world.wait_condition::<BrokerCluster>("default", "Stalled", "True", "NameTaken").await;
    assert!(
        stalled.message.contains("default-client exists and does not belong"),
        "{}",
        stalled.message
    );
    let service = world.api::<Service>().get("default-client").await.unwrap();
    assert_eq!(service.spec.unwrap().ports.unwrap()[0].port, 80);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_of_a_listener_goes_with_it() {
    let world = World::new().await;
    let operator = world.operator("a");
    let two = json!({"listeners": [{"name": "client"}, {"name": "other", "port": 9081}]});
    world.apply::<BrokerCluster>("default", two).await;
    world
        .wait::<Service>("default-other", "port 9081", |service| {
            service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port == 9081
        })
        .await;
    world.apply::<BrokerCluster>("default", json!({"listeners": [{"name": "client"}]})).await;
    world.wait_gone::<Service>("default-other").await;
    world.api::<Service>().get("default-client").await.unwrap();
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_growing_cluster_keeps_its_shards_and_gives_every_broker_the_new_map() {
    let world = World::new().await;
    let first = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({"brokers": 1, "shards": 2})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let topics = [
        ("orders", "NORMAL", "Spread", [4, 4, 3]),
        ("ledger", "FIFO", "Spread", [4, 4, 3]),
        ("notes", "NORMAL", "Keep", [4, 4, 0]),
    ];
    for (topic, message_type, placement, _) in topics {
        let spec = json!({"queues": 8, "messageType": message_type, "placement": placement});
        world.apply::<Topic>(topic, spec).await;
        world.wait_condition::<Topic>(topic, "Ready", "True", "Synced").await;
    }
    let second = world.broker("default", 1).await;
    world.apply::<BrokerCluster>("default", json!({"brokers": 2, "shards": 3})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    for (topic, _, _, queues) in topics {
        let placed = |topic: &Topic| {
            let placement = topic.status.iter().flat_map(|status| &status.placement);
            let placed: Vec<_> = placement.map(|p| (p.shard.clone(), p.queues)).collect();
            let wanted = (0..3).zip(queues).filter(|(_, queues)| *queues > 0);
            placed == wanted.map(|(id, queues)| (format!("shard-{id}"), queues)).collect::<Vec<_>>()
        };
        world.wait::<Topic>(topic, "its queues", placed).await;
    }
    let held = |topic: &str| second.memory().topics[topic].clone();
    assert_eq!((held("orders").queues, held("orders").first_queues), (11, None));
    assert_eq!((held("ledger").queues, held("ledger").first_queues), (11, Some(8)));
    let map = eventually("the second broker gets the map", || async {
        Some(second.memory().map).filter(|map| map.shards.len() == 3)
    })
    .await;
    let leaders: Vec<_> = map.shards.iter().map(|s| (s.id, s.leader_broker)).collect();
    assert_eq!(leaders, [(0, 0), (1, 0), (2, 1)]);
    assert_eq!(first.memory().map, map);
    assert_eq!(map.version, 2);
    let refused = world.apply::<BrokerCluster>("default", json!({"brokers": 3, "shards": 3})).await;
    assert_eq!(refused.spec.brokers, Some(3));
    let stalled = world
        .wait_condition::<BrokerCluster>("default", "Stalled", "True", "BrokerWithoutShard")
        .await;
    assert!(stalled.message.contains("at least 4"), "{}", stalled.message);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_restarts_one_broker_after_the_other() {
    let world = World::new().await;
    let _brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({"brokers": 2})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    // The first pod of the new version does not get ready.
    let held = json!({"brokers": 2, "version": "9.9.9", "pod": {"labels": {"test/hold": "yes"}}});
    world.apply::<BrokerCluster>("default", held).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "False", "BrokersNotReady").await;
    let image = |set: &StatefulSet| {
        set.spec.template.spec.as_ref().unwrap().containers[0].image.clone().unwrap()
    };
    let first = world.api::<StatefulSet>().get("default-broker-0").await.unwrap();
    let second = world.api::<StatefulSet>().get("default-broker-1").await.unwrap();
    assert_eq!(
        (image(&first).as_str(), image(&second).as_str()),
        ("pinnace.dev/pinnace:9.9.9", "pinnace.dev/pinnace:0.1.0")
    );
    world.apply::<BrokerCluster>("default", json!({"brokers": 2, "version": "9.9.9"})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let second = world.api::<StatefulSet>().get("default-broker-1").await.unwrap();
    assert_eq!(image(&second), "pinnace.dev/pinnace:9.9.9");
    operator.stop().await;
}

/// One broker with two shards that grew to two brokers with three: no new cluster would place them like this.
const GROWN: [(u32, u32); 3] = [(0, 0), (1, 0), (2, 1)];

async fn grow(world: &World) -> [crate::fake_broker::FakeBroker; 2] {
    let brokers = [world.broker("default", 0).await, world.broker("default", 1).await];
    world.apply::<BrokerCluster>("default", json!({"brokers": 1, "shards": 2})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    world.apply::<BrokerCluster>("default", json!({"brokers": 2, "shards": 3})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    for (broker, shards) in [(0, "0,1"), (1, "2")] {
        let claim = format!("data-default-broker-{broker}-0");
        let noted = |claim: &PersistentVolumeClaim| {
            claim.annotations().get("pinnace.dev/shard-ids").is_some_and(|text| text == shards)
        };
        world.wait::<PersistentVolumeClaim>(&claim, "a note of its shards", noted).await;
    }
    brokers
}

/// The cluster serves, its StatefulSets are there, and shards are where they were.
async fn assert_grown(world: &World) {
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let cluster = world.api::<BrokerCluster>().get("default").await.unwrap();
    let shards = cluster.status.unwrap().shards;
    assert_eq!(shards.iter().map(|s| (s.id, s.leader)).collect::<Vec<_>>(), GROWN);
    for (broker, shards) in [(0, "0,1"), (1, "2")] {
        let set = world.api::<StatefulSet>().get(&format!("default-broker-{broker}")).await;
        assert_eq!(set.unwrap().annotations()["pinnace.dev/shard-ids"], shards);
    }
}

async fn delete_cluster(world: &World) {
    world.delete::<BrokerCluster>("default").await;
    world.wait_gone::<BrokerCluster>("default").await;
    for broker in 0..2 {
        world.wait_gone::<StatefulSet>(&format!("default-broker-{broker}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_made_again_finds_its_shards_where_they_were() {
    let world = World::new().await;
    let operator = world.operator("a");
    let _brokers = grow(&world).await;
    delete_cluster(&world).await;
    world.apply::<BrokerCluster>("default", json!({"brokers": 2, "shards": 3})).await;
    assert_grown(&world).await;

    // The notes on the volumes are enough.
    delete_cluster(&world).await;
    world.delete::<ConfigMap>("default-cluster-map").await;
    world.apply::<BrokerCluster>("default", json!({"brokers": 2, "shards": 3})).await;
    assert_grown(&world).await;

    // And so is the record.
    delete_cluster(&world).await;
    for broker in 0..2 {
        let claim = format!("data-default-broker-{broker}-0");
        world.delete::<PersistentVolumeClaim>(&claim).await;
        world.wait_gone::<PersistentVolumeClaim>(&claim).await;
    }
    world.apply::<BrokerCluster>("default", json!({"brokers": 2, "shards": 3})).await;
    assert_grown(&world).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_stateful_set_and_a_lost_record_change_no_placement() {
    let world = World::new().await;
    let operator = world.operator("a");
    let _brokers = grow(&world).await;
    let before = world.api::<StatefulSet>().get("default-broker-0").await.unwrap().uid();
    world.delete::<StatefulSet>("default-broker-0").await;
    let again = |set: &StatefulSet| set.uid() != before;
    world.wait::<StatefulSet>("default-broker-0", "made again", again).await;
    assert_grown(&world).await;
    let before = world.api::<ConfigMap>().get("default-cluster-map").await.unwrap().uid();
    world.delete::<ConfigMap>("default-cluster-map").await;
    let again = |map: &ConfigMap| map.uid() != before;
    world.wait::<ConfigMap>("default-cluster-map", "made again", again).await;
    assert_grown(&world).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_would_leave_a_volume_unserved_says_so() {
    let world = World::new().await;
    let operator = world.operator("a");
    let _brokers = grow(&world).await;
    delete_cluster(&world).await;
    world.apply::<BrokerCluster>("default", json!({"brokers": 1, "shards": 2})).await;
    let stalled = world
        .wait_condition::<BrokerCluster>("default", "Stalled", "True", "ShardsElsewhere")
        .await;
    let said = "PersistentVolumeClaim data-default-broker-1-0 of broker 1 (shard-2)";
    assert!(stalled.message.contains(said), "{}", stalled.message);
    assert!(stalled.message.contains("set spec.brokers to at least 2"), "{}", stalled.message);

    // Nobody needs them: without volume and record the smaller cluster serves.
    world.delete::<ConfigMap>("default-cluster-map").await;
    world.delete::<PersistentVolumeClaim>("data-default-broker-1-0").await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_gets_a_network_policy_that_is_kept_and_not_written_again() {
    let world = World::new().await;
    let _broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let made = world.api::<NetworkPolicy>().get("default-broker-ports").await.unwrap();
    let spec = serde_json::to_value(made.spec.as_ref().unwrap()).unwrap();
    let admin = &spec["ingress"][2];
    assert_eq!(admin["ports"][0]["port"], 8083);
    let from = &admin["from"][0];
    assert_eq!(
        from["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"],
        world.namespace
    );
    assert_eq!(from["podSelector"]["matchLabels"]["app.kubernetes.io/name"], "pinnace-operator");
    assert_eq!(spec["ingress"][0].get("from"), None, "clients are everybody");

    // Another reconcile that changes another object leaves it alone.
    let listeners = json!({"listeners": [{"name": "client", "port": 9081}]});
    world.apply::<BrokerCluster>("default", listeners.clone()).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let kept = world.api::<NetworkPolicy>().get("default-broker-ports").await.unwrap();
    let written = |policy: &NetworkPolicy| policy.metadata.managed_fields.clone();
    assert_eq!(
        (kept.resource_version(), written(&kept)),
        (made.resource_version(), written(&made))
    );

    world.delete::<NetworkPolicy>("default-broker-ports").await;
    let wanted = |policy: &NetworkPolicy| policy.uid() != made.uid();
    world.wait::<NetworkPolicy>("default-broker-ports", "a new uid", wanted).await;

    let clients = json!({"networkPolicy": {"clientsFrom": [{"podSelector": {}}]}});
    world.apply::<BrokerCluster>("default", clients).await;
    let limited = |policy: &NetworkPolicy| {
        let ingress = policy.spec.as_ref().and_then(|spec| spec.ingress.as_ref());
        ingress.is_some_and(|rules| rules[0].from.as_ref().is_some_and(|from| from.len() == 2))
    };
    world.wait::<NetworkPolicy>("default-broker-ports", "clients that are named", limited).await;
    world.apply::<BrokerCluster>("default", json!({"networkPolicy": {"enabled": false}})).await;
    world.wait_gone::<NetworkPolicy>("default-broker-ports").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_kubernetes_refuses_is_said_with_its_words() {
    let world = World::new().await;
    let _broker = world.broker("default", 0).await;
    let operator = world.operator("a");
    let from = |cidr: &str| {
        let peer = json!({"ipBlock": {"cidr": cidr}});
        json!({"networkPolicy": {"metricsFrom": [peer]}})
    };
    world.apply::<BrokerCluster>("default", from("anywhere")).await;
    let stalled = world
        .wait_condition::<BrokerCluster>("default", "Stalled", "True", "RefusedByKubernetes")
        .await;
    assert!(stalled.message.contains("NetworkPolicy"), "{}", stalled.message);
    assert!(stalled.message.contains("anywhere"), "{}", stalled.message);
    let twice = json!({"image": {"pullSecrets": ["registry", "registry"]}});
    world.apply::<BrokerCluster>("default", twice).await;
    let stalled = world
        .wait_condition::<BrokerCluster>("default", "Stalled", "True", "RefusedByKubernetes")
        .await;
    assert!(stalled.message.contains("duplicate entries"), "{}", stalled.message);
    world.apply::<BrokerCluster>("default", from("10.0.0.0/8")).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    operator.stop().await;
}
