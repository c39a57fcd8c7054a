//! A broker that is told to stop serves on for a while, so that whoever leads clients to it hears of it first.

use std::time::{Duration, Instant};

use broker_proto::rocketmq::Code;
use tests_broker::client::{message, message_id};
use tests_broker::{Options, Place, get};

/// On a busy machine something takes no longer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_broker_that_is_told_to_stop_says_so_and_serves_on_until_it_is_told_again() {
    let place = Place::new();
    let broker = place.start(&Options::default().with("--stop-delay-seconds", 60));
    broker.create("orders", "billing").await;
    broker.terminate();
    let begun = Instant::now();
    while get(broker.http, "/readyz").unwrap().contains(" 200 ") {
        assert!(begun.elapsed() < ANSWERED_WITHIN, "it never says so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(get(broker.http, "/readyz").unwrap().contains("stopping"));
    let mut late = broker.client("late").await;
    let answer = late.send(vec![message("orders", "kept", b"x")]).await.unwrap();
    assert_eq!(answer.status.unwrap().code(), Code::Ok);
    let received = late.receive("orders", "billing", 1).await.unwrap();
    assert_eq!(message_id(&received.messages[0]), "kept");
    broker.terminate();
    let exit = tokio::task::spawn_blocking(move || broker.exit()).await.unwrap();
    assert!(exit.success());
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited for the rest of the delay");
}
