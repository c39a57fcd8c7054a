//! A FIFO topic that grows over shards: what was sent before comes first.

use broker_model::Order;

use super::*;
use crate::{Acknowledge, HeldGroup, LayoutCommand, OffsetAt, PassLayout, ResetOffsets};

const OLD: u32 = 2;
const NEW: u32 = 3;

/// `queues` here of so many over all shards.
fn fifo(queues: u32, layout: u32, first_queues: Option<u32>) -> Command {
    let elsewhere = layout - queues;
    let mut placement = vec![QueuePlacement { shard: ShardId(0), queues }];
    placement
        .extend((elsewhere > 0).then_some(QueuePlacement { shard: ShardId(1), queues: elsewhere }));
    let topic = Topic::with_defaults(topic(), MessageType::Fifo, placement);
    Command::PutTopic(Box::new(Topic { first_queues, ..topic }))
}

fn send_by(layout: u32, queue: u32) -> Command {
    let message = NewMessage {
        tag_hash: 0,
        message_group_hash: 7,
        visible: Visible::AtOnce,
        head: Bytes::new(),
        body: Bytes::from_static(b"x"),
    };
    let target = Target::QueueOf { queue, layout };
    Command::Send(Send { topic: topic(), messages: vec![message], target })
}

impl Bench {
    fn of_fifo(topic: Command) -> Self {
        let mut bench = Self::new(1);
        bench.ask(Command::DeleteTopic(super::topic()));
        bench.ask(topic);
        let in_order =
            ConsumerGroup { order: Order::Fifo, ..ConsumerGroup::with_defaults(group()) };
        bench.ask(Command::PutGroup(Box::new(in_order)));
        bench
    }

    fn sends_by(&mut self, layout: u32, queue: u32) -> bool {
        match &self.ask(send_by(layout, queue))[..] {
            [Err(Refusal::LayoutChanges(of))] if *of == topic() => false,
            [.., Ok(Outcome::Sent(_))] | [Ok(Outcome::Sent(_)), ..] => true,
            other => panic!("{other:?}"),
        }
    }

    fn grow(&mut self) {
        self.ask(fifo(2, NEW, Some(OLD)));
        self.ask(Command::Layout(LayoutCommand::Open { topic: topic(), layout: NEW }));
    }

    fn has_passed(&mut self) -> bool {
        let ask = Command::Layout(LayoutCommand::ReadPassed {
            group: Some(group()),
            topic: topic(),
            layout: NEW,
        });
        match &self.ask(ask)[..] {
            [Ok(Outcome::Passed(has_passed))] => *has_passed,
            other => panic!("{other:?}"),
        }
    }

    fn held(&mut self) -> Option<HeldGroup> {
        match self.ask(Command::Layout(LayoutCommand::ReadHeld(ProgressPlace::default()))).pop() {
            Some(Ok(Outcome::Held { mut held, next: None, .. })) => held.pop(),
            other => panic!("{other:?}"),
        }
    }

    fn pass(&mut self, as_of: u64) -> Vec<Reply> {
        let request = PassLayout { group: group(), topic: topic(), layout: NEW, as_of };
        self.ask(Command::Layout(LayoutCommand::Pass(request)))
    }

    /// Takes everything that comes, one after the other; where it stood.
    fn drain(&mut self) -> Vec<(u32, u64)> {
        let mut places = Vec::new();
        loop {
            let handles = self.handles(&Filter::All);
            if handles.is_empty() {
                return places;
            }
            places.extend(handles.iter().map(|handle| (handle.queue, handle.offset)));
            self.ask(Command::Acknowledge(Acknowledge { group: group(), topic: topic(), handles }));
        }
    }
}

#[test]
fn a_shard_takes_sends_by_one_layout_and_by_a_new_one_once_all_shards_have_it() {
    let mut bench = Bench::of_fifo(fifo(2, OLD, None));
    assert!(bench.sends_by(OLD, 0) && !bench.sends_by(NEW, 0));
    let mut effects = Effects::default();
    let grow = fifo(2, NEW, Some(OLD));
    bench.engine.handle(Now::at(0), grow, Here, &bench.log, &mut effects);
    let mut refused = Effects::default();
    bench.engine.handle(Now::at(0), send_by(OLD, 0), Here, &bench.log, &mut refused);
    let [(_, Err(Refusal::LayoutChanges(_)))] = &refused.now[..] else { panic!("{refused:?}") };
    let payload = effects.payload.freeze();
    bench.engine.apply(Now::at(0), 0, payload, &mut Effects::default()).unwrap();
    assert!(!bench.sends_by(OLD, 0) && !bench.sends_by(NEW, 0));
    let told = bench.ask(Command::Layout(LayoutCommand::ReadHeld(ProgressPlace::default())));
    let [Ok(Outcome::Held { closed, .. })] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*closed, [(topic(), NEW)]);
    bench.ask(Command::Layout(LayoutCommand::Open { topic: topic(), layout: OLD }));
    assert!(!bench.sends_by(NEW, 0), "that is another one");
    bench.ask(Command::Layout(LayoutCommand::Open { topic: topic(), layout: NEW }));
    assert!(!bench.sends_by(OLD, 0) && bench.sends_by(NEW, 0));
    bench.ask(fifo(2, NEW, Some(OLD)));
    assert!(bench.sends_by(NEW, 0), "other settings close nothing");
}

#[test]
fn what_was_sent_since_a_topic_grew_waits_for_what_was_sent_before() {
    let mut bench = Bench::of_fifo(fifo(2, OLD, None));
    (0..3).for_each(|_| assert!(bench.sends_by(OLD, 0)));
    assert_eq!(bench.handles(&Filter::All).len(), 1);
    bench.grow();
    (0..2).for_each(|_| assert!(bench.sends_by(NEW, 0)));
    assert!(bench.sends_by(NEW, 1));
    assert!(!bench.has_passed());
    bench.tick(20_000);
    assert_eq!(bench.drain(), [(0, 0), (0, 1), (0, 2)]);
    assert!(bench.receive(50_000).is_empty(), "it waits");
    assert!(bench.has_passed());
    let held = bench.held().unwrap();
    assert_eq!((held.layout, &held.group), (NEW, &group()));
    let woken = bench.pass(held.as_of);
    let got = |reply: &Reply| matches!(reply, Ok(Outcome::Received(got)) if !got.is_empty());
    assert!(woken.iter().any(got), "{woken:?}");
    bench.tick(60_000);
    let mut rest = bench.drain();
    rest.sort_unstable();
    assert_eq!(rest, [(0, 3), (0, 4), (1, 0)]);
    assert_eq!(bench.held(), None);
}

#[test]
fn a_reset_holds_back_again_and_what_was_found_before_it_lets_nothing_go() {
    let mut bench = Bench::of_fifo(fifo(2, OLD, None));
    assert!(bench.sends_by(OLD, 0));
    bench.grow();
    assert!(bench.sends_by(NEW, 0));
    assert_eq!(bench.drain(), [(0, 0)]);
    let found = bench.held().unwrap();
    assert!(bench.has_passed());
    let reset = ResetOffsets {
        group: group(),
        topics: vec![topic()],
        to: OffsetAt::Earliest,
        id: String::new(),
    };
    bench.ask(Command::ResetOffsets(reset.clone()));
    bench.pass(found.as_of);
    assert_eq!(bench.drain(), [(0, 0)], "it is behind again");
    let found = bench.held().unwrap();
    bench.pass(found.as_of);
    assert_eq!(bench.drain(), [(0, 1)]);
    bench.ask(Command::ResetOffsets(reset));
    assert_eq!(bench.drain(), [(0, 0)], "although it had passed");
}

#[test]
fn a_shard_that_comes_with_the_new_layout_has_nothing_older_and_holds_back_too() {
    let mut bench = Bench::of_fifo(fifo(1, NEW, Some(OLD)));
    assert!(!bench.sends_by(NEW, 0), "it may be the first that has it");
    bench.ask(Command::Layout(LayoutCommand::Open { topic: topic(), layout: NEW }));
    assert!(bench.sends_by(NEW, 0));
    assert_eq!(bench.drain(), []);
    assert!(bench.has_passed());
    let held = bench.held().unwrap();
    bench.pass(held.as_of);
    assert_eq!(bench.drain(), [(0, 0)]);
    let mut new = Bench::of_fifo(fifo(1, NEW, None));
    assert!(new.sends_by(NEW, 0), "a new topic has no earlier layout anywhere");
    assert_eq!(new.drain(), [(0, 0)]);
}

#[test]
fn who_takes_messages_in_any_order_waits_for_none() {
    let mut bench = Bench::of_fifo(fifo(2, OLD, None));
    bench.ask(Command::PutGroup(Box::new(ConsumerGroup::with_defaults(group()))));
    assert!(bench.sends_by(OLD, 0));
    bench.grow();
    assert!(bench.sends_by(NEW, 0));
    assert_eq!(bench.received().len(), 2);
    assert_eq!(bench.held(), None);
}
