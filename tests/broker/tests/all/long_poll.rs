//! Receives that find nothing wait in the broker, and are answered when something comes or their time is over.

use std::time::{Duration, Instant};

use broker_proto::rocketmq::{Code, TelemetryCommand};
use tests_broker::Client;
use tests_broker::broker::{Broker, Options, Place};
use tests_broker::client::{Received, message, message_id, receive_request};
use tokio::task::JoinHandle;

const WAITING: &str = "pinnace_consumer_waiting_polls";

async fn start(place: &Place) -> (Broker, Client) {
    let broker = place.start(&Options::shards(2));
    broker.create("orders", "billing").await;
    let client = broker.client("client-1").await;
    (broker, client)
}

fn park(client: &Client) -> JoinHandle<(Received, Instant)> {
    park_for(client, Duration::from_secs(5))
}

fn park_for(client: &Client, held: Duration) -> JoinHandle<(Received, Instant)> {
    let mut client = client.clone();
    let mut request = receive_request("orders", "billing", 1);
    request.long_polling_timeout = Some(held.try_into().unwrap());
    tokio::spawn(async move {
        let received = client.receive_with(request).await.unwrap();
        (received, Instant::now())
    })
}

#[tokio::test]
async fn a_waiting_receive_is_woken_by_a_message_in_less_than_100_ms() {
    let place = Place::new();
    let (broker, mut client) = start(&place).await;
    let mut fastest = Duration::MAX;
    // A machine busy with other work may delay any one of them.
    for round in 0..5 {
        let parked = park(&client);
        broker.wait_for_metric(WAITING, "billing", 1.0).await;
        let id = format!("wake-{round}");
        let sent_at = Instant::now();
        client.send(vec![message("orders", &id, b"x")]).await.unwrap();
        let (received, woken_at) = parked.await.unwrap();
        assert_eq!(message_id(&received.messages[0]), id);
        client.acknowledge("orders", "billing", &received.messages).await.unwrap();
        fastest = fastest.min(woken_at - sent_at);
    }
    assert!(fastest < Duration::from_millis(100), "woken after {fastest:?}");
}

#[tokio::test]
async fn an_empty_receive_waits_and_then_says_that_there_is_no_message() {
    let place = Place::new();
    let (_broker, client) = start(&place).await;
    let begun = Instant::now();
    let (received, ended) = park(&client).await.unwrap();
    assert_eq!(received.status.code(), Code::MessageNotFound);
    assert!(received.messages.is_empty());
    let waited = ended - begun;
    assert!(waited >= Duration::from_secs(4), "held only for {waited:?}");
}

#[tokio::test]
async fn a_stopping_broker_answers_waiting_receives_and_exits_with_success() {
    let place = Place::new();
    let (broker, client) = start(&place).await;
    let log = broker.log.clone();
    // Longer than a stopping broker waits for calls: a receive that runs out is cut, and gets no status.
    let held = Duration::from_secs(25);
    let parked = [park_for(&client, held), park_for(&client, held)];
    let (_commands, outbound) = tokio::sync::mpsc::channel::<TelemetryCommand>(1);
    let outbound = tokio_stream::wrappers::ReceiverStream::new(outbound);
    let telemetry = client.clone().service.telemetry(outbound).await;
    let mut telemetry = telemetry.unwrap().into_inner();
    broker.wait_for_metric(WAITING, "billing", 2.0).await;
    broker.terminate();
    for receive in parked {
        let (received, _) = receive.await.unwrap();
        assert_eq!(received.status.code(), Code::MessageNotFound);
    }
    while let Ok(Some(_command)) = telemetry.message().await {}
    // Beside the connection of the client, which is yet to take leave.
    let exit = tokio::task::spawn_blocking(move || broker.exit()).await.unwrap();
    assert!(exit.success());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("stopped"), "{log}");
    assert!(!log.contains("did not") && !log.contains("ERROR"), "it waited for something:\n{log}");
}

#[tokio::test]
async fn a_receive_that_was_given_up_takes_no_message_with_it() {
    let place = Place::new();
    let (broker, mut client) = start(&place).await;
    let parked = park(&client);
    broker.wait_for_metric(WAITING, "billing", 1.0).await;
    parked.abort();
    assert!(parked.await.unwrap_err().is_cancelled());
    client.send(vec![message("orders", "kept", b"x")]).await.unwrap();
    let received = client.receive("orders", "billing", 1).await.unwrap();
    assert_eq!(message_id(&received.messages[0]), "kept");
}
