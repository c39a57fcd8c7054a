//! Polls that wait and that look for long: what they cost in one step, and whom they cost it.

use broker_model::limits::{LOOKED_AT_PER_STEP_MAX, LOOKED_AT_PER_TURN_MAX, WORK_PER_STEP_MAX};
use broker_model::{Model, Order, tag_hash};

use super::*;

/// A message of a send that costs nobody more than this many looks is cheap.
const CHEAP_LOOKS: u32 = 4;

fn tagged(tag: &str, count: usize) -> Command {
    let message = NewMessage {
        tag_hash: tag_hash(Some(tag)),
        message_group_hash: 0,
        visible: Visible::AtOnce,
        head: Bytes::new(),
        body: Bytes::new(),
    };
    let messages = vec![message; count];
    Command::Send(Send { topic: topic(), messages, target: Target::Queue(0) })
}

fn poll(tags: &str, poll_until_ms: u64) -> Command {
    Command::Receive(Receive {
        group: group(),
        topic: topic(),
        filter: Filter::parse_tags(tags).unwrap(),
        messages_max: 32,
        invisible_ms: 10_000,
        poll_until_ms,
        client_id: "tester".into(),
        attempt_id: String::new(),
        lite_topics: None,
    })
}

/// What one step looked at, and how many bytes it had for the log.
struct Cost {
    looks: u32,
    record_bytes: usize,
}

impl Bench {
    /// A step in which nothing is asked.
    fn step(&mut self) -> (Vec<Reply>, Cost) {
        let mut effects = Effects::default();
        self.engine.begin_step(WORK_PER_STEP_MAX);
        self.engine.serve_waiters(0, &self.log, &mut effects);
        let record_bytes = effects.payload.len();
        let cost = Cost { looks: LOOKED_AT_PER_STEP_MAX - self.engine.looks, record_bytes };
        let payload = std::mem::take(&mut effects.payload).freeze();
        self.position += record_bytes as u64;
        self.engine.apply(Now::at(0), self.position, payload, &mut effects).unwrap();
        (effects.now.into_iter().chain(effects.on_commit).map(|(_, reply)| reply).collect(), cost)
    }

    /// Looks that a command costs, with all that it wakes.
    fn looks_of(&mut self, command: Command) -> (Vec<Reply>, u32) {
        self.engine.begin_step(WORK_PER_STEP_MAX);
        let replies = self.ask(command);
        (replies, LOOKED_AT_PER_STEP_MAX - self.engine.looks)
    }

    fn messages_behind(&mut self) -> u64 {
        match self.ask(Command::ReadProgress(ProgressQuery::default())).pop() {
            Some(Ok(Outcome::Progress(progress, _))) => progress[0].lag_messages,
            other => panic!("{other:?}"),
        }
    }

    fn put_group_in_order(&mut self) {
        let group = ConsumerGroup { order: Order::Fifo, ..ConsumerGroup::with_defaults(group()) };
        self.ask(Command::PutGroup(Box::new(group)));
    }
}

fn is_empty(replies: &[Reply]) -> bool {
    matches!(replies, [Ok(Outcome::Received(deliveries))] if deliveries.is_empty())
}

/// A tag that nobody has, on a backlog: step by step, in few records, and with no answer before all was looked at.
fn looks_through(bench: &mut Bench, messages: u64) {
    bench.engine.begin_step(WORK_PER_STEP_MAX);
    let mut replies = bench.ask(poll("shipped", 0));
    let mut steps = 0u64;
    while replies.is_empty() {
        assert_eq!(bench.engine.next_tick_ms(Now::at(0)), Some(0), "it goes on at once");
        steps += 1;
        let (answers, cost) = bench.step();
        assert!(cost.looks <= LOOKED_AT_PER_STEP_MAX && cost.record_bytes < 1_000);
        replies = answers;
    }
    assert!(is_empty(&replies), "{replies:?}");
    assert_eq!(bench.messages_behind(), 0, "all was looked at");
    assert!(steps >= messages / u64::from(LOOKED_AT_PER_STEP_MAX) / 2);
    assert_ne!(bench.engine.next_tick_ms(Now::at(0)), Some(0));
}

#[test]
fn a_poll_that_wants_nothing_of_a_long_backlog_looks_through_it_step_by_step() {
    let mut bench = Bench::new(2);
    (0..200).for_each(|_| drop(bench.ask(tagged("paid", 1_000))));
    looks_through(&mut bench, 200_000);
}

#[test]
fn a_poll_in_order_that_wants_nothing_of_a_long_backlog_looks_through_it_step_by_step() {
    let mut bench = Bench::new(2);
    bench.put_group_in_order();
    (0..100).for_each(|_| drop(bench.ask(tagged("paid", 1_000))));
    looks_through(&mut bench, 100_000);
}

#[test]
fn others_are_served_while_one_looks_through_a_long_backlog() {
    let mut bench = Bench::new(1);
    (0..100).for_each(|_| drop(bench.ask(tagged("paid", 1_000))));
    bench.engine.begin_step(WORK_PER_STEP_MAX);
    assert!(bench.ask(poll("shipped", 5_000)).is_empty());
    let other = crate::command::Receive {
        group: broker_model::GroupName::parse("audit").unwrap(),
        ..match poll("paid", 0) {
            Command::Receive(receive) => receive,
            other => panic!("{other:?}"),
        }
    };
    bench.ask(Command::PutGroup(Box::new(ConsumerGroup::with_defaults(other.group.clone()))));
    assert_eq!(bench.engine.next_tick_ms(Now::at(0)), Some(0), "the first one looks yet");
    let (replies, _) = bench.looks_of(Command::Receive(other));
    assert!(matches!(&replies[..], [Ok(Outcome::Received(got))] if got.len() == 32), "{replies:?}");
    while bench.engine.next_tick_ms(Now::at(0)) == Some(0) {
        assert!(bench.step().0.is_empty());
    }
    let replies = bench.ask(tagged("shipped", 1));
    let got = |reply: &Reply| matches!(reply, Ok(Outcome::Received(got)) if got.len() == 1);
    assert!(replies.iter().any(got), "it waits, and is woken: {replies:?}");
}

#[test]
fn who_looks_through_a_long_backlog_looks_on_when_something_comes_to_another_queue() {
    let mut bench = Bench::new(2);
    let to = |queue: u32, tag: &str, count: usize| match tagged(tag, count) {
        Command::Send(send) => Command::Send(Send { target: Target::Queue(queue), ..send }),
        other => panic!("{other:?}"),
    };
    (0..100).for_each(|_| drop(bench.ask(to(0, "paid", 1_000))));
    bench.ask(to(0, "shipped", 1));
    bench.engine.begin_step(WORK_PER_STEP_MAX);
    assert!(bench.ask(poll("shipped", 60_000)).is_empty(), "it is far behind");
    bench.engine.begin_step(WORK_PER_STEP_MAX);
    assert_eq!(bench.ask(to(1, "paid", 1)).len(), 1, "nobody wants it");
    let mut replies = Vec::new();
    while bench.engine.next_tick_ms(Now::at(0)) == Some(0) {
        replies.extend(bench.step().0);
    }
    assert!(matches!(&replies[..], [Ok(Outcome::Received(got))] if got.len() == 1), "{replies:?}");
}

#[test]
fn polls_that_want_nothing_of_what_is_due_again_cost_a_send_nothing() {
    let mut bench = Bench::new(1);
    (0..20).for_each(|_| drop(bench.ask(tagged("paid", 1_000))));
    for _ in 0..20_000 / 32 {
        bench.engine.begin_step(WORK_PER_STEP_MAX);
        assert_eq!(bench.ask(poll("paid", 0)).len(), 1);
    }
    let mut effects = Effects::default();
    bench.engine.tick(Now::at(20_000), &bench.log, &mut effects);
    let parked = WAITERS_PER_GROUP_TOPIC_MAX - 1;
    for n in 0..parked {
        let tags = if n % 2 == 0 { "shipped".to_owned() } else { format!("tag-{n}") };
        assert!(bench.looks_of(poll(&tags, 60_000)).0.is_empty());
    }
    while bench.engine.next_tick_ms(Now::at(0)) == Some(0) {
        assert!(bench.step().0.is_empty());
    }
    for tag in ["refunded", "paid"] {
        let (replies, looks) = bench.looks_of(tagged(tag, 1));
        assert_eq!(replies.len(), 1, "nobody wants it: {replies:?}");
        assert!(looks <= CHEAP_LOOKS, "{looks} looks");
    }
    assert!(bench.looks_of(poll("no such", 60_000)).1 <= CHEAP_LOOKS, "nor does another poll");
    let (replies, looks) = bench.looks_of(tagged("tag-501", 1));
    assert_eq!(replies.len(), 2, "the one that wants it is woken: {replies:?}");
    assert!(looks <= CHEAP_LOOKS, "{looks} looks");
    let (replies, _) = bench.looks_of(poll("paid", 0));
    assert!(matches!(&replies[..], [Ok(Outcome::Received(got))] if got.len() == 32));
}

#[test]
fn a_message_goes_to_who_waits_for_its_tag_not_to_who_waited_first() {
    let mut bench = Bench::new(1);
    assert!(bench.ask(poll("shipped", 5_000)).is_empty());
    assert!(bench.ask(poll("paid", 5_000)).is_empty());
    let replies = bench.ask(tagged("paid", 1));
    assert_eq!(replies.len(), 2, "{replies:?}");
}

#[test]
fn an_acknowledgement_below_the_most_that_may_be_in_flight_wakes_nobody_in_vain() {
    let mut bench = Bench::new(1);
    bench.ask(tagged("paid", 32));
    let Some(Ok(Outcome::Received(got))) = bench.ask(poll("*", 0)).pop() else { panic!() };
    assert!(bench.ask(poll("shipped", 5_000)).is_empty());
    let handles = got.iter().map(|delivery| delivery.handle).collect();
    let acknowledge = crate::Acknowledge { group: group(), topic: topic(), handles };
    let (replies, looks) = bench.looks_of(Command::Acknowledge(acknowledge));
    assert_eq!((replies.len(), looks), (1, 0));
}

#[test]
fn no_turn_is_longer_than_a_step() {
    const { assert!(LOOKED_AT_PER_TURN_MAX < LOOKED_AT_PER_STEP_MAX) }
}

#[test]
fn numbers_of_topics_are_told_in_parts() {
    let mut bench = Bench::new(1);
    for n in 0..1_500 {
        let name = TopicName::parse(&format!("topic-{n}")).unwrap();
        let placement = vec![QueuePlacement { shard: ShardId(0), queues: 64 }];
        let topic = Topic::with_defaults(name, MessageType::Normal, placement);
        bench.ask(Command::PutTopic(Box::new(topic)));
    }
    let (mut names, mut next, mut parts) = (std::collections::BTreeSet::new(), Some(0), 0);
    while let Some(first) = next {
        let Some(Ok(Outcome::Topics(rows, after))) = bench.ask(Command::ReadTopics(first)).pop()
        else {
            panic!("numbers of topics")
        };
        assert!(rows.len() <= 300, "{} topics of 64 queues in one step", rows.len());
        names.extend(rows.into_iter().map(|row| row.topic));
        (next, parts) = (after, parts + 1);
    }
    assert_eq!(names.len(), 1_501);
    assert!(parts > 4, "{parts} parts");
}

#[test]
fn polls_that_wait_get_messages_when_their_group_goes_on() {
    for model in [Model::Clustering, Model::Broadcasting] {
        let mut bench = Bench::new(1);
        let mut group = ConsumerGroup { model, ..ConsumerGroup::with_defaults(group()) };
        bench.ask(Command::PutGroup(Box::new(group.clone())));
        let (topics, client_id) = (vec![topic()], "tester".into());
        bench.ask(Command::Join(crate::Join { group: group.name.clone(), topics, client_id }));
        group.is_consuming = false;
        bench.ask(Command::PutGroup(Box::new(group.clone())));
        bench.send(3, 10);
        assert!(bench.receive(5_000).is_empty(), "{model:?}: it waits");
        group.is_consuming = true;
        let replies = bench.ask(Command::PutGroup(Box::new(group)));
        let is_served =
            |reply: &Reply| matches!(reply, Ok(Outcome::Received(given)) if given.len() == 3);
        assert!(replies.iter().any(is_served), "{model:?}: {replies:?}");
    }
}

#[test]
fn a_broadcasting_group_that_has_no_order_any_more_waits_for_nothing_before() {
    let mut bench = Bench::new(1);
    let model = Model::Broadcasting;
    let mut group = ConsumerGroup { model, ..ConsumerGroup::with_defaults(group()) };
    group.order = Order::Fifo;
    bench.ask(Command::PutGroup(Box::new(group.clone())));
    let (topics, client_id) = (vec![topic()], "tester".into());
    bench.ask(Command::Join(crate::Join { group: group.name.clone(), topics, client_id }));
    bench.send(3, 10);
    let one = Receive { messages_max: 1, ..bench.poll(&Filter::All) };
    bench.ask(Command::Receive(one));
    assert_eq!(bench.received(), []);
    group.order = Order::Concurrent;
    bench.ask(Command::PutGroup(Box::new(group)));
    assert_eq!(bench.received(), [(0, 1), (0, 2)]);
}
