//! kill -9 under load, again and again, on the same data: nothing acknowledged is lost, nothing is invented, and an
//! answered acknowledgement is final. `KILL_ROUNDS=100` asks for the long form.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use broker_proto::rocketmq::{Code, Message};
use tests_broker::Client;
use tests_broker::broker::{Broker, Options, Place};
use tests_broker::client::{message, message_id, receive_request, span};
use tokio::task::JoinSet;

use crate::rpcs::code;

pub(crate) const ROUNDS_VARIABLE: &str = "KILL_ROUNDS";
pub(crate) const ROUNDS_DEFAULT: u32 = 5;
const PRODUCERS: u32 = 4;
const CONSUMERS: u32 = 2;
/// From the first acknowledged send of a round to its kill.
const LOAD_MS_MIN: u64 = 20;
const LOAD_MS_SPREAD: u64 = 300;
const BATCH_MAX: u64 = 8;
const BODY_BYTES_MAX: u64 = 3_000;
/// Long enough that nothing is handed out again while it is still being counted.
const AUDIT_INVISIBLE: Duration = Duration::from_secs(600);
/// How long the queues are silent once everything came back.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// Everything acknowledged came back by then.
const AUDIT_MAX: Duration = Duration::from_secs(300);

/// What clients know to be so.
#[derive(Debug, Default)]
pub(crate) struct Known {
    attempted: HashSet<String>,
    pub(crate) stored: HashSet<String>,
    /// Acknowledgements that were answered, and when.
    settled: HashMap<String, Instant>,
    /// Handed out to the working group.
    received: HashSet<String>,
    pub(crate) violations: Vec<String>,
    /// A refusal that is no violation: the broker is about to end.
    pub(crate) last_code: Option<Code>,
}

pub(crate) type Shared = Arc<Mutex<Known>>;

/// Small steps of a linear congruence: chance enough to spread kills, and the same again for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The only body that a message of this id can have.
fn body_of(id: &str) -> Vec<u8> {
    let seed =
        id.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    let length = usize::try_from(Chance(seed).below(BODY_BYTES_MAX) + 1).unwrap();
    id.bytes().cycle().take(length).collect()
}

/// Sends until the broker is gone.
async fn produce(mut client: Client, name: String, mut chance: Chance, known: Shared) {
    for number in 0.. {
        let count = chance.below(BATCH_MAX) + 1;
        let ids: Vec<_> = (0..count).map(|part| format!("{name}-{number}-{part}")).collect();
        known.lock().unwrap().attempted.extend(ids.iter().cloned());
        let batch = ids.iter().map(|id| message("orders", id, &body_of(id))).collect();
        match client.send(batch).await {
            Ok(answer) if code(&answer.status) == Code::Ok => {
                known.lock().unwrap().stored.extend(ids);
            }
            Ok(answer) if known.lock().unwrap().last_code == Some(code(&answer.status)) => return,
            Ok(answer) => {
                known.lock().unwrap().violations.push(format!("send refused: {:?}", answer.status));
                return;
            }
            Err(_gone) => return,
        }
    }
}

fn check(known: &mut Known, message: &Message, asked_at: Instant) {
    let id = message_id(message);
    if !known.attempted.contains(id) {
        known.violations.push(format!("{id} was never sent"));
    }
    if message.body != body_of(id) {
        known.violations.push(format!("{id} has another body than was sent"));
    }
    if known.settled.get(id).is_some_and(|settled_at| *settled_at < asked_at) {
        known.violations.push(format!("{id} came again after its answered acknowledgement"));
    }
    known.received.insert(id.to_owned());
}

/// Receives and acknowledges until the broker is gone.
async fn consume(mut client: Client, known: Shared) {
    loop {
        let asked_at = Instant::now();
        let Ok(received) = client.receive("orders", "billing", 16).await else { return };
        {
            let mut known = known.lock().unwrap();
            received.messages.iter().for_each(|message| check(&mut known, message, asked_at));
        }
        if received.messages.is_empty() {
            continue;
        }
        let acked = client.acknowledge("orders", "billing", &received.messages).await;
        let Ok(acked) = acked else { return };
        let mut known = known.lock().unwrap();
        for (message, entry) in received.messages.iter().zip(&acked.entries) {
            if code(&entry.status) == Code::Ok {
                known.settled.insert(message_id(message).to_owned(), Instant::now());
            }
        }
    }
}

async fn round(place: &Place, (shards, number): (u32, u32), chance: &mut Chance, known: &Shared) {
    let broker = place.start(&Options::shards(shards));
    let work = load(&broker, number, chance, known).await;
    let stored_before = known.lock().unwrap().stored.len();
    let begun = Instant::now();
    while known.lock().unwrap().stored.len() == stored_before {
        assert!(
            begun.elapsed() < AUDIT_MAX,
            "nothing is stored: {:?}",
            known.lock().unwrap().violations
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(LOAD_MS_MIN + chance.below(LOAD_MS_SPREAD))).await;
    broker.kill();
    work.join_all().await;
}

/// Producers and consumers that work until the broker is gone.
pub(crate) async fn load(
    broker: &Broker,
    number: u32,
    chance: &mut Chance,
    known: &Shared,
) -> JoinSet<()> {
    let mut work = JoinSet::new();
    for worker in 0..PRODUCERS {
        let id = format!("producer-{worker}");
        let Ok(client) = Client::connect(broker.listen, &id).await else { break };
        let own = Chance(chance.below(u64::MAX));
        let name = format!("r{number}-p{worker}");
        work.spawn(produce(client, name, own, Arc::clone(known)));
    }
    for worker in 0..CONSUMERS {
        let id = format!("consumer-{worker}");
        let Ok(client) = Client::connect(broker.listen, &id).await else { break };
        work.spawn(consume(client, Arc::clone(known)));
    }
    work
}

/// Reads everything for a group that never received before: each message is there once.
async fn audit(broker: &Broker, known: &Known) -> HashSet<String> {
    read_all(broker, known, AUDIT_MAX).await.expect("acknowledged messages are lost")
}

/// As [`audit`]; none when something acknowledged does not come although nothing else has come for a time.
pub(crate) async fn read_all(
    broker: &Broker,
    known: &Known,
    wait_max: Duration,
) -> Option<HashSet<String>> {
    let mut client = broker.client("auditor").await;
    let mut seen = HashSet::new();
    let mut last_at = Instant::now();
    loop {
        let mut request = receive_request("orders", "audit", 32);
        request.invisible_duration = Some(span(AUDIT_INVISIBLE));
        let has_all = known.stored.is_subset(&seen);
        // Whatever else is there comes at once.
        let patience = if has_all { LAST_LOOK } else { AUDIT_MAX };
        let received = match tokio::time::timeout(patience, client.receive_with(request)).await {
            Ok(received) => received.unwrap(),
            Err(_silence) if has_all => return Some(seen),
            Err(_silence) => return None,
        };
        for message in &received.messages {
            let id = message_id(message);
            assert!(known.attempted.contains(id), "{id} was never sent");
            assert_eq!(message.body, body_of(id), "{id}");
            assert!(seen.insert(id.to_owned()), "{id} is stored twice");
        }
        if !received.messages.is_empty() {
            client.acknowledge("orders", "audit", &received.messages).await.unwrap();
        }
        if !received.messages.is_empty() {
            last_at = Instant::now();
        } else if last_at.elapsed() > wait_max {
            println!("lost: {:?}", known.stored.difference(&seen).collect::<Vec<_>>());
            return None;
        }
    }
}

/// Lets the working group have the rest, until it had everything.
pub(crate) async fn finish(broker: &Broker, known: &Shared) {
    let begun = Instant::now();
    let mut client = broker.client("consumer-0").await;
    while !{
        let known = known.lock().unwrap();
        known.stored.is_subset(&known.received)
    } {
        let asked_at = Instant::now();
        let received = client.receive("orders", "billing", 32).await.unwrap();
        {
            let mut known = known.lock().unwrap();
            received.messages.iter().for_each(|message| check(&mut known, message, asked_at));
        }
        if !received.messages.is_empty() {
            client.acknowledge("orders", "billing", &received.messages).await.unwrap();
        }
        assert!(begun.elapsed() < AUDIT_MAX, "the group never gets what is stored");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_one_shard_under_load_lose_nothing_acknowledged_and_invent_nothing() {
    kill_under_load(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_three_shards_under_load_lose_nothing_acknowledged_and_invent_nothing() {
    kill_under_load(3).await;
}

async fn kill_under_load(shards: u32) {
    let rounds = std::env::var(ROUNDS_VARIABLE)
        .map_or(ROUNDS_DEFAULT, |text| text.parse().expect("KILL_ROUNDS is a number"));
    let seed = fresh_seed();
    println!("seed {seed}, {rounds} rounds, {shards} shards");
    let place = Place::new();
    let broker = place.start(&Options::shards(shards));
    broker.create("orders", "billing").await;
    broker.create_group("audit", 0).await;
    broker.kill();
    let known = Shared::default();
    let mut chance = Chance(seed);
    for number in 0..rounds {
        round(&place, (shards, number), &mut chance, &known).await;
        assert_eq!(known.lock().unwrap().violations, [""; 0], "round {number}");
    }
    let broker = place.start(&Options::shards(shards));
    finish(&broker, &known).await;
    let known = Arc::into_inner(known).unwrap().into_inner().unwrap();
    let seen = audit(&broker, &known).await;
    assert_eq!(known.violations, [""; 0]);
    println!("{}", known.summary(seen.len()));
}

impl Known {
    pub(crate) fn summary(&self, found: usize) -> String {
        format!(
            "{} messages sent, {} acknowledged to producers, {found} found, {} acknowledged by consumers",
            self.attempted.len(),
            self.stored.len(),
            self.settled.len()
        )
    }
}

/// A seed that was not used before.
pub(crate) fn fresh_seed() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since_1970.as_nanos() & u128::from(u64::MAX)).unwrap()
}
