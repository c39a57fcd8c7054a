//! The operator as a process of its own: probes, metrics, and its end on SIGTERM.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use operator_api::Topic;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::world::{World, eventually};

/// Status line and body of a GET; none when nobody answers.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

async fn get_until(address: SocketAddr, path: &str, wanted: &str) -> String {
    let what = format!("GET {path} says {wanted}");
    eventually(&what, || async { get(address, path).await.filter(|a| a.contains(wanted)) }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_shows_itself_works_and_ends_in_time_on_sigterm() {
    let world = World::new().await;
    let variable = |name: &str| {
        std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; use tests/operator/run"))
    };
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut process = Command::new(variable("PINNACE_TEST_OPERATOR"))
        .args(["run", "--http", &address.to_string(), "--log-format", "json"])
        .env("KUBECONFIG", variable("PINNACE_TEST_KUBECONFIG"))
        .env("PINNACE_OPERATOR_NAMESPACE", &world.namespace)
        .env("PINNACE_OPERATOR_WATCH_NAMESPACE", &world.namespace)
        .env("POD_NAME", "operator-0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    get_until(address, "/healthz", "200 OK").await;
    get_until(address, "/readyz", "200 OK").await;
    world.apply::<Topic>("orders", json!({})).await;
    world.wait_condition::<Topic>("orders", "Ready", "False", "ClusterNotFound").await;
    get_until(address, "/metrics", "pinnace_operator_leader 1").await;
    let reconciles = r#"pinnace_operator_reconciles_total{controller="topic",outcome="ok"}"#;
    get_until(address, "/metrics", reconciles).await;

    let pid = process.id().unwrap().to_string();
    let stopping = Instant::now();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let status = process.wait().await.unwrap();
    assert!(status.success(), "{status}");
    assert!(stopping.elapsed() < Duration::from_secs(10), "{:?}", stopping.elapsed());
    let lease = world.api::<Lease>().get("pinnace-operator").await.unwrap();
    assert_eq!(lease.spec.unwrap().holder_identity, None);
}
