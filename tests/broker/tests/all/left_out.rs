//! Starts that die on a record of the log: the next one says so, and `repair` leaves the record out.

use std::process::{Command, Stdio};

use broker_proto::admin::MessageType;
use broker_proto::rocketmq::Code;
use tests_broker::binary;
use tests_broker::broker::{Options, Place, serve_command};
use tests_broker::client::message;

/// Tells a debug build at which log position a start dies.
const DIES_AT: &str = "PINNACE_TEST_DIES_AT";

#[tokio::test]
async fn a_record_on_which_starts_die_can_be_left_out() {
    let place = Place::new();
    let data = place.data().display().to_string();
    let broker = place.start(&Options::default());
    broker.create_topic("orders", MessageType::Normal).await;
    let mut client = broker.client("producer").await;
    let sent = client.send(vec![message("orders", "one", b"x")]).await.unwrap();
    assert_eq!(sent.status.unwrap().code(), Code::Ok);
    drop(broker);
    let run = |arguments: &[&str]| {
        let output =
            Command::new(binary()).args(arguments).args(["--data", &data]).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (_, records, _) = run(&["inspect", "records", "-o", "json"]);
    let position = |kind: &str| {
        let line = records.lines().find(|line| line.contains(kind)).unwrap();
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["position"].as_u64().unwrap()
    };
    let of_topic = position("orders");
    let dying = Options::default().environment(DIES_AT, of_topic);
    for _ in 0..3 {
        let output = serve_command(&place.data(), &dying).stdout(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        assert!(!String::from_utf8_lossy(&output.stderr).contains("--leave-out"));
    }
    let output = serve_command(&place.data(), &dying).stdout(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("--leave-out {of_topic} --dry-run")), "{said}");
    let leave_out = of_topic.to_string();
    let (code, plan, _) = run(&["repair", "--leave-out", &leave_out, "--dry-run"]);
    assert_eq!(code, Some(0), "{plan}");
    assert!(plan.contains("put-topic orders") && plan.contains("default settings"), "{plan}");
    assert_eq!(run(&["repair", "--leave-out", "1"]).0, Some(2));
    let (code, done, _) = run(&["repair", "--leave-out", &leave_out, "--yes"]);
    assert_eq!(code, Some(0), "{done}");
    let broker = place.start(&dying);
    let mut client = broker.client("consumer").await;
    let received = client.receive("orders", "billing", 1).await.unwrap().messages;
    assert_eq!(received.len(), 1, "the topic and its message are there");
}
