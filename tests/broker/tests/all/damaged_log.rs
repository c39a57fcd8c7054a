//! A damaged log with the real binary: what is whole is served and nothing is changed, `inspect` and `repair` say what is
//! lost, and after the repair the broker writes again.

use std::fs;
use std::path::{Path, PathBuf};

use tests_broker::Server;
use tests_broker::get;

/// Both shards hold a queue.
const SHARDS: [&str; 2] = ["--shards", "2"];

fn segment(data: &Path) -> PathBuf {
    data.join("shard-0/log/00000000000000000000.seg")
}

/// Log position of the last record of a message in shard 0, as `inspect` says.
fn last_message(server: &Server, data: &Path) -> usize {
    let data = data.to_str().unwrap();
    let records = server.run(&["inspect", "records", "--data", data, "--shard", "0", "-o", "json"]);
    let mut last = None;
    for line in records.ok().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        if record["record"] == "message" {
            last = record["position"].as_u64();
        }
    }
    usize::try_from(last.expect("a message is there")).unwrap()
}

#[test]
fn a_damaged_log_is_read_only_until_it_is_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data, &SHARDS);
    let _ = server.run(&["topic", "create", "orders", "--queues", "2"]).ok();
    let _ = server.run(&["group", "create", "billing"]).ok();
    let _ = server.run(&["send", "orders", "--count", "8", "--body", "order"]).ok();
    // So that the log goes on behind the message that is damaged below.
    let position = last_message(&server, &data);
    let _ = server.run(&["group", "create", "audit"]).ok();
    let _ = server.run(&["group", "create", "more"]).ok();
    assert!(server.terminate().success());
    let mut bytes = fs::read(segment(&data)).unwrap();
    bytes[position + 20] ^= 1;
    fs::write(segment(&data), &bytes).unwrap();

    let server = Server::start(&data, &SHARDS);
    let http = server.broker().http;
    let ready = get(http, "/readyz").unwrap();
    for part in ["200 OK", "shard-0 is read-only", "pinnace repair --shard 0"] {
        assert!(ready.contains(part), "{ready}");
    }
    let metrics = get(http, "/metrics").unwrap();
    assert!(metrics.contains("pinnace_shard_damaged_bytes{shard=\"shard-0\",from="), "{metrics}");
    let refused = server.run(&["group", "create", "late"]).refused(1);
    assert!(refused.contains("read-only") && refused.contains("log positions ["), "{refused}");
    // Shard 1 takes sends as ever; what is whole of shard 0 is received, but cannot be acknowledged.
    let receive = ["receive", "orders", "--group", "rescue", "--count", "1", "--timeout", "5"];
    let _one_or_refused = server.run(&receive);
    let path = data.to_str().unwrap();
    let shard = ["--data", path, "--shard", "0"];
    let held = server.run(&[&["repair", "--yes"][..], &shard].concat()).refused(2);
    assert!(held.contains("a running broker holds"), "{held}");
    assert!(server.terminate().success());
    assert!(fs::read(segment(&data)).unwrap() == bytes, "a read-only shard changes nothing");

    let server = Server::start(&folder.path().join("other"), &[]);
    let plan = server.run(&[&["repair", "--dry-run"][..], &shard].concat()).ok();
    assert!(plan.contains("nothing was changed") && plan.contains("Lost from the log"), "{plan}");
    assert!(fs::read(segment(&data)).unwrap() == bytes, "a dry run changes nothing");
    let done = server.run(&[&["repair", "--yes"][..], &shard].concat()).ok();
    assert!(done.contains("can be written again"), "{done}");
    let kept = fs::read_dir(data.join("shard-0/log")).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<PathBuf> =
        kept.filter(|path| path.to_string_lossy().contains("damaged-")).collect();
    assert_eq!(kept.len(), 1);
    assert!(fs::read(&kept[0]).unwrap() == bytes, "the evidence is whole");
    assert!(server.run(&[&["repair", "--yes"][..], &shard].concat()).ok().contains("not damaged"));

    let server = Server::start(&data, &SHARDS);
    let ready = get(server.broker().http, "/readyz").unwrap();
    assert!(!ready.contains("read-only"), "{ready}");
    let _ = server.run(&["send", "orders", "--count", "4", "--body", "new"]).ok();
    assert!(server.terminate().success());
}
