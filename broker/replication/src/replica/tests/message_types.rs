//! Random histories of every message type on a disk that tears: order per message group, never early, half messages
//! unseen, ends and recalls final, nothing lost.

use broker_engine::{EndTransaction, Hidden, Recall, SentMessage};
use broker_model::{Order, RecallHandle, TransactionId};

use super::*;

const FIFO: &str = "fifo";
const DELAY: &str = "delay";
const TRANSACTION: &str = "transaction";
const TOPICS: [(&str, MessageType); 3] = [
    (FIFO, MessageType::Fifo),
    (DELAY, MessageType::Delay),
    (TRANSACTION, MessageType::Transaction),
];
const GROUP: &str = "billing";

#[derive(Debug, Clone)]
enum Step {
    SendFifo { message_group: u8, count: u8 },
    SendDelay { by_ms: u64 },
    SendHalf,
    End { which: prop::sample::Index, is_commit: bool },
    Recall(prop::sample::Index),
    Receive(prop::sample::Index),
    Acknowledge(prop::sample::Index),
    Refuse(prop::sample::Index),
    Wait(u64),
    Restart,
    Tear { writes: u64, seed: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        4 => (0u8..3, 1u8..5).prop_map(|(message_group, count)| Step::SendFifo { message_group, count }),
        3 => (1u64..60_000).prop_map(|by_ms| Step::SendDelay { by_ms }),
        3 => Just(Step::SendHalf),
        3 => (index(), any::<bool>()).prop_map(|(which, is_commit)| Step::End { which, is_commit }),
        1 => index().prop_map(Step::Recall),
        8 => index().prop_map(Step::Receive),
        8 => index().prop_map(Step::Acknowledge),
        2 => index().prop_map(Step::Refuse),
        3 => (1u64..40_000).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => (0u64..6, any::<u64>()).prop_map(|(writes, seed)| Step::Tear { writes, seed }),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What is known of one message.
#[derive(Debug, Clone, Default)]
struct Known {
    topic: &'static str,
    message_group: u8,
    due_ms: u64,
    is_stored: bool,
    /// An acknowledgement was answered, or may have been stored.
    is_done: bool,
    is_maybe_done: bool,
    /// The end of the transaction that was asked for, and whether it was answered.
    commit: (bool, bool),
    rollback: (bool, bool),
    recall: (bool, bool),
    hidden: Option<Hidden>,
    topic_number: u32,
}

impl Known {
    /// It must not be seen.
    fn is_gone(&self) -> bool {
        self.recall.1 || self.rollback.1
    }

    /// It must be seen in the end.
    fn is_owed(&self) -> bool {
        let is_visible = self.topic != TRANSACTION || self.commit.1;
        let may_be_gone = self.is_done || self.is_maybe_done || self.recall.0 || self.is_gone();
        self.is_stored && is_visible && !may_be_gone
    }
}

struct History {
    shard: Shard,
    known: Vec<Known>,
    held: Vec<(usize, ReceiptHandle)>,
}

impl History {
    fn new() -> Self {
        let mut shard = Shard::new();
        for (topic, message_type) in TOPICS {
            shard.create_of(message_type, topic, 2);
        }
        let mut group = ConsumerGroup::with_defaults(GroupName::parse(GROUP).unwrap());
        group.order = Order::Fifo;
        group.retry.max_attempts = 1_000;
        shard.ask(Command::PutGroup(Box::new(group))).unwrap();
        Self { shard, known: Vec::new(), held: Vec::new() }
    }

    fn send(&mut self, known: Known, visible: Visible, target: Target) {
        let mut new = message(&self.known.len().to_string(), None);
        new.visible = visible;
        new.message_group_hash = u64::from(known.message_group);
        let topic = name(known.topic);
        self.known.push(known);
        let reply = self.shard.ask(Command::Send(Send { topic, messages: vec![new], target }));
        if let (Ok(Outcome::Sent(sent)), Some(known)) = (reply, self.known.last_mut()) {
            let SentMessage { topic, hidden, .. } = sent[0];
            (known.is_stored, known.hidden, known.topic_number) = (true, hidden, topic);
        }
    }

    fn receive(&mut self, topic: &'static str) {
        if self.shard.replica.failure().is_some() {
            return;
        }
        for (handle, body) in self.shard.receive(GROUP, topic, Filter::All) {
            let number: usize =
                String::from_utf8_lossy(&body).parse().expect("a body that was sent");
            let known = &self.known[number];
            assert_eq!(known.topic, topic);
            assert!(!known.is_done, "{number} delivered after its acknowledgement");
            assert!(!known.is_gone(), "{number} delivered after its recall or rollback");
            assert!(self.shard.now_ms >= known.due_ms, "{number} delivered early");
            assert!(topic != TRANSACTION || known.commit.0, "{number} seen without a commit");
            if topic == FIFO {
                let earlier = self.known[..number].iter();
                let mut group = earlier.filter(|k| {
                    k.topic == FIFO && k.message_group == known.message_group && k.is_stored
                });
                assert!(group.all(|k| k.is_done || k.is_maybe_done), "{number} overtakes");
            }
            self.held.push((number, handle));
        }
    }

    fn acknowledge(&mut self, at: usize) {
        let (number, handle) = self.held.swap_remove(at);
        let topic = self.known[number].topic;
        match self.shard.acknowledge(GROUP, topic, handle) {
            Ok(()) => self.known[number].is_done = true,
            Err(Refusal::LogFailed(_)) => self.known[number].is_maybe_done = true,
            Err(_) => {}
        }
    }

    fn refuse(&mut self, at: usize) {
        let (number, handle) = self.held.swap_remove(at);
        let _answer = self.shard.ask(Command::ChangeInvisible(ChangeInvisible {
            group: GroupName::parse(GROUP).unwrap(),
            topic: name(self.known[number].topic),
            handle,
            invisible_ms: 0,
        }));
    }

    fn end(&mut self, number: usize, is_commit: bool) {
        let Some(Hidden::Half { number: transaction, .. }) = self.known[number].hidden else {
            return;
        };
        let topic = self.known[number].topic_number;
        let id = TransactionId { shard: ShardId(0), topic, number: transaction, code: None };
        let request = EndTransaction { topic: name(TRANSACTION), id, is_commit };
        let answer = self.shard.ask(Command::EndTransaction(request));
        let known = &mut self.known[number];
        let (asked, answered) = (answer.is_ok() || is_unknown(&answer), answer.is_ok());
        let end = if is_commit { &mut known.commit } else { &mut known.rollback };
        *end = (end.0 || asked, end.1 || answered);
        assert!(!(known.commit.1 && known.rollback.1), "{number} ended both ways");
        if let Err(Refusal::TransactionEnded { is_commit: ended }) = answer {
            assert_ne!(ended, is_commit);
        }
    }

    fn recall(&mut self, number: usize) {
        let Some(Hidden::Timed { number: timed, due_ms, .. }) = self.known[number].hidden else {
            return;
        };
        let handle = RecallHandle {
            shard: ShardId(0),
            topic: self.known[number].topic_number,
            number: timed,
            due_ms,
            message_id: String::new(),
            code: None,
        };
        let answer = self.shard.ask(Command::Recall(Recall { topic: name(DELAY), handle }));
        let recall = &mut self.known[number].recall;
        *recall = (recall.0 || answer.is_ok() || is_unknown(&answer), recall.1 || answer.is_ok());
    }

    fn step(&mut self, step: Step) {
        let pick =
            |index: &prop::sample::Index, count: usize| (count > 0).then(|| index.index(count));
        match step {
            Step::SendFifo { message_group, count } => {
                let queue = Target::Queue(u32::from(message_group % 2));
                for _ in 0..count {
                    let message_group = message_group + 1;
                    let known = Known { topic: FIFO, message_group, ..Known::default() };
                    self.send(known, Visible::AtOnce, queue.clone());
                }
            }
            Step::SendDelay { by_ms } => {
                let due_ms = self.shard.now_ms + by_ms;
                let known = Known { topic: DELAY, due_ms, ..Known::default() };
                self.send(known, Visible::At { due_ms }, Target::AnyQueue);
            }
            Step::SendHalf => {
                let known = Known { topic: TRANSACTION, ..Known::default() };
                let visible = Visible::OnCommit { check_after_ms: 6_000 };
                self.send(known, visible, Target::AnyQueue);
            }
            Step::End { which, is_commit } => {
                if let Some(number) = pick(&which, self.known.len()) {
                    self.end(number, is_commit);
                }
            }
            Step::Recall(which) => {
                if let Some(number) = pick(&which, self.known.len()) {
                    self.recall(number);
                }
            }
            Step::Receive(which) => self.receive(TOPICS[which.index(TOPICS.len())].0),
            Step::Acknowledge(which) => {
                if let Some(at) = pick(&which, self.held.len()) {
                    self.acknowledge(at);
                }
            }
            Step::Refuse(which) => {
                if let Some(at) = pick(&which, self.held.len()) {
                    self.refuse(at);
                }
            }
            Step::Wait(ms) => {
                self.shard.now_ms += ms;
                self.shard.settle();
            }
            Step::Restart => self.shard.restart(),
            Step::Tear { writes, seed } => self.shard.disk.tear_after(writes, seed),
        }
    }

    /// Whatever is owed comes in the end.
    fn drain(&mut self) {
        self.shard.restart();
        for _ in 0..1_000 {
            self.shard.now_ms += 61_000;
            let before = self.known.iter().filter(|known| known.is_owed()).count();
            for (topic, _) in TOPICS {
                self.receive(topic);
                while !self.held.is_empty() {
                    self.acknowledge(0);
                }
            }
            if before == 0 {
                return;
            }
        }
        let owed = self.known.iter().enumerate().filter(|(_, known)| known.is_owed());
        panic!("never delivered: {:?}", owed.collect::<Vec<_>>());
    }
}

#[test]
fn a_transaction_that_nobody_ends_is_asked_about_and_then_rolled_back() {
    let mut history = History::new();
    let known = Known { topic: TRANSACTION, ..Known::default() };
    history.send(known, Visible::OnCommit { check_after_ms: 6_000 }, Target::AnyQueue);
    let mut asked = 0;
    history.shard.now_ms += 5_999;
    history.shard.settle();
    assert!(history.shard.checks.is_empty(), "not before its time");
    history.shard.now_ms += 1;
    for _ in 0..100 {
        history.shard.settle();
        for check in std::mem::take(&mut history.shard.checks) {
            asked += 1;
            history.shard.ask(Command::NoteTransactionCheck(check.id)).unwrap();
            // Being asked outlives a restart, so that the number of questions is bounded.
            history.shard.restart();
        }
        // A start asks at once about what is overdue; those questions are not put here.
        history.shard.checks.clear();
        history.shard.now_ms += 30_000;
    }
    assert_eq!(asked, broker_model::limits::TRANSACTION_CHECKS_MAX);
    history.end(0, true);
    assert!(!history.known[0].commit.1, "it was rolled back");
}

#[test]
fn a_lite_topic_that_nobody_uses_is_deleted_with_its_messages() {
    let mut shard = Shard::new();
    let placement = vec![QueuePlacement { shard: ShardId(0), queues: 1 }];
    let mut rooms = Topic::with_defaults(name("rooms"), MessageType::Lite, placement);
    rooms.lite_expiry_ms = Some(60_000);
    shard.ask(Command::PutTopic(Box::new(rooms))).unwrap();
    let send = |room: &str| {
        let messages = vec![message(room, None)];
        Command::Send(Send {
            topic: name("rooms"),
            messages,
            target: Target::LiteTopic(room.into()),
        })
    };
    let messages = |shard: &mut Shard| match shard.ask(Command::ReadTopics(0)) {
        Ok(Outcome::Topics(numbers, _)) => numbers[0].messages,
        other => panic!("{other:?}"),
    };
    shard.ask(send("red")).unwrap();
    shard.now_ms += 50_000;
    shard.ask(send("blue")).unwrap();
    assert_eq!(messages(&mut shard), 2);
    shard.now_ms += 20_000;
    shard.settle();
    // Nobody waits for the deletion, so it is logged a moment later.
    shard.now_ms += 100;
    shard.settle();
    assert_eq!(messages(&mut shard), 1, "red was not used for 70 s, blue for 20 s");
    shard.ask(send("red")).unwrap();
    shard.restart();
    assert_eq!(messages(&mut shard), 2, "the same after a restart");
}

/// The log failed meanwhile: stored or not, both are right.
fn is_unknown(answer: &Reply) -> bool {
    matches!(answer, Err(Refusal::LogFailed(_)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_message_type_keeps_its_promise_through_torn_writes_and_restarts(steps in steps()) {
        use_small_segments();
        let mut history = History::new();
        steps.into_iter().for_each(|step| history.step(step));
        sealing::check_derived(&history.shard);
        history.drain();
    }
}
