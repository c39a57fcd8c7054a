//! The operator with real broker processes, as the pods would run them: the admin API on both sides is the real one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use operator::broker_admin::{BrokerAdmin, BrokerEndpoint, Connect as _, GrpcConnector};
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use serde_json::json;
use tokio::process::{Child, Command};

use crate::world::{World, condition, eventually};

/// A broker process with its own data, on addresses that stay the same.
pub(crate) struct RealBroker {
    admin: SocketAddr,
    arguments: Vec<String>,
    child: Child,
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn start(arguments: &[String]) -> Child {
    let binary = std::env::var("PINNACE_TEST_BROKER")
        .expect("PINNACE_TEST_BROKER names the binary pinnace; use tests/operator/run");
    let mut command = Command::new(binary);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().unwrap()
}

impl RealBroker {
    /// Runs what the StatefulSet of a broker says, on addresses of this machine.
    pub(crate) async fn of(world: &World, cluster: &str, id: u32, data: &Path) -> Self {
        let name = format!("{cluster}-broker-{id}");
        let set = world.wait::<StatefulSet>(&name, "made", |_| true).await;
        let container = set.spec.template.spec.unwrap().containers.remove(0);
        let mut arguments = container.args.unwrap();
        let admin = free_address();
        let mut put = |flag: &str, value: String| {
            let at = arguments.iter().position(|a| a == flag).unwrap() + 1;
            arguments[at] = value;
        };
        put("--data", data.join(&name).to_string_lossy().into_owned());
        put("--listen", "127.0.0.1:0".to_owned());
        put("--http", "127.0.0.1:0".to_owned());
        put("--admin", admin.to_string());
        let folder = data.join(format!("{name}-tls"));
        std::fs::create_dir_all(&folder).unwrap();
        let secret = world.wait::<Secret>(&format!("{cluster}-tls"), "made", |_| true).await;
        for (flag, key) in [("--tls-certificate", "tls.crt"), ("--tls-key", "tls.key")] {
            let file = folder.join(key);
            std::fs::write(&file, &secret.data.as_ref().unwrap()[key].0).unwrap();
            put(flag, file.to_string_lossy().into_owned());
        }
        world.lead_to(cluster, id, admin);
        let child = start(&arguments);
        Self { admin, arguments, child }
    }

    /// A connection to its admin API, once that answers.
    pub(crate) async fn admin(&self) -> Arc<dyn BrokerAdmin> {
        let host = self.admin.ip().to_string();
        let endpoint = BrokerEndpoint { broker: 0, host, port: self.admin.port() };
        let admin = GrpcConnector.connect(&endpoint).unwrap();
        eventually("the broker answers", || async { admin.watch_state().await.ok().map(drop) })
            .await;
        admin
    }

    async fn kill_and_start(&mut self) {
        self.child.kill().await.unwrap();
        self.child = start(&self.arguments);
    }
}

pub(crate) fn scratch(world: &World) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("pinnace-{}", world.namespace));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_brokers_run_as_their_stateful_sets_say_and_take_what_the_operator_brings() {
    let world = World::new().await;
    let data = scratch(&world);
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({"brokers": 2, "shards": 4})).await;
    let mut first = RealBroker::of(&world, "default", 0, &data).await;
    let _second = RealBroker::of(&world, "default", 1, &data).await;
    // Addresses are known now: a new operator connects to them.
    operator.stop().await;
    let operator = world.operator("b");
    world.apply::<Topic>("orders", json!({"queues": 8, "retention": {"time": "72h"}})).await;
    let spec = json!({
        "subscriptions": [{"topic": "orders", "filter": {"expression": "paid"}}],
        "retry": {"maxAttempts": 5, "backoff": {"exponential": {"initial": "1s", "max": "1m"}}},
    });
    let mut with_reset = spec.clone();
    world.apply::<ConsumerGroup>("billing", spec).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;
    world.wait_condition::<ConsumerGroup>("billing", "Ready", "True", "Synced").await;
    let placed = world.api::<Topic>().get("orders").await.unwrap().status.unwrap().placement;
    assert_eq!(placed.iter().map(|p| p.queues).collect::<Vec<_>>(), [2, 2, 2, 2]);
    let group = world.api::<ConsumerGroup>().get("billing").await.unwrap();
    assert!(condition(&group, "Active").is_some_and(|c| c.reason == "NoMembers"));

    with_reset["offsetReset"] = json!({"id": "again", "to": {"position": "Earliest"}});
    world.apply::<ConsumerGroup>("billing", with_reset).await;
    let done = ("OffsetResetComplete", "True", "Completed");
    world.wait_condition::<ConsumerGroup>("billing", done.0, done.1, done.2).await;

    first.kill_and_start().await;
    world.apply::<Topic>("orders", json!({"queues": 12, "retention": {"time": "72h"}})).await;
    let grown = |topic: &Topic| topic.status.as_ref().unwrap().queues == Some(12);
    world.wait::<Topic>("orders", "12 queues after a restart", grown).await;
    world.wait_condition::<Topic>("orders", "Ready", "True", "Synced").await;

    world.apply::<Topic>("gone", json!({"deletionPolicy": "Delete"})).await;
    world.wait_condition::<Topic>("gone", "Ready", "True", "Synced").await;
    world.delete::<Topic>("gone").await;
    world.wait_gone::<Topic>("gone").await;
    operator.stop().await;
    eventually("the scratch folder is gone", || async { std::fs::remove_dir_all(&data).ok() })
        .await;
}
