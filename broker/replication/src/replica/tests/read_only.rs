//! A shard whose log is damaged serves what is before the damage, refuses what it could not keep, and writes nothing.

use std::path::{Path, PathBuf};

use broker_engine::{OffsetAt, Pull};

use super::*;

const SEGMENT: &str = "shard-0/00000000000000000000.seg";

fn bytes(disk: &SimulatedDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: PathBuf| {
        let file = disk.open(&path).unwrap();
        let mut bytes = vec![0; usize::try_from(file.length_bytes()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        (path, bytes)
    };
    disk.files_ending("").into_iter().map(read).collect()
}

/// "a" to "c" are before the damage; "d" is damaged and "e" behind it.
fn damaged() -> Shard {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 2);
    for text in ["a", "b", "c"] {
        shard.ask(send("orders", &[text])).unwrap();
    }
    let from = shard.replica.log().end().position;
    shard.ask(send("orders", &["d"])).unwrap();
    shard.ask(send("orders", &["e"])).unwrap();
    shard.disk.flip_bit(Path::new(SEGMENT), usize::try_from(from).unwrap() + 90, 1);
    shard.restart();
    let damage = shard.replica.damage().expect("it is damaged");
    assert_eq!((damage.from, damage.frames_behind), (from, 1));
    shard
}

fn texts(received: &[(ReceiptHandle, Bytes)]) -> Vec<String> {
    bodies(received).into_iter().collect()
}

#[test]
fn what_is_before_the_damage_is_received_and_pulled() {
    let mut shard = damaged();
    let before = bytes(&shard.disk);
    assert_eq!(texts(&shard.receive("billing", "orders", Filter::All)), ["a", "b", "c"]);
    assert!(shard.receive("billing", "orders", Filter::All).is_empty(), "they are leased");
    shard.now_ms += 31_000;
    shard.settle();
    assert_eq!(texts(&shard.receive("billing", "orders", Filter::All)), ["a", "b", "c"]);
    let pull = Pull {
        topic: name("orders"),
        queue: 0,
        offset: 1,
        filter: Filter::All,
        messages_max: 9,
        poll_until_ms: shard.now_ms,
    };
    let Ok(Outcome::Pulled(pulled)) = shard.ask(Command::Pull(pull)) else { panic!() };
    assert_eq!(pulled.messages.len(), 2);
    let latest = Command::QueryOffset { topic: name("orders"), queue: 0, at: OffsetAt::Latest };
    assert!(matches!(shard.ask(latest), Ok(Outcome::Offset(Some(3)))));
    assert_eq!(bytes(&shard.disk), before, "not a byte was changed");
}

#[test]
fn what_could_not_be_kept_is_refused_with_the_damage_and_what_to_do() {
    let mut shard = damaged();
    let before = bytes(&shard.disk);
    let damage = shard.replica.damage().unwrap().clone();
    let (handle, _) = shard.receive("billing", "orders", Filter::All)[0];
    let acknowledged = shard.acknowledge("billing", "orders", handle).unwrap_err();
    let sent = shard.ask(send("orders", &["new"])).unwrap_err();
    let deleted = shard.ask(Command::DeleteTopic(name("orders"))).unwrap_err();
    for refusal in [acknowledged, sent, deleted] {
        assert!(matches!(refusal, Refusal::ReadOnly(_)), "{refusal:?}");
        let range = format!("[{}, {})", damage.from, damage.to);
        for part in ["shard 0", range.as_str(), "pinnace repair --shard 0"] {
            assert!(refusal.to_string().contains(part), "{refusal}");
        }
    }
    shard.now_ms += 600_000;
    shard.settle();
    shard.replica.stop(Now::at(shard.now_ms));
    shard.settle();
    assert!(!shard.replica.is_busy());
    assert_eq!(bytes(&shard.disk), before, "not a byte was changed");
}

#[test]
fn a_new_group_can_read_and_is_forgotten_at_the_next_start() {
    let mut shard = damaged();
    let group = ConsumerGroup::with_defaults(GroupName::parse("rescue").unwrap());
    shard.ask(Command::PutGroup(Box::new(group))).unwrap();
    assert_eq!(texts(&shard.receive("rescue", "orders", Filter::All)), ["a", "b", "c"]);
    shard.restart();
    assert_eq!(shard.replica.engine().groups().count(), 1);
}

#[test]
fn after_a_repair_the_shard_is_written_again_and_what_was_delivered_meanwhile_is_not_done() {
    let mut shard = damaged();
    assert_eq!(shard.receive("billing", "orders", Filter::All).len(), 3);
    let plan =
        broker_store::repair::plan(&shard.disk, &options(), broker_store::log::LogEnd::default())
            .unwrap()
            .unwrap();
    broker_store::repair::carry_out(&shard.disk, &options(), &plan).unwrap();
    shard.restart();
    assert!(shard.replica.damage().is_none());
    shard.ask(send("orders", &["new"])).unwrap();
    shard.restart();
    let received = shard.receive("billing", "orders", Filter::All);
    assert_eq!(texts(&received), ["a", "b", "c", "new"]);
    assert_eq!(shard.acknowledge("billing", "orders", received[0].0), Ok(()));
}
