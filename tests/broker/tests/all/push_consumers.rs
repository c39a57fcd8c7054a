//! Deliveries that the broker prolongs: a lost answer is no receipt, a consumer that is gone holds nothing for long, and a
//! restart takes nothing from one that is at work. Slices are shorter than real ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use broker_proto::admin::{ApplyGroupRequest, Group, MessageType, Order};
use broker_proto::rocketmq::{
    ClientType, Code, HeartbeatRequest, Message, MessageType as WireType, ReceiveMessageRequest,
    Settings, Subscription, TelemetryCommand, settings::PubSub, telemetry_command::Command,
};
use tests_broker::Client;
use tests_broker::broker::{Broker, Options, Place};
use tests_broker::client::{attempt, message, message_id, receive_request, resource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::rpcs::code;

/// Tells a debug build of the broker how long a delivery is invisible at first; other times follow from it.
const SLICE_VARIABLE: &str = "PINNACE_TEST_SLICE_MS";
const SLICE: Duration = Duration::from_secs(6);
const BODY_BYTES: usize = 2_000;
/// What did not happen by then does not happen.
const WAIT_MAX: Duration = Duration::from_secs(30);

fn options() -> Options {
    Options::default().environment(SLICE_VARIABLE, SLICE.as_millis())
}

async fn create(broker: &Broker, kind: MessageType) {
    broker.create_topic("orders", kind).await;
    let order = if kind == MessageType::Fifo { Order::Ordered } else { Order::Concurrent };
    let group = Group { name: "billing".to_owned(), order: order.into(), ..Group::default() };
    let request = ApplyGroupRequest { group: Some(group), ..ApplyGroupRequest::default() };
    broker.admin().await.apply_group(request).await.expect("the group is created");
}

async fn send(broker: &Broker, kind: MessageType, ids: &[&str]) {
    let mut producer = broker.client("producer").await;
    for id in ids {
        let mut message = message("orders", id, &vec![7; BODY_BYTES]);
        if kind == MessageType::Fifo {
            let properties = message.system_properties.as_mut().expect("set by the helper");
            properties.message_type = WireType::Fifo.into();
            properties.message_group = Some("group".to_owned());
        }
        let answer = producer.send(vec![message]).await.unwrap();
        assert_eq!(code(&answer.status), Code::Ok);
    }
}

/// As a push consumer asks.
fn push() -> ReceiveMessageRequest {
    let simple = receive_request("orders", "billing", 1);
    ReceiveMessageRequest { auto_renew: true, invisible_duration: None, ..simple }
}

/// Polls until a message comes, and says how long that took.
async fn next(client: &mut Client) -> (Message, Duration) {
    let begun = Instant::now();
    loop {
        let mut received = client.receive_with(push()).await.unwrap().messages;
        if let Some(message) = received.pop() {
            return (message, begun.elapsed());
        }
        assert!(begun.elapsed() < WAIT_MAX, "no message came in {WAIT_MAX:?}");
    }
}

async fn acknowledge(client: &mut Client, message: Message) -> Code {
    let answer = client.acknowledge("orders", "billing", &[message]).await.unwrap();
    code(&answer.entries[0].status)
}

/// Passes bytes on in both directions; what the broker says may be swallowed.
struct Forwarder {
    address: SocketAddr,
    swallows: Arc<AtomicBool>,
    swallowed: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Forwarder {
    async fn to(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (swallows, swallowed) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        let (is_swallowing, count) = (Arc::clone(&swallows), Arc::clone(&swallowed));
        tasks.spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let broker = TcpStream::connect(broker).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_broker, mut to_broker) = broker.into_split();
            let there = async { tokio::io::copy(&mut from_client, &mut to_broker).await.map(drop) };
            let back = async {
                let mut bytes = vec![0; 64 * 1024];
                loop {
                    let length = from_broker.read(&mut bytes).await?;
                    if is_swallowing.load(Ordering::Relaxed) {
                        count.fetch_add(length, Ordering::Relaxed);
                    } else {
                        to_client.write_all(&bytes[..length]).await?;
                    }
                    if length == 0 {
                        return Ok::<_, std::io::Error>(());
                    }
                }
            };
            tokio::select! { _ = there => {}, _ = back => {} }
        });
        Self { address, swallows, swallowed, tasks }
    }

    /// Until so much was swallowed.
    async fn has_swallowed(&self, bytes: usize) {
        let begun = Instant::now();
        while self.swallowed.load(Ordering::Relaxed) < bytes {
            assert!(begun.elapsed() < WAIT_MAX, "nothing is swallowed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn a_lost_answer_comes_again(kind: MessageType) {
    let place = Place::new();
    let broker = place.start(&options());
    create(&broker, kind).await;
    let mut forwarder = Forwarder::to(broker.listen).await;
    let mut unlucky = Client::connect(forwarder.address, "consumer").await.unwrap();
    let waits = tokio::spawn(async move { unlucky.receive_with(push()).await });
    broker.wait_for_metric("pinnace_consumer_waiting_polls", "billing", 1.0).await;
    forwarder.swallows.store(true, Ordering::Relaxed);
    send(&broker, kind, &["first", "second"]).await;
    forwarder.has_swallowed(BODY_BYTES).await;
    let lost_at = Instant::now();
    forwarder.tasks.shutdown().await;
    waits.await.unwrap().expect_err("its connection broke");
    // The same client is back and goes on, so that it lives.
    let mut client = broker.client("consumer").await;
    let mut received = Vec::new();
    while received.len() < 2 {
        let (message, _) = next(&mut client).await;
        received.push((message_id(&message).to_owned(), attempt(&message)));
        assert_eq!(acknowledge(&mut client, message).await, Code::Ok);
    }
    assert!(lost_at.elapsed() < 2 * SLICE, "{:?} for {received:?}", lost_at.elapsed());
    assert!(received.contains(&("first".to_owned(), 2)), "{received:?}");
    if kind == MessageType::Fifo {
        assert_eq!(received[0].0, "first");
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_on_the_way_comes_again_while_its_client_lives() {
    a_lost_answer_comes_again(MessageType::Normal).await;
}

#[tokio::test]
async fn a_message_group_whose_answer_was_lost_goes_on_while_its_client_lives() {
    a_lost_answer_comes_again(MessageType::Fifo).await;
}

/// Somebody else asks for this long, and gets nothing.
async fn nobody_else_gets_it(broker: &Broker, how_long: Duration) {
    let mut other = broker.client("other").await;
    let begun = Instant::now();
    while begun.elapsed() < how_long {
        let received = other.receive_with(push()).await.unwrap().messages;
        assert!(received.is_empty(), "it was taken from a consumer that is at work");
    }
}

/// Says who it is and gives signs of life, as clients do.
async fn beat(client: &Client) -> tokio::task::JoinHandle<()> {
    let (group, client_type) = (Some(resource("billing")), ClientType::PushConsumer.into());
    let subscription = Subscription { group: group.clone(), ..Subscription::default() };
    let settings = Settings {
        client_type: Some(client_type),
        pub_sub: Some(PubSub::Subscription(subscription)),
        ..Settings::default()
    };
    let (commands, outbound) = tokio::sync::mpsc::channel(1);
    let command = Some(Command::Settings(settings));
    commands.send(TelemetryCommand { status: None, command }).await.unwrap();
    let outbound = tokio_stream::wrappers::ReceiverStream::new(outbound);
    let mut client = client.clone();
    let mut inbound = client.service.telemetry(outbound).await.unwrap().into_inner();
    let answer = inbound.message().await.unwrap().unwrap();
    assert_eq!(code(&answer.status), Code::Ok);
    tokio::spawn(async move {
        loop {
            let heartbeat = HeartbeatRequest { group: group.clone(), client_type };
            let _gone = client.service.heartbeat(heartbeat).await;
            tokio::time::sleep(SLICE / 12).await;
        }
    })
}

#[tokio::test]
async fn what_a_consumer_had_that_is_gone_comes_to_others_after_about_a_slice() {
    let place = Place::new();
    let broker = place.start(&options());
    create(&broker, MessageType::Normal).await;
    send(&broker, MessageType::Normal, &["first"]).await;
    let mut client = broker.client("consumer").await;
    let beats = beat(&client).await;
    let _held = next(&mut client).await;
    // It is at work for so long that it was prolonged for more than a slice.
    nobody_else_gets_it(&broker, 2 * SLICE).await;
    beats.abort();
    drop(client);
    let (message, took) = next(&mut broker.client("other").await).await;
    assert_eq!(attempt(&message), 2);
    assert!(took < 2 * SLICE, "{took:?}");
}

async fn a_restart_takes_nothing_from_a_consumer_at_work(end: impl FnOnce(Broker)) {
    let place = Place::new();
    let broker = place.start(&options());
    create(&broker, MessageType::Normal).await;
    send(&broker, MessageType::Normal, &["first"]).await;
    let mut client = broker.client("consumer").await;
    let beats = beat(&client).await;
    let (held, _) = next(&mut client).await;
    nobody_else_gets_it(&broker, SLICE + SLICE / 2).await;
    beats.abort();
    end(broker);
    let broker = place.start(&options());
    let mut client = broker.client("consumer").await;
    assert_eq!(acknowledge(&mut client, held).await, Code::Ok);
    nobody_else_gets_it(&broker, Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_prolonged_delivery_can_be_acknowledged_after_a_crash_of_the_broker() {
    a_restart_takes_nothing_from_a_consumer_at_work(Broker::kill).await;
}

#[tokio::test]
async fn a_prolonged_delivery_can_be_acknowledged_after_a_restart_of_the_broker() {
    a_restart_takes_nothing_from_a_consumer_at_work(|broker| {
        broker.terminate();
        assert!(broker.exit().success());
    })
    .await;
}
