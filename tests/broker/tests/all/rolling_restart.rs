//! Three brokers behind one address are restarted one after the other, as a rollout does it, while messages are sent and
//! received: nothing that was acknowledged is lost or late, and clients notice little.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use broker_proto::admin::{ApplyTopicRequest, MessageType, QueuePlacement, Topic};
use broker_proto::rocketmq::Code;
use tests_broker::broker::start_on;
use tests_broker::client::{message, message_id};
use tests_broker::{Broker, Client, Options, get};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::Endpoint;

use crate::cluster::tell_map;

/// How long a broker serves on when it is told to stop.
const STOP_DELAY_SECONDS: u64 = 1;
/// Nobody who sends waits longer, also on a busy machine.
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// After the last restart whatever was acknowledged has come within this time.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// One address that leads each connection to the next broker that is ready, as a Service of Kubernetes does.
async fn service(brokers: Vec<(SocketAddr, SocketAddr)>) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let turn = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = socket.accept().await {
            let (brokers, turn) = (brokers.clone(), Arc::clone(&turn));
            tokio::spawn(async move {
                let ready = tokio::task::spawn_blocking(move || {
                    let is_ready = |(_, http): &&(SocketAddr, SocketAddr)| {
                        get(*http, "/readyz").is_ok_and(|answer| answer.contains(" 200 "))
                    };
                    let ready: Vec<_> = brokers.iter().filter(is_ready).map(|b| b.0).collect();
                    let turn = turn.fetch_add(1, Ordering::Relaxed);
                    (!ready.is_empty()).then(|| ready[turn % ready.len()])
                });
                let Ok(Some(broker)) = ready.await else { return };
                if let Ok(mut broker) = TcpStream::connect(broker).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut broker).await;
                }
            });
        }
    });
    address
}

fn start(folder: &Path, id: usize, ports: Option<[SocketAddr; 3]>) -> Broker {
    let mut options = Options::default()
        .with("--broker-id", id)
        .with("--shard-ids", id)
        .with("--stop-delay-seconds", STOP_DELAY_SECONDS);
    if let Some([listen, http, admin]) = ports {
        options = options.with("--listen", listen).with("--http", http).with("--admin", admin);
    }
    start_on(&folder.join(format!("data-{id}")), &options)
}

/// A topic with two queues on each shard, told to every broker as the operator does.
async fn declare(brokers: &[Broker]) {
    let placed = |id: u32| QueuePlacement { shard: format!("shard-{id}"), queues: 2 };
    let topic = Topic {
        name: "orders".to_owned(),
        r#type: MessageType::Normal.into(),
        queues: 6,
        placement: (0..3).map(placed).collect(),
        ..Topic::default()
    };
    for broker in brokers {
        let topic = Some(topic.clone());
        let request = ApplyTopicRequest { topic, ..ApplyTopicRequest::default() };
        broker.admin().await.apply_topic(request).await.unwrap();
        broker.create_group("billing", 0).await;
    }
}

fn client(service: SocketAddr, id: &str) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{service}")).unwrap();
    Client::over(endpoint.timeout(Duration::from_secs(10)).connect_lazy(), id)
}

#[derive(Debug, Default)]
struct Seen {
    acknowledged: Mutex<BTreeSet<String>>,
    received: Mutex<Vec<String>>,
    failures: Mutex<Vec<String>>,
    longest_pause: Mutex<Duration>,
    is_over: AtomicBool,
}

async fn produce(service: SocketAddr, seen: Arc<Seen>) {
    let mut client = client(service, "producer");
    let mut last = Instant::now();
    for number in 0.. {
        let id = format!("m{number}");
        while !seen.is_over.load(Ordering::Relaxed) {
            let sent = client.send(vec![message("orders", &id, b"x")]).await;
            let code = sent.map(|answer| answer.status.map(|status| status.code()));
            if matches!(code, Ok(Some(Code::Ok))) {
                seen.acknowledged.lock().unwrap().insert(id);
                let mut longest = seen.longest_pause.lock().unwrap();
                *longest = last.elapsed().max(*longest);
                last = Instant::now();
                break;
            }
            seen.failures.lock().unwrap().push(format!("{id}: {code:?}"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if seen.is_over.load(Ordering::Relaxed) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

async fn consume(service: SocketAddr, name: &str, seen: Arc<Seen>) {
    let mut client = client(service, name);
    loop {
        match client.receive("orders", "billing", 16).await {
            Ok(got) if !got.messages.is_empty() => {
                let ids = got.messages.iter().map(|message| message_id(message).to_owned());
                seen.received.lock().unwrap().extend(ids);
                let _ = client.acknowledge("orders", "billing", &got.messages).await;
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_restart_one_after_the_other_lose_nothing_and_keep_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let mut brokers: Vec<_> = (0..3).map(|id| start(folder.path(), id, None)).collect();
    tell_map(&brokers.iter().collect::<Vec<_>>(), &[0, 1, 2]).await;
    declare(&brokers).await;
    let service = service(brokers.iter().map(|b| (b.listen, b.http)).collect()).await;
    let seen = Arc::<Seen>::default();
    let producer = tokio::spawn(produce(service, Arc::clone(&seen)));
    let consumers = ["one", "two"].map(|name| {
        let seen = Arc::clone(&seen);
        tokio::spawn(async move { consume(service, name, seen).await })
    });
    for id in 0..3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let broker = brokers.remove(id);
        let ports = [broker.listen, broker.http, broker.admin];
        broker.terminate();
        let exit = tokio::task::spawn_blocking(move || broker.exit()).await.unwrap();
        assert!(exit.success());
        brokers.insert(id, start(folder.path(), id, Some(ports)));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    seen.is_over.store(true, Ordering::Relaxed);
    producer.await.unwrap();

    let begun = Instant::now();
    let missing = || {
        let received: BTreeSet<String> = seen.received.lock().unwrap().iter().cloned().collect();
        let acknowledged = seen.acknowledged.lock().unwrap();
        acknowledged.difference(&received).cloned().collect::<Vec<_>>()
    };
    while !missing().is_empty() && begun.elapsed() < ARRIVES_WITHIN {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let missing = missing();
    consumers.iter().for_each(tokio::task::JoinHandle::abort);
    let received = seen.received.lock().unwrap();
    let twice = received.len() - received.iter().collect::<BTreeSet<_>>().len();
    let failures = seen.failures.lock().unwrap();
    let (count, pause) =
        (seen.acknowledged.lock().unwrap().len(), *seen.longest_pause.lock().unwrap());
    println!(
        "{count} acknowledged, longest pause {pause:?}, {twice} came twice; sends that failed: {failures:#?}"
    );
    assert!(missing.is_empty(), "acknowledged and not received: {missing:?}");
    assert!(count > 100 && pause < PAUSE_MAX, "{count} acknowledged, longest pause {pause:?}");
    // A send may meet the end of its connection, which its client sees and sends it again; a second time it goes elsewhere.
    assert!(failures.len() <= 3, "{failures:#?}");
}
