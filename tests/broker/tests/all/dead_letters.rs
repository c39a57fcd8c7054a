//! Dead letters from the command line: seen per group, put back once each, no faster than asked.

use std::collections::BTreeSet;
use std::time::Instant;

use broker_proto::rocketmq::ForwardMessageToDeadLetterQueueRequest;
use serde_json::Value;
use tests_broker::client::{message, message_id, receipt_handle, resource};
use tests_broker::{Client, Server};

/// The group gives up on so many messages of a topic, and on nothing else.
async fn give_up_on(server: &Server, topic: &str, count: usize) -> BTreeSet<String> {
    let mut client = server.broker().client("consumer").await;
    let ids: BTreeSet<String> = (0..count).map(|number| format!("{topic}-{number}")).collect();
    for id in &ids {
        let _ = client.send(vec![message(topic, id, b"poison")]).await.unwrap();
    }
    let mut dead = BTreeSet::new();
    while dead.len() < count {
        for received in client.receive(topic, "billing", 32).await.unwrap().messages {
            forward(&mut client, topic, &received).await;
            dead.insert(message_id(&received).to_owned());
        }
    }
    assert_eq!(dead, ids);
    ids
}

async fn forward(client: &mut Client, topic: &str, received: &broker_proto::rocketmq::Message) {
    let request = ForwardMessageToDeadLetterQueueRequest {
        group: Some(resource("billing")),
        topic: Some(resource(topic)),
        receipt_handle: receipt_handle(received).to_owned(),
        message_id: message_id(received).to_owned(),
        delivery_attempt: 1,
        max_delivery_attempts: 1,
        lite_topic: None,
    };
    let answer = client.service.forward_message_to_dead_letter_queue(request).await.unwrap();
    assert_eq!(answer.into_inner().status.unwrap().code, 20_000);
}

fn json(server: &Server, verb: &[&str]) -> Value {
    let mut verb = verb.to_vec();
    verb.extend(["-o", "json"]);
    serde_json::from_str(&server.run(&verb).ok()).expect("one JSON value")
}

fn counts(redriven: &Value) -> (u64, u64) {
    (redriven["redriven"].as_u64().unwrap(), redriven["left"].as_u64().unwrap())
}

#[tokio::test]
async fn dead_letters_are_listed_and_put_back_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &[]);
    for topic in ["orders", "refunds"] {
        let _ = server.run(&["topic", "create", topic]).ok();
    }
    let _ = server.run(&["group", "create", "billing"]).ok();
    assert_eq!(json(&server, &["dead-letter", "list"]), Value::Array(Vec::new()));
    let orders = give_up_on(&server, "orders", 5).await;
    let refunds = give_up_on(&server, "refunds", 2).await;
    let listed = json(&server, &["dead-letter", "list"]);
    assert_eq!((&listed[0]["group"], &listed[0]["deadLetters"]), (&"billing".into(), &7.into()));
    assert!(server.run(&["dead-letter", "list"]).ok().contains("%DLQ%billing"));

    let redrive = ["dead-letter", "redrive", "billing"];
    let told = server.run(&[&redrive[..], &["--dry-run"]].concat()).ok();
    assert_eq!(told, "7 dead letters of billing can be put back\n");
    let some = [&redrive[..], &["--topic", "orders", "--max", "3"]].concat();
    assert_eq!(counts(&json(&server, &some)), (3, 2));
    let begun = Instant::now();
    let slowly = [&redrive[..], &["--rate", "2"]].concat();
    assert_eq!(counts(&json(&server, &slowly)), (4, 0));
    assert!(begun.elapsed().as_millis() >= 1_500, "{:?}", begun.elapsed());
    assert_eq!(server.run(&redrive).ok(), "0 dead letters of billing put back, 0 left\n");

    let mut client = server.broker().client("consumer").await;
    for (topic, ids) in [("orders", orders), ("refunds", refunds)] {
        let mut back = Vec::new();
        while back.len() < ids.len() {
            back.extend(client.receive(topic, "billing", 32).await.unwrap().messages);
        }
        let _ = client.acknowledge(topic, "billing", &back).await.unwrap();
        let got: BTreeSet<_> =
            back.iter().map(|received| message_id(received).to_owned()).collect();
        assert_eq!((got, back.len()), (ids.clone(), ids.len()), "each of them once");
    }
}

fn listed(server: &Server) -> u64 {
    json(server, &["dead-letter", "list"])[0]["deadLetters"].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn a_dead_letter_is_shown_with_its_reason_put_back_alone_and_purged() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("data"), &["--shards", "2"]);
    let _ = server.run(&["topic", "create", "orders", "--queues", "4"]).ok();
    let _ = server.run(&["group", "create", "billing", "--max-attempts", "3"]).ok();
    let _ = give_up_on(&server, "orders", 6).await;
    server.kill_and_reopen();
    let shown = json(&server, &["dead-letter", "show", "billing"]);
    let letters = shown["deadLetters"].as_array().unwrap();
    assert_eq!(letters.len(), 6, "{shown}");
    for letter in letters {
        assert_eq!(letter["reason"], "given up by a consumer", "{letter}");
        assert_eq!(
            (&letter["attempts"], &letter["message"]["topic"]),
            (&1.into(), &"orders".into())
        );
        assert_eq!(letter["message"]["body"], "poison");
        assert!(letter["died"].as_str() >= letter["message"]["stored"].as_str(), "{letter}");
    }
    // A page ends where it says that it goes on.
    let mut seen = BTreeSet::new();
    let mut cursor = Value::Null;
    loop {
        let mut verb = vec!["dead-letter", "show", "billing", "--max", "4"];
        verb.extend(cursor.as_str().into_iter().flat_map(|cursor| ["--cursor", cursor]));
        let page = json(&server, &verb);
        for letter in page["deadLetters"].as_array().unwrap() {
            assert!(seen.insert(letter["message"]["messageId"].as_str().unwrap().to_owned()));
        }
        cursor = page["cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen.len(), 6);
    let one = server.run(&["dead-letter", "show", "billing", "--id", "orders-4"]).ok();
    for part in ["given up by a consumer", "orders-4", "poison", "Attempts:"] {
        assert!(one.contains(part), "{part}: {one}");
    }
    let line = server.run(&["dead-letter", "show", "billing", "--id", "none"]).refused(1);
    assert!(line.contains("none"), "{line}");

    let label = "consumer_group=\"billing\"";
    assert_eq!(server.broker().metric("pinnace_dead_letters", label), 6.0);
    let back = server.run(&["dead-letter", "redrive", "billing", "--id", "orders-4"]).ok();
    assert!(back.starts_with("1 dead letters of billing put back"), "{back}");
    assert_eq!(listed(&server), 5);
    let told = server.run(&["dead-letter", "purge", "billing"]).ok();
    assert!(told.starts_with("5 dead letters") && told.contains("--yes"), "{told}");
    let _ = server.run(&["dead-letter", "purge", "billing", "--id", "orders-1", "--yes"]).ok();
    assert_eq!(listed(&server), 4);
    let _ = server.run(&["dead-letter", "purge", "billing", "--yes"]).ok();
    assert_eq!(listed(&server), 0);
    assert_eq!(server.broker().metric("pinnace_dead_letters", label), 0.0);
    assert_eq!(server.broker().metric("rocketmq_send_to_dlq_messages_total", label), 6.0);
    let trace = server.run(&["message", "trace", "orders", "--id", "orders-1"]).ok();
    assert!(trace.contains("purged") && !trace.contains("redriven"), "{trace}");
    let mut client = server.broker().client("consumer").await;
    let received = client.receive("orders", "billing", 32).await.unwrap().messages;
    assert_eq!(received.iter().map(message_id).collect::<Vec<_>>(), ["orders-4"]);
}

#[test]
fn a_redrive_for_nobody_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &[]);
    let line = server.run(&["dead-letter", "redrive", "nobody"]).refused(1);
    assert!(line.contains("nobody"), "{line}");
    let line = server.run(&["dead-letter", "redrive", "a b"]).refused(2);
    assert!(line.contains("illegal character"), "{line}");
}
