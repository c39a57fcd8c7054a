//! Lag from the declaration on: groups that are declared, and those that only polled.

use broker_model::{DeadLetterPolicy, Model, ShardId, StartFrom, Subscription, tag_hash};

use super::*;
use crate::{GroupTopicProgress, OffsetAt, ResetOffsets, SetOffset};

fn declared(start_from: StartFrom, expression: &str) -> ConsumerGroup {
    let expression = expression.to_owned();
    let subscription = Subscription { topic: topic(), is_sql: false, expression, start_from };
    ConsumerGroup { subscriptions: vec![subscription], ..ConsumerGroup::with_defaults(group()) }
}

impl Bench {
    fn declare(&mut self, group: ConsumerGroup) {
        assert!(matches!(&self.ask(Command::PutGroup(Box::new(group)))[..], [Ok(Outcome::Done)]));
    }

    fn put_topic(&mut self, queues: u32) {
        let placement = vec![QueuePlacement { shard: ShardId(0), queues }];
        let topic = Topic::with_defaults(topic(), MessageType::Normal, placement);
        self.ask(Command::PutTopic(Box::new(topic)));
    }

    fn send_tagged(&mut self, tag: &str, count: usize) {
        let message = NewMessage {
            tag_hash: tag_hash(Some(tag)),
            message_group_hash: 0,
            visible: Visible::AtOnce,
            head: Bytes::new(),
            body: Bytes::from_static(b"x"),
        };
        for _ in 0..count {
            let (messages, target) = (vec![message.clone()], Target::AnyQueue);
            self.ask(Command::Send(Send { topic: topic(), messages, target }));
        }
    }

    fn progress(&mut self) -> Vec<GroupTopicProgress> {
        match self.ask(Command::ReadProgress(ProgressQuery::default())).pop() {
            Some(Ok(Outcome::Progress(progress, _))) => progress,
            other => panic!("{other:?}"),
        }
    }

    /// Lag, and whether a consumer was ever here; of the one group on the one topic.
    fn lag(&mut self) -> (u64, bool) {
        let progress = self.progress();
        assert_eq!(progress.len(), 1, "{progress:?}");
        assert!(!progress[0].is_estimate);
        (progress[0].lag_messages, progress[0].is_polled)
    }
}

#[test]
fn a_declared_group_lags_before_its_first_poll_and_says_that_it_never_polled() {
    let mut bench = Bench::new(3);
    bench.send(4, 10);
    bench.declare(declared(StartFrom::Earliest, "*"));
    assert_eq!(bench.lag(), (4, false));
    bench.send_tagged("a", 6);
    assert_eq!(bench.lag(), (10, false));
    assert_eq!(bench.received().len(), 10);
    assert_eq!(bench.lag(), (10, true));
}

#[test]
fn what_is_done_ahead_of_others_is_no_lag_behind_a_filter() {
    for far_parts in [10, 40] {
        let mut bench = Bench::new(1);
        bench.declare(declared(StartFrom::Earliest, "wanted"));
        for _ in 0..2 * far_parts {
            bench.send_tagged("wanted", 2);
            bench.send_tagged("unwanted", 2);
        }
        let index = bench.engine.state.group_topic_indexes[&(1, 1)];
        let queue = &mut bench.engine.state.group_topic_mut(index).unwrap().queues[0];
        // One that is wanted of every 4, and then another unwanted one.
        for offset in (2..8 * far_parts).step_by(4) {
            queue.acknowledge(offset - 1);
            queue.acknowledge(offset);
        }
        let progress = bench.progress().remove(0);
        assert_eq!(progress.is_estimate, far_parts == 40, "of many parts some count as a whole");
        let exact = 2 * far_parts;
        assert!((exact..=exact * 3 / 2).contains(&progress.lag_messages), "{progress:?}");
        assert!(far_parts == 40 || progress.lag_messages == exact, "{progress:?}");
    }
}

#[test]
fn latest_counts_from_the_declaration_and_a_later_queue_from_its_beginning() {
    let mut bench = Bench::new(2);
    bench.send_tagged("old", 4);
    bench.declare(declared(StartFrom::Latest, "*"));
    assert_eq!(bench.lag(), (0, false));
    bench.send_tagged("new", 3);
    assert_eq!(bench.lag(), (3, false));
    bench.put_topic(4);
    bench.send_tagged("newer", 4);
    assert_eq!(bench.lag(), (7, false));
    assert_eq!(bench.received().len(), 7);
}

#[test]
fn a_topic_that_comes_after_its_group_counts_from_its_first_message() {
    let mut bench = Bench::new(1);
    bench.ask(Command::DeleteTopic(topic()));
    for start in [StartFrom::Latest, StartFrom::Earliest] {
        bench.declare(declared(start, "*"));
        assert!(bench.progress().is_empty());
        bench.put_topic(2);
        bench.send_tagged("a", 3);
        assert_eq!(bench.lag(), (3, false));
        bench.ask(Command::DeleteTopic(topic()));
    }
}

#[test]
fn a_group_that_is_deleted_and_declared_again_begins_anew() {
    let mut bench = Bench::new(1);
    bench.declare(declared(StartFrom::Latest, "*"));
    bench.send_tagged("a", 3);
    assert_eq!(bench.received().len(), 3);
    bench.ask(Command::DeleteGroup(group()));
    bench.declare(declared(StartFrom::Latest, "*"));
    assert_eq!(bench.lag(), (0, false));
    // A group that is gone is begun with no topic.
    bench.ask(Command::DeleteGroup(group()));
    bench.put_topic(2);
    assert!(bench.progress().is_empty());
    assert!(bench.engine.state.subscribers.is_empty());
}

#[test]
fn a_declared_tag_filter_counts_and_an_sql_filter_is_taken_to_let_all_through() {
    let mut bench = Bench::new(2);
    bench.declare(declared(StartFrom::Earliest, "error || fatal"));
    bench.send_tagged("info", 500);
    assert_eq!(bench.lag(), (0, false));
    assert_eq!(bench.progress()[0].oldest_ms, None);
    bench.send_tagged("fatal", 3);
    assert_eq!(bench.lag(), (3, false));
    let mut group = declared(StartFrom::Earliest, "amount > 10");
    group.subscriptions[0].is_sql = true;
    bench.declare(group);
    assert_eq!(bench.lag(), (503, false));
}

#[test]
fn the_lag_behind_a_declared_filter_of_a_long_backlog_is_estimated_within_bounds() {
    let mut bench = Bench::new(1);
    bench.declare(declared(StartFrom::Earliest, "error"));
    // Bursts that are longer than a block and do not fit into it evenly.
    let count = 2 * broker_model::limits::LAG_ENTRIES_PER_READ_MAX as usize;
    let message = |tag: &str| NewMessage {
        tag_hash: tag_hash(Some(tag)),
        message_group_hash: 0,
        visible: Visible::AtOnce,
        head: Bytes::new(),
        body: Bytes::new(),
    };
    let burst = |tag: &str| vec![message(tag); 750];
    for n in 0..count / 750 {
        let messages = burst(if n % 4 == 0 { "error" } else { "info" });
        bench.ask(Command::Send(Send { topic: topic(), messages, target: Target::Queue(0) }));
    }
    let progress = bench.progress();
    let truth = (count / 750).div_ceil(4) as u64 * 750;
    let (lag, is_estimate) = (progress[0].lag_messages, progress[0].is_estimate);
    assert!(is_estimate && lag.abs_diff(truth) < truth / 20, "{lag} of {truth}");
}

#[test]
fn what_is_declared_no_more_is_told_while_somebody_used_it() {
    for is_used in [false, true] {
        let mut bench = Bench::new(1);
        bench.declare(declared(StartFrom::Earliest, "*"));
        bench.send_tagged("a", 2);
        if is_used {
            assert_eq!(bench.received().len(), 2);
        }
        let mut other = declared(StartFrom::Earliest, "*");
        other.subscriptions[0].topic = TopicName::parse("elsewhere").unwrap();
        bench.declare(other);
        assert_eq!(bench.progress().len(), usize::from(is_used));
        // Declared again it goes on where it was.
        bench.declare(declared(StartFrom::Latest, "*"));
        assert_eq!(bench.lag(), (2, is_used));
    }
}

#[test]
fn a_reset_before_the_first_poll_moves_a_declared_group() {
    let mut bench = Bench::new(1);
    bench.send_tagged("a", 3);
    bench.declare(declared(StartFrom::Latest, "*"));
    let (to, id) = (OffsetAt::Earliest, String::new());
    let reset = ResetOffsets { group: group(), topics: Vec::new(), to, id };
    bench.ask(Command::ResetOffsets(reset));
    assert_eq!(bench.lag(), (3, false));
    assert_eq!(bench.received().len(), 3);
}

#[test]
fn a_consumer_that_keeps_its_own_offsets_has_been_here() {
    let mut bench = Bench::new(1);
    bench.declare(declared(StartFrom::Earliest, "*"));
    bench.send_tagged("a", 3);
    let set = SetOffset { group: group(), topic: topic(), queue: 0, offset: 2 };
    bench.ask(Command::SetOffset(set));
    assert_eq!(bench.lag(), (1, true));
}

#[test]
fn a_broadcasting_group_and_a_shard_without_queues_have_nothing_to_begin() {
    let mut bench = Bench::new(1);
    let group = declared(StartFrom::Earliest, "*");
    bench.declare(ConsumerGroup { model: Model::Broadcasting, ..group.clone() });
    assert!(bench.progress().is_empty());
    let placement = vec![QueuePlacement { shard: ShardId(1), queues: 4 }];
    let far = Topic::with_defaults(topic(), MessageType::Normal, placement);
    bench.ask(Command::DeleteTopic(topic()));
    bench.declare(ConsumerGroup { dead_letter: DeadLetterPolicy::Discard, ..group });
    bench.ask(Command::PutTopic(Box::new(far)));
    assert!(bench.progress().is_empty());
}

#[test]
fn progress_of_many_groups_comes_in_parts_that_are_the_whole() {
    let mut bench = Bench::new(1);
    for n in 0..2_500 {
        let name = GroupName::parse(&format!("group-{n}")).unwrap();
        bench.declare(ConsumerGroup { name, ..declared(StartFrom::Earliest, "*") });
    }
    let (mut parts, mut rows, mut next) = (0, Vec::new(), Some(ProgressPlace::default()));
    while let Some(from) = next {
        match bench.ask(Command::ReadProgress(ProgressQuery { group: None, from })).pop() {
            Some(Ok(Outcome::Progress(part, after))) => {
                assert!(part.len() <= 1_024, "{} rows in one step", part.len());
                parts += 1;
                rows.extend(part.into_iter().map(|row| row.group));
                next = after;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(parts >= 3, "{parts} parts");
    let all = (0..2_500).map(|n| GroupName::parse(&format!("group-{n}")).unwrap());
    assert_eq!(rows, all.collect::<Vec<_>>());
}

/// A reset, and an acknowledgement that is committed behind it: what is before the acknowledged message waits, and was never
/// handed out.
fn reset_beside_an_acknowledgement(bench: &mut Bench, handle: broker_model::ReceiptHandle) {
    let to = OffsetAt::Earliest;
    let reset = ResetOffsets { group: group(), topics: vec![topic()], to, id: String::new() };
    let handles = vec![handle];
    let acknowledge = crate::Acknowledge { group: group(), topic: topic(), handles };
    bench.ask_together([Command::ResetOffsets(reset), Command::Acknowledge(acknowledge)]);
}

#[test]
fn what_no_consumer_wants_is_done_also_when_it_waits() {
    let mut bench = Bench::new(1);
    for tag in ["a", "b", "b", "a", "b", "a"] {
        bench.send_tagged(tag, 1);
    }
    let filter = Filter::parse_tags("a").unwrap();
    let handles = bench.handles(&filter);
    assert_eq!(handles.iter().map(|handle| handle.offset).collect::<Vec<_>>(), [0, 3, 5]);
    let request = crate::Acknowledge { group: group(), topic: topic(), handles: handles.clone() };
    bench.ask(Command::Acknowledge(request));
    assert_eq!(bench.lag(), (0, true));
    reset_beside_an_acknowledgement(&mut bench, handles[2]);
    assert_eq!(bench.lag(), (5, true));
    let handles = bench.handles(&filter);
    assert_eq!(handles.iter().map(|handle| handle.offset).collect::<Vec<_>>(), [0, 3]);
    bench.ask(Command::Acknowledge(crate::Acknowledge { group: group(), topic: topic(), handles }));
    assert!(bench.handles(&filter).is_empty());
    assert_eq!(bench.lag(), (0, true), "the group has all that it wants");
}

#[test]
fn a_reset_of_a_broadcasting_group_without_consumers_leaves_no_lag_that_nobody_can_work_off() {
    let mut bench = Bench::new(2);
    bench.declare(ConsumerGroup {
        model: Model::Broadcasting,
        ..ConsumerGroup::with_defaults(group())
    });
    bench.send_tagged("a", 3);
    let (topics, to) = (vec![topic()], OffsetAt::Earliest);
    let reset = ResetOffsets { group: group(), topics, to, id: String::new() };
    assert!(matches!(&bench.ask(Command::ResetOffsets(reset))[..], [Ok(_)]));
    assert!(bench.progress().is_empty());
    assert!(bench.received().is_empty(), "a consumer begins with what comes after it");
    bench.send_tagged("a", 1);
    assert_eq!(bench.lag(), (1, true));
}

#[test]
fn a_delivery_that_reached_nobody_does_not_count_when_its_lease_is_committed_after_its_end() {
    let mut bench = Bench::new(1);
    bench.send_tagged("a", 1);
    let mut effects = Effects::default();
    for _ in 0..2 {
        let poll = bench.poll(&Filter::All);
        bench.engine.handle(Now::at(0), Command::Receive(poll), Here, &bench.log, &mut effects);
        let Some((_, Ok(Outcome::Received(given)))) = effects.now.pop() else {
            panic!("no answer")
        };
        let release = Command::Release(vec![given[0].handle]);
        bench.engine.handle(Now::at(0), release, Here, &bench.log, &mut effects);
    }
    // Each record in a frame of its own, and time for deliveries to expire in between.
    let mut payload = std::mem::take(&mut effects.payload).freeze();
    let whole = payload.clone();
    while !payload.is_empty() {
        let begin = whole.len() - payload.len();
        broker_store::Record::decode_of_whole_frame(&mut payload).unwrap();
        let record = whole.slice(begin..whole.len() - payload.len());
        bench.engine.apply(Now::at(0), 0, record, &mut Effects::default()).unwrap();
        bench.engine.tick(Now::at(60_000), &bench.log, &mut Effects::default());
    }
    assert_eq!(bench.handles(&Filter::All)[0].attempt, 1);
}
