//! Topics over three shards, with one consumer that acknowledges everything: each message is handed out once, in order, and
//! none dies. `SHARD_MESSAGES=100000` asks for the long form.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use broker_proto::admin::{
    ApplyGroupRequest, Group, ListTopicsRequest, MessageType, Order, RetryPolicy,
};
use broker_proto::rocketmq::{Code, Message, MessageType as WireType};
use tests_broker::Client;
use tests_broker::broker::{Broker, Options, Place};
use tests_broker::client::{attempt, message, message_id, receive_request};
use tokio::task::JoinSet;

use crate::rpcs::code;

const MESSAGES_VARIABLE: &str = "SHARD_MESSAGES";
const MESSAGES_DEFAULT: usize = 3_000;
const PRODUCERS: usize = 4;
const SHARDS: u32 = 3;
const TOPIC: &str = "orders";
const GROUP: &str = "billing";
/// Nothing new for so long is an end.
const SILENCE_MAX: Duration = Duration::from_secs(60);

fn messages() -> usize {
    let asked = std::env::var(MESSAGES_VARIABLE).ok().and_then(|count| count.parse().ok());
    asked.unwrap_or(MESSAGES_DEFAULT)
}

async fn create(broker: &Broker, kind: MessageType, max_attempts: u32) {
    broker.create_topic(TOPIC, kind).await;
    let order = if kind == MessageType::Fifo { Order::Ordered } else { Order::Concurrent };
    let group = Group {
        name: GROUP.to_owned(),
        order: order.into(),
        retry: Some(RetryPolicy { max_attempts, backoff: None }),
        ..Group::default()
    };
    let request = ApplyGroupRequest { group: Some(group), ..ApplyGroupRequest::default() };
    broker.admin().await.apply_group(request).await.expect("the group is created");
}

/// Number `n` of a producer. Each has eight message groups of its own.
fn numbered(kind: MessageType, producer: usize, n: usize, due: SystemTime) -> Message {
    let id = format!("{producer}-{n}");
    let mut message = message(TOPIC, &id, id.as_bytes());
    let properties = message.system_properties.as_mut().expect("set by the helper");
    match kind {
        MessageType::Fifo => {
            properties.message_type = WireType::Fifo.into();
            properties.message_group = Some(format!("{producer}-{}", n % 8));
        }
        MessageType::Delay => {
            properties.message_type = WireType::Delay.into();
            properties.delivery_timestamp = Some(due.into());
        }
        _ => {}
    }
    message
}

async fn produce(mut client: Client, kind: MessageType, producer: usize, count: usize) {
    // All of them are due together.
    let due = SystemTime::now() + Duration::from_secs(3);
    for n in 0..count {
        let answer = client.send(vec![numbered(kind, producer, n, due)]).await.expect("it sends");
        assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
    }
}

/// Receives and acknowledges until all came; two polls at a time, as a client with two assignments has.
async fn consume(broker: &Broker, count: usize) -> Vec<Message> {
    let (mut received, mut seen, mut last_news) = (Vec::new(), HashSet::new(), Instant::now());
    let mut polls = JoinSet::new();
    let client = broker.client("consumer").await;
    let poll = |mut client: Client| async move {
        let got =
            client.receive_with(receive_request(TOPIC, GROUP, 16)).await.expect("it receives");
        if !got.messages.is_empty() {
            let acked = client.acknowledge(TOPIC, GROUP, &got.messages).await.expect("it answers");
            assert_eq!(code(&acked.status), Code::Ok, "{acked:?}");
        }
        got.messages
    };
    for _ in 0..2 {
        polls.spawn(poll(client.clone()));
    }
    while seen.len() < count {
        assert!(last_news.elapsed() < SILENCE_MAX, "only {} of {count} came", seen.len());
        let messages = polls.join_next().await.expect("two are under way").unwrap();
        for message in messages {
            seen.insert(message_id(&message).to_owned());
            received.push(message);
            last_news = Instant::now();
        }
        polls.spawn(poll(client.clone()));
    }
    received
}

/// Dead letters would be in one of their own.
async fn topics(broker: &Broker) -> Vec<String> {
    let answer = broker.admin().await.list_topics(ListTopicsRequest::default()).await;
    let topics = answer.expect("they are listed").into_inner().topics;
    topics.into_iter().map(|topic| topic.name).collect()
}

/// Of each message group, in the order in which it was sent.
fn assert_in_order(received: &[Message]) {
    let mut last: HashMap<String, usize> = HashMap::new();
    for message in received {
        let group = message.system_properties.as_ref().and_then(|p| p.message_group.clone());
        let number = message_id(message).split_once('-').unwrap().1.parse().unwrap();
        let before = last.insert(group.expect("a FIFO message"), number);
        assert!(before.is_none_or(|before| before < number), "{} overtakes", message_id(message));
    }
}

async fn each_message_is_delivered_once(kind: MessageType) {
    for max_attempts in [1, 2, 3, 17] {
        let place = Place::new();
        let broker = place.start(&Options::shards(SHARDS));
        create(&broker, kind, max_attempts).await;
        let each = messages() / PRODUCERS;
        let mut producers = JoinSet::new();
        for producer in 0..PRODUCERS {
            let client = broker.client(&format!("producer-{producer}")).await;
            producers.spawn(produce(client, kind, producer, each));
        }
        let received = consume(&broker, each * PRODUCERS).await;
        producers.join_all().await;
        let again = received.iter().filter(|message| attempt(message) != 1).count();
        assert_eq!((again, received.len()), (0, each * PRODUCERS), "maxAttempts {max_attempts}");
        assert_eq!(topics(&broker).await, [TOPIC], "maxAttempts {max_attempts}: no dead letter");
        if kind == MessageType::Fifo {
            assert_in_order(&received);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_shards_deliver_each_message_once() {
    each_message_is_delivered_once(MessageType::Normal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_shards_deliver_each_message_of_a_message_group_once_and_in_order() {
    each_message_is_delivered_once(MessageType::Fifo).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_shards_deliver_each_message_that_is_due_with_many_others_once() {
    each_message_is_delivered_once(MessageType::Delay).await;
}

/// Receives for 3 ms at a time, again and again, and acknowledges what arrives in it.
async fn receive_in_haste(mut client: Client, deadline: Instant, wanted: usize) -> Vec<String> {
    let mut done = Vec::new();
    while done.len() < wanted && Instant::now() < deadline {
        let poll = client.receive_with(receive_request(TOPIC, GROUP, 4));
        let Ok(Ok(got)) = tokio::time::timeout(Duration::from_millis(3), poll).await else {
            continue;
        };
        if !got.messages.is_empty() {
            client.acknowledge(TOPIC, GROUP, &got.messages).await.expect("it answers");
            done.extend(got.messages.iter().map(|message| message_id(message).to_owned()));
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_are_given_up_cost_no_message_an_attempt() {
    let place = Place::new();
    let broker = place.start(&Options::default());
    // An answer that crosses the word that nobody waits for it is a delivery: more than one of these in a row is rare.
    create(&broker, MessageType::Normal, 3).await;
    let count = 2_000;
    let mut clients = JoinSet::new();
    let until = Instant::now() + Duration::from_secs(20);
    for n in 0..8 {
        let client = broker.client(&format!("hasty-{n}")).await;
        clients.spawn(receive_in_haste(client, until, count / 8));
    }
    let producer = broker.client("producer").await;
    produce(producer, MessageType::Normal, 0, count).await;
    let mut came: HashSet<_> = clients.join_all().await.concat().into_iter().collect();
    let rest = consume(&broker, count - came.len()).await;
    came.extend(rest.iter().map(|message| message_id(message).to_owned()));
    assert_eq!(came.len(), count);
    assert_eq!(topics(&broker).await, [TOPIC], "no dead letter");
}
