//! Finding and tracing messages with the command line, after a crash: what was answered is in the log. And the admin
//! service of the RocketMQ protocol, which shares its port with Pinnace's own.

use broker_proto::rocketmq::admin_client::AdminClient;
use broker_proto::rocketmq::change_log_level_request::Level;
use broker_proto::rocketmq::{ChangeLogLevelRequest, Code, DescribeTopicStatusRequest};
use serde_json::Value;
use tests_broker::Server;
use tests_broker::broker::{Options, Place};
use tests_broker::client::resource;
use tonic::transport::Endpoint;

use crate::rpcs::code;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

#[test]
fn a_message_is_found_and_traced_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("data"), &["--shards", "2"]);
    let _ = server.run(&["topic", "create", "orders"]).ok();
    let _ = server.run(&["send", "orders", "--count", "20", "--body", "noise"]).ok();
    let send =
        ["send", "orders", "--key", "k-77", "--tag", "paid", "--body", "wanted", "-o", "json"];
    let sent = json(&server.run(&send).ok());
    let id = sent["messageId"].as_str().unwrap();
    let receive = ["receive", "orders", "--group", "billing", "--count", "21"];
    let _ = server.run(&receive).ok();
    server.kill_and_reopen();

    let found =
        json(&server.run(&["message", "find", "orders", "--key", "k-77", "-o", "json"]).ok());
    assert_eq!(found["complete"], true, "{found}");
    let message = &found["messages"][0];
    assert_eq!((&message["messageId"], &message["tag"]), (&sent["messageId"], &"paid".into()));
    assert!(message["body"].as_str().unwrap().starts_with("wanted"), "{found}");
    let by_id = server.run(&["message", "find", "orders", "--id", id, "--from", "10m"]).ok();
    assert!(by_id.starts_with("STORED") && by_id.contains("k-77"), "{by_id}");
    let few = server.run(&["message", "find", "orders", "--max", "3"]).ok();
    assert_eq!(few.lines().count(), 5, "{few}");
    // What is printed can be pasted.
    let pasted = few.lines().last().unwrap().strip_prefix("there may be more: ").unwrap();
    let rest =
        [&["message", "find", "orders"][..], &pasted.split(' ').collect::<Vec<_>>()].concat();
    let rest = server.run(&rest).ok();
    assert_eq!(rest.lines().count(), 1 + 18, "{rest}");
    let none = server.run(&["message", "find", "orders", "--to", "10m", "-o", "json"]).ok();
    assert_eq!(json(&none)["messages"], Value::Array(Vec::new()));

    let traces = json(&server.run(&["message", "trace", "orders", "--id", id, "-o", "json"]).ok());
    let events = traces[0]["events"].as_array().unwrap();
    let told: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(told, ["delivered", "acknowledged"], "{traces}");
    assert_eq!((&events[0]["group"], &events[0]["attempt"]), (&"billing".into(), &1.into()));
    assert!(!events[0]["clientId"].as_str().unwrap().is_empty(), "{traces}");
    let table = server.run(&["message", "trace", "orders", "--id", id]).ok();
    assert!(table.contains("Stored:") && table.contains("acknowledged"), "{table}");
    let refused = server.run(&["message", "trace", "orders", "--id", "nobody"]).refused(1);
    assert!(refused.contains("no message nobody"), "{refused}");
    let refused = server.run(&["message", "find", "absent", "--key", "k"]).refused(1);
    assert!(refused.contains("absent does not exist"), "{refused}");
    assert!(server.terminate().success());
}

#[tokio::test]
async fn both_admin_services_answer_on_one_port_and_the_log_level_changes() {
    let place = Place::new();
    let broker = place.start(&Options::shards(1));
    broker.create("orders", "billing").await;
    let endpoint = Endpoint::from_shared(format!("http://{}", broker.admin)).unwrap();
    let mut admin = AdminClient::new(endpoint.connect().await.unwrap());
    let topic = Some(resource("orders"));
    let ask = DescribeTopicStatusRequest { topic, ..DescribeTopicStatusRequest::default() };
    let answer = admin.describe_topic_status(ask).await.unwrap().into_inner();
    assert_eq!(code(&answer.status), Code::Ok);
    assert!(!broker.logged().contains("DEBUG"));
    let request = ChangeLogLevelRequest { level: Level::Debug.into() };
    let remark = admin.change_log_level(request).await.unwrap().into_inner().remark;
    assert!(remark.contains("is DEBUG"), "{remark}");
    // Every frame of a connection is told at that level.
    broker.create("refunds", "billing").await;
    assert!(broker.logged().contains("DEBUG"), "{}", broker.logged());
}
