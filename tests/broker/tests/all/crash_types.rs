//! kill -9 under load of every message type: order per message group, never early, half messages unseen until their
//! commit, rolled back ones never, and all that is owed comes. `KILL_ROUNDS=100` asks for the long form.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use broker_proto::admin::{ApplyGroupRequest, Group, MessageType, Order};
use broker_proto::rocketmq::{
    self as wire, Code, EndTransactionRequest, LiteSubscriptionAction, Message,
    SyncLiteSubscriptionRequest, TransactionResolution,
};
use tests_broker::Client;
use tests_broker::broker::{Broker, Options, Place};
use tests_broker::client::{message, message_id, resource};

use crate::crash::{Chance, ROUNDS_DEFAULT, ROUNDS_VARIABLE};
use crate::rpcs::code;

const GROUP: &str = "workers";
/// The consumers' progress must reach everything that is owed by then.
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// A client notices within this time that the broker is gone.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);
const DELAY_MS_MAX: u64 = 1_500;

const KINDS: [(MessageType, &str); 5] = [
    (MessageType::Fifo, "ledger"),
    (MessageType::Delay, "reminders"),
    (MessageType::Transaction, "payments"),
    (MessageType::Priority, "tasks"),
    (MessageType::Lite, "rooms"),
];

/// What clients know of one message.
#[derive(Debug, Default, Clone)]
struct Fate {
    is_stored: bool,
    due_ms: u64,
    transaction: String,
    commit_asked: bool,
    committed: bool,
    rolled_back: bool,
    received: bool,
    acknowledging: bool,
    acknowledged: Option<Instant>,
}

#[derive(Debug, Default)]
struct Known {
    fates: HashMap<String, Fate>,
    stored: usize,
    violations: Vec<String>,
}

type Shared = Arc<Mutex<Known>>;

fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since_1970.as_millis()).unwrap()
}

/// The id tells topic, message group (or lite topic) and place in it: `ledger.2.17`.
fn make(kind: MessageType, topic: &str, lane: u64, number: u64, due_ms: u64) -> (String, Message) {
    let id = format!("{topic}.{lane}.{number}");
    let mut new = message(topic, &id, id.as_bytes());
    let properties = new.system_properties.as_mut().unwrap();
    match kind {
        MessageType::Fifo => properties.message_group = Some(format!("group-{lane}")),
        MessageType::Delay => {
            properties.delivery_timestamp = Some(prost_types::Timestamp {
                seconds: i64::try_from(due_ms / 1_000).unwrap(),
                nanos: i32::try_from(due_ms % 1_000).unwrap() * 1_000_000,
            });
        }
        MessageType::Transaction => {
            properties.set_message_type(wire::MessageType::Transaction);
            properties.orphaned_transaction_recovery_duration =
                Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
        }
        MessageType::Priority => properties.priority = Some(i32::try_from(number % 4).unwrap()),
        _ => properties.lite_topic = Some(format!("room-{lane}")),
    }
    (id, new)
}

/// Sends messages of one type and lane, one after the other, until the broker is gone.
async fn produce(
    mut client: Client,
    (kind, topic): (MessageType, &'static str),
    lane: u64,
    mut chance: Chance,
    known: Shared,
) {
    loop {
        let prefix = format!("{topic}.{lane}.");
        let number =
            known.lock().unwrap().fates.keys().filter(|id| id.starts_with(&prefix)).count();
        let due_ms = now_ms() + chance.below(DELAY_MS_MAX);
        let (id, new) = make(kind, topic, lane, number as u64, due_ms);
        let due_ms = if kind == MessageType::Delay { due_ms } else { 0 };
        let fate = Fate { due_ms, ..Fate::default() };
        known.lock().unwrap().fates.insert(id.clone(), fate);
        let Ok(answer) = client.send(vec![new]).await else { return };
        if code(&answer.status) != Code::Ok {
            known.lock().unwrap().violations.push(format!("{id} refused: {:?}", answer.status));
            return;
        }
        {
            let mut known = known.lock().unwrap();
            known.stored += 1;
            let fate = known.fates.get_mut(&id).unwrap();
            fate.is_stored = true;
            fate.transaction.clone_from(&answer.entries[0].transaction_id);
        }
        // Every third transaction stays open over the crash.
        if kind == MessageType::Transaction && number % 3 != 0 {
            let commit = number % 3 == 1;
            if !end(&mut client, &id, commit, &known).await {
                return;
            }
        }
    }
}

/// Ends a transaction; false when the broker is gone.
async fn end(client: &mut Client, id: &str, commit: bool, known: &Shared) -> bool {
    let transaction_id = {
        let mut known = known.lock().unwrap();
        let fate = known.fates.get_mut(id).unwrap();
        fate.commit_asked |= commit;
        fate.transaction.clone()
    };
    let how = if commit { TransactionResolution::Commit } else { TransactionResolution::Rollback };
    let request = EndTransactionRequest {
        topic: Some(resource("payments")),
        message_id: id.to_owned(),
        transaction_id,
        resolution: how.into(),
        ..EndTransactionRequest::default()
    };
    let Ok(answer) = client.service.end_transaction(request).await else { return false };
    let mut known = known.lock().unwrap();
    match code(&answer.into_inner().status) {
        Code::Ok if commit => known.fates.get_mut(id).unwrap().committed = true,
        Code::Ok => known.fates.get_mut(id).unwrap().rolled_back = true,
        other => known.violations.push(format!("{id} cannot end: {other:?}")),
    }
    true
}

fn check(known: &mut Known, message: &Message, asked_at: Instant) {
    let id = message_id(message).to_owned();
    let mut wrong = Vec::new();
    let Some(fate) = known.fates.get_mut(&id) else {
        return known.violations.push(format!("{id} was never sent"));
    };
    fate.received = true;
    if message.body != id.as_bytes() {
        wrong.push("has another body than was sent");
    }
    if fate.acknowledged.is_some_and(|at| at < asked_at) {
        wrong.push("came again after its answered acknowledgement");
    }
    if now_ms() < fate.due_ms {
        wrong.push("came early");
    }
    if id.starts_with("payments.") && !fate.commit_asked {
        wrong.push("was seen without a commit");
    }
    if fate.rolled_back {
        wrong.push("was seen after its rollback");
    }
    if id.starts_with("ledger.") || id.starts_with("rooms.") {
        let (lane, number) = id.rsplit_once('.').unwrap();
        let earlier = (0..number.parse::<u64>().unwrap()).map(|n| format!("{lane}.{n}"));
        let is_settled = |earlier: &String| {
            let fate = &known.fates[earlier];
            !fate.is_stored || fate.acknowledging
        };
        if !earlier.into_iter().all(|earlier| is_settled(&earlier)) {
            wrong.push("came before an earlier one was acknowledged");
        }
    }
    known.violations.extend(wrong.into_iter().map(|what| format!("{id} {what}")));
}

/// One receive with its acknowledgement; none when the broker is gone.
async fn take(client: &mut Client, topic: &str, known: &Shared) -> Option<usize> {
    let asked_at = Instant::now();
    let received = client.receive(topic, GROUP, 16).await.ok()?;
    if received.messages.is_empty() {
        return Some(0);
    }
    {
        let mut known = known.lock().unwrap();
        received.messages.iter().for_each(|message| check(&mut known, message, asked_at));
        for message in &received.messages {
            if let Some(fate) = known.fates.get_mut(message_id(message)) {
                fate.acknowledging = true;
            }
        }
    }
    let acked = client.acknowledge(topic, GROUP, &received.messages).await.ok()?;
    let mut known = known.lock().unwrap();
    for (message, entry) in received.messages.iter().zip(&acked.entries) {
        let is_ok = code(&entry.status) == Code::Ok;
        if let Some(fate) = known.fates.get_mut(message_id(message)).filter(|_| is_ok) {
            fate.acknowledged = Some(Instant::now());
        }
    }
    Some(received.messages.len())
}

async fn subscribe(client: &mut Client) {
    let request = SyncLiteSubscriptionRequest {
        action: LiteSubscriptionAction::CompleteAdd.into(),
        topic: Some(resource("rooms")),
        group: Some(resource(GROUP)),
        lite_topic_set: (0..2).map(|lane| format!("room-{lane}")).collect(),
        ..SyncLiteSubscriptionRequest::default()
    };
    // Without it the consumer gets nothing, which the end of the test notices.
    let _gone = client.service.sync_lite_subscription(request).await;
}

async fn consume(mut client: Client, topic: &'static str, known: Shared) {
    subscribe(&mut client).await;
    while take(&mut client, topic, &known).await.is_some() {}
}

async fn round(place: &Place, shards: u32, chance: &mut Chance, known: &Shared) {
    let broker = place.start(&Options::shards(shards));
    let mut work = Vec::new();
    for (kind, topic) in KINDS {
        for lane in 0..2 {
            let client = broker.client(&format!("producer-{topic}-{lane}")).await;
            let own = Chance(chance.below(u64::MAX));
            let known = Arc::clone(known);
            work.push(tokio::spawn(produce(client, (kind, topic), lane, own, known)));
        }
        let client = broker.client(&format!("consumer-{topic}")).await;
        work.push(tokio::spawn(consume(client, topic, Arc::clone(known))));
    }
    let before = known.lock().unwrap().stored;
    let begun = Instant::now();
    while known.lock().unwrap().stored < before + KINDS.len() {
        assert!(begun.elapsed() < DRAIN_MAX, "{:?}", known.lock().unwrap().violations);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_millis(20 + chance.below(300))).await;
    broker.kill();
    for mut task in work {
        // It was seen once that a client library was not told that its connection was gone. What the broker kept is what counts
        // here.
        match tokio::time::timeout(LEAVES_WITHIN, &mut task).await {
            Ok(ended) => ended.unwrap(),
            Err(_) => {
                println!("a client waits for a broker that is gone, and is ended");
                task.abort();
            }
        }
    }
}

/// Stored, visible for good, and never received.
fn owed(known: &Known) -> Vec<String> {
    let is_owed = |(id, fate): &(&String, &Fate)| {
        let is_visible = !id.starts_with("payments.") || fate.committed;
        fate.is_stored && is_visible && !fate.received
    };
    known.fates.iter().filter(is_owed).map(|(id, _)| id.clone()).collect()
}

/// Commits what stayed open, and receives until nothing is owed.
async fn finish(broker: &Broker, known: &Shared) {
    let mut client = broker.client("finisher").await;
    subscribe(&mut client).await;
    let is_open = |fate: &Fate| fate.is_stored && !fate.commit_asked && !fate.rolled_back;
    let open: Vec<String> = {
        let known = known.lock().unwrap();
        let payments = known.fates.iter().filter(|(id, _)| id.starts_with("payments."));
        // A rollback that was asked for may have been stored without an answer.
        let undecided =
            payments.filter(|(id, fate)| is_open(fate) && number_of(id).is_multiple_of(3));
        undecided.map(|(id, _)| id.clone()).collect()
    };
    for id in open {
        assert!(end(&mut client, &id, true, known).await, "the broker is there");
    }
    let mut last_at = Instant::now();
    let mut before = usize::MAX;
    while !owed(&known.lock().unwrap()).is_empty() {
        for (_, topic) in KINDS {
            let is_owed = owed(&known.lock().unwrap()).iter().any(|id| id.starts_with(topic));
            while is_owed && take(&mut client, topic, known).await.is_some_and(|count| count > 0) {}
        }
        let left = owed(&known.lock().unwrap());
        if left.len() < before {
            (before, last_at) = (left.len(), Instant::now());
        }
        assert!(last_at.elapsed() < DRAIN_MAX, "{} never came, {:?}", left.len(), left.first());
    }
}

fn number_of(id: &str) -> u64 {
    id.rsplit_once('.').and_then(|(_, number)| number.parse().ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_one_shard_under_load_keep_the_promise_of_every_message_type() {
    kill_under_load(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_three_shards_under_load_keep_the_promise_of_every_message_type() {
    kill_under_load(3).await;
}

async fn kill_under_load(shards: u32) {
    let rounds = std::env::var(ROUNDS_VARIABLE)
        .map_or(ROUNDS_DEFAULT, |text| text.parse().expect("KILL_ROUNDS is a number"));
    let seed = now_ms();
    println!("seed {seed}, {rounds} rounds, {shards} shards");
    let place = Place::new();
    let broker = place.start(&Options::shards(shards));
    for (kind, topic) in KINDS {
        broker.create_topic(topic, kind).await;
    }
    let group = Group { name: GROUP.to_owned(), order: Order::Ordered.into(), ..Group::default() };
    let request = ApplyGroupRequest { group: Some(group), ..ApplyGroupRequest::default() };
    broker.admin().await.apply_group(request).await.unwrap();
    broker.kill();
    let known = Shared::default();
    let mut chance = Chance(seed);
    for number in 0..rounds {
        round(&place, shards, &mut chance, &known).await;
        assert_eq!(known.lock().unwrap().violations, [""; 0], "round {number}");
    }
    let broker = place.start(&Options::shards(shards));
    finish(&broker, &known).await;
    let known = known.lock().unwrap();
    assert_eq!(known.violations, [""; 0]);
    let acknowledged = known.fates.values().filter(|fate| fate.acknowledged.is_some()).count();
    println!("{} sent, {} stored, {acknowledged} acknowledged", known.fates.len(), known.stored);
}
