//! Finding messages by key in sealed segments: out of key tables where there are any, and without them as before. Needs a
//! debug build of the broker: a release build has no segments so small.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use broker_proto::admin::find_messages_request::By;
use broker_proto::admin::{FindMessagesRequest, FindMessagesResponse, MessageType};
use broker_proto::rocketmq::{ForwardMessageToDeadLetterQueueRequest, Message};
use tests_broker::Client;
use tests_broker::broker::{Broker, Options, Place, SEGMENT_BYTES};
use tests_broker::client::{message, message_id, receipt_handle, resource};
use tonic::Status;

const SMALL_SEGMENT_BYTES: u64 = 512 * 1024;
/// Bytes of other messages after each that is wanted, so that it has a segment of its own.
const FILLER_BYTES: usize = 96 * 1024;
const FILLERS: usize = 6;
const ROUNDS: usize = 4;
/// A timed message becomes due so long after it was sent.
const DELAY: Duration = Duration::from_secs(2);
const WAIT_MAX: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

fn keyed(topic: &str, id: &str, keys: &[&str]) -> Message {
    let mut keyed = message(topic, id, id.as_bytes());
    let properties = keyed.system_properties.as_mut().unwrap();
    properties.keys = keys.iter().map(|key| (*key).to_owned()).collect();
    keyed
}

fn timed(id: &str, keys: &[&str]) -> Message {
    let mut timed = keyed("reminders", id, keys);
    let due = (SystemTime::now() + DELAY).duration_since(UNIX_EPOCH).unwrap();
    let seconds = i64::try_from(due.as_secs()).unwrap();
    let properties = timed.system_properties.as_mut().unwrap();
    properties.set_message_type(broker_proto::rocketmq::MessageType::Delay);
    properties.delivery_timestamp = Some(prost_types::Timestamp { seconds, nanos: 0 });
    timed
}

struct Running {
    place: Place,
    broker: Broker,
}

impl Running {
    fn options() -> Options {
        Options::shards(1).environment(SEGMENT_BYTES, SMALL_SEGMENT_BYTES)
    }

    async fn new() -> Self {
        let place = Place::new();
        let broker = place.start(&Self::options());
        broker.create("orders", "billing").await;
        broker.create_topic("reminders", MessageType::Delay).await;
        broker.create_topic("noise", MessageType::Normal).await;
        Self { place, broker }
    }

    async fn client(&self) -> Client {
        self.broker.client("client").await
    }

    /// Other messages, more than a segment.
    async fn fill(&self) {
        let mut client = self.client().await;
        for number in 0..FILLERS {
            let noise = message("noise", &format!("noise-{number}"), &[b'x'; FILLER_BYTES]);
            assert_eq!(client.send(vec![noise]).await.unwrap().status.unwrap().code, 20_000);
        }
    }

    /// In each round a wanted message, which gets a segment of its own: with a key of its own and one for all.
    async fn send_rounds(&self) {
        let mut client = self.client().await;
        for round in 0..ROUNDS {
            let wanted = keyed("orders", &format!("m{round}"), &[&format!("k{round}"), "all"]);
            let _ = client.send(vec![wanted]).await.unwrap();
            if round == 0 {
                let _ = client.send(vec![timed("late", &["all", "late"])]).await.unwrap();
            }
            self.fill().await;
        }
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let log = self.place.data().join("shard-0/log");
        let paths = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> =
            paths.filter(|path| path.extension().is_some_and(|of| of == extension)).collect();
        paths.sort();
        paths
    }

    /// Until as many segments have a key table.
    async fn wait_for_tables(&self, count: usize) {
        let begun = Instant::now();
        while self.files("keys").len() < count {
            assert!(begun.elapsed() < WAIT_MAX, "{:?}", self.files("keys"));
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn find(&self, topic: &str, by: By) -> Result<FindMessagesResponse, Status> {
        let request = FindMessagesRequest {
            topic: topic.into(),
            by: Some(by),
            ..FindMessagesRequest::default()
        };
        self.broker.admin().await.find_messages(request).await.map(tonic::Response::into_inner)
    }

    async fn ids(&self, topic: &str, key: &str) -> Vec<String> {
        let found = self.find(topic, By::Key(key.into())).await.unwrap();
        assert!(found.complete);
        let times: Vec<_> = found.messages.iter().map(|message| message.stored_ms).collect();
        assert!(times.is_sorted(), "{times:?}");
        found.messages.into_iter().map(|message| message.message_id).collect()
    }

    /// Every message that was sent is found by each of its keys.
    async fn check(&self) {
        let mut all = Vec::new();
        for round in 0..ROUNDS {
            let id = format!("m{round}");
            assert_eq!(self.ids("orders", &format!("k{round}")).await, [id.as_str()]);
            all.push(id);
        }
        assert_eq!(self.ids("orders", "all").await, all);
        assert_eq!(self.ids("orders", "m0").await, [""; 0], "an id is no key");
        assert_eq!(self.ids("reminders", "all").await, ["late"]);
        assert_eq!(self.ids("reminders", "k0").await, [""; 0]);
        let late = self.find("reminders", By::Key("late".into())).await.unwrap().messages;
        assert!(late[0].due_ms.unwrap() > late[0].stored_ms && late[0].offset.is_none());
    }

    async fn die(&self, topic: &str) {
        let mut client = self.client().await;
        let received = client.receive(topic, "billing", 1).await.unwrap().messages;
        let request = ForwardMessageToDeadLetterQueueRequest {
            group: Some(resource("billing")),
            topic: Some(resource(topic)),
            receipt_handle: receipt_handle(&received[0]).to_owned(),
            message_id: message_id(&received[0]).to_owned(),
            delivery_attempt: 1,
            max_delivery_attempts: 1,
            lite_topic: None,
        };
        let answer = client.service.forward_message_to_dead_letter_queue(request).await.unwrap();
        assert_eq!(answer.into_inner().status.unwrap().code, 20_000);
    }
}

/// Turns a bit of a file.
fn damage(path: &PathBuf, position: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 1], position).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_found_by_key_whichever_tables_are_there() {
    let mut running = Running::new().await;
    running.send_rounds().await;
    running.wait_for_tables(ROUNDS).await;
    running.check().await;
    // What came by reference, due or dead, is found where it was stored.
    running.die("orders").await;
    running.die("reminders").await;
    running.fill().await;
    running.wait_for_tables(ROUNDS + 1).await;
    running.check().await;

    let tables = running.files("keys");
    tables[..3].iter().for_each(|path| fs::remove_file(path).unwrap());
    running.check().await;
    running.broker.kill();
    tables[3..].iter().for_each(|path| fs::remove_file(path).unwrap());
    running.broker = running.place.start(&Running::options());
    assert!(running.files("keys").is_empty());
    running.check().await;
    // One more each time that segments are sealed, the newest first.
    while !tables[0].exists() {
        let count = running.files("keys").len();
        running.fill().await;
        running.wait_for_tables(count + 1).await;
    }
    running.check().await;

    running.broker.kill();
    damage(&tables[1], 100);
    let damaged = fs::read(&tables[1]).unwrap();
    running.broker = running.place.start(&Running::options());
    running.check().await;
    // It is gone, or was made again by a sealing since.
    assert_ne!(fs::read(&tables[1]).ok(), Some(damaged));
    assert!(running.broker.logged().contains("a key table cannot be used"));
    running.broker.terminate();
    assert!(running.broker.exit().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_by_key_reads_nothing_of_a_sealed_segment_but_what_it_finds() {
    let running = Running::new().await;
    running.send_rounds().await;
    running.wait_for_tables(ROUNDS).await;
    // In the body of another message.
    let (segment, table) = (&running.files("seg")[2], &running.files("keys")[2]);
    damage(segment, SMALL_SEGMENT_BYTES / 2);
    running.check().await;
    let by_id = running.find("orders", By::MessageId("m3".into())).await.unwrap_err();
    assert!(by_id.message().contains("damaged"), "{by_id}");
    fs::remove_file(table).unwrap();
    let by_key = running.find("orders", By::Key("all".into())).await.unwrap_err();
    assert_eq!(by_key.message(), by_id.message());
    damage(segment, SMALL_SEGMENT_BYTES / 2);
    running.check().await;
}
