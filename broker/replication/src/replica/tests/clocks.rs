//! Steps of the wall clock: durations do not feel them, dates follow them, and stored times stay in order.

use broker_engine::OffsetAt;

use super::*;

const HOUR_MS: i64 = 3_600_000;
const STEPS_MS: [i64; 4] = [-HOUR_MS, 150_000, 600_000, 24 * HOUR_MS];
const INVISIBLE_MS: u64 = 30_000;
/// Unix time, later than any step back.
const BEGIN_MS: u64 = 1_900_000_000_000;

fn shard() -> Shard {
    let mut shard = Shard::new();
    shard.now_ms = BEGIN_MS;
    shard.create("orders", 1, "billing", 5);
    shard
}

/// A poll that waits for so long.
fn poll(shard: &mut Shard, for_ms: u64) -> Ticket {
    let receive = Receive {
        group: GroupName::parse("billing").unwrap(),
        topic: name("orders"),
        filter: Filter::All,
        messages_max: 1,
        invisible_ms: INVISIBLE_MS,
        poll_until_ms: shard.now_ms + for_ms,
        client_id: "tester".into(),
        attempt_id: String::new(),
        lite_topics: None,
    };
    let ticket = shard.submit(Command::Receive(receive));
    shard.settle();
    ticket
}

fn first_offset_at(shard: &mut Shard, time_ms: u64) -> u64 {
    let at = OffsetAt::TimeMs(time_ms);
    let query = Command::QueryOffset { topic: name("orders"), queue: 0, at };
    match shard.ask(query) {
        Ok(Outcome::Offset(Some(offset))) => offset,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_step_of_the_wall_clock_moves_no_deadline() {
    for step_ms in STEPS_MS {
        let mut shard = shard();
        shard.ask(send("orders", &["a"])).unwrap();
        assert_eq!(shard.receive("billing", "orders", Filter::All).len(), 1);
        let waiting = poll(&mut shard, 8_000);
        shard.wall_ahead_ms = step_ms;
        shard.now_ms += 7_999;
        shard.settle();
        assert!(!shard.replies.contains_key(&waiting), "too early after {step_ms} ms");
        shard.now_ms += 1;
        shard.settle();
        match shard.replies.remove(&waiting) {
            Some(Ok(Outcome::Received(deliveries))) => assert!(deliveries.is_empty()),
            other => panic!("{other:?} after {step_ms} ms"),
        }
        shard.now_ms += INVISIBLE_MS - 8_001;
        let early = shard.receive("billing", "orders", Filter::All);
        assert_eq!(early, [], "taken from who has it, after {step_ms} ms");
        shard.now_ms += 1;
        let again = shard.receive("billing", "orders", Filter::All);
        assert_eq!((again.len(), again[0].0.attempt), (1, 2), "after {step_ms} ms");
    }
}

#[test]
fn producers_are_asked_in_time_whatever_the_wall_clock_does() {
    for step_ms in STEPS_MS {
        let mut shard = shard();
        shard.create_of(MessageType::Transaction, "payments", 1);
        let visible = Visible::OnCommit { check_after_ms: 6_000 };
        let half = |text| NewMessage { visible, ..message(text, None) };
        let send_half = |shard: &mut Shard, text| {
            let (topic, target) = (name("payments"), Target::AnyQueue);
            shard.ask(Command::Send(Send { topic, messages: vec![half(text)], target })).unwrap();
        };
        send_half(&mut shard, "before");
        shard.wall_ahead_ms = step_ms;
        send_half(&mut shard, "after");
        shard.now_ms += 5_999;
        shard.settle();
        assert!(shard.checks.is_empty(), "too early after {step_ms} ms");
        shard.now_ms += 1;
        shard.settle();
        assert_eq!(shard.checks.len(), 2, "after {step_ms} ms");
    }
}

#[test]
fn a_timed_message_is_due_when_the_wall_clock_says_so() {
    let mut shard = shard();
    shard.create_of(MessageType::Delay, "later", 1);
    let due_ms = BEGIN_MS + 100_000;
    let timed = NewMessage { visible: Visible::At { due_ms }, ..message("timed", None) };
    let (topic, target) = (name("later"), Target::AnyQueue);
    shard.ask(Command::Send(Send { topic, messages: vec![timed], target })).unwrap();
    shard.now_ms += 200_000;
    shard.wall_ahead_ms = -150_000;
    let early = shard.receive("billing", "later", Filter::All);
    assert_eq!(early, [], "its date has not come");
    let next_ms = shard.replica.next_step_ms(shard.now()).expect("it waits");
    assert!(next_ms <= shard.now_ms + 50_000, "{next_ms}");
    shard.wall_ahead_ms = 0;
    shard.settle();
    shard.now_ms += 100;
    shard.settle();
    assert_eq!(shard.receive("billing", "later", Filter::All).len(), 1);
}

#[test]
fn stored_times_never_go_back_so_that_a_search_by_time_skips_nothing() {
    let mut shard = shard();
    let send_at = |shard: &mut Shard, ahead_ms, text| {
        shard.wall_ahead_ms = ahead_ms;
        shard.now_ms += 1_000;
        shard.ask(send("orders", &[text])).unwrap();
    };
    send_at(&mut shard, 0, "a");
    send_at(&mut shard, HOUR_MS, "b");
    for text in ["c", "d", "e"] {
        send_at(&mut shard, 0, text);
    }
    let stepped_ms = BEGIN_MS + 2_000 + HOUR_MS.cast_unsigned();
    assert_eq!(first_offset_at(&mut shard, BEGIN_MS + 1_500), 1, "the first that is later");
    assert_eq!(first_offset_at(&mut shard, stepped_ms), 1, "b and all behind it");
    // The clock is put right while nothing runs: what the log says counts on.
    shard.restart();
    send_at(&mut shard, 0, "f");
    let mut times = Vec::new();
    shard.replica.reader().records(0, shard.replica.log().end().position).for_each(|record| {
        times.push(record.unwrap().time_ms);
    });
    assert!(times.is_sorted(), "{times:?}");
    send_at(&mut shard, 2 * HOUR_MS, "g");
    assert_eq!(first_offset_at(&mut shard, stepped_ms + 1), 6, "only g is later");
}

#[test]
fn a_clock_that_was_wrong_at_the_start_and_put_right_hides_nothing_over_a_restart() {
    let mut shard = shard();
    shard.wall_ahead_ms = HOUR_MS;
    shard.ask(send("orders", &["a"])).unwrap();
    // Put right: the times of frames stand still, and the steady time goes on for 40 minutes.
    shard.wall_ahead_ms = 0;
    shard.restart();
    shard.now_ms = shard.replica.begin().steady_ms;
    shard.wall_ahead_ms = -HOUR_MS;
    for _ in 0..40 {
        shard.now_ms += 60_000;
        shard.ask(send("orders", &["more"])).unwrap();
    }
    let given = shard.receive("billing", "orders", Filter::All);
    assert!(given.len() > 30, "{}", given.len());
    shard.now_ms += 200;
    shard.settle();
    let before = shard.now();
    shard.disk.restart();
    let disk: Arc<dyn Disk> = Arc::new(shard.disk.clone());
    let started = start(&disk, &options(), Box::new(NoPeers), 1.into(), before.wall_ms).unwrap();
    (shard.replica, shard.writer) = started;
    let begin = shard.replica.begin();
    assert!(begin.steady_ms + 2_000 > before.steady_ms, "{begin:?} after {before:?}");
    shard.now_ms = begin.steady_ms;
    shard.settle();
    shard.now_ms += INVISIBLE_MS;
    assert_eq!(shard.receive("billing", "orders", Filter::All).len(), given.len().min(32));
}
