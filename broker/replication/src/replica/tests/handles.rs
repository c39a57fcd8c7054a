//! Handles that clients make up, or change: they are refused before anything of them is looked at, and leave no trace. Those
//! that were given out hold, also after a restart, whatever it starts from.

use broker_engine::{EndTransaction, Hidden, Recall};
use broker_model::{RecallHandle, TransactionId};

use super::*;

/// Every field changed, one at a time.
fn changed(handle: ReceiptHandle) -> Vec<ReceiptHandle> {
    let mut all = vec![
        ReceiptHandle { topic: handle.topic + 1, ..handle },
        ReceiptHandle { group: handle.group + 1, ..handle },
        ReceiptHandle { queue: handle.queue + 1, ..handle },
        ReceiptHandle { offset: handle.offset + 1, ..handle },
        ReceiptHandle { nonce: handle.nonce ^ 1, ..handle },
        ReceiptHandle { shard: ShardId(1), ..handle },
    ];
    all.extend([0, 1_000, 1 << 31].map(|attempt| ReceiptHandle { attempt, ..handle }));
    let codes = (0..64).map(|bit| handle.code.map(|code| code ^ (1 << bit)));
    all.extend(codes.map(|code| ReceiptHandle { code, ..handle }));
    all
}

fn change(handle: ReceiptHandle) -> Command {
    let (group, topic) = (GroupName::parse("billing").unwrap(), name("orders"));
    Command::ChangeInvisible(ChangeInvisible { group, topic, handle, invisible_ms: 30_000 })
}

fn forward(handle: ReceiptHandle) -> Command {
    let (group, topic) = (GroupName::parse("billing").unwrap(), name("orders"));
    Command::ForwardToDeadLetter(ForwardToDeadLetter { group, topic, handle })
}

#[test]
fn a_receipt_handle_that_was_changed_is_refused_and_leaves_no_trace() {
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    shard.ask(send("orders", &["a", "b", "c", "d"])).unwrap();
    let (handle, _) = shard.receive("billing", "orders", Filter::All)[0];
    shard.now_ms += 100;
    shard.settle();
    let entries = |shard: &Shard| shard.replica.log().end().index;
    let before = entries(&shard);
    for forged in changed(handle) {
        let refused = shard.acknowledge("billing", "orders", forged);
        assert_eq!(refused, Err(Refusal::ForeignHandle), "{forged:?}");
        for command in [change(forged), forward(forged)] {
            let refused = shard.ask(command);
            assert_eq!(refused.err(), Some(Refusal::ForeignHandle), "{forged:?}");
        }
    }
    shard.now_ms += 100;
    shard.settle();
    assert_eq!(entries(&shard), before, "nothing was decided");
    let Ok(Outcome::InvisibleChanged(renamed)) = shard.ask(change(handle)) else { panic!() };
    assert_eq!(renamed.attempt, 1);
    assert_eq!(shard.acknowledge("billing", "orders", renamed), Ok(()));
}

#[test]
fn handles_hold_after_a_start_from_the_log_and_from_a_snapshot() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    shard.create_of(MessageType::Delay, "later", 1);
    shard.create_of(MessageType::Transaction, "maybe", 1);
    let hidden = |shard: &mut Shard, topic: &str, visible| {
        let messages = vec![NewMessage { visible, ..message("x", None) }];
        let send = Send { topic: name(topic), messages, target: Target::AnyQueue };
        let Ok(Outcome::Sent(sent)) = shard.ask(Command::Send(send)) else { panic!() };
        sent[0]
    };
    let timed = hidden(&mut shard, "later", Visible::At { due_ms: 9_000_000 });
    let half = hidden(&mut shard, "maybe", Visible::OnCommit { check_after_ms: 9_000_000 });
    shard.ask(send("orders", &["a"])).unwrap();
    let (handle, _) = shard.receive("billing", "orders", Filter::All)[0];
    shard.now_ms += 100;
    shard.settle();
    shard.restart();
    let Ok(Outcome::InvisibleChanged(handle)) = shard.ask(change(handle)) else { panic!() };
    let seals = shard.seals;
    while shard.seals < seals + 2 {
        shard.ask(send("orders", &[&"x".repeat(500)])).unwrap();
    }
    shard.restart();
    assert_eq!(shard.acknowledge("billing", "orders", handle), Ok(()));
    let Some(Hidden::Timed { number, due_ms, code }) = timed.hidden else { panic!("{timed:?}") };
    let recall = |shard: &mut Shard, number, code| {
        let (shard_id, message_id) = (ShardId(0), String::new());
        let topic = timed.topic;
        let handle = RecallHandle { shard: shard_id, topic, number, due_ms, message_id, code };
        shard.ask(Command::Recall(Recall { topic: name("later"), handle })).map(drop)
    };
    assert_eq!(recall(&mut shard, number, Some(code ^ 1)), Err(Refusal::ForeignHandle));
    assert_eq!(recall(&mut shard, number + 1, Some(code)), Err(Refusal::ForeignHandle));
    assert_eq!(recall(&mut shard, number, Some(code)), Ok(()));
    let Some(Hidden::Half { number, code }) = half.hidden else { panic!("{half:?}") };
    let end = |shard: &mut Shard, number, code| {
        let id = TransactionId { shard: ShardId(0), topic: half.topic, number, code };
        let end = EndTransaction { topic: name("maybe"), id, is_commit: true };
        shard.ask(Command::EndTransaction(end)).map(drop)
    };
    assert_eq!(end(&mut shard, number, Some(code ^ 1)), Err(Refusal::ForeignHandle));
    assert_eq!(end(&mut shard, number + 1, Some(code)), Err(Refusal::ForeignHandle));
    assert_eq!(end(&mut shard, number, Some(code)), Ok(()));
}

#[test]
fn the_handles_of_one_shard_are_none_of_another() {
    let mut handles = Vec::new();
    for seed in [1, 2] {
        let disk = SimulatedDisk::default();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let opened = start(&shared, &options(), Box::new(NoPeers), Seed::from(seed), 1_000);
        let (replica, writer) = opened.expect("the log opens");
        let mut shard = Shard { disk, replica, writer, ..Shard::new() };
        shard.settle();
        shard.create("orders", 1, "billing", 5);
        shard.ask(send("orders", &["a"])).unwrap();
        let (handle, _) = shard.receive("billing", "orders", Filter::All)[0];
        if let Some(other) = handles.pop() {
            let refused = shard.acknowledge("billing", "orders", other);
            assert_eq!(refused, Err(Refusal::ForeignHandle));
        }
        handles.push(handle);
    }
}
