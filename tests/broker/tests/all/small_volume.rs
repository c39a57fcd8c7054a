//! Brokers on the small volumes that demos and tests have, with nothing made smaller for the test: most of the volume takes
//! messages, retention or a deletion brings space back, and a volume that is too small is refused while it is empty. Needs the
//! right to mount a volume.

use std::process::Stdio;
use std::time::{Duration, Instant};

use broker_proto::admin::{ApplyTopicRequest, DeleteTopicRequest, MessageType, Retention, Topic};
use broker_proto::rocketmq::{Code, Message};
use tests_broker::broker::{Broker, Options, Place, serve_command};
use tests_broker::client::message;
use tests_broker::{Client, Volume};

use crate::rpcs::code;

/// Of a volume of 220 MB.
const VOLUME_MEBIBYTES: u64 = 209;
const MEBIBYTE: u64 = 1024 * 1024;
const BODY_BYTES: usize = 16 * 1024;
const BATCH: usize = 16;
const SEND_BYTES: u64 = (BODY_BYTES * BATCH) as u64;
/// One shard starts on little less: the file system takes a part of it.
const LEAST_MEBIBYTES: u64 = 84;
/// How much goes through the volume; more when it is asked for.
const SENT_MEBIBYTES: u64 = 250;
const SENT_VARIABLE: &str = "SMALL_VOLUME_SENT_MIB";
/// Space comes back within this time.
const RETURN_MAX: Duration = Duration::from_secs(60);
/// As clients do before they try again.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

fn batch() -> Vec<Message> {
    (0..BATCH).map(|n| message("orders", &n.to_string(), &[7; BODY_BYTES])).collect()
}

async fn create_topic(broker: &Broker, retention_bytes: Option<u64>) {
    let topic = Topic {
        name: "orders".to_owned(),
        r#type: MessageType::Normal.into(),
        queues: 6,
        retention: retention_bytes
            .map(|bytes| Retention { bytes: Some(bytes), ..Retention::default() }),
        ..Topic::default()
    };
    let request = ApplyTopicRequest { topic: Some(topic), ..ApplyTopicRequest::default() };
    broker.admin().await.apply_topic(request).await.expect("the topic is created");
}

/// Sends one batch; false when it is refused because the disk is nearly full.
async fn is_taken(client: &mut Client) -> bool {
    let answer = client.send(batch()).await.unwrap();
    let code = code(&answer.status);
    assert!(matches!(code, Code::Ok | Code::TooManyRequests), "{:?}", answer.status);
    code == Code::Ok
}

/// Sends one batch as soon as it is taken; how long that was.
async fn send(client: &mut Client) -> Duration {
    let begun = Instant::now();
    while !is_taken(client).await {
        assert!(begun.elapsed() < RETURN_MAX, "space never comes back");
        tokio::time::sleep(REFUSED_PAUSE).await;
    }
    begun.elapsed()
}

/// How many MiB are taken until the first send is refused.
async fn fill(client: &mut Client) -> u64 {
    let mut sent_bytes = 0;
    while is_taken(client).await {
        sent_bytes += SEND_BYTES;
    }
    sent_bytes / MEBIBYTE
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn most_of_a_small_volume_takes_messages_and_they_go_with_their_topic() {
    // shards, and MiB that are taken at least
    for (shards, least) in [(1, 150), (3, 110)] {
        let Some(volume) = Volume::mount(VOLUME_MEBIBYTES) else { return };
        let place = Place::new();
        place.put_data_on(&volume);
        let broker = place.start(&Options::shards(shards));
        create_topic(&broker, None).await;
        let mut client = broker.client("producer").await;
        let taken = fill(&mut client).await;
        println!("{shards} shards: {taken} MiB are taken");
        assert!(taken >= least, "{shards} shards: only {taken} MiB are taken");
        let request = DeleteTopicRequest { name: "orders".to_owned(), force: true, owner: None };
        broker.admin().await.delete_topic(request).await.expect("it is deleted");
        create_topic(&broker, None).await;
        // One shard after the other has room again.
        for _ in 0..least * MEBIBYTE / SEND_BYTES {
            send(&mut client).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_lets_sends_go_on_for_ever_on_a_small_volume() {
    let wanted = std::env::var(SENT_VARIABLE).ok().and_then(|mebibytes| mebibytes.parse().ok());
    let sends = wanted.unwrap_or(SENT_MEBIBYTES) * MEBIBYTE / SEND_BYTES;
    // shards, MiB of the volume, bytes that are to be kept
    let rows = [
        (1, LEAST_MEBIBYTES, 5_000_000),
        (1, VOLUME_MEBIBYTES, 60_000_000),
        (3, VOLUME_MEBIBYTES, 30_000_000),
    ];
    for (shards, mebibytes, kept_bytes) in rows {
        let Some(volume) = Volume::mount(mebibytes) else { return };
        let place = Place::new();
        place.put_data_on(&volume);
        let broker = place.start(&Options::shards(shards));
        create_topic(&broker, Some(kept_bytes)).await;
        let mut client = broker.client("producer").await;
        let (begun, mut longest) = (Instant::now(), Duration::ZERO);
        for _ in 0..sends {
            longest = longest.max(send(&mut client).await);
        }
        let sent = sends * SEND_BYTES / MEBIBYTE;
        println!(
            "{shards} shards on {mebibytes} MiB: {sent} MiB in {:?}, the longest in {longest:?}",
            begun.elapsed()
        );
        broker.kill();
        let broker = place.start(&Options::shards(shards));
        send(&mut broker.client("producer").await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_is_too_small_is_refused_unless_it_holds_a_log() {
    let Some(volume) = Volume::mount(100) else { return };
    let place = Place::new();
    place.put_data_on(&volume);
    let refused = serve_command(&place.data(), &Options::shards(2)).stdout(Stdio::null()).output();
    let refused = refused.unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{text}");
    for part in ["2 shards need at least 120 MiB", "use a larger volume or fewer shards"] {
        assert!(text.contains(part), "{text}");
    }
    place.start(&Options::shards(1)).kill();
    let broker = place.start(&Options::shards(2));
    assert!(broker.logged().contains("2 shards need at least 120 MiB"), "{}", broker.logged());
}
