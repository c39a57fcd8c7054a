//! Others fill the volume to the last byte under a broker with clients: sends are refused, everything else goes on as long as
//! what is the broker's own lasts, a restart is possible, and with room again everything goes on by itself. Needs the right
//! to mount a volume, and a debug build of the broker for its small segments.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use broker_proto::admin::{ApplyGroupRequest, Group};
use broker_proto::rocketmq::{Code, Status};
use tests_broker::broker::{Broker, Options, Place, SEGMENT_BYTES};
use tests_broker::client::{message, message_id};
use tests_broker::{Client, Volume, get};
use tokio::task::JoinSet;

use crate::rpcs::code;

const VOLUME_MEBIBYTES: u64 = 32;
const SMALL_SEGMENT_BYTES: u64 = 128 * 1024;
const BATCH: usize = 4;
const BODY_BYTES: usize = 1_000;
/// Everything that is awaited here has happened by then.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// As clients do before they try again.
const REFUSED_PAUSE: Duration = Duration::from_millis(5);
/// Room is noticed within a second.
const RETURN_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Known {
    stored: HashSet<String>,
    acknowledged: usize,
    refused: usize,
    violations: Vec<String>,
}

type Shared = Arc<Mutex<Known>>;

fn options() -> Options {
    Options::shards(1).environment(SEGMENT_BYTES, SMALL_SEGMENT_BYTES)
}

/// Sends until the broker is gone.
async fn produce(mut client: Client, name: String, known: Shared) {
    for number in 0.. {
        let ids: Vec<_> = (0..BATCH).map(|part| format!("{name}-{number}-{part}")).collect();
        let batch = ids.iter().map(|id| message("orders", id, &[7; BODY_BYTES])).collect();
        let Ok(answer) = client.send(batch).await else { return };
        note(&known, &answer.status, |known| known.stored.extend(ids));
        if code(&answer.status) != Code::Ok {
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }
}

/// Receives and acknowledges until the broker is gone.
async fn consume(mut client: Client, known: Shared) {
    while let Ok(received) = client.receive("orders", "billing", 16).await {
        if received.messages.is_empty() {
            tokio::time::sleep(REFUSED_PAUSE).await;
            continue;
        }
        let acked = client.acknowledge("orders", "billing", &received.messages).await;
        let Ok(acked) = acked else { return };
        note(&known, &acked.status, |known| known.acknowledged += received.messages.len());
    }
}

/// Takes note of an answer: yes, or the one refusal that a full disk has.
fn note(known: &Shared, status: &Option<Status>, carried_out: impl FnOnce(&mut Known)) {
    let mut known = known.lock().unwrap();
    match code(status) {
        Code::Ok => carried_out(&mut known),
        Code::TooManyRequests => known.refused += 1,
        other => known.violations.push(format!("{other:?}: {status:?}")),
    }
}

async fn load(broker: &Broker, name: &str, known: &Shared) -> JoinSet<()> {
    let mut work = JoinSet::new();
    let producer = broker.client("producer").await;
    work.spawn(produce(producer, name.to_owned(), Arc::clone(known)));
    work.spawn(consume(broker.client("consumer").await, Arc::clone(known)));
    work
}

/// Waits until what clients know is as asked; how long that took.
async fn wait_for(known: &Shared, what: &str, is_so: impl Fn(&Known) -> bool) -> Duration {
    let begun = Instant::now();
    loop {
        {
            let known = known.lock().unwrap();
            assert_eq!(known.violations, [""; 0], "{what}");
            if is_so(&known) {
                return begun.elapsed();
            }
        }
        assert!(begun.elapsed() < WAIT_MAX, "never: {what}; {:?}", known.lock().unwrap().refused);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn wait_for_more(known: &Shared, what: &str, number: impl Fn(&Known) -> usize) -> Duration {
    let before = number(&known.lock().unwrap());
    wait_for(known, what, |known| number(known) > before).await
}

/// One message goes to a group that has had none of them, and is acknowledged.
async fn receives_and_acknowledges(broker: &Broker) {
    let mut client = broker.client("other").await;
    let received = client.receive("orders", "other", 1).await.unwrap();
    assert_eq!(received.messages.len(), 1, "{:?}", received.status);
    let acked = client.acknowledge("orders", "other", &received.messages).await.unwrap();
    assert_eq!(code(&acked.status), Code::Ok);
}

/// Makes groups until that is refused: so the log grows while sends are refused.
async fn use_the_reserve_up(broker: &Broker) -> tonic::Status {
    let mut admin = broker.admin().await;
    let mut number = 0;
    loop {
        let group = Group { name: format!("{number:0>120}"), ..Group::default() };
        let request = ApplyGroupRequest { group: Some(group), ..ApplyGroupRequest::default() };
        if let Err(refused) = admin.apply_group(request).await {
            return refused;
        }
        number += 1;
        assert!(number < 20_000, "the log grows for ever");
    }
}

async fn audit(broker: &Broker, stored: &HashSet<String>) {
    let (mut client, mut seen, begun) =
        (broker.client("auditor").await, HashSet::new(), Instant::now());
    while !stored.is_subset(&seen) {
        let received = client.receive("orders", "audit", 32).await.unwrap();
        seen.extend(received.messages.iter().map(|message| message_id(message).to_owned()));
        client.acknowledge("orders", "audit", &received.messages).await.unwrap();
        let lost = stored.difference(&seen).count();
        assert!(begun.elapsed() < WAIT_MAX, "{lost} of {} acknowledged are lost", stored.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_filled_by_others_costs_sends_only_and_they_come_back_with_room() {
    let Some(volume) = Volume::mount(VOLUME_MEBIBYTES) else { return };
    let place = Place::new();
    place.put_data_on(&volume);
    let broker = place.start(&options());
    broker.create("orders", "billing").await;
    for group in ["audit", "other"] {
        broker.create_group(group, 0).await;
    }
    let known = Shared::default();
    let work = load(&broker, "first", &known).await;
    // Some segments are full by then.
    wait_for(&known, "sends are taken", |known| known.stored.len() > 1_000).await;
    volume.fill();
    wait_for_more(&known, "sends are refused", |known| known.refused).await;
    // Sealing may give its leftovers back.
    volume.fill();
    receives_and_acknowledges(&broker).await;
    broker.kill();
    work.join_all().await;

    let broker = place.start(&options());
    let work = load(&broker, "second", &known).await;
    wait_for_more(&known, "sends are refused", |known| known.refused).await;
    receives_and_acknowledges(&broker).await;
    let refused = use_the_reserve_up(&broker).await;
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("is full"), "{refused}");
    assert!(get(broker.http, "/readyz").unwrap().contains("200 OK"));
    volume.make_room();
    let took = wait_for_more(&known, "sends are taken", |known| known.stored.len()).await;
    assert!(took < RETURN_MAX, "after {took:?}");
    receives_and_acknowledges(&broker).await;
    wait_for_more(&known, "acknowledgements are taken", |known| known.acknowledged).await;
    broker.kill();
    work.join_all().await;

    let broker = place.start(&options());
    let known = Arc::into_inner(known).unwrap().into_inner().unwrap();
    println!("{} stored, {} refused", known.stored.len(), known.refused);
    audit(&broker, &known.stored).await;
}
