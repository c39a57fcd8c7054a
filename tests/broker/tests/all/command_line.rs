//! The command line against a running broker: what scripts and people rely on.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tests_broker::{Server, binary, get};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn texts(values: &[Value], field: &str) -> BTreeSet<String> {
    values.iter().map(|value| value[field].as_str().expect(field).to_owned()).collect()
}

#[test]
fn topics_and_groups_are_created_once_and_differences_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &[]);
    let created = server.run(&["topic", "create", "orders", "--queues", "4"]).ok();
    assert!(created.contains("orders created: NORMAL, 4 queues"), "{created}");
    for again in
        [&["topic", "create", "orders"][..], &["topic", "create", "orders", "--queues", "4"]]
    {
        assert!(server.run(again).ok().contains("exists already"), "{again:?}");
    }
    let refused = server.run(&["topic", "create", "orders", "--queues", "5"]).refused(1);
    assert!(refused.contains("it has 4 queues, not 5"), "{refused}");

    let _ = server.run(&["group", "create", "billing", "--max-attempts", "3"]).ok();
    assert!(server.run(&["group", "create", "billing"]).ok().contains("exists already"));
    let refused = server.run(&["group", "create", "billing", "--max-attempts", "4"]).refused(1);
    assert!(refused.contains("3 attempts, not 4"), "{refused}");

    let listed = server.run(&["topic", "list", "-o", "json"]).ok();
    let listed: Value = serde_json::from_str(&listed).expect("one JSON value");
    assert_eq!(listed[0]["name"], "orders");
    assert_eq!(listed[0]["queues"], 4);
    assert!(server.run(&["topic", "list"]).ok().starts_with("NAME"));
    assert!(server.run(&["topic", "describe", "orders"]).ok().contains("Queues:"));
    assert!(
        server.run(&["group", "describe", "billing", "-o", "yaml"]).ok().contains("maxAttempts: 3")
    );

    let limited =
        ["topic", "create", "brief", "--retention-time", "1h", "--retention-bytes", "1Gi"];
    let _ = server.run(&limited).ok();
    assert!(server.run(&limited).ok().contains("exists already"));
    let refused = server.run(&["topic", "create", "brief", "--retention-time", "2h"]).refused(1);
    assert!(refused.contains("it keeps messages 1h, not 2h"), "{refused}");
    let refused = server.run(&["topic", "create", "short", "--retention-time", "5s"]).refused(2);
    assert!(refused.contains("at least one minute"), "{refused}");

    let _ = server.run(&["topic", "delete", "orders"]).ok();
    let refused = server.run(&["topic", "delete", "orders"]).refused(1);
    assert!(refused.contains("there is no topic orders"), "{refused}");
    let _ = server.run(&["group", "delete", "billing"]).ok();
    let _ = server.run(&["group", "describe", "billing"]).refused(1);
    assert!(server.terminate().success());
}

#[test]
fn what_is_sent_is_received_once_with_all_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &["--shards", "2"]);
    let _ = server.run(&["topic", "create", "orders"]).ok();
    let sent =
        server.run(&["send", "orders", "--count", "50", "--body", "order", "-o", "json"]).ok();
    let sent = lines(&sent);
    let receive = ["receive", "orders", "--group", "billing", "--count", "50", "-o", "json"];
    let received = lines(&server.run(&receive).ok());
    assert_eq!(received.len(), 50);
    assert_eq!(texts(&sent, "messageId"), texts(&received, "messageId"));
    let bodies: BTreeSet<_> = (1..=50).map(|number| format!("order {number}")).collect();
    assert_eq!(texts(&received, "body"), bodies);
    assert!(received.iter().all(|message| message["attempt"] == 1));

    let one = [
        "send",
        "orders",
        "--tag",
        "paid",
        "--key",
        "k1",
        "--property",
        "region=north",
        "--body",
        "x",
    ];
    let _ = server.run(&one).ok();
    let received = lines(
        &server
            .run(&["receive", "orders", "--group", "billing", "--count", "1", "-o", "json"])
            .ok(),
    );
    assert_eq!(received[0]["tag"], "paid");
    assert_eq!(received[0]["keys"][0], "k1");
    assert_eq!(received[0]["properties"]["region"], "north");
    let lag = server.run(&["lag", "billing", "-o", "json"]).ok();
    let lag: Value = serde_json::from_str(&lag).expect("one JSON value");
    assert_eq!(lag[0]["topics"][0]["lagMessages"], 0, "{lag}");
}

#[test]
fn messages_of_every_type_are_sent_and_shown_with_what_only_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &["--shards", "3"]);
    for (topic, kind, flag, value, shown) in [
        ("steps", "FIFO", "--message-group", "g-1", "messageGroup"),
        ("alarms", "PRIORITY", "--priority", "3", "priority"),
        ("reminders", "DELAY", "--deliver-at", "+1s", "deliverAt"),
    ] {
        let _ = server.run(&["topic", "create", topic, "--type", kind]).ok();
        let _ = server.run(&["send", topic, flag, value]).ok();
        let receive = ["receive", topic, "--group", "shop", "--count", "1", "-o", "json"];
        let received = lines(&server.run(&receive).ok());
        let text = received[0][shown].to_string();
        assert!(kind == "DELAY" || text.trim_matches('"') == value, "{kind}: {text}");
        assert_ne!(received[0][shown], Value::Null, "{kind}");
    }
    let described = server.run(&["topic", "describe", "alarms", "-o", "json"]).ok();
    let described: Value = serde_json::from_str(&described).unwrap();
    let places = described["placement"].as_array().unwrap();
    assert_eq!((places.len(), &places[0]["queues"]), (1, &8.into()), "one owner keeps the levels");
    let created = ["topic", "create", "chat", "--type", "LITE", "--lite-expiry", "12h"];
    let _ = server.run(&created).ok();
    assert!(server.run(&created).ok().contains("exists already"));
    let refused = server
        .run(&["topic", "create", "chat", "--type", "lite", "--lite-expiry", "1h"])
        .refused(1);
    assert!(refused.contains("its lite expiry is 12h, not 1h"), "{refused}");
    let _ = server.run(&["send", "chat", "--lite-topic", "room-1"]).ok();
    let refused = server.run(&["send", "chat"]).refused(2);
    assert!(refused.contains("LITE"), "{refused}");
    let refused = server.run(&["topic", "create", "plain", "--lite-expiry", "1h"]).refused(2);
    assert!(refused.contains("--type LITE"), "{refused}");
}

#[test]
fn a_receive_that_gets_too_few_messages_says_so_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &[]);
    let _ = server.run(&["topic", "create", "orders"]).ok();
    let _ = server.run(&["send", "orders"]).ok();
    let receive = ["receive", "orders", "--group", "g", "--count", "2", "--timeout", "1"];
    let refused = server.run(&receive).refused(1);
    assert!(refused.contains("1 of 2 messages came"), "{refused}");
}

#[test]
fn a_group_is_reset_once_per_id_and_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &["--shards", "2"]);
    let _ = server.run(&["topic", "create", "orders"]).ok();
    let _ = server.run(&["send", "orders", "--count", "6"]).ok();
    let receive = ["receive", "orders", "--group", "billing", "--count", "6", "-o", "json"];
    let first = lines(&server.run(&receive).ok());
    let reset = ["group", "reset", "billing", "--to", "earliest", "--id", "again"];
    let told = server.run(&reset).ok();
    assert!(told.contains("billing goes on at earliest of all its topics"), "{told}");
    let second = lines(&server.run(&receive).ok());
    assert_eq!(texts(&first, "messageId"), texts(&second, "messageId"));
    let _ = server.run(&reset).ok();
    let lag = |server: &Server| -> Value {
        let lag: Value =
            serde_json::from_str(&server.run(&["lag", "billing", "-o", "json"]).ok()).unwrap();
        lag[0]["topics"][0]["lagMessages"].clone()
    };
    assert_eq!(lag(&server), 0, "the same id again changes nothing");
    let reset = ["group", "reset", "billing", "--topic", "orders", "--to", "0", "-o", "json"];
    let told: Value = serde_json::from_str(&server.run(&reset).ok()).unwrap();
    assert_eq!((&told["topics"][0], &told["to"]), (&"orders".into(), &"0".into()));
    assert_eq!(lag(&server), 6, "the first message of that time or later");
    let _ = server.run(&["group", "reset", "billing", "--to", "latest"]).ok();
    assert_eq!(lag(&server), 0);
    let _ = server.run(&["group", "reset", "billing", "--to", "-1"]).ok();
    assert_ne!(lag(&server), 0, "one message back in every queue that has one");
    for (wrong, what) in [
        (["group", "reset", "nobody", "--to", "latest"], "nobody"),
        (["group", "reset", "billing", "--to=latest", "--topic=none"], "none"),
    ] {
        let line = server.run(&wrong).refused(1);
        assert!(line.contains(what), "{line}");
    }
}

#[test]
fn a_paused_group_gets_nothing_until_it_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &[]);
    let _ = server.run(&["topic", "create", "orders"]).ok();
    let _ = server.run(&["group", "create", "billing", "--dead-letter", "discard"]).ok();
    let refused = server.run(&["group", "create", "billing", "--dead-letter", "store"]).refused(1);
    assert!(refused.contains("its dead-letter policy is discard, not store"), "{refused}");
    assert!(server.run(&["group", "pause", "billing"]).ok().contains("billing is paused"));
    let _ = server.run(&["send", "orders"]).ok();
    let receive = ["receive", "orders", "--group", "billing", "--count", "1", "--timeout", "1"];
    let _ = server.run(&receive).refused(1);
    let resumed = server.run(&["group", "resume", "billing", "-o", "json"]).ok();
    let resumed: Value = serde_json::from_str(&resumed).unwrap();
    assert_eq!((&resumed["consume"], &resumed["deadLetter"]), (&true.into(), &"discard".into()));
    let _ = server.run(&receive).ok();
    let refused = server.run(&["group", "pause", "nobody"]).refused(1);
    assert!(refused.contains("there is no consumer group nobody"), "{refused}");
}

#[test]
fn acknowledged_sends_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("data"), &[]);
    let _ = server.run(&["topic", "create", "orders"]).ok();
    let mut sent = BTreeSet::new();
    for _ in 0..3 {
        let ids = server.run(&["send", "orders", "--count", "100", "-o", "json"]).ok();
        sent.extend(texts(&lines(&ids), "messageId"));
        server.kill_and_reopen();
    }
    let received =
        server.run(&["receive", "orders", "--group", "g", "--count", "300", "-o", "json"]).ok();
    assert_eq!(texts(&lines(&received), "messageId"), sent);
}

#[test]
fn wrong_input_exits_2_and_unmet_needs_exit_1_with_one_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &[]);
    for wrong in [
        &["topic", "create", "no dots.or blanks"][..],
        &["topic", "create", "orders", "--queues", "0"],
        &["send", "orders", "--file", "/nowhere/at/all"],
        &["receive", "orders"],
        &["topic", "list", "--admin", "nowhere"],
        &["frobnicate"],
    ] {
        let line = server.run(wrong).refused(2);
        assert!(line.starts_with("error: "), "{line}");
    }
    let line = server.run(&["send", "unknown"]).refused(1);
    assert!(line.contains("pinnace topic create unknown"), "{line}");
    let line = server.run(&["receive", "unknown", "--group", "g"]).refused(1);
    assert!(line.contains("pinnace topic create unknown"), "{line}");
    let line = server.run(&["topic", "list", "--admin", "127.0.0.1:1"]).refused(1);
    assert!(line.contains("pinnace serve"), "{line}");
    let _ = server.run(&["topic", "create", "orders"]).ok();
    let line = server.run(&["send", "orders", "--tag", "a|b"]).refused(2);
    assert!(line.contains("ILLEGAL_MESSAGE_TAG"), "{line}");
    let line = server.run(&["send", "orders", "--group", "fifo"]).refused(2);
    assert!(line.contains("MESSAGE_PROPERTY_CONFLICT_WITH_TYPE"), "{line}");
    assert!(get(server.http, "/healthz").unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn a_short_measurement_receives_all_it_sent() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), &[]);
    let bench = [
        "bench",
        "--duration",
        "1",
        "--warm-up",
        "0",
        "--producers",
        "2",
        "--inflight",
        "4",
        "--batch",
        "4",
        "--size",
        "128",
        "--consumers",
        "2",
        "-o",
        "json",
    ];
    let report: Value = serde_json::from_str(&server.run(&bench).ok()).expect("one JSON value");
    assert!(report["accepted"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["accepted"], report["received"], "{report}");
    assert!(report["serverCpuUsPerMessage"].as_f64().is_some(), "{report}");
    assert!(report["sendToReceive"]["p99Us"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn the_demo_ends_with_success_without_a_terminal() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/orders");
    let output = Command::new(binary())
        .args(["demo", "--manifests"])
        .arg(examples)
        .stdin(Stdio::null())
        .output()
        .expect("the binary can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("billed exactly once"), "{text}");
}
