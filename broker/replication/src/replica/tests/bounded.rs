//! However much there is to do, a step does a part of it: its frames stay small, others are served in between, and the log is
//! whole whenever the power goes.

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
    let output = shard.replica.step(shard.now_ms);
    shard.replies.extend(output.replies);
    shard.checks.extend(output.checks);
    if let Some(write) = output.write {
        let written = shard.writer.write(&write).unwrap();
        shard.replica.written(shard.now_ms, written);
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
        assert_eq!(shard.replica.next_step_ms(), Some(0), "it goes on at once");
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
        let Ok(Outcome::Progress(progress)) = shard.ask(Command::ReadProgress(None)) else {
            panic!()
        };
        let lag = progress.iter().find(|row| row.topic == name("orders")).unwrap().lag_messages;
        assert_eq!(lag, 0, "what was passed over is done");
    }
}
