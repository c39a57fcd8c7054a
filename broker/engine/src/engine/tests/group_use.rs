//! Groups by first use: when they are forgotten, and what they keep until then.

use broker_model::limits::{
    GROUP_PROGRESS_UNUSED_HOURS_MAX, GROUP_QUEUES_BY_FIRST_USE_MAX, GROUP_QUEUES_PER_SHARD_MAX,
    GROUP_UNUSED_HOURS_MAX, GROUP_USE_NOTED_HOURS,
};

use super::*;
use crate::{Acknowledge, Refusal};

/// A group that nobody declared, and the group of a bench is one no more.
fn bench() -> Bench {
    let mut bench = Bench::new(1);
    bench.ask(Command::DeleteGroup(group()));
    bench.ask(Command::MakeGroup(group()));
    bench
}

fn serve_hours(bench: &mut Bench, hours: u64, uses: &[GroupName]) {
    for _ in 0..hours {
        bench.ask(Command::NoteGroupUse { groups: uses.to_vec(), is_hour_over: true });
    }
}

fn unused(bench: &mut Bench) -> Vec<GroupName> {
    match bench.ask(Command::ReadUnusedGroups(vec![group()])).pop() {
        Some(Ok(Outcome::Groups(names))) => names,
        other => panic!("{other:?}"),
    }
}

fn is_forgotten(bench: &mut Bench) -> bool {
    let is_unused = !unused(bench).is_empty();
    match bench.ask(Command::ForgetGroup(group())).pop() {
        Some(Ok(Outcome::Done)) if is_unused => true,
        Some(Err(Refusal::GroupInUse(_))) if !is_unused => false,
        other => panic!("{other:?} {is_unused}"),
    }
}

/// What a start from a snapshot makes of it.
fn restart(bench: &mut Bench) {
    let mut parts = Vec::new();
    let mut part = |bytes: &[u8]| {
        parts.push(Bytes::copy_from_slice(bytes));
        Ok::<_, ()>(())
    };
    bench.engine.store_state(&mut part).unwrap();
    bench.engine = Engine::new(ShardId(0), 1.into());
    parts.into_iter().for_each(|part| bench.engine.load_state(part).unwrap());
}

fn acknowledge_one(bench: &mut Bench) {
    let Some(Ok(Outcome::Received(deliveries))) = bench.receive(0).pop() else { panic!() };
    let handles = vec![deliveries[0].handle];
    bench.ask(Command::Acknowledge(Acknowledge { group: group(), topic: topic(), handles }));
}

#[test]
fn a_group_by_first_use_with_nothing_to_lose_goes_after_a_day_of_service() {
    let mut bench = bench();
    bench.receive(0);
    serve_hours(&mut bench, GROUP_UNUSED_HOURS_MAX - 1, &[]);
    assert!(!is_forgotten(&mut bench));
    serve_hours(&mut bench, 1, &[]);
    restart(&mut bench);
    assert!(is_forgotten(&mut bench));
    assert!(matches!(bench.receive(0).pop(), Some(Err(Refusal::GroupNotFound(_)))));
    assert!(bench.engine.known().deleted_groups.is_empty(), "its name may come back");
    bench.ask(Command::MakeGroup(group()));
    bench.send(1, 10);
    assert_eq!(bench.received().len(), 1);
}

#[test]
fn a_restart_keeps_how_long_a_group_was_not_used() {
    let mut bench = bench();
    for _ in 0..GROUP_UNUSED_HOURS_MAX {
        assert!(!is_forgotten(&mut bench));
        serve_hours(&mut bench, 1, &[]);
        restart(&mut bench);
    }
    assert!(is_forgotten(&mut bench));
}

#[test]
fn a_group_that_is_used_stays_and_says_so_in_the_log_now_and_then() {
    let mut bench = bench();
    let begin = bench.position;
    serve_hours(&mut bench, 10 * GROUP_UNUSED_HOURS_MAX, &[group()]);
    assert!(!is_forgotten(&mut bench));
    let records = 10 * GROUP_UNUSED_HOURS_MAX * (GROUP_USE_NOTED_HOURS + 1) / GROUP_USE_NOTED_HOURS;
    assert!(bench.position - begin < records * 32, "{} bytes", bench.position - begin);
}

#[test]
fn progress_is_kept_for_longer_than_a_quarter_of_a_year() {
    let mut bench = bench();
    bench.send(3, 10);
    acknowledge_one(&mut bench);
    for (first, batch) in leases(&bench) {
        let mut effects = Effects::default();
        bench.engine.tick(Now::at(batch), &bench.log, &mut effects);
        assert!(leases(&bench).is_empty(), "{first}");
    }
    serve_hours(&mut bench, GROUP_PROGRESS_UNUSED_HOURS_MAX - 1, &[]);
    assert!(!is_forgotten(&mut bench));
    serve_hours(&mut bench, 1, &[]);
    assert!(is_forgotten(&mut bench));
    bench.ask(Command::MakeGroup(group()));
    assert_eq!(bench.received().len(), 3, "no message is lost: they come again");
}

/// First offset and deadline.
fn leases(bench: &Bench) -> Vec<(u64, u64)> {
    let all = bench.engine.state.group_topics.iter().flatten().flat_map(|p| &p.queues);
    all.flat_map(|queue| queue.leases()).map(|(first, l)| (first, l.deadline_ms)).collect()
}

#[test]
fn what_is_in_flight_or_waits_or_is_dead_keeps_its_group() {
    let hours = 2 * GROUP_PROGRESS_UNUSED_HOURS_MAX;
    let mut waiting = bench();
    waiting.receive(1_000_000);
    serve_hours(&mut waiting, hours, &[]);
    assert!(!is_forgotten(&mut waiting));
    let mut in_flight = bench();
    in_flight.send(1, 10);
    assert_eq!(in_flight.received().len(), 1);
    serve_hours(&mut in_flight, hours, &[]);
    assert!(!is_forgotten(&mut in_flight));
    let mut dead = bench();
    dead.send(1, 10);
    let Some(Ok(Outcome::Received(deliveries))) = dead.receive(0).pop() else { panic!() };
    let handle = deliveries[0].handle;
    let forward = crate::ForwardToDeadLetter { group: group(), topic: topic(), handle };
    dead.ask(Command::ForwardToDeadLetter(forward));
    serve_hours(&mut dead, hours, &[]);
    assert!(!is_forgotten(&mut dead));
}

#[test]
fn a_declared_group_is_never_forgotten() {
    let mut bench = bench();
    bench.ask(Command::PutGroup(Box::new(ConsumerGroup::with_defaults(group()))));
    bench.ask(Command::MakeGroup(group()));
    bench.ask(Command::MakeGroup(GroupName::parse("other").unwrap()));
    serve_hours(&mut bench, 2 * GROUP_PROGRESS_UNUSED_HOURS_MAX, &[]);
    restart(&mut bench);
    assert!(!is_forgotten(&mut bench));
}

#[test]
fn progress_has_places_and_groups_by_first_use_leave_half_of_them() {
    let mut bench = bench();
    let declared = GroupName::parse("declared").unwrap();
    let put = ConsumerGroup::with_defaults(declared.clone());
    bench.ask(Command::PutGroup(Box::new(put)));
    let set = |bench: &mut Bench, group: &GroupName| {
        let (group, topic) = (group.clone(), topic());
        let set = crate::SetOffset { group, topic, queue: 0, offset: 0 };
        bench.ask(Command::SetOffset(set)).pop().unwrap()
    };
    bench.engine.state.group_queues = GROUP_QUEUES_BY_FIRST_USE_MAX;
    assert!(matches!(bench.receive(0).pop(), Some(Err(Refusal::TooMany(_)))));
    assert!(matches!(set(&mut bench, &group()), Err(Refusal::TooMany(_))));
    assert!(set(&mut bench, &declared).is_ok(), "places are kept for it");
    assert_eq!(bench.engine.state.group_queues, GROUP_QUEUES_BY_FIRST_USE_MAX + 1);
    bench.ask(Command::DeleteGroup(declared.clone()));
    assert_eq!(bench.engine.state.group_queues, GROUP_QUEUES_BY_FIRST_USE_MAX);
    bench.engine.state.group_queues = GROUP_QUEUES_PER_SHARD_MAX;
    bench.ask(Command::PutGroup(Box::new(ConsumerGroup::with_defaults(declared.clone()))));
    assert!(matches!(set(&mut bench, &declared), Err(Refusal::TooMany(_))));
    bench.engine.state.group_queues = 0;
    assert!(matches!(bench.receive(0).pop(), Some(Ok(Outcome::Received(_)))));
}

impl Bench {
    /// The answer to a command that is done in steps of so much work, and how many these were; what `between` does comes
    /// after the first one.
    fn ask_in_steps(
        &mut self,
        work: u32,
        command: Command,
        between: impl FnOnce(&mut Self),
    ) -> (Reply, usize) {
        let mut effects = Effects::default();
        self.engine.begin_step(work);
        self.engine.handle(Now::at(0), command, Here, &self.log, &mut effects);
        between(self);
        let mut steps = 1;
        while effects.now.is_empty() && effects.on_commit.is_empty() {
            assert_eq!(self.engine.next_tick_ms(Now::at(0)), Some(0), "it goes on at once");
            // Each of 5 kinds of work gets a part.
            self.engine.begin_step(work * 5);
            self.engine.tick(Now::at(0), &self.log, &mut effects);
            steps += 1;
        }
        let (_, reply) = effects.now.into_iter().chain(effects.on_commit).next().unwrap();
        (reply, steps)
    }
}

/// A group that nobody used for a day, on topics with this many queues together.
fn unused_on(topics: u32, queues: u32) -> Bench {
    let mut bench = bench();
    for number in 0..topics {
        let topic = TopicName::parse(&format!("topic-{number}")).unwrap();
        let placement = vec![QueuePlacement { shard: ShardId(0), queues: queues / topics }];
        let put = Topic::with_defaults(topic.clone(), MessageType::Normal, placement);
        bench.ask(Command::PutTopic(Box::new(put)));
        let poll = Receive { topic, ..bench.poll(&Filter::All) };
        assert!(bench.ask(Command::Receive(poll)).iter().all(Result::is_ok));
    }
    serve_hours(&mut bench, GROUP_UNUSED_HOURS_MAX, &[]);
    bench
}

#[test]
fn a_group_on_many_queues_is_looked_at_step_by_step() {
    let (topics, queues) = (4, 4 * 512);
    let mut bench = unused_on(topics, queues);
    let read = Command::ReadUnusedGroups(vec![group()]);
    let (reply, steps) = bench.ask_in_steps(1, read, |_| {});
    assert!(matches!(reply, Ok(Outcome::Groups(names)) if names == [group()]));
    let least = queues as usize / 64;
    assert!((least..=least + 2).contains(&steps), "{steps} steps for {queues} queues");
    let (reply, steps) = bench.ask_in_steps(1, Command::ForgetGroup(group()), |_| {});
    assert!(matches!(reply, Ok(Outcome::Done)), "{reply:?}");
    assert!((least..=least + 2).contains(&steps), "{steps} steps for {queues} queues");
}

#[test]
fn a_group_that_is_used_while_its_queues_are_looked_at_is_not_forgotten() {
    for is_read in [false, true] {
        let mut bench = unused_on(1, 512);
        let topic = TopicName::parse("topic-0").unwrap();
        let poll = Receive { topic: topic.clone(), ..bench.poll(&Filter::All) };
        let message = NewMessage {
            tag_hash: 0,
            message_group_hash: 0,
            visible: Visible::AtOnce,
            head: Bytes::new(),
            body: Bytes::new(),
        };
        let send = Send { topic, messages: vec![message], target: Target::Queue(0) };
        let use_first_queue = |bench: &mut Bench| {
            assert!(bench.ask(Command::Send(send)).iter().all(Result::is_ok));
            let received = bench.ask(Command::Receive(poll)).pop();
            assert!(matches!(received, Some(Ok(Outcome::Received(got))) if got.len() == 1));
        };
        let command = match is_read {
            true => Command::ReadUnusedGroups(vec![group()]),
            false => Command::ForgetGroup(group()),
        };
        let (reply, steps) = bench.ask_in_steps(1, command, use_first_queue);
        assert!(steps >= 2, "the first queue was looked at before");
        match reply {
            Ok(Outcome::Groups(names)) if is_read => assert_eq!(names, []),
            Err(Refusal::GroupInUse(_)) if !is_read => {}
            other => panic!("{other:?}"),
        }
    }
}
