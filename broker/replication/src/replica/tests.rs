//! A whole shard without threads, on the simulated disk: what clients are told holds after any torn write and restart.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use broker_engine::{
    Acknowledge, ChangeInvisible, ForwardToDeadLetter, NewMessage, Outcome, ProgressQuery, Receive,
    Send, Target, Visible,
};
use broker_model::{
    ConsumerGroup, Filter, GroupName, MessageType, Now, QueuePlacement, ReceiptHandle, ShardId,
    TopicName, tag_hash,
};
use broker_store::WriteError;
use broker_store::segments::Segment;
use broker_store::simulated_disk::SimulatedDisk;
use proptest::prelude::*;

use super::*;
use crate::maintenance::{self, WantsSpare, Work};
use crate::sealing::SealError;
use crate::transport::NoPeers;

mod bounded;
mod clocks;
mod condensing;
mod declared;
mod deliveries;
mod frames;
mod handles;
mod key_tables;
mod message_types;
mod misdirected;
mod read_back;
mod read_only;
mod room;
mod sealing;
mod storage_versions;

/// An answer's destination that is always there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket(u64);

impl ReplyTo for Ticket {
    fn is_gone(&self) -> bool {
        false
    }
}

struct Shard {
    disk: SimulatedDisk,
    replica: Replica<Ticket>,
    writer: Writer,
    now_ms: u64,
    /// Of the wall clock, which the other one knows nothing of.
    wall_ahead_ms: i64,
    tickets: u64,
    replies: BTreeMap<Ticket, Reply>,
    checks: Vec<TransactionCheck>,
    unused: Vec<Segment>,
    waiting_write: Option<Write>,
    /// How often segments were sealed.
    seals: u32,
    failed_seals: u32,
}

/// The whole head is a message's one key.
fn head_as_key(head: &[u8], hashes: &mut Vec<u64>) {
    hashes.push(broker_model::key_hash(head));
}

fn options() -> LogOptions {
    let segment_bytes = SEGMENT_BYTES.get();
    LogOptions { shard: 0, directory: "shard-0".into(), segment_bytes }
}

thread_local! {
    static SEGMENT_BYTES: Cell<u64> = const { Cell::new(256 * 1024) };
}

/// From now on segments of this test are so small that they are sealed all the time.
fn use_small_segments() {
    SEGMENT_BYTES.set(8 * 1024);
}

fn open(disk: &SimulatedDisk, now_ms: u64) -> (Replica<Ticket>, Writer) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    start(&disk, &options(), Box::new(NoPeers), now_ms.into(), now_ms).expect("the log opens")
}

impl Shard {
    fn new() -> Self {
        let disk = SimulatedDisk::default();
        let (replica, writer) = open(&disk, 1_000);
        let mut shard = Self {
            disk,
            replica,
            writer,
            now_ms: 1_000,
            wall_ahead_ms: 0,
            tickets: 0,
            replies: BTreeMap::new(),
            checks: Vec::new(),
            unused: Vec::new(),
            waiting_write: None,
            seals: 0,
            failed_seals: 0,
        };
        shard.settle();
        shard
    }

    /// The process dies and comes back on what the disk kept.
    fn restart(&mut self) {
        self.disk.restart();
        self.now_ms += 1;
        (self.replica, self.writer) = open(&self.disk, self.now_ms);
        self.unused.clear();
        self.waiting_write = None;
        self.replies.clear();
        self.settle();
    }

    fn now(&self) -> Now {
        let wall_ms = self.now_ms.saturating_add_signed(self.wall_ahead_ms);
        Now { steady_ms: self.now_ms, wall_ms }
    }

    fn submit(&mut self, command: Command) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.replica.submit(self.now(), command, ticket);
        ticket
    }

    /// Steps until nothing is left to write, and to seal.
    fn settle(&mut self) {
        loop {
            let output = self.replica.step(self.now());
            self.replies.extend(output.replies);
            self.checks.extend(output.checks);
            let Some(write) = output.write else { break };
            match self.writer.write(&write) {
                Ok(written) => self.replica.written(self.now(), written),
                Err(WriteError::NoRoom(_)) => {
                    self.replica.write_waits();
                    self.waiting_write = Some(write);
                }
                Err(WriteError::Failed(error)) => self.replica.fail(&error.to_string()),
            }
        }
        self.maintain();
    }

    fn maintain(&mut self) {
        let seal_until = self.replica.seal_until();
        if self.replica.failure().is_some() || self.replica.damage().is_some() {
            return;
        }
        if seal_until.is_none() && self.unused.is_empty() {
            return;
        }
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let unused = std::mem::take(&mut self.unused);
        let (wants_spare, keys_of_head) = (WantsSpare::No, head_as_key);
        let snapshot_bytes = self.replica.snapshot_bytes();
        let work = Work { wants_spare, seal_until, unused, snapshot_bytes, keys_of_head };
        let failure = self.replica.engine().index_failure_note().clone();
        let findings = maintenance::run(&disk, &options(), work, &failure, &AtomicBool::new(false));
        let Ok(findings) = findings else { return };
        self.unused = findings.unused;
        match findings.sealed {
            None => {}
            Some(Ok(sealed)) => {
                self.seals += 1;
                self.unused.extend(self.replica.sealed(sealed));
            }
            // The power went, or a fault was planted.
            Some(Err(SealError::Disk(_) | SealError::NotReadBack(_))) => self.failed_seals += 1,
            Some(Err(error)) => panic!("{error}"),
        }
    }

    fn ask(&mut self, command: Command) -> Reply {
        let ticket = self.submit(command);
        self.settle();
        self.replies.remove(&ticket).expect("answered")
    }

    fn create_of(&mut self, message_type: MessageType, topic: &str, queues: u32) {
        let topic = Topic::with_defaults(
            name(topic),
            message_type,
            vec![QueuePlacement { shard: ShardId(0), queues }],
        );
        self.ask(Command::PutTopic(Box::new(topic))).expect("created");
    }

    fn create(&mut self, topic: &str, queues: u32, group: &str, max_attempts: u32) {
        self.create_of(MessageType::Normal, topic, queues);
        let mut group = ConsumerGroup::with_defaults(GroupName::parse(group).unwrap());
        group.retry.max_attempts = max_attempts;
        self.ask(Command::PutGroup(Box::new(group))).expect("created");
    }

    fn receive(&mut self, group: &str, topic: &str, filter: Filter) -> Vec<(ReceiptHandle, Bytes)> {
        let request = Receive {
            group: GroupName::parse(group).unwrap(),
            topic: name(topic),
            filter,
            messages_max: 32,
            invisible_ms: 30_000,
            poll_until_ms: self.now_ms,
            client_id: "tester".into(),
            attempt_id: String::new(),
            lite_topics: None,
        };
        match self.ask(Command::Receive(request)) {
            Ok(Outcome::Received(deliveries)) => deliveries
                .into_iter()
                .map(|delivery| (delivery.handle, self.body(&delivery.source)))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    fn body(&self, source: &broker_engine::Source) -> Bytes {
        match source {
            broker_engine::Source::Memory { body, .. } => body.clone(),
            broker_engine::Source::Log { position, length_bytes, identity } => {
                self.replica.reader().message(*position, *length_bytes, identity).unwrap().body
            }
        }
    }

    fn acknowledge(
        &mut self,
        group: &str,
        topic: &str,
        handle: ReceiptHandle,
    ) -> Result<(), Refusal> {
        let group = GroupName::parse(group).unwrap();
        let request = Acknowledge { group, topic: name(topic), handles: vec![handle] };
        match self.ask(Command::Acknowledge(request))? {
            Outcome::Acknowledged(mut results) => results.remove(0),
            other => panic!("{other:?}"),
        }
    }
}

fn name(topic: &str) -> TopicName {
    TopicName::parse(topic).unwrap()
}

fn message(text: &str, tag: Option<&str>) -> NewMessage {
    NewMessage {
        message_group_hash: 0,
        visible: Visible::AtOnce,
        tag_hash: tag_hash(tag),
        head: Bytes::from_static(b"head"),
        body: Bytes::copy_from_slice(text.as_bytes()),
    }
}

fn send(topic: &str, texts: &[&str]) -> Command {
    let messages = texts.iter().map(|text| message(text, None)).collect();
    Command::Send(Send { topic: name(topic), messages, target: Target::AnyQueue })
}

fn bodies(received: &[(ReceiptHandle, Bytes)]) -> BTreeSet<String> {
    received.iter().map(|(_, body)| String::from_utf8_lossy(body).into_owned()).collect()
}

#[test]
fn every_group_gets_every_message_and_one_consumer_of_it_handles_it() {
    let mut shard = Shard::new();
    shard.create("orders", 4, "billing", 5);
    shard.create("orders", 4, "audit", 5);
    shard.ask(send("orders", &["a", "b", "c"])).unwrap();
    let first = shard.receive("billing", "orders", Filter::All);
    assert_eq!(bodies(&first).len(), 3);
    assert!(shard.receive("billing", "orders", Filter::All).is_empty());
    assert_eq!(bodies(&shard.receive("audit", "orders", Filter::All)), bodies(&first));
    for (handle, _) in &first {
        assert_eq!(shard.acknowledge("billing", "orders", *handle), Ok(()));
        assert_eq!(
            shard.acknowledge("billing", "orders", *handle),
            Ok(()),
            "acknowledging twice is fine"
        );
    }
    shard.now_ms += 60_000;
    assert!(shard.receive("billing", "orders", Filter::All).is_empty());
    assert_eq!(shard.receive("audit", "orders", Filter::All).len(), 3, "never acknowledged: again");
}

#[test]
fn a_send_is_not_answered_before_it_is_durable() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    let ticket = shard.submit(send("orders", &["a"]));
    let output = shard.replica.step(Now::at(shard.now_ms));
    assert!(output.replies.is_empty(), "the write has not happened");
    let written = shard.writer.write(&output.write.expect("a write")).unwrap();
    shard.replica.written(Now::at(shard.now_ms), written);
    shard.settle();
    assert!(matches!(shard.replies.get(&ticket), Some(Ok(Outcome::Sent(_)))));
}

#[test]
fn a_waiting_poll_is_answered_by_the_send_and_an_unmet_one_at_its_end() {
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    let poll = |until| {
        Command::Receive(Receive {
            group: GroupName::parse("billing").unwrap(),
            topic: name("orders"),
            filter: Filter::All,
            messages_max: 1,
            invisible_ms: 30_000,
            poll_until_ms: until,
            client_id: "tester".into(),
            attempt_id: String::new(),
            lite_topics: None,
        })
    };
    let (first, second) = (shard.submit(poll(20_000)), shard.submit(poll(9_000)));
    shard.settle();
    assert!(shard.replies.is_empty());
    assert!(
        shard.replica.next_step_ms(Now::at(shard.now_ms)).is_some_and(|due_ms| due_ms <= 9_000)
    );
    shard.ask(send("orders", &["a"])).unwrap();
    assert!(matches!(shard.replies.remove(&first), Some(Ok(Outcome::Received(d))) if d.len() == 1));
    assert!(shard.replies.is_empty(), "one message answers one poll");
    shard.now_ms = 9_000;
    shard.settle();
    assert!(
        matches!(shard.replies.remove(&second), Some(Ok(Outcome::Received(d))) if d.is_empty())
    );
}

#[test]
fn attempts_are_counted_and_the_last_one_ends_in_the_dead_letter_topic() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 2);
    shard.ask(send("orders", &["poison"])).unwrap();
    for attempt in 1..=2 {
        let received = shard.receive("billing", "orders", Filter::All);
        assert_eq!(received[0].0.attempt, attempt);
        shard.now_ms += 31_000;
    }
    assert!(shard.receive("billing", "orders", Filter::All).is_empty());
    shard
        .ask(Command::PutGroup(Box::new(ConsumerGroup::with_defaults(
            GroupName::parse("undertaker").unwrap(),
        ))))
        .unwrap();
    for _ in 0..2 {
        let dead = shard.receive("undertaker", "%DLQ%billing", Filter::All);
        assert_eq!(bodies(&dead), BTreeSet::from(["poison".to_owned()]));
        assert_eq!(dead[0].0.attempt, 1, "attempts start again");
        shard.restart();
        shard.now_ms += 31_000;
        assert!(shard.receive("billing", "orders", Filter::All).is_empty());
        shard.now_ms += 31_000;
        shard.ask(Command::DeleteGroup(GroupName::parse("undertaker").unwrap())).unwrap();
        shard
            .ask(Command::PutGroup(Box::new(ConsumerGroup::with_defaults(
                GroupName::parse("undertaker").unwrap(),
            ))))
            .unwrap();
    }
}

#[test]
fn an_acknowledgement_in_time_counts_even_when_its_write_takes_longer_than_the_deadline() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 1);
    shard.ask(send("orders", &["a"])).unwrap();
    let (handle, _) = shard.receive("billing", "orders", Filter::All)[0];
    let (group, topic) = (GroupName::parse("billing").unwrap(), name("orders"));
    let request = Acknowledge { group, topic, handles: vec![handle] };
    let twice = [0; 2].map(|_| shard.submit(Command::Acknowledge(request.clone())));
    let output = shard.replica.step(Now::at(shard.now_ms));
    let slow = output.write.expect("a write");
    shard.now_ms += 31_000;
    assert!(
        shard.replica.step(Now::at(shard.now_ms)).replies.is_empty(),
        "neither acknowledgement is durable"
    );
    let written = shard.writer.write(&slow).unwrap();
    shard.replica.written(Now::at(shard.now_ms), written);
    shard.settle();
    for ticket in twice {
        assert!(matches!(
            shard.replies.get(&ticket),
            Some(Ok(Outcome::Acknowledged(results))) if results[0].is_ok()
        ));
    }
    assert!(shard.receive("billing", "orders", Filter::All).is_empty());
    let topics: Vec<_> = shard.replica.engine().topics().map(|topic| topic.name.clone()).collect();
    assert_eq!(topics, [name("orders")], "it is no dead letter");
}

#[test]
fn giving_up_on_what_expired_for_the_last_time_is_answered_once_the_dead_letter_is_durable() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 1);
    shard.ask(send("orders", &["a"])).unwrap();
    let (handle, _) = shard.receive("billing", "orders", Filter::All)[0];
    shard.now_ms += 31_000;
    let slow = shard.replica.step(Now::at(shard.now_ms)).write.expect("the dead letter");
    let forward = ForwardToDeadLetter {
        group: GroupName::parse("billing").unwrap(),
        topic: name("orders"),
        handle,
    };
    let ticket = shard.submit(Command::ForwardToDeadLetter(forward));
    assert!(
        shard.replica.step(Now::at(shard.now_ms)).replies.is_empty(),
        "a crash would bring it back"
    );
    let written = shard.writer.write(&slow).unwrap();
    shard.replica.written(Now::at(shard.now_ms), written);
    shard.settle();
    assert!(matches!(shard.replies.get(&ticket), Some(Ok(Outcome::Done))));
}

#[test]
fn only_the_last_delivery_can_be_renewed_once_nobody_has_the_message() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    shard.ask(send("orders", &["a"])).unwrap();
    let (first, _) = shard.receive("billing", "orders", Filter::All)[0];
    shard.now_ms += 31_000;
    let (second, _) = shard.receive("billing", "orders", Filter::All)[0];
    shard.now_ms += 31_000;
    shard.settle();
    let change = |handle| {
        let (group, topic) = (GroupName::parse("billing").unwrap(), name("orders"));
        Command::ChangeInvisible(ChangeInvisible { group, topic, handle, invisible_ms: 1_000 })
    };
    assert_eq!(shard.ask(change(first)).unwrap_err(), Refusal::InvalidHandle);
    shard.ask(change(second)).expect("nobody else has it");
    shard.now_ms += 1_000;
    let third = shard.receive("billing", "orders", Filter::All);
    assert_eq!(third[0].0.attempt, 3, "attempts never count backwards");
}

#[test]
fn who_begins_with_what_is_new_begins_once_also_over_a_restart() {
    let mut shard = Shard::new();
    shard.create("orders", 2, "billing", 5);
    let mut late = ConsumerGroup::with_defaults(GroupName::parse("late").unwrap());
    late.subscriptions.push(broker_model::Subscription {
        topic: name("orders"),
        is_sql: false,
        expression: "*".to_owned(),
        start_from: broker_model::StartFrom::Latest,
    });
    shard.ask(Command::PutGroup(Box::new(late))).unwrap();
    assert!(shard.receive("late", "orders", Filter::All).is_empty());
    shard.ask(send("orders", &["a"])).unwrap();
    shard.restart();
    shard.ask(send("orders", &["b"])).unwrap();
    let received = shard.receive("late", "orders", Filter::All);
    assert_eq!(bodies(&received), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
}

#[test]
fn changing_the_invisible_duration_renames_the_delivery() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    shard.ask(send("orders", &["a"])).unwrap();
    let (handle, _) = shard.receive("billing", "orders", Filter::All)[0];
    let (group, topic) = (GroupName::parse("billing").unwrap(), name("orders"));
    let change = |handle, invisible_ms| {
        Command::ChangeInvisible(ChangeInvisible {
            group: group.clone(),
            topic: topic.clone(),
            handle,
            invisible_ms,
        })
    };
    let Ok(Outcome::InvisibleChanged(renamed)) = shard.ask(change(handle, 50_000)) else {
        panic!()
    };
    assert_eq!(shard.acknowledge("billing", "orders", handle), Err(Refusal::InvalidHandle));
    shard.now_ms += 31_000;
    assert!(
        shard.receive("billing", "orders", Filter::All).is_empty(),
        "the old deadline does not count"
    );
    let Ok(Outcome::InvisibleChanged(again)) = shard.ask(change(renamed, 0)) else { panic!() };
    let redelivered = shard.receive("billing", "orders", Filter::All);
    assert_eq!(redelivered[0].0.attempt, 2);
    assert_eq!(shard.acknowledge("billing", "orders", again), Err(Refusal::InvalidHandle));
    assert_eq!(shard.acknowledge("billing", "orders", redelivered[0].0), Ok(()));
}

#[test]
fn a_tag_filter_finishes_what_does_not_pass() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    let messages = [("a", Some("x")), ("b", None), ("c", Some("y")), ("d", Some("x"))];
    let messages = messages.iter().map(|(text, tag)| message(text, *tag)).collect();
    shard
        .ask(Command::Send(Send { topic: name("orders"), messages, target: Target::AnyQueue }))
        .unwrap();
    let received = shard.receive("billing", "orders", Filter::parse_tags("x || z").unwrap());
    assert_eq!(bodies(&received), BTreeSet::from(["a".to_owned(), "d".to_owned()]));
    let Ok(Outcome::Progress(progress, _)) =
        shard.ask(Command::ReadProgress(ProgressQuery::default()))
    else {
        panic!()
    };
    assert_eq!((progress[0].lag_messages, progress[0].inflight_messages), (2, 2));
}

#[test]
fn after_a_failed_write_everything_is_refused_with_the_reason() {
    let mut shard = Shard::new();
    shard.create("orders", 1, "billing", 5);
    shard.disk.tear_after(0, 7);
    let lost = shard.ask(send("orders", &["a"])).unwrap_err();
    assert!(matches!(&lost, Refusal::LogFailed(reason) if reason.contains("the power went")));
    assert_eq!(shard.ask(send("orders", &["b"])).unwrap_err(), lost);
}

#[derive(Debug, Clone)]
enum Step {
    Send(u8),
    Receive(bool),
    Acknowledge(prop::sample::Index),
    Wait(u64),
    Restart,
    Tear { writes: u64, seed: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1u8..20).prop_map(Step::Send),
        5 => any::<bool>().prop_map(Step::Receive),
        8 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
        2 => (1u64..40_000).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => (0u64..6, any::<u64>()).prop_map(|(writes, seed)| Step::Tear { writes, seed }),
    ];
    proptest::collection::vec(step, 1..150)
}

const GROUPS: [&str; 2] = ["billing", "audit"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever tears and restarts: an acknowledged send reaches every group, an answered acknowledgement is final, and
    /// nobody receives what nobody sent.
    #[test]
    fn what_was_answered_holds_through_torn_writes_and_restarts(steps in steps()) {
        use_small_segments();
        let mut shard = Shard::new();
        shard.create("orders", 3, GROUPS[0], 1_000);
        shard.create("orders", 3, GROUPS[1], 1_000);
        let (mut attempted, mut sent) = (BTreeSet::new(), BTreeSet::new());
        let mut held: Vec<(usize, ReceiptHandle, String)> = Vec::new();
        let mut done: [BTreeSet<String>; 2] = Default::default();
        let mut unknown: [BTreeSet<String>; 2] = Default::default();
        for step in steps {
            match step {
                Step::Send(count) => {
                    let from = attempted.len();
                    let texts: Vec<String> = (from..from + count as usize).map(|n| format!("m{n}")).collect();
                    attempted.extend(texts.iter().cloned());
                    let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
                    if shard.ask(send("orders", &refs)).is_ok() {
                        sent.extend(texts);
                    }
                }
                Step::Receive(which) if shard.replica.failure().is_none() => {
                    let group = usize::from(which);
                    for (handle, body) in shard.receive(GROUPS[group], "orders", Filter::All) {
                        let text = String::from_utf8_lossy(&body).into_owned();
                        prop_assert!(attempted.contains(&text), "invented {}", text);
                        prop_assert!(!done[group].contains(&text), "{} delivered after its acknowledgement", text);
                        held.push((group, handle, text));
                    }
                }
                Step::Acknowledge(index) if !held.is_empty() => {
                    let (group, handle, text) = held.swap_remove(index.index(held.len()));
                    match shard.acknowledge(GROUPS[group], "orders", handle) {
                        Ok(()) => drop(done[group].insert(text)),
                        // Nobody was told, so both are right: stored or not.
                        Err(Refusal::LogFailed(_)) => drop(unknown[group].insert(text)),
                        Err(_) => {}
                    }
                }
                Step::Receive(_) | Step::Acknowledge(_) => {}
                Step::Wait(ms) => {
                    shard.now_ms += ms;
                    shard.settle();
                }
                Step::Restart => shard.restart(),
                Step::Tear { writes, seed } => shard.disk.tear_after(writes, seed),
            }
        }
        shard.restart();
        sealing::check_derived(&shard);
        for (number, group) in GROUPS.iter().enumerate() {
            let mut left = sent.clone();
            left.retain(|text| !done[number].contains(text) && !unknown[number].contains(text));
            loop {
                shard.now_ms += 31_000;
                let received = shard.receive(group, "orders", Filter::All);
                if received.is_empty() {
                    break;
                }
                for (handle, body) in received {
                    let text = String::from_utf8_lossy(&body).into_owned();
                    prop_assert!(!done[number].contains(&text));
                    left.remove(&text);
                    prop_assert_eq!(shard.acknowledge(group, "orders", handle), Ok(()));
                }
            }
            prop_assert!(left.is_empty(), "{} never got {:?}", group, left);
        }
    }
}
