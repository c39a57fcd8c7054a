//! Steps of the wall clock under a running broker: durations go on as if there were none, nobody who is alive is forgotten,
//! and what is looked for by time is found.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use broker_proto::admin::reset_offsets_request::To;
use broker_proto::admin::{ApplyGroupRequest, Group, MessageType, Model, ResetOffsetsRequest};
use broker_proto::rocketmq::{
    ClientType, Code, HeartbeatRequest, Message, MessageType as WireType, Publishing,
    ReceiveMessageRequest, Settings, Subscription, TelemetryCommand, settings::PubSub,
    telemetry_command::Command,
};
use tests_broker::Client;
use tests_broker::broker::{Broker, Options, Place};
use tests_broker::client::{attempt, message, message_id, receive_request, resource, span};

use crate::rpcs::code;

/// Tells a debug build of the broker by how many milliseconds its wall clock is wrong: a file.
const WALL_CLOCK: &str = "PINNACE_TEST_WALL_CLOCK";
const HOUR_MS: i64 = 3_600_000;
const TEN_MINUTES_MS: i64 = 600_000;
/// What is due in ten seconds is there by then, on a busy machine too.
const DUE_MAX: Duration = Duration::from_secs(25);
/// The broker looks for silent clients within this time.
const EXPIRY_ROUND: Duration = Duration::from_secs(10);

struct WallClock(PathBuf);

impl WallClock {
    fn of(place: &Place) -> (Self, Options) {
        let path = place.path("wall-clock");
        let options = Options::default().environment(WALL_CLOCK, path.display());
        (Self(path), options)
    }

    fn step(&self, ms: i64) {
        std::fs::write(&self.0, ms.to_string()).unwrap();
    }
}

/// Says who it is; the stream tells what the broker asks.
async fn introduce(
    client: &Client,
    client_type: ClientType,
    pub_sub: PubSub,
) -> (tokio::sync::mpsc::Sender<TelemetryCommand>, tonic::Streaming<TelemetryCommand>) {
    let (commands, outbound) = tokio::sync::mpsc::channel(1);
    let client_type = Some(client_type.into());
    let settings = Settings { client_type, pub_sub: Some(pub_sub), ..Settings::default() };
    let command = Some(Command::Settings(settings));
    commands.send(TelemetryCommand { status: None, command }).await.unwrap();
    let outbound = tokio_stream::wrappers::ReceiverStream::new(outbound);
    let mut service = client.service.clone();
    let mut inbound = service.telemetry(outbound).await.unwrap().into_inner();
    assert_eq!(code(&inbound.message().await.unwrap().unwrap().status), Code::Ok);
    (commands, inbound)
}

fn consumer() -> PubSub {
    let group = Some(resource("billing"));
    PubSub::Subscription(Subscription { group, ..Subscription::default() })
}

fn half(id: &str) -> Message {
    let mut message = message("payments", id, b"half");
    let properties = message.system_properties.as_mut().expect("set by the helper");
    properties.message_type = WireType::Transaction.into();
    properties.orphaned_transaction_recovery_duration = Some(span(Duration::from_secs(8)));
    message
}

async fn send(broker: &Broker, topic: &str, ids: &[&str]) {
    let mut producer = broker.client("sender").await;
    for id in ids {
        let answer = producer.send(vec![message(topic, id, b"a body")]).await.unwrap();
        assert_eq!(code(&answer.status), Code::Ok);
    }
}

/// Ids of what a consumer gets until nothing comes for the time of a poll.
async fn drain(client: &mut Client, topic: &str, group: &str) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let received = client.receive(topic, group, 32).await.unwrap().messages;
        if received.is_empty() {
            ids.sort();
            return ids;
        }
        ids.extend(received.iter().map(|message| message_id(message).to_owned()));
        client.acknowledge(topic, group, &received).await.unwrap();
    }
}

#[tokio::test]
async fn an_hour_back_delays_nothing_that_is_in_flight_or_waits_or_is_to_be_asked() {
    let place = Place::new();
    let (clock, options) = WallClock::of(&place);
    let broker = place.start(&options);
    broker.create("orders", "billing").await;
    broker.create_topic("empty", MessageType::Normal).await;
    broker.create_topic("payments", MessageType::Transaction).await;
    send(&broker, "orders", &["held"]).await;
    let mut producer = broker.client("producer").await;
    let publishing = PubSub::Publishing(Publishing::default());
    let (_open, mut asked) = introduce(&producer, ClientType::Producer, publishing).await;
    assert_eq!(code(&producer.send(vec![half("open")]).await.unwrap().status), Code::Ok);
    let mut client = broker.client("consumer").await;
    let held = client.receive("orders", "billing", 1).await.unwrap().messages;
    assert_eq!(held.len(), 1);
    let mut waiting = broker.client("waiting").await;
    let poll = tokio::spawn(async move { waiting.receive("empty", "billing", 1).await });
    broker.wait_for_metric("pinnace_consumer_waiting_polls", "billing", 1.0).await;
    clock.step(-HOUR_MS);
    let stepped = Instant::now();
    let question = async {
        loop {
            let command = asked.message().await.unwrap().unwrap().command;
            if let Some(Command::RecoverOrphanedTransactionCommand(_)) = command {
                return;
            }
        }
    };
    let again = async {
        loop {
            let got = client.receive("orders", "billing", 1).await.unwrap().messages;
            if let Some(message) = got.first() {
                return attempt(message);
            }
        }
    };
    let all = async { tokio::join!(poll, question, again) };
    let (polled, (), attempt) = tokio::time::timeout(DUE_MAX, all).await.expect("all in its time");
    assert_eq!((polled.unwrap().unwrap().messages.len(), attempt), (0, 2));
    assert!(
        stepped.elapsed() > Duration::from_secs(5),
        "{:?}: not before its time",
        stepped.elapsed()
    );
}

#[tokio::test]
async fn ten_minutes_ahead_forget_no_client_that_lives_and_no_message() {
    let place = Place::new();
    let (clock, options) = WallClock::of(&place);
    let broker = place.start(&options);
    broker.create("orders", "billing").await;
    let casts = Group {
        name: "displays".to_owned(),
        model: Model::Broadcasting.into(),
        ..Group::default()
    };
    let request = ApplyGroupRequest { group: Some(casts), ..ApplyGroupRequest::default() };
    broker.admin().await.apply_group(request).await.unwrap();
    let mut display = broker.client("display").await;
    let nothing = display.receive("orders", "displays", 1).await.unwrap().messages;
    assert!(nothing.is_empty(), "it is known from now on");
    let ids: Vec<String> = (10..60).map(|n| format!("message-{n}")).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    send(&broker, "orders", &names).await;
    let mut client = broker.client("consumer").await;
    let _stream = introduce(&client, ClientType::PushConsumer, consumer()).await;
    let push = ReceiveMessageRequest {
        auto_renew: true,
        invisible_duration: None,
        ..receive_request("orders", "billing", 32)
    };
    let held = client.receive_with(push).await.unwrap().messages;
    assert!(!held.is_empty());
    clock.step(TEN_MINUTES_MS);
    let stepped = Instant::now();
    while stepped.elapsed() < EXPIRY_ROUND + Duration::from_secs(2) {
        let (group, client_type) = (Some(resource("billing")), ClientType::PushConsumer.into());
        let beat = client.service.heartbeat(HeartbeatRequest { group, client_type }).await.unwrap();
        assert_eq!(code(&beat.into_inner().status), Code::Ok, "its session is there");
        let mut other = broker.client("other").await;
        let taken = other.receive("orders", "billing", 32).await.unwrap().messages;
        let was_held =
            |message: &&Message| held.iter().any(|h| message_id(h) == message_id(message));
        assert_eq!(taken.iter().find(was_held), None, "the work of one that lives");
        other.acknowledge("orders", "billing", &taken).await.unwrap();
    }
    for answer in client.acknowledge("orders", "billing", &held).await.unwrap().entries {
        assert_eq!(code(&answer.status), Code::Ok);
    }
    assert_eq!(drain(&mut display, "orders", "displays").await, ids);
}

#[tokio::test]
async fn after_a_step_back_a_reset_by_time_skips_no_message() {
    let place = Place::new();
    let (clock, options) = WallClock::of(&place);
    let broker = place.start(&options);
    broker.create("orders", "billing").await;
    send(&broker, "orders", &["before-1", "before-2", "before-3", "before-4"]).await;
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let between_ms = u64::try_from(since_epoch.as_millis()).unwrap() + 1;
    while SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
        <= u128::from(between_ms)
    {
        tokio::task::yield_now().await;
    }
    clock.step(-HOUR_MS);
    let after = ["after-1", "after-2", "after-3", "after-4", "after-5", "after-6"];
    send(&broker, "orders", &after).await;
    let mut client = broker.client("consumer").await;
    assert_eq!(drain(&mut client, "orders", "billing").await.len(), 10);
    for (time_ms, ids) in [
        (between_ms - HOUR_MS.cast_unsigned(), 10),
        // Their times stand still at the last one before the step: there all of them are, and maybe that one.
        (between_ms - 5_000, 10),
    ] {
        let request = ResetOffsetsRequest {
            group: "billing".to_owned(),
            to: Some(To::TimeMs(time_ms)),
            ..ResetOffsetsRequest::default()
        };
        broker.admin().await.reset_offsets(request).await.unwrap();
        let received = drain(&mut client, "orders", "billing").await;
        assert!(after.iter().all(|id| received.iter().any(|got| got == id)), "{received:?}");
        assert_eq!(received.len(), ids, "{received:?}");
    }
}
