//! Runs a broker under a mixed load for a given time and watches its memory and open files: `soak [SECONDS]`, one minute
//! by default. Prints a row per sample, every 10 s or a sixth of the time, and fails when the second half holds more than
//! the first by over a tolerance. Set PINNACE_BINARY to a release build; PINNACE_SOAK_MIB is the tolerance of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use broker_proto::admin::{
    DeleteGroupRequest, DeleteTopicRequest, MessageType as DeclaredType, ResetOffsetsRequest,
    StartFrom, reset_offsets_request::To,
};
use broker_proto::rocketmq::{Code, Message, MessageType};
use tests_broker::client::{message, receive_request, span};
use tests_broker::{Broker, Client, Options, Place};
use tokio::task::JoinSet;

/// Topics of the standing load with the type of their messages. A consumer takes all of them.
const STANDING: [(&str, DeclaredType, MessageType); 4] = [
    ("soak-normal", DeclaredType::Normal, MessageType::Normal),
    ("soak-fifo", DeclaredType::Fifo, MessageType::Fifo),
    ("soak-delay", DeclaredType::Delay, MessageType::Delay),
    ("soak-transaction", DeclaredType::Transaction, MessageType::Transaction),
];
/// Groups on every standing topic.
const GROUPS: [&str; 3] = ["soak-a", "soak-b", "soak-c"];
/// Requests of one client before it goes away and another comes.
const REQUESTS_OF_CLIENT: u64 = 500;
/// Pause between two requests of one sender: the load is steady, not as much as possible.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes that the second half may hold beyond the first, and a share of the first: the index of messages kept grows.
const TOLERANCE_MIB: u64 = 64;
/// Open files that come and go.
const TOLERANCE_FILES: usize = 32;

/// What is going on.
#[derive(Debug, Default)]
struct Load {
    ends: AtomicBool,
    clients: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    created: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    bytes: u64,
    files: usize,
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args().nth(1).map_or(60, |text| text.parse().expect("seconds"));
    let tolerance = std::env::var("PINNACE_SOAK_MIB").ok();
    let tolerance = tolerance.map_or(TOLERANCE_MIB, |text| text.parse().expect("MiB"));
    let place = Place::new();
    let broker = Arc::new(place.start(&Options::shards(2)));
    for (topic, declared, _) in STANDING {
        broker.create_topic(topic, declared).await;
    }
    for group in GROUPS {
        broker.create_group(group, 0).await;
    }
    let load = Arc::new(Load::default());
    let mut tasks = JoinSet::new();
    for (topic, _, kind) in STANDING {
        tasks.spawn(produce(broker.clone(), load.clone(), topic, kind));
        for group in GROUPS {
            tasks.spawn(consume(broker.clone(), load.clone(), topic, group));
        }
    }
    tasks.spawn(come_and_go(broker.clone(), load.clone()));
    let samples = watch(&broker, &load, &mut tasks, Duration::from_secs(seconds)).await;
    load.ends.store(true, Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        task.expect("the load goes on to its end");
    }
    judge(&samples, tolerance * 1024 * 1024);
}

/// Samples until the time is over; a part of the load that breaks ends it.
async fn watch(
    broker: &Broker,
    load: &Load,
    tasks: &mut JoinSet<()>,
    time: Duration,
) -> Vec<Sample> {
    let mut rounds = tokio::time::interval((time / 6).min(Duration::from_secs(10)));
    let begun = Instant::now();
    let mut samples = Vec::new();
    println!(
        "{:>6} {:>13} {:>6} {:>10} {:>10} {:>8}",
        "s", "resident KiB", "files", "sent", "received", "topics"
    );
    while begun.elapsed() < time {
        tokio::select! {
            _ = rounds.tick() => {}
            Some(task) = tasks.join_next() => {
                task.expect("the load goes on to its end");
                assert!(load.ends.load(Ordering::Relaxed), "a part of the load ended early");
            }
        }
        let bytes = broker.resident_bytes().expect("the broker runs");
        let files = broker.open_files().expect("the broker runs");
        samples.push(Sample { bytes, files });
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (sent, received, created) =
            (count(&load.sent), count(&load.received), count(&load.created));
        let at = begun.elapsed().as_secs();
        println!("{at:>6} {:>13} {files:>6} {sent:>10} {received:>10} {created:>8}", bytes / 1024);
    }
    assert!(load.sent.load(Ordering::Relaxed) > 0 && load.received.load(Ordering::Relaxed) > 0);
    samples
}

/// Compares the most of each half; the first sample is the empty broker and does not count.
fn judge(samples: &[Sample], tolerance_bytes: u64) {
    assert!(samples.len() >= 4, "too few samples; run longer");
    let (first, second) = samples[1..].split_at((samples.len() - 1) / 2);
    let most = |half: &[Sample]| {
        let bytes = half.iter().map(|sample| sample.bytes).max().unwrap_or(0);
        (bytes, half.iter().map(|sample| sample.files).max().unwrap_or(0))
    };
    let ((bytes, files), (bytes_later, files_later)) = (most(first), most(second));
    println!("most resident: {} KiB, then {} KiB", bytes / 1024, bytes_later / 1024);
    println!("most open files: {files}, then {files_later}");
    assert!(bytes_later <= bytes + tolerance_bytes, "memory grows");
    assert!(files_later <= files + TOLERANCE_FILES, "open files grow");
}

async fn new_client(broker: &Broker, load: &Load) -> Client {
    let number = load.clients.fetch_add(1, Ordering::Relaxed);
    broker.client(&format!("soak-{number}")).await
}

fn is_ok(status: Option<&broker_proto::rocketmq::Status>) -> bool {
    status.is_some_and(|status| status.code() == Code::Ok)
}

fn new_message(topic: &str, kind: MessageType, number: u64) -> Message {
    let mut message = message(topic, &format!("id-{number}"), &[b'x'; 512]);
    let properties = message.system_properties.get_or_insert_default();
    properties.message_type = kind.into();
    match kind {
        MessageType::Fifo => properties.message_group = Some(format!("line-{}", number % 16)),
        MessageType::Delay => {
            let due = SystemTime::now() + Duration::from_secs(1);
            properties.delivery_timestamp = Some(due.into());
        }
        _ => {}
    }
    message
}

async fn produce(broker: Arc<Broker>, load: Arc<Load>, topic: &'static str, kind: MessageType) {
    let mut number = 0;
    while !load.ends.load(Ordering::Relaxed) {
        let mut client = new_client(&broker, &load).await;
        for _ in 0..REQUESTS_OF_CLIENT {
            if load.ends.load(Ordering::Relaxed) {
                return;
            }
            number += 1;
            let messages = vec![new_message(topic, kind, number)];
            let sent = client.send(messages).await.expect("the broker answers");
            let entry = sent.entries.first().expect("an entry");
            assert!(is_ok(entry.status.as_ref()), "{topic}: {:?}", entry.status);
            load.sent.fetch_add(1, Ordering::Relaxed);
            if kind == MessageType::Transaction {
                end_transaction(&mut client, topic, entry, number).await;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Most are committed, every fourth is rolled back.
async fn end_transaction(
    client: &mut Client,
    topic: &str,
    entry: &broker_proto::rocketmq::SendResultEntry,
    number: u64,
) {
    use broker_proto::rocketmq::{EndTransactionRequest, TransactionResolution};
    let resolution = match number % 4 {
        0 => TransactionResolution::Rollback,
        _ => TransactionResolution::Commit,
    };
    let request = EndTransactionRequest {
        topic: Some(tests_broker::client::resource(topic)),
        message_id: entry.message_id.clone(),
        transaction_id: entry.transaction_id.clone(),
        resolution: resolution.into(),
        ..EndTransactionRequest::default()
    };
    let ended = client.service.end_transaction(request).await.expect("the broker answers");
    let status = ended.into_inner().status;
    assert!(is_ok(status.as_ref()), "{status:?}");
}

async fn consume(broker: Arc<Broker>, load: Arc<Load>, topic: &'static str, group: &'static str) {
    while !load.ends.load(Ordering::Relaxed) {
        let mut client = new_client(&broker, &load).await;
        for request in 0..REQUESTS_OF_CLIENT {
            if load.ends.load(Ordering::Relaxed) {
                return;
            }
            let mut wish = receive_request(topic, group, 32);
            wish.invisible_duration = Some(span(Duration::from_secs(30)));
            let received = client.receive_with(wish).await.expect("the broker answers");
            // Now and then a consumer goes away with what it has.
            if received.messages.is_empty() || request + 1 == REQUESTS_OF_CLIENT {
                continue;
            }
            let count = received.messages.len() as u64;
            client.acknowledge(topic, group, &received.messages).await.expect("acknowledged");
            load.received.fetch_add(count, Ordering::Relaxed);
        }
    }
}

/// Topics and groups are made, used and deleted.
async fn come_and_go(broker: Arc<Broker>, load: Arc<Load>) {
    let mut admin = broker.admin().await;
    let mut client = new_client(&broker, &load).await;
    while !load.ends.load(Ordering::Relaxed) {
        let number = load.created.fetch_add(1, Ordering::Relaxed);
        let (topic, group) = (format!("passing-{number}"), format!("passing-group-{number}"));
        broker.create(&topic, &group).await;
        for sent in 0..4 {
            let messages = vec![new_message(&topic, MessageType::Normal, sent)];
            client.send(messages).await.expect("the broker answers");
        }
        let reset = ResetOffsetsRequest {
            group: group.clone(),
            topics: vec![topic.clone()],
            to: Some(To::Position(StartFrom::Earliest.into())),
            id: format!("reset-{number}"),
        };
        admin.reset_offsets(reset).await.expect("the progress is set");
        let received = client.receive(&topic, &group, 32).await.expect("the broker answers");
        client.acknowledge(&topic, &group, &received.messages).await.expect("acknowledged");
        let group = DeleteGroupRequest { name: group, force: true, ..Default::default() };
        admin.delete_group(group).await.expect("the group is deleted");
        let topic = DeleteTopicRequest { name: topic, force: true, ..Default::default() };
        admin.delete_topic(topic).await.expect("the topic is deleted");
        tokio::time::sleep(PAUSE).await;
    }
}
