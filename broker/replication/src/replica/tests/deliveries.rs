//! Deliveries that reached nobody, and those whose consumer is at work for long: what a crash leaves of them.

use broker_engine::Prolong;
use broker_model::Order;

use super::*;

fn billing() -> GroupName {
    GroupName::parse("billing").unwrap()
}

/// Attempts and bodies, in the order of delivery.
fn received(shard: &mut Shard) -> Vec<(u32, String)> {
    let received = shard.receive("billing", "orders", Filter::All);
    let text = |body: &Bytes| String::from_utf8_lossy(body).into_owned();
    let told = received.iter().map(|(handle, body)| (handle.attempt, text(body)));
    told.collect()
}

fn release(shard: &mut Shard) {
    let handles = shard.receive("billing", "orders", Filter::All);
    let handles = handles.into_iter().map(|(handle, _)| handle).collect();
    shard.ask(Command::Release(handles)).unwrap();
}

#[test]
fn a_delivery_that_reached_nobody_does_not_count_and_its_messages_are_due_at_once() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 1);
    shard.ask(send("orders", &["a", "b"])).unwrap();
    for round in 0..5 {
        release(&mut shard);
        if round % 2 == 1 {
            shard.now_ms += 100;
            shard.settle();
            shard.restart();
        }
    }
    let first = |text: &str| (1, text.to_owned());
    assert_eq!(received(&mut shard), [first("a"), first("b")]);
    shard.now_ms += 31_000;
    shard.settle();
    assert!(received(&mut shard).is_empty(), "the one delivery that counts was the last");
    let topics: Vec<_> = shard.replica.engine().topics().map(|topic| topic.name.clone()).collect();
    assert!(topics.contains(&name("%DLQ%billing")), "{topics:?}");
}

#[test]
fn what_was_given_back_while_its_delivery_was_not_durable_does_not_expire_when_that_is() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 1);
    shard.ask(send("orders", &["a"])).unwrap();
    let receive = Receive {
        group: billing(),
        topic: name("orders"),
        filter: Filter::All,
        messages_max: 1,
        invisible_ms: 30_000,
        poll_until_ms: 0,
        client_id: "tester".into(),
        attempt_id: String::new(),
        lite_topics: None,
    };
    shard.submit(Command::Receive(receive));
    let mut replies = shard.replica.step(Now::at(shard.now_ms)).replies;
    let Some((_, Ok(Outcome::Received(deliveries)))) = replies.pop() else { panic!("{replies:?}") };
    shard.now_ms += LEASE_DELAY_MS;
    let slow = shard.replica.step(Now::at(shard.now_ms)).write.expect("the delivery is written");
    shard.submit(Command::Release(vec![deliveries[0].handle]));
    shard.now_ms += 31_000;
    shard.replica.step(Now::at(shard.now_ms));
    let written = shard.writer.write(&slow).unwrap();
    shard.replica.written(Now::at(shard.now_ms), written);
    shard.settle();
    assert_eq!(received(&mut shard), [(1, "a".to_owned())]);
}

#[test]
fn the_next_message_of_a_message_group_does_not_pass_the_one_that_was_given_back() {
    let mut shard = Shard::new();
    shard.create_of(MessageType::Fifo, "orders", 1);
    let mut group = ConsumerGroup::with_defaults(billing());
    group.order = Order::Fifo;
    group.retry.max_attempts = 1;
    shard.ask(Command::PutGroup(Box::new(group))).unwrap();
    shard.ask(send("orders", &["a", "b"])).unwrap();
    for _ in 0..3 {
        release(&mut shard);
    }
    shard.now_ms += 100;
    shard.settle();
    shard.restart();
    release(&mut shard);
    assert_eq!(received(&mut shard), [(1, "a".to_owned())], "b comes when a is done");
}

#[test]
fn a_prolonged_delivery_keeps_its_handle_over_a_crash_until_the_new_time() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    shard.ask(send("orders", &["a", "b", "c"])).unwrap();
    let handles: Vec<_> =
        shard.receive("billing", "orders", Filter::All).iter().map(|(handle, _)| *handle).collect();
    shard.acknowledge("billing", "orders", handles[1]).unwrap();
    let prolong = |invisible_ms| {
        let (group, topic, handles) = (billing(), name("orders"), handles.clone());
        Command::Prolong(Prolong { group, topic, handles, invisible_ms })
    };
    shard.ask(prolong(300_000)).unwrap();
    shard.ask(prolong(1_000)).expect("an earlier time changes nothing");
    shard.restart();
    shard.now_ms += 200_000;
    assert!(received(&mut shard).is_empty(), "both stay with who has them");
    assert_eq!(shard.acknowledge("billing", "orders", handles[0]), Ok(()));
    shard.now_ms += 101_000;
    assert_eq!(received(&mut shard), [(2, "c".to_owned())]);
    assert_eq!(shard.ask(prolong(300_000)).unwrap_err(), Refusal::InvalidHandle);
}

/// Everything that the replica wants written stays unwritten.
fn answers_before_any_write(shard: &mut Shard) -> BTreeMap<Ticket, Reply> {
    let output = shard.replica.step(Now::at(shard.now_ms));
    assert!(output.write.is_some());
    output.replies.into_iter().collect()
}

fn reset_to_earliest(group: &str, topic: &str) -> Command {
    Command::ResetOffsets(broker_engine::ResetOffsets {
        group: GroupName::parse(group).unwrap(),
        topics: vec![name(topic)],
        to: broker_engine::OffsetAt::Earliest,
        id: String::new(),
    })
}

fn acknowledgement(group: &str, topic: &str, handle: ReceiptHandle) -> Command {
    let (group, topic) = (GroupName::parse(group).unwrap(), name(topic));
    Command::Acknowledge(Acknowledge { group, topic, handles: vec![handle] })
}

#[test]
fn an_acknowledgement_behind_a_reset_that_is_not_stored_yet_counts_after_it() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    shard.ask(send("orders", &["a"])).unwrap();
    let (handle, _) = shard.receive("billing", "orders", Filter::All)[0];
    shard.acknowledge("billing", "orders", handle).unwrap();
    // The reset is decided and waits for the disk; the client repeats what it was not sure of.
    let reset = shard.submit(reset_to_earliest("billing", "orders"));
    let again = shard.submit(acknowledgement("billing", "orders", handle));
    shard.settle();
    assert!(matches!(shard.replies.remove(&reset), Some(Ok(Outcome::Done))));
    let Some(Ok(Outcome::Acknowledged(results))) = shard.replies.remove(&again) else { panic!() };
    assert_eq!(results, [Ok(())]);
    for _ in 0..2 {
        assert!(shard.receive("billing", "orders", Filter::All).is_empty(), "it was acknowledged");
        shard.restart();
    }
}

#[test]
fn an_acknowledgement_of_what_only_memory_knows_to_be_done_waits_for_the_disk() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    shard.ask(send("orders", &["a"])).unwrap();
    let (handle, _) = shard.receive("billing", "orders", Filter::All)[0];
    shard.ask(reset_to_earliest("billing", "orders")).unwrap();
    // Another consumer passes it over, which is known at once and stored later.
    let filter = Filter::parse_tags("other").unwrap();
    let poll = Receive {
        group: GroupName::parse("billing").unwrap(),
        topic: name("orders"),
        filter,
        messages_max: 1,
        invisible_ms: 30_000,
        poll_until_ms: shard.now_ms,
        client_id: "tester".into(),
        attempt_id: String::new(),
        lite_topics: None,
    };
    shard.submit(Command::Receive(poll));
    let late = shard.submit(acknowledgement("billing", "orders", handle));
    let answers = answers_before_any_write(&mut shard);
    assert!(!answers.contains_key(&late), "{:?}", answers.get(&late));
    // The power goes: nobody was told that it is done.
    shard.restart();
    assert_eq!(shard.receive("billing", "orders", Filter::All).len(), 1);
}

#[test]
fn an_acknowledgement_of_a_dead_letter_comes_too_late_also_after_a_restart() {
    use_small_segments();
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 1);
    shard.ask(send("orders", &["a", "b"])).unwrap();
    let received = shard.receive("billing", "orders", Filter::All);
    let (dead, done) = (received[0].0, received[1].0);
    shard.acknowledge("billing", "orders", done).unwrap();
    shard.now_ms += 31_000;
    shard.settle();
    for round in 0..3 {
        let late = shard.acknowledge("billing", "orders", dead);
        assert_eq!(late, Err(Refusal::InvalidHandle), "round {round}");
        assert_eq!(shard.acknowledge("billing", "orders", done), Ok(()), "round {round}");
        if round == 1 {
            // From a snapshot.
            let seals = shard.seals;
            while shard.seals == seals {
                shard.now_ms += 1;
                shard.ask(send("orders", &[&"x".repeat(500)])).unwrap();
            }
        }
        shard.restart();
    }
    let redrive = broker_engine::Redrive {
        group: GroupName::parse("billing").unwrap(),
        topic: None,
        messages_max: 1,
        only: None,
        is_purge: false,
        is_dry_run: false,
    };
    shard.ask(Command::Redrive(redrive)).unwrap();
    let again = shard.receive("billing", "orders", Filter::All);
    let again = again.iter().find(|(_, body)| body == "a").expect("it was put back").0;
    shard.acknowledge("billing", "orders", again).unwrap();
    assert_eq!(shard.acknowledge("billing", "orders", again), Ok(()), "done in the end");
}
