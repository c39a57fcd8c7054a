//! However much there is to do, a step does a part of it: its frames stay small, others are served in between, and the log is
//! whole whenever the power goes.

use broker_engine::{OffsetAt, Redrive, ResetOffsets};
use broker_model::Order;
use broker_store::log::LogEnd;

use super::*;

/// The payload bytes of the frames of the log.
fn frames(shard: &Shard) -> Vec<usize> {
    let disk: Arc<dyn Disk> = Arc::new(shard.disk.clone());
    let mut frames = Vec::new();
    recovery::open(&disk, &options(), LogEnd::default(), &mut |frame| {
        frames.push(frame.payload.len());
        Ok(())
    })
    .unwrap();
    frames
}

fn fill(shard: &mut Shard, topic: &str, count: usize) {
    for from in (0..count).step_by(1_000) {
        let messages =
            (from..count.min(from + 1_000)).map(|_| message("x", Some("paid"))).collect();
        let send = Send { topic: name(topic), messages, target: Target::Queue(0) };
        shard.ask(Command::Send(send)).expect("stored");
    }
}

/// Steps once; the answers so far are in `replies`.
fn step(shard: &mut Shard) {
    let output = shard.replica.step(Now::at(shard.now_ms));
    shard.replies.extend(output.replies);
    shard.checks.extend(output.checks);
    if let Some(write) = output.write {
        let written = shard.writer.write(&write).unwrap();
        shard.replica.written(Now::at(shard.now_ms), written);
    }
}

/// Steps until a command is answered; others send meanwhile. Says in how many steps.
fn ask_among_others(shard: &mut Shard, command: Command) -> (Reply, u32) {
    let ticket = shard.submit(command);
    let mut steps = 0;
    loop {
        step(shard);
        steps += 1;
        if let Some(reply) = shard.replies.remove(&ticket) {
            return (reply, steps);
        }
        assert_eq!(
            shard.replica.next_step_ms(Now::at(shard.now_ms)),
            Some(0),
            "it goes on at once"
        );
        let sent = shard.submit(send("others", &["x"]));
        step(shard);
        step(shard);
        assert!(matches!(shard.replies.remove(&sent), Some(Ok(_))), "others are served meanwhile");
    }
}

fn receive(shard: &Shard, tag: &str) -> Command {
    Command::Receive(Receive {
        group: GroupName::parse("billing").unwrap(),
        topic: name("orders"),
        filter: Filter::parse_tags(tag).unwrap(),
        messages_max: 32,
        invisible_ms: 30_000,
        poll_until_ms: shard.now_ms,
        client_id: "tester".into(),
        attempt_id: String::new(),
        lite_topics: None,
    })
}

fn with_backlog(order: Order, count: usize) -> Shard {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    shard.create("others", 1, "audit", 5);
    let mut group = ConsumerGroup::with_defaults(GroupName::parse("billing").unwrap());
    group.order = order;
    shard.ask(Command::PutGroup(Box::new(group))).unwrap();
    fill(&mut shard, "orders", count);
    shard
}

#[test]
fn a_tag_that_nobody_has_on_a_long_backlog_makes_small_frames_and_lets_others_through() {
    for order in [Order::Concurrent, Order::Fifo] {
        SEGMENT_BYTES.set(64 * 1024 * 1024);
        let mut shard = with_backlog(order, 150_000);
        let before = frames(&shard).len();
        let command = receive(&shard, "shipped");
        let (reply, steps) = ask_among_others(&mut shard, command);
        assert!(matches!(&reply, Ok(Outcome::Received(got)) if got.is_empty()), "{reply:?}");
        assert!(steps >= 2, "{order:?}: {steps} steps");
        // Alone they wait a little for company.
        shard.now_ms += 100;
        shard.settle();
        let frames = frames(&shard).split_off(before);
        assert!(frames.iter().all(|bytes| *bytes <= 16 * 1024), "{order:?}: {frames:?}");
        shard.restart();
        assert_eq!(shard.replica.damage(), None);
        let Ok(Outcome::Progress(progress, _)) =
            shard.ask(Command::ReadProgress(ProgressQuery::default()))
        else {
            panic!()
        };
        let lag = progress.iter().find(|row| row.topic == name("orders")).unwrap().lag_messages;
        assert_eq!(lag, 0, "what was passed over is done");
    }
}

/// A whole step may bring this many bytes, beside what others ask for.
const STEP_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Every frame of a long job is small, and the log is whole whenever the power goes in the middle of it.
fn is_whole_at_any_moment(make: impl Fn() -> (Shard, Command), is_right: impl Fn(&mut Shard)) {
    let mut cut_after = 0;
    loop {
        let (mut shard, command) = make();
        let before = frames(&shard).len();
        let ticket = shard.submit(command);
        let mut steps = 0;
        while shard.replies.remove(&ticket).is_none() && steps < cut_after {
            step(&mut shard);
            steps += 1;
        }
        let is_answered = steps < cut_after;
        shard.restart();
        assert_eq!(shard.replica.damage(), None);
        let frames = frames(&shard).split_off(before);
        assert!(frames.iter().all(|bytes| *bytes <= STEP_BYTES_MAX), "{frames:?}");
        is_right(&mut shard);
        if is_answered {
            return;
        }
        cut_after = cut_after * 3 + 1;
    }
}

fn lag(shard: &mut Shard, topic: &str) -> u64 {
    let (mut rows, mut query) = (Vec::new(), Some(ProgressQuery::default()));
    while let Some(asked) = query.take() {
        let Ok(Outcome::Progress(part, next)) = shard.ask(Command::ReadProgress(asked)) else {
            panic!()
        };
        rows.extend(part);
        query = next.map(|from| ProgressQuery { group: None, from });
    }
    let rows = rows.iter().filter(|row| row.topic == name(topic));
    rows.map(|row| row.lag_messages).sum()
}

fn reset(to: OffsetAt, id: &str) -> Command {
    let (group, topics) = (GroupName::parse("billing").unwrap(), Vec::new());
    Command::ResetOffsets(ResetOffsets { group, topics, to, id: id.to_owned() })
}

/// Topics of 1,024 queues with a message each in the first one, which the group has read.
fn with_many_queues(topics: usize) -> Shard {
    SEGMENT_BYTES.set(64 * 1024 * 1024);
    let mut shard = Shard::new();
    shard.create("others", 1, "billing", 5);
    for n in 0..topics {
        let topic = format!("topic-{n}");
        shard.create_of(MessageType::Normal, &topic, 1024);
        let messages = vec![message("x", None)];
        let target = Target::Queue(0);
        shard.ask(Command::Send(Send { topic: name(&topic), messages, target })).unwrap();
        let received = shard.receive("billing", &topic, Filter::All);
        shard.acknowledge("billing", &topic, received[0].0).unwrap();
    }
    shard
}

#[test]
fn a_reset_over_many_queues_is_answered_when_all_is_durable_and_lets_others_through() {
    let mut shard = with_many_queues(40);
    let (reply, steps) = ask_among_others(&mut shard, reset(OffsetAt::Earliest, "one"));
    assert!(matches!(reply, Ok(Outcome::Done)) && steps >= 2, "{reply:?} in {steps} steps");
    shard.restart();
    let left: u64 = (0..40).map(|n| lag(&mut shard, &format!("topic-{n}"))).sum();
    assert_eq!(left, 40, "all of it was durable");
    let received = shard.receive("billing", "topic-7", Filter::All);
    shard.acknowledge("billing", "topic-7", received[0].0).unwrap();
    let again = shard.ask(reset(OffsetAt::Earliest, "one"));
    assert!(matches!(again, Ok(Outcome::Done)));
    assert_eq!(lag(&mut shard, "topic-7"), 0, "carried out once");
}

#[test]
fn a_reset_that_a_crash_cuts_short_is_finished_by_doing_it_again() {
    let make = || (with_many_queues(8), reset(OffsetAt::Earliest, "one"));
    is_whole_at_any_moment(make, |shard| {
        for n in 0..8 {
            assert!(lag(shard, &format!("topic-{n}")) <= 1, "a topic is reset, or as it was");
        }
        assert!(matches!(shard.ask(reset(OffsetAt::Earliest, "one")), Ok(Outcome::Done)));
        let left: u64 = (0..8).map(|n| lag(shard, &format!("topic-{n}"))).sum();
        assert_eq!(left, 8);
    });
}

/// Messages whose last delivery ends at the same time.
fn in_flight(count: usize, max_attempts: u32) -> Shard {
    SEGMENT_BYTES.set(64 * 1024 * 1024);
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", max_attempts);
    shard.create("others", 1, "audit", 5);
    fill(&mut shard, "orders", count);
    while !shard.receive("billing", "orders", Filter::All).is_empty() {}
    shard
}

#[test]
fn deliveries_that_end_together_end_step_by_step() {
    for max_attempts in [1, 5] {
        let mut shard = in_flight(60_000, max_attempts);
        let before = frames(&shard).len();
        shard.now_ms += 40_000;
        let mut steps = 0;
        while shard
            .replica
            .next_step_ms(Now::at(shard.now_ms))
            .is_some_and(|at_ms| at_ms <= shard.now_ms)
        {
            step(&mut shard);
            steps += 1;
            let sent = shard.submit(send("others", &["x"]));
            step(&mut shard);
            step(&mut shard);
            assert!(matches!(shard.replies.remove(&sent), Some(Ok(_))), "step {steps}");
        }
        assert!(max_attempts > 1 || steps > 3, "{steps} steps");
        shard.now_ms += 100;
        shard.settle();
        let frames = frames(&shard).split_off(before);
        assert!(frames.iter().all(|bytes| *bytes <= STEP_BYTES_MAX), "{frames:?}");
        if max_attempts == 1 {
            shard.restart();
            let redrive = |is_dry_run| {
                let (group, topic) = (GroupName::parse("billing").unwrap(), None);
                Command::Redrive(Redrive {
                    group,
                    topic,
                    messages_max: u32::MAX,
                    only: None,
                    is_purge: false,
                    is_dry_run,
                })
            };
            let (reply, _) = ask_among_others(&mut shard, redrive(true));
            let Ok(Outcome::Redriven(found)) = reply else { panic!("{reply:?}") };
            assert_eq!((found.messages, found.left), (0, 60_000), "all are dead letters");
            let (reply, steps) = ask_among_others(&mut shard, redrive(false));
            let Ok(Outcome::Redriven(found)) = reply else { panic!("{reply:?}") };
            assert_eq!((found.messages, found.left), (60_000, 0));
            assert!(steps >= 2, "{steps} steps");
        }
        assert_eq!(shard.receive("billing", "orders", Filter::All).len(), 32, "due again");
    }
}

#[test]
fn timed_messages_that_are_due_together_come_step_by_step() {
    SEGMENT_BYTES.set(64 * 1024 * 1024);
    let mut shard = Shard::new();
    shard.create_of(MessageType::Delay, "orders", 1);
    shard.create("others", 1, "billing", 5);
    for _ in 0..40 {
        let due = NewMessage { visible: Visible::At { due_ms: 900_000 }, ..message("x", None) };
        let messages = vec![due; 1_000];
        let target = Target::Queue(0);
        shard.ask(Command::Send(Send { topic: name("orders"), messages, target })).unwrap();
    }
    let before = frames(&shard).len();
    shard.now_ms = 900_000;
    while shard
        .replica
        .next_step_ms(Now::at(shard.now_ms))
        .is_some_and(|at_ms| at_ms <= shard.now_ms)
    {
        step(&mut shard);
        let sent = shard.submit(send("others", &["x"]));
        step(&mut shard);
        step(&mut shard);
        assert!(matches!(shard.replies.remove(&sent), Some(Ok(_))));
    }
    shard.now_ms += 100;
    shard.settle();
    let frames = frames(&shard).split_off(before);
    assert!(frames.iter().all(|bytes| *bytes <= STEP_BYTES_MAX), "{frames:?}");
    shard.restart();
    let received = std::iter::repeat_with(|| shard.receive("billing", "orders", Filter::All).len());
    assert_eq!(received.take_while(|count| *count > 0).sum::<usize>(), 40_000);
}

#[test]
fn lite_topics_that_nobody_uses_go_step_by_step() {
    SEGMENT_BYTES.set(64 * 1024 * 1024);
    let mut shard = Shard::new();
    shard.create_of(MessageType::Lite, "rooms", 1);
    shard.create("others", 1, "billing", 5);
    for n in 0..40_000 {
        let target = Target::LiteTopic(format!("room-{n}").into());
        let send = Send { topic: name("rooms"), messages: vec![message("x", None)], target };
        shard.submit(Command::Send(send));
    }
    shard.settle();
    let before = frames(&shard).len();
    shard.now_ms += 48 * 3_600_000;
    let mut steps = 0;
    while shard
        .replica
        .next_step_ms(Now::at(shard.now_ms))
        .is_some_and(|at_ms| at_ms <= shard.now_ms)
    {
        step(&mut shard);
        steps += 1;
    }
    assert!(steps >= 3, "{steps} steps");
    shard.now_ms += 100;
    shard.settle();
    let frames = frames(&shard).split_off(before);
    assert!(!frames.is_empty() && frames.iter().all(|b| *b <= STEP_BYTES_MAX), "{frames:?}");
    let Ok(Outcome::Topics(topics, _)) = shard.ask(Command::ReadTopics(0)) else { panic!() };
    let rooms = topics.iter().find(|topic| topic.topic == name("rooms")).unwrap();
    assert_eq!(rooms.messages, 0);
}
