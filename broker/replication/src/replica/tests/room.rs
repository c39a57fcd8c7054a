//! A volume that fills up under a shard: what is ours is used, then the log stands still, and goes on by itself.

use broker_model::limits::LOOKED_AT_PER_STEP_MAX;

use super::*;
use crate::maintenance::Room;

/// Frames with one small command take more than this part of a segment never.
const COMMANDS_MAX: usize = 20_000;
/// Looks at the volume until space must have come back.
const ROUNDS_MAX: usize = 10;

impl Shard {
    fn with_groups() -> Self {
        SEGMENT_BYTES.set(32 * 1024);
        let mut shard = Self::new();
        shard.create("orders", 1, "billing", 5);
        shard.ask(Command::PutGroup(Box::new(group("audit")))).unwrap();
        shard
    }

    /// As the shell does: one round of work beside the commands.
    fn upkeep(&mut self) -> Room {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let work = Work {
            wants_spare: self.replica.wants_spare(),
            seal_until: self.replica.seal_until(),
            unused: std::mem::take(&mut self.unused),
            snapshot_bytes: self.replica.snapshot_bytes(),
            keys_of_head: head_as_key,
        };
        let failure = self.replica.engine().index_failure_note().clone();
        let found =
            maintenance::run(&disk, &options(), work, &failure, &AtomicBool::new(false)).unwrap();
        self.unused = found.unused;
        if let Some(Ok(sealed)) = found.sealed {
            self.unused.extend(self.replica.sealed(sealed));
        }
        self.replica.set_room(found.room);
        if let Some(write) = self.waiting_write.take() {
            match self.writer.write(&write) {
                Ok(written) => self.replica.written(Now::at(self.now_ms), written),
                Err(WriteError::NoRoom(_)) => self.waiting_write = Some(write),
                Err(WriteError::Failed(error)) => panic!("{error}"),
            }
        }
        self.settle();
        found.room
    }

    /// One step, all of whose answers are refusals.
    fn refused_in_step(&mut self) -> Vec<(Ticket, Refusal)> {
        let replies = self.replica.step(self.now()).replies;
        replies.into_iter().map(|(ticket, reply)| (ticket, reply.unwrap_err())).collect()
    }

    /// Others take all that is left.
    fn fill_volume(&mut self) {
        self.disk.set_capacity(Some(self.disk.used_bytes()));
    }
}

fn group(text: &str) -> ConsumerGroup {
    ConsumerGroup::with_defaults(GroupName::parse(text).unwrap())
}

/// One without an id: of those with one only so many are remembered.
fn reset() -> Command {
    Command::ResetOffsets(broker_engine::ResetOffsets {
        group: GroupName::parse("audit").unwrap(),
        topics: vec![name("orders")],
        to: broker_engine::OffsetAt::Earliest,
        id: String::new(),
    })
}

/// Changes settings until that is refused; how often it went well.
fn change_until_refused(shard: &mut Shard) -> (usize, Refusal) {
    for number in 0..COMMANDS_MAX {
        let ticket = shard.submit(reset());
        shard.settle();
        match shard.replies.remove(&ticket) {
            Some(Ok(_)) => {}
            Some(Err(refusal)) => return (number, refusal),
            None => panic!("change {number} is neither carried out nor refused"),
        }
    }
    panic!("the log grows for ever");
}

#[test]
fn a_full_volume_refuses_sends_at_once_and_everything_else_once_spare_and_reserve_are_used() {
    let mut shard = Shard::with_groups();
    while shard.replica.wants_spare() == WantsSpare::No {
        shard.ask(send("orders", &["a longer text than others"; 20])).unwrap();
    }
    assert_eq!(shard.upkeep(), Room { is_nearly_full: false, ready_segments: 2 });
    shard.fill_volume();
    assert_eq!(shard.upkeep(), Room { is_nearly_full: true, ready_segments: 2 });
    assert_eq!(shard.ask(send("orders", &["b"])).unwrap_err(), Refusal::DiskFull);
    let (handle, _) = shard.receive("billing", "orders", Filter::All)[0];
    assert_eq!(shard.acknowledge("billing", "orders", handle), Ok(()));

    let begun_at = shard.replica.log().end().position;
    let (_, refusal) = change_until_refused(&mut shard);
    assert_eq!(refusal, Refusal::NoRoom);
    let grown_bytes = shard.replica.log().end().position - begun_at;
    assert!(grown_bytes > 2 * options().segment_bytes, "{grown_bytes} bytes of what is ours");
    assert!(shard.replica.failure().is_none() && !shard.replica.is_write_waiting());
    assert!(
        shard.ask(Command::ReadProgress(ProgressQuery::default())).is_ok(),
        "what needs no room goes on"
    );

    shard.restart();
    assert!(shard.upkeep().is_nearly_full);
    assert_eq!(shard.ask(reset()).unwrap_err(), Refusal::NoRoom);
    shard.disk.set_capacity(None);
    assert!(!shard.upkeep().is_nearly_full);
    shard.ask(send("orders", &["c"])).unwrap();
    assert_eq!(shard.acknowledge("billing", "orders", handle), Ok(()), "it was kept");
}

#[test]
fn time_goes_on_out_of_room_for_polls_and_for_the_rest_once_there_is_room() {
    let mut shard = Shard::with_groups();
    shard.ask(send("orders", &["a"])).unwrap();
    assert_eq!(shard.receive("billing", "orders", Filter::All).len(), 1);
    let poll = Command::Receive(Receive {
        group: GroupName::parse("billing").unwrap(),
        topic: name("orders"),
        filter: Filter::All,
        messages_max: 1,
        invisible_ms: 30_000,
        poll_until_ms: shard.now_ms + 50_000,
        client_id: "tester".into(),
        attempt_id: String::new(),
        lite_topics: None,
    });
    let poll = shard.submit(poll);
    shard.settle();
    shard.fill_volume();
    shard.upkeep();
    assert_eq!(change_until_refused(&mut shard).1, Refusal::NoRoom);
    // The delivery has expired, and handing it out again needs a record.
    shard.now_ms += 40_000;
    shard.settle();
    assert!(!shard.replies.contains_key(&poll));
    assert!(
        shard.replica.next_step_ms(Now::at(shard.now_ms)).is_some_and(|at_ms| at_ms > shard.now_ms),
        "it sleeps"
    );
    shard.disk.set_capacity(None);
    shard.upkeep();
    assert!(matches!(shard.replies.remove(&poll), Some(Ok(Outcome::Received(d))) if d.len() == 1));
}

#[test]
fn polls_that_cannot_look_on_for_want_of_room_are_refused_when_their_time_is_over() {
    SEGMENT_BYTES.set(4 * 1024 * 1024);
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    for _ in 0..=2 * LOOKED_AT_PER_STEP_MAX / 1_000 {
        shard.ask(send("orders", &["a"; 1_000])).unwrap();
    }
    // Neither sees the end of the queue in one step. The time of the first is over before there is no room.
    let [ended, waiting] = [0, 50_000].map(|wait_ms| {
        let poll = Receive {
            group: GroupName::parse("billing").unwrap(),
            topic: name("orders"),
            filter: Filter::parse_tags("no such").unwrap(),
            messages_max: 1,
            invisible_ms: 30_000,
            poll_until_ms: shard.now_ms + wait_ms,
            client_id: "tester".into(),
            attempt_id: String::new(),
            lite_topics: None,
        };
        shard.submit(Command::Receive(poll))
    });
    assert!(shard.replica.step(shard.now()).replies.is_empty());
    shard.replica.write_waits();
    assert_eq!(shard.replica.next_step_ms(shard.now()), Some(0));
    assert_eq!(shard.refused_in_step(), [(ended, Refusal::NoRoom)]);
    let next_ms = shard.replica.next_step_ms(shard.now());
    assert!(next_ms.is_some_and(|at_ms| at_ms > shard.now_ms), "it sleeps");
    shard.now_ms += 50_000;
    assert_eq!(shard.refused_in_step(), [(waiting, Refusal::NoRoom)]);
}

#[test]
fn a_volume_that_fills_up_unseen_lets_the_write_wait_and_refuses_what_comes_meanwhile() {
    let mut shard = Shard::with_groups();
    shard.fill_volume();
    let mut sent = Vec::new();
    let waiting = loop {
        let ticket = shard.submit(send("orders", &["a longer text than others"; 100]));
        shard.settle();
        match shard.replies.remove(&ticket) {
            Some(reply) => sent.push(reply.unwrap()),
            None => break ticket,
        }
    };
    assert!(shard.replica.is_write_waiting() && shard.replica.failure().is_none());
    assert_eq!(shard.ask(send("orders", &["b"])).unwrap_err(), Refusal::NoRoom);
    shard.upkeep();
    assert!(shard.replica.is_write_waiting());
    shard.disk.set_capacity(None);
    shard.upkeep();
    assert!(matches!(shard.replies.remove(&waiting), Some(Ok(Outcome::Sent(_)))));
    shard.ask(send("orders", &["c"])).unwrap();
    shard.restart();
    let Ok(Outcome::Topics(topics, _)) = shard.ask(Command::ReadTopics(0)) else { panic!() };
    assert_eq!(topics[0].messages, 100 * (sent.len() as u64 + 1) + 1);
}

#[test]
fn retention_gives_space_back_on_a_volume_that_the_log_filled() {
    use_small_segments();
    let mut shard = Shard::new();
    let queues = vec![QueuePlacement { shard: ShardId(0), queues: 1 }];
    let topic = Topic {
        retention_ms: Some(60_000),
        ..Topic::with_defaults(name("orders"), MessageType::Normal, queues)
    };
    shard.ask(Command::PutTopic(Box::new(topic))).unwrap();
    shard.ask(Command::PutGroup(Box::new(group("audit")))).unwrap();
    shard.disk.set_capacity(Some(20 * options().segment_bytes));
    let full = loop {
        shard.upkeep();
        let sent = shard.submit(send("orders", &["a longer text than others"; 20]));
        shard.settle();
        match shard.replies.remove(&sent).unwrap() {
            Ok(_) => {}
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(full, Refusal::DiskFull);
    // Nobody asks for anything: time alone brings it back.
    for _ in 0..ROUNDS_MAX {
        shard.now_ms += 120_000;
        shard.settle();
        if !shard.upkeep().is_nearly_full {
            return shard.ask(send("orders", &["c"])).map(drop).unwrap();
        }
    }
    panic!("the volume stays full");
}
