//! Decisions of the engine on their own: limits, fairness, and what one answer may hold. Crashes and replays are tested
//! with the whole replica, in the crate to the right.

use std::sync::Arc;

use broker_model::limits::{
    LITE_TOPICS_PER_TOPIC_MAX, RECEIVE_BATCH_BYTES_MAX, WAITERS_PER_GROUP_TOPIC_MAX,
};
use broker_model::{Backoff, Filter, GroupName, MessageType, QueuePlacement, RetryPolicy};
use broker_store::log::{LogEnd, LogOptions};
use broker_store::simulated_disk::SimulatedDisk;
use broker_store::{Disk, recovery};
use bytes::Bytes;

use super::*;
use crate::{
    NewMessage, Outcome, ProgressPlace, ProgressQuery, Receive, Reply, Send, Target, Visible,
};

mod bounded;
mod dead_letters;
mod declared;
mod group_use;
mod layouts;
mod polls;
mod resets;

#[derive(Debug, Clone, Copy)]
struct Here;

impl ReplyTo for Here {
    fn is_gone(&self) -> bool {
        false
    }
}

struct Bench {
    engine: Engine<Here>,
    log: Log,
    position: u64,
}

impl Bench {
    fn new(queues: u32) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
        let options = LogOptions { shard: 0, directory: "log".into(), segment_bytes: 1024 * 1024 };
        let (log, _) = recovery::open(&disk, &options, LogEnd::default(), &mut |_| Ok(())).unwrap();
        let mut bench = Self { engine: Engine::new(ShardId(0), 1.into()), log, position: 0 };
        bench.ask(Command::PutTopic(Box::new(Topic::with_defaults(
            topic(),
            MessageType::Normal,
            vec![QueuePlacement { shard: ShardId(0), queues }],
        ))));
        bench.ask(Command::PutGroup(Box::new(ConsumerGroup::with_defaults(group()))));
        bench
    }

    /// Decides a command and commits what it wants logged; returns the answers that come of it.
    fn ask(&mut self, command: Command) -> Vec<Reply> {
        let mut effects = Effects::default();
        self.engine.handle(Now::at(0), command, Here, &self.log, &mut effects);
        let payload = std::mem::take(&mut effects.payload).freeze();
        let length = payload.len() as u64;
        self.engine.apply(Now::at(0), self.position, payload, &mut effects).unwrap();
        self.position += length;
        self.engine.serve_waiters(0, &self.log, &mut effects);
        effects.now.into_iter().chain(effects.on_commit).map(|(_, reply)| reply).collect()
    }

    /// Does what is due by then.
    fn tick(&mut self, now_ms: u64) {
        let mut effects = Effects::default();
        self.engine.tick(Now::at(now_ms), &self.log, &mut effects);
        let payload = std::mem::take(&mut effects.payload).freeze();
        let length = payload.len() as u64;
        self.engine.apply(Now::at(now_ms), self.position, payload, &mut effects).unwrap();
        self.position += length;
    }

    /// The same for commands whose records share a frame.
    fn ask_together(&mut self, commands: impl IntoIterator<Item = Command>) {
        let mut effects = Effects::default();
        for command in commands {
            self.engine.handle(Now::at(0), command, Here, &self.log, &mut effects);
        }
        let payload = std::mem::take(&mut effects.payload).freeze();
        self.engine.apply(Now::at(0), self.position, payload, &mut effects).unwrap();
    }

    fn poll(&self, filter: &Filter) -> Receive {
        Receive {
            group: group(),
            topic: topic(),
            filter: filter.clone(),
            messages_max: 32,
            invisible_ms: 10_000,
            poll_until_ms: 0,
            client_id: "tester".into(),
            attempt_id: String::new(),
            lite_topics: None,
        }
    }

    /// Handles of the messages that a receive gives now.
    fn handles(&mut self, filter: &Filter) -> Vec<broker_model::ReceiptHandle> {
        match self.ask(Command::Receive(self.poll(filter))).pop() {
            Some(Ok(Outcome::Received(deliveries))) => {
                deliveries.iter().map(|delivery| delivery.handle).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn send(&mut self, count: usize, body_bytes: usize) -> Vec<Reply> {
        let body = Bytes::from(vec![7; body_bytes]);
        let message = NewMessage {
            tag_hash: 0,
            message_group_hash: 0,
            visible: Visible::AtOnce,
            head: Bytes::new(),
            body,
        };
        self.ask(Command::Send(Send {
            topic: topic(),
            messages: vec![message; count],
            target: Target::AnyQueue,
        }))
    }

    fn receive(&mut self, poll_until_ms: u64) -> Vec<Reply> {
        self.ask(Command::Receive(Receive { poll_until_ms, ..self.poll(&Filter::All) }))
    }

    /// (queue, offset) of the messages that a receive gives now.
    fn received(&mut self) -> Vec<(u32, u64)> {
        match self.receive(0).pop() {
            Some(Ok(Outcome::Received(deliveries))) => {
                deliveries.iter().map(|d| (d.handle.queue, d.handle.offset)).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn topic() -> TopicName {
    TopicName::parse("orders").unwrap()
}

fn group() -> broker_model::GroupName {
    GroupName::parse("billing").unwrap()
}

#[test]
fn a_batch_stays_together_and_batches_go_round_the_queues() {
    let mut bench = Bench::new(3);
    for _ in 0..3 {
        bench.send(2, 10);
    }
    let mut received = bench.received();
    received.sort_unstable();
    assert_eq!(received, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
}

#[test]
fn consumers_of_a_broadcasting_group_that_come_and_go_leave_nothing_behind() {
    let mut bench = Bench::new(2);
    let mut group = ConsumerGroup::with_defaults(group());
    group.model = broker_model::Model::Broadcasting;
    bench.ask(Command::PutGroup(Box::new(group.clone())));
    bench.send(1, 10);
    for n in 0..100 {
        let client_id = format!("client-{n}");
        let (topics, name) = (vec![topic()], group.name.clone());
        let join = crate::Join { group: name.clone(), topics, client_id: client_id.clone() };
        assert!(bench.ask(Command::Join(join)).iter().all(Result::is_ok));
        bench.ask(Command::Leave { group: name, client_id });
    }
    assert!(bench.engine.state.group_topics.len() <= 2, "their places are used again");
    assert!(bench.engine.state.members.is_empty() && bench.engine.state.expiries.is_empty());
}

#[test]
fn no_queue_starves_behind_a_full_one() {
    let mut bench = Bench::new(2);
    bench.send(200, 10);
    bench.send(1, 10);
    let first_two: Vec<_> = (0..2).flat_map(|_| bench.received()).collect();
    assert!(first_two.contains(&(1, 0)), "the second receive begins at the second queue");
}

#[test]
fn an_answer_is_cut_to_its_bytes_and_gives_at_least_one_message() {
    let mut bench = Bench::new(1);
    let large = RECEIVE_BATCH_BYTES_MAX / 2 - 1_000;
    for _ in 0..5 {
        bench.send(1, large);
    }
    assert_eq!(bench.received(), [(0, 0), (0, 1)]);
    assert_eq!(bench.received(), [(0, 2), (0, 3)]);
    assert_eq!(bench.received(), [(0, 4)]);
    assert_eq!(bench.received(), []);
}

#[test]
fn too_large_a_send_is_refused_and_changes_nothing() {
    let mut bench = Bench::new(1);
    let refused = bench.send(8, 4 * 1024 * 1024);
    assert!(
        matches!(&refused[..], [Err(Refusal::SendTooLarge { bytes, .. })] if *bytes == 32 << 20),
        "{refused:?}"
    );
    bench.engine.set_disk_full(true);
    assert!(matches!(&bench.send(1, 1)[..], [Err(Refusal::DiskFull)]));
    bench.engine.set_disk_full(false);
    assert!(matches!(&bench.send(1, 1)[..], [Ok(Outcome::Sent(places))] if places[0].offset == 0));
}

#[test]
fn waiting_polls_are_limited_and_all_answered_when_the_topic_goes() {
    let mut bench = Bench::new(1);
    for _ in 0..WAITERS_PER_GROUP_TOPIC_MAX {
        assert!(bench.receive(5_000).is_empty());
    }
    let refused = bench.receive(5_000);
    assert!(matches!(&refused[..], [Err(Refusal::TooMany(_))]));
    let answers = bench.ask(Command::DeleteTopic(topic()));
    let refused =
        answers.iter().filter(|reply| matches!(reply, Err(Refusal::TopicNotFound(_)))).count();
    assert_eq!(refused, WAITERS_PER_GROUP_TOPIC_MAX);
    assert_eq!(bench.engine.next_tick_ms(Now::at(0)), None);
}

#[test]
fn a_deleted_topic_takes_its_messages_and_progress_along() {
    let mut bench = Bench::new(1);
    bench.send(3, 10);
    assert_eq!(bench.received().len(), 3);
    bench.ask(Command::DeleteTopic(topic()));
    assert!(matches!(&bench.send(1, 10)[..], [Err(Refusal::TopicNotFound(_))]));
    assert!(matches!(&bench.receive(0)[..], [Err(Refusal::TopicNotFound(_))]));
    assert_eq!(bench.engine.next_tick_ms(Now::at(0)), None, "no delivery waits for its end");
}

#[test]
fn settings_that_an_older_version_took_end_no_tick() {
    let mut bench = Bench::new(1);
    let placement = vec![QueuePlacement { shard: ShardId(0), queues: 1 }];
    let rooms = TopicName::parse("rooms").unwrap();
    let mut lite = Topic::with_defaults(rooms.clone(), MessageType::Lite, placement);
    lite.lite_expiry_ms = Some(u64::MAX);
    lite.retention_ms = Some(u64::MAX);
    bench.ask(Command::PutTopic(Box::new(lite)));
    let backoff = Backoff::Customized { next_ms: vec![u64::MAX] };
    let retry = RetryPolicy { max_attempts: 2, backoff };
    let group = ConsumerGroup { retry, ..ConsumerGroup::with_defaults(group()) };
    bench.ask(Command::PutGroup(Box::new(group)));
    let message = NewMessage {
        tag_hash: 0,
        message_group_hash: 0,
        visible: Visible::AtOnce,
        head: Bytes::new(),
        body: Bytes::new(),
    };
    let messages = vec![message];
    bench.ask(Command::Send(Send {
        topic: rooms.clone(),
        messages,
        target: Target::LiteTopic("a".into()),
    }));
    let now_ms = 1_900_000_000_000;
    for now_ms in [now_ms, now_ms + 3_600_000] {
        bench.engine.tick(Now::at(now_ms), &bench.log, &mut Effects::default());
    }
    let expiry = |name: &TopicName| {
        let mut topics = bench.engine.topics();
        topics.find(|topic| topic.name == *name).and_then(|topic| topic.lite_expiry_ms)
    };
    assert_eq!(expiry(&rooms), Some(8_760 * 3_600_000));
}

#[test]
fn a_topic_takes_as_many_lite_topics_as_its_limit_and_the_next_one_is_refused() {
    let mut bench = Bench::new(1);
    let rooms = TopicName::parse("rooms").unwrap();
    let placement = vec![QueuePlacement { shard: ShardId(0), queues: 1 }];
    let lite = Topic::with_defaults(rooms.clone(), MessageType::Lite, placement);
    bench.ask(Command::PutTopic(Box::new(lite)));
    let number = bench.engine.state.topic_numbers[&rooms];
    // All but the last one are known already.
    for queue in 0..u32::try_from(LITE_TOPICS_PER_TOPIC_MAX).unwrap() - 1 {
        bench.engine.apply_put_lite_topic(number, queue, &format!("room-{queue}"));
    }
    let send_to = |bench: &mut Bench, name: &str| {
        let message = NewMessage {
            tag_hash: 0,
            message_group_hash: 0,
            visible: Visible::AtOnce,
            head: Bytes::new(),
            body: Bytes::new(),
        };
        let (topic, messages) = (rooms.clone(), vec![message]);
        let target = Target::LiteTopic(name.into());
        bench.ask(Command::Send(Send { topic, messages, target })).pop().unwrap().map(drop)
    };
    assert_eq!(send_to(&mut bench, "the-last"), Ok(()));
    assert_eq!(send_to(&mut bench, "one-more"), Err(Refusal::TooManyLiteTopics));
    assert_eq!(send_to(&mut bench, "room-7"), Ok(()), "those that are there go on");
    bench.engine.apply_delete_lite_topic(number, 7);
    assert_eq!(send_to(&mut bench, "one-more"), Ok(()), "one that is gone makes room");
}
