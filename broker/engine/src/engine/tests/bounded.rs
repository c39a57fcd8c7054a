//! What one command and one tick do by themselves, in records: however many topics and queues there are, each step makes
//! a limited number of them, and the steps together make all.

use broker_model::limits::{QUEUES_PER_TOPIC_MAX, RECEIVE_BATCH_MESSAGES_MAX, WORK_PER_STEP_MAX};
use broker_model::{Model, StartFrom, Subscription};

use super::*;
use crate::declared::RECORDS_PER_DECLARATION;

/// So many topics of [`QUEUES_PER_TOPIC_MAX`] queues are more than one step does.
const TOPICS: u32 = WORK_PER_STEP_MAX / QUEUES_PER_TOPIC_MAX + 4;

fn topic_number(number: u32) -> TopicName {
    TopicName::parse(&format!("topic-{number}")).unwrap()
}

impl Bench {
    /// A topic of as many queues as can be, with a message in each of them.
    fn put_large_topic(&mut self, name: &TopicName) {
        let placement = vec![QueuePlacement { shard: ShardId(0), queues: QUEUES_PER_TOPIC_MAX }];
        let topic = Topic::with_defaults(name.clone(), MessageType::Normal, placement);
        self.ask(Command::PutTopic(Box::new(topic)));
        let message = NewMessage {
            tag_hash: 0,
            message_group_hash: 0,
            visible: Visible::AtOnce,
            head: Bytes::new(),
            body: Bytes::new(),
        };
        for queue in 0..QUEUES_PER_TOPIC_MAX {
            let (messages, target) = (vec![message.clone()], Target::Queue(queue));
            self.ask(Command::Send(Send { topic: name.clone(), messages, target }));
        }
    }

    fn with_large_topics() -> Self {
        let mut bench = Self::new(1);
        (0..TOPICS).for_each(|number| bench.put_large_topic(&topic_number(number)));
        bench
    }

    fn commit(&mut self, effects: &mut Effects<Here>) -> u32 {
        let records = std::mem::take(&mut effects.records);
        let payload = std::mem::take(&mut effects.payload).freeze();
        let length = payload.len() as u64;
        self.engine.apply(Now::at(0), self.position, payload, effects).unwrap();
        self.position += length;
        records
    }

    /// The records that a command makes by itself, and those of each step that follows until nothing is left to do.
    fn records_by_step(&mut self, command: Command) -> Vec<u32> {
        let mut effects = Effects::default();
        self.engine.begin_step(WORK_PER_STEP_MAX);
        self.engine.handle(Now::at(0), command, Here, &self.log, &mut effects);
        let mut records = vec![self.commit(&mut effects)];
        while self.engine.next_tick_ms(Now::at(0)) == Some(0) {
            self.engine.begin_step(WORK_PER_STEP_MAX);
            self.engine.tick(Now::at(0), &self.log, &mut effects);
            records.push(self.commit(&mut effects));
        }
        let is_answered = |(_, reply): &(Here, Reply)| reply.is_ok();
        assert!(effects.now.iter().chain(&effects.on_commit).any(is_answered));
        records
    }

    fn put_group_that_broadcasts(&mut self) {
        let group =
            ConsumerGroup { model: Model::Broadcasting, ..ConsumerGroup::with_defaults(group()) };
        self.ask(Command::PutGroup(Box::new(group)));
    }
}

#[test]
fn the_first_poll_of_a_group_makes_no_record_for_each_queue() {
    let mut bench = Bench::new(1);
    bench.put_large_topic(&topic_number(0));
    let poll = Receive { topic: topic_number(0), ..bench.poll(&Filter::All) };
    let records = bench.records_by_step(Command::Receive(poll));
    // The consumer's name, that it came, the key of handles, and a lease for each message.
    assert!(records == [records[0]] && records[0] <= RECEIVE_BATCH_MESSAGES_MAX + 3, "{records:?}");
}

#[test]
fn the_first_poll_of_a_consumer_with_progress_of_its_own_begins_this_topic_alone() {
    let mut bench = Bench::new(1);
    (0..3).for_each(|number| bench.put_large_topic(&topic_number(number)));
    bench.put_group_that_broadcasts();
    let poll = Receive { topic: topic_number(1), ..bench.poll(&Filter::All) };
    let records = bench.records_by_step(Command::Receive(poll));
    let most = QUEUES_PER_TOPIC_MAX + 4;
    assert!(records == [records[0]] && records[0] <= most, "{records:?}");
    assert!(records[0] >= QUEUES_PER_TOPIC_MAX, "it begins at the end of each queue: {records:?}");
}

#[test]
fn a_join_to_many_topics_begins_them_step_by_step() {
    let mut bench = Bench::with_large_topics();
    bench.put_group_that_broadcasts();
    let topics = (0..TOPICS).map(topic_number).collect();
    let join = crate::Join { group: group(), topics, client_id: "tester".into() };
    let records = bench.records_by_step(Command::Join(join));
    // The last topic that a step begins is begun as a whole.
    let most = WORK_PER_STEP_MAX + QUEUES_PER_TOPIC_MAX;
    assert!(records.iter().all(|records| *records <= most), "{records:?}");
    assert_eq!(records.iter().sum::<u32>(), TOPICS * QUEUES_PER_TOPIC_MAX + 1, "{records:?}");
}

#[test]
fn a_group_that_declares_many_topics_begins_them_step_by_step() {
    let mut bench = Bench::with_large_topics();
    let subscriptions = (0..TOPICS).map(|number| Subscription {
        topic: topic_number(number),
        is_sql: false,
        expression: "*".into(),
        start_from: StartFrom::Latest,
    });
    let subscriptions = subscriptions.collect();
    let group = ConsumerGroup { subscriptions, ..ConsumerGroup::with_defaults(group()) };
    let records = bench.records_by_step(Command::PutGroup(Box::new(group)));
    let most = RECORDS_PER_DECLARATION + QUEUES_PER_TOPIC_MAX;
    assert!(records.iter().all(|records| *records <= most), "{records:?}");
    let cursors = TOPICS * QUEUES_PER_TOPIC_MAX;
    assert_eq!(records.iter().sum::<u32>(), cursors + 1, "each once, and the group: {records:?}");
}

#[test]
fn producers_of_transactions_that_are_due_together_are_asked_step_by_step() {
    // Questions have a part of a step's work, beside the 4 other kinds.
    const CHECKS_PER_STEP_MAX: usize = (WORK_PER_STEP_MAX as usize).div_ceil(5);
    let halves = 3 * CHECKS_PER_STEP_MAX;
    let mut bench = Bench::new(1);
    let payments = TopicName::parse("payments").unwrap();
    let placement = vec![QueuePlacement { shard: ShardId(0), queues: 1 }];
    let topic = Topic::with_defaults(payments.clone(), MessageType::Transaction, placement);
    bench.ask(Command::PutTopic(Box::new(topic)));
    let half = NewMessage {
        tag_hash: 0,
        message_group_hash: 0,
        visible: Visible::OnCommit { check_after_ms: 6_000 },
        head: Bytes::new(),
        body: Bytes::new(),
    };
    for _ in 0..halves {
        let (topic, messages) = (payments.clone(), vec![half.clone()]);
        bench.ask(Command::Send(Send { topic, messages, target: Target::Queue(0) }));
    }
    let now = Now::at(6_000);
    let mut asked = Vec::new();
    while bench.engine.next_tick_ms(now).is_some_and(|at_ms| at_ms <= now.steady_ms) {
        let mut effects = Effects::default();
        bench.engine.begin_step(WORK_PER_STEP_MAX);
        bench.engine.tick(now, &bench.log, &mut effects);
        let checks = effects.checks.len();
        assert!((1..=CHECKS_PER_STEP_MAX).contains(&checks), "{checks} questions in a step");
        asked.extend(effects.checks.iter().map(|check| check.id.number));
        assert!(matches!(&bench.send(1, 1)[..], [Ok(Outcome::Sent(_))]), "served in between");
    }
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), halves, "each was asked about once");
}
