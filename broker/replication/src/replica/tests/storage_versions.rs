//! Data directories that each storage format version wrote, in tests/fixtures: whatever comes later must read them
//! to the same topics, groups, progress, messages and dead letters. Its story is told here, and was run once.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use broker_engine::{
    EndTransaction, ForwardToDeadLetter, Hidden, Join, OffsetAt, Prolong, Pull, Recall, Redrive,
    ResetOffsets, SentMessage, SetOffset,
};
use broker_model::limits::RETENTION_CHECK_MS;
use broker_model::{Model, RecallHandle, TransactionId};
use broker_store::Record;
use broker_store::log::LogEnd;

use super::*;

/// When the fixture ends; the timed messages that are left are due later.
const WRITTEN_UNTIL_MS: u64 = 2_000_000;
/// When a fixture is read.
const READ_FROM_MS: u64 = WRITTEN_UNTIL_MS + 1_000;
/// Sends every message that still waits into its queue.
const LATER_MS: u64 = 9_000_000;

fn fixture(version: u32) -> PathBuf {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    fixtures.join(format!("storage-v{version}"))
}

fn group(name: &str) -> GroupName {
    GroupName::parse(name).unwrap()
}

fn send_one(shard: &mut Shard, topic: &str, text: &str, visible: Visible) -> SentMessage {
    let messages = vec![NewMessage { visible, ..message(text, Some("paid")) }];
    let target = if topic == "chat" { Target::LiteTopic(text.into()) } else { Target::Queue(0) };
    match shard.ask(Command::Send(Send { topic: name(topic), messages, target })) {
        Ok(Outcome::Sent(mut sent)) => sent.remove(0),
        other => panic!("{other:?}"),
    }
}

fn put_group(shard: &mut Shard, name: &str, model: Model) {
    let mut group = ConsumerGroup::with_defaults(group(name));
    group.model = model;
    group.retry.max_attempts = 3;
    shard.ask(Command::PutGroup(Box::new(group))).unwrap();
}

/// Every record kind at least once, over more than one segment, the first of them sealed.
fn tell_the_story(shard: &mut Shard) {
    for (topic, message_type) in [
        ("orders", MessageType::Normal),
        ("ledger", MessageType::Fifo),
        ("reminders", MessageType::Delay),
        ("payments", MessageType::Transaction),
        ("chat", MessageType::Lite),
        ("gone", MessageType::Normal),
    ] {
        shard.create_of(message_type, topic, if topic == "orders" { 2 } else { 1 });
    }
    for name in ["billing", "audit", "forgotten"] {
        put_group(shard, name, Model::Clustering);
    }
    put_group(shard, "displays", Model::Broadcasting);
    shard.ask(Command::MakeGroup(group("stranger"))).unwrap();
    shard.ask(Command::NoteGroupUse { groups: Vec::new(), is_hour_over: true }).unwrap();
    for client_id in ["screen-1", "screen-2"] {
        let (group, topics) = (group("displays"), vec![name("orders")]);
        shard.ask(Command::Join(Join { group, topics, client_id: client_id.to_owned() })).unwrap();
    }
    let leave = Command::Leave { group: group("displays"), client_id: "screen-2".to_owned() };
    shard.ask(leave).unwrap();
    for text in ["a", "b", "c", "d", "e", "f"] {
        send_one(shard, "orders", text, Visible::AtOnce);
    }
    settle_deliveries(shard);
    for text in ["x", "y", "z"] {
        send_one(shard, "ledger", &text.repeat(90_000), Visible::AtOnce);
    }
    skip_messages(shard);
    hide_messages(shard);
    for text in ["room-1", "room-2"] {
        send_one(shard, "chat", text, Visible::AtOnce);
    }
    shard.ask(Command::DeleteTopic(name("gone"))).unwrap();
    shard.ask(Command::DeleteGroup(group("forgotten"))).unwrap();
    let lite = Topic { lite_expiry_ms: Some(100_000), ..lite_topic(shard) };
    shard.ask(Command::PutTopic(Box::new(lite))).unwrap();
    shard.now_ms = WRITTEN_UNTIL_MS;
    shard.settle();
    send_one(shard, "chat", "room-3", Visible::AtOnce);
    fill_and_trim(shard);
    shard.now_ms += 100;
    shard.settle();
}

/// A topic that keeps less than it is given.
fn fill_and_trim(shard: &mut Shard) {
    let placement = vec![QueuePlacement { shard: ShardId(0), queues: 1 }];
    let brief = Topic::with_defaults(name("brief"), MessageType::Normal, placement);
    let brief = Topic { retention_bytes: Some(1), ..brief };
    shard.ask(Command::PutTopic(Box::new(brief))).unwrap();
    for text in ["p", "q", "r", "s", "t"] {
        send_one(shard, "brief", &text.repeat(90_000), Visible::AtOnce);
    }
    shard.now_ms += RETENTION_CHECK_MS;
    shard.settle();
}

fn lite_topic(shard: &Shard) -> Topic {
    let mut topics = shard.replica.engine().topics();
    topics.find(|topic| topic.name == name("chat")).unwrap().clone()
}

/// Lease, acknowledge, change invisible, release, prolong, dead letter, redrive, cursor, reset.
fn settle_deliveries(shard: &mut Shard) {
    let received = shard.receive("billing", "orders", Filter::All);
    assert_eq!(received.len(), 6);
    shard.acknowledge("billing", "orders", received[0].0).unwrap();
    let (group, topic) = (group("billing"), name("orders"));
    let (handle, invisible_ms) = (received[1].0, 600_000);
    let (change, also) = (group.clone(), topic.clone());
    let change = ChangeInvisible { group: change, topic: also, handle, invisible_ms };
    shard.ask(Command::ChangeInvisible(change)).unwrap();
    shard.ask(Command::Release(vec![received[4].0])).unwrap();
    let (handles, invisible_ms) = (vec![received[5].0], 700_000);
    let prolong = Prolong { group: group.clone(), topic: topic.clone(), handles, invisible_ms };
    shard.ask(Command::Prolong(prolong)).unwrap();
    for (handle, _) in &received[2..4] {
        let (group, topic, handle) = (group.clone(), topic.clone(), *handle);
        let forward = ForwardToDeadLetter { group, topic, handle };
        shard.ask(Command::ForwardToDeadLetter(forward)).unwrap();
    }
    let redrive = Redrive {
        group,
        topic: None,
        messages_max: 1,
        only: None,
        is_purge: false,
        is_dry_run: false,
    };
    shard.ask(Command::Redrive(redrive)).unwrap();
    let group = self::group("audit");
    let set = SetOffset { group: group.clone(), topic: topic.clone(), queue: 0, offset: 2 };
    shard.ask(Command::SetOffset(set)).unwrap();
    let (to, id) = (OffsetAt::Shift(1), "reset-1".to_owned());
    shard.ask(Command::ResetOffsets(ResetOffsets { group, topics: vec![topic], to, id })).unwrap();
}

/// A group that wants none of the messages.
fn skip_messages(shard: &mut Shard) {
    put_group(shard, "picky", Model::Clustering);
    let filter = Filter::parse_tags("shipped").unwrap();
    assert!(shard.receive("picky", "orders", filter).is_empty());
}

/// Timed messages: one recalled, one due, one that waits. Transactions: one committed, one rolled back, one open.
fn hide_messages(shard: &mut Shard) {
    for (text, due_ms) in [("recalled", 500_000), ("due", 1_000_000), ("waits", 8_000_000)] {
        let sent = send_one(shard, "reminders", text, Visible::At { due_ms });
        let Some(Hidden::Timed { number, due_ms, .. }) = sent.hidden else { panic!("{sent:?}") };
        if text == "recalled" {
            let message_id = String::new();
            let (shard_id, topic) = (ShardId(0), sent.topic);
            let handle =
                RecallHandle { shard: shard_id, topic, number, due_ms, message_id, code: None };
            shard.ask(Command::Recall(Recall { topic: name("reminders"), handle })).unwrap();
        }
    }
    for text in ["committed", "rolled back", "open"] {
        let visible = Visible::OnCommit { check_after_ms: 60_000_000 };
        let sent = send_one(shard, "payments", text, visible);
        let Some(Hidden::Half { number, .. }) = sent.hidden else { panic!("{sent:?}") };
        let id = TransactionId { shard: ShardId(0), topic: sent.topic, number, code: None };
        match text {
            "open" => drop(shard.ask(Command::NoteTransactionCheck(id)).unwrap()),
            _ => end(shard, id, text == "committed"),
        }
    }
}

fn end(shard: &mut Shard, id: TransactionId, is_commit: bool) {
    let topic = name("payments");
    shard.ask(Command::EndTransaction(EndTransaction { topic, id, is_commit })).unwrap();
}

/// All that can be seen of the shard, as text.
fn describe(shard: &mut Shard) -> String {
    let mut text = String::new();
    let mut groups: Vec<_> = shard.replica.engine().groups().cloned().collect();
    groups.sort_by_key(|group| group.name.to_string());
    for group in groups {
        let ConsumerGroup { name, model, order, retry, .. } = group;
        writeln!(text, "group {name} {model:?} {order:?} attempts {}", retry.max_attempts).unwrap();
    }
    let Ok(Outcome::Members(mut members)) = shard.ask(Command::ReadMembers) else { panic!() };
    members.sort_by_key(|(group, client)| (group.to_string(), client.clone()));
    for (group, client) in members {
        writeln!(text, "member {client} of {group}").unwrap();
    }
    let Ok(Outcome::Topics(mut topics, _)) = shard.ask(Command::ReadTopics(0)) else { panic!() };
    topics.sort_by_key(|numbers| numbers.topic.to_string());
    let kinds: Vec<Topic> = shard.replica.engine().topics().cloned().collect();
    for numbers in topics {
        let topic = kinds.iter().find(|topic| topic.name == numbers.topic).unwrap();
        let (kind, messages) = (topic.message_type, numbers.messages);
        writeln!(text, "topic {} {kind} holds {messages} messages", numbers.topic).unwrap();
        for queue in 0..8 {
            describe_queue(shard, &mut text, &numbers.topic, queue);
        }
    }
    describe_progress(shard, &mut text);
    text
}

fn describe_queue(shard: &mut Shard, text: &mut String, topic: &TopicName, queue: u32) {
    let pull = Pull {
        topic: topic.clone(),
        queue,
        offset: 0,
        filter: Filter::All,
        messages_max: 100,
        poll_until_ms: shard.now_ms,
    };
    let Ok(Outcome::Pulled(pulled)) = shard.ask(Command::Pull(pull)) else { return };
    for delivery in pulled.messages {
        let body = shard.body(&delivery.source);
        let (offset, stored_ms) = (delivery.handle.offset, delivery.stored_ms);
        let start = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
        let length = body.len();
        let origin = delivery.origin_topic.map_or(String::new(), |from| format!(" from {from}"));
        writeln!(
            text,
            "  queue {queue} offset {offset} stored {stored_ms} {length} bytes {start}{origin}"
        )
        .unwrap();
    }
}

fn describe_progress(shard: &mut Shard, text: &mut String) {
    let Ok(Outcome::Progress(mut rows, _)) =
        shard.ask(Command::ReadProgress(ProgressQuery::default()))
    else {
        panic!()
    };
    rows.sort_by_key(|row| (row.group.to_string(), row.topic.to_string()));
    for row in rows {
        let (lag, inflight) = (row.lag_messages, row.inflight_messages);
        let oldest = row.oldest_ms.map_or_else(|| "none".to_owned(), |ms| ms.to_string());
        let (group, topic) = (row.group, row.topic);
        writeln!(
            text,
            "progress {group} on {topic}: lag {lag}, in flight {inflight}, oldest {oldest}"
        )
        .unwrap();
        for queue in 0..2 {
            let (group, topic) = (group.clone(), topic.clone());
            if let Ok(Outcome::Offset(Some(offset))) =
                shard.ask(Command::ReadOffset { group, topic, queue })
            {
                writeln!(text, "  queue {queue} at {offset}").unwrap();
            }
        }
    }
}

/// What is seen at once, and what is seen when everything that waits has come.
fn describe_now_and_later(shard: &mut Shard) -> String {
    let now = describe(shard);
    let open = TransactionId { shard: ShardId(0), topic: 4, number: 3, code: None };
    end(shard, open, true);
    shard.now_ms = LATER_MS;
    shard.settle();
    // What only time decides waits a little for company in its frame.
    shard.now_ms += 100;
    shard.settle();
    let received = bodies(&shard.receive("billing", "orders", Filter::All));
    let dead = bodies(&shard.receive("audit", "%DLQ%billing", Filter::All));
    let later = describe(shard);
    format!(
        "{now}\nwhen what waits has come\n{later}billing receives of orders {received:?}\ndead letters {dead:?}\n"
    )
}

/// The names of the record kinds in the log.
fn kinds(shard: &Shard) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    let disk: Arc<dyn Disk> = Arc::new(shard.disk.clone());
    recovery::open(&disk, &options(), LogEnd::default(), &mut |frame| {
        let mut payload = frame.payload;
        while frame.header.kind == FrameKind::Entry && !payload.is_empty() {
            let record = format!("{:?}", Record::decode(&mut payload).unwrap());
            kinds.insert(record.split([' ', '(', '{']).next().unwrap_or_default().to_owned());
        }
        Ok(())
    })
    .unwrap();
    kinds
}

/// The fixture's files: each ends after its last byte that is not zero; `layout` says how long it was.
fn stored(version: u32) -> Shard {
    let disk = SimulatedDisk::default();
    let layout = fs::read_to_string(fixture(version).join("layout")).expect("the fixture is there");
    for line in layout.lines().filter(|line| !line.starts_with('#')) {
        let (path, length) = line.split_once(' ').expect("path and length");
        let mut bytes = fs::read(fixture(version).join(path)).expect("the layout names files");
        bytes.resize(length.parse().unwrap(), 0);
        let here =
            path.replace("shard-0/log/", "shard-0/").replace("shard-0/snapshot/", "snapshot/");
        disk.create_filled(&PathBuf::from(here), &bytes).unwrap();
    }
    let now_ms = READ_FROM_MS;
    let (replica, writer) = open(&disk, now_ms);
    let mut shard = Shard { disk, replica, writer, now_ms, ..Shard::new() };
    shard.settle();
    shard
}

#[test]
fn the_story_of_the_fixture_has_every_record_kind() {
    let mut shard = Shard::new();
    tell_the_story(&mut shard);
    shard.restart();
    assert_eq!(kinds(&shard).len(), 31, "{:?}", kinds(&shard));
    assert_eq!(shard.disk.files_ending(".snap").len(), 2);
    if let Some(target) = std::env::var_os("PINNACE_WRITE_FIXTURE") {
        write(&shard, &PathBuf::from(target));
    }
}

#[test]
fn a_data_directory_of_version_1_is_read_to_what_was_written() {
    let shard = stored(1);
    assert_eq!(kinds(&shard).len(), 23);
    is_what_was_written(shard, 1);
}

#[test]
fn a_data_directory_of_version_2_is_read_to_what_was_written() {
    let shard = stored(2);
    assert!(shard.replica.unusable_snapshots().is_empty());
    assert_eq!(kinds(&shard).len(), 24);
    is_what_was_written(shard, 2);
}

#[test]
fn a_data_directory_of_version_3_is_read_to_what_was_written() {
    let shard = stored(3);
    assert!(shard.replica.unusable_snapshots().is_empty());
    assert_eq!(kinds(&shard).len(), 28);
    let deleted = shard.replica.engine().known().deleted_groups;
    assert!(deleted.iter().any(|(name, _)| *name == group("forgotten")), "{deleted:?}");
    is_what_was_written(shard, 3);
}

fn is_what_was_written(mut shard: Shard, version: u32) {
    let expected = fs::read_to_string(fixture(version).join("expected.txt")).unwrap();
    shard.restart();
    let found = describe_now_and_later(&mut shard);
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {} of expected.txt", number + 1);
    }
    assert_eq!(found, expected);
    shard.restart();
    shard.ask(send("orders", &["new"])).expect("it is written on");
}

/// Writes what the story left as a new fixture.
fn write(shard: &Shard, target: &std::path::Path) {
    let mut layout =
        "# file, and its length with the zeros that were cut from its end\n".to_owned();
    for folder in ["shard-0/log", "shard-0/snapshot"] {
        fs::create_dir_all(target.join(folder)).unwrap();
    }
    for path in shard.disk.files_ending("") {
        let file = shard.disk.open(&path).unwrap();
        let mut bytes = vec![0; usize::try_from(file.length_bytes()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let folder = if path.starts_with("snapshot") { "snapshot" } else { "log" };
        let name = path.file_name().unwrap().to_str().unwrap();
        let there = format!("shard-0/{folder}/{name}");
        writeln!(layout, "{there} {}", bytes.len()).unwrap();
        fs::write(target.join(there), &bytes[..used]).unwrap();
    }
    fs::write(target.join("layout"), layout).unwrap();
    let mut again = Shard { disk: shard.disk.clone(), ..Shard::new() };
    again.now_ms = READ_FROM_MS;
    again.restart();
    fs::write(target.join("expected.txt"), describe_now_and_later(&mut again)).unwrap();
}
