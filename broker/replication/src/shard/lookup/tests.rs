//! Searches against a running shard on the simulated disk: everything that was answered is found, in order and by name.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use broker_engine::{
    Acknowledge, ChangeInvisible, EndTransaction, ForwardToDeadLetter, Hidden, NewMessage, Recall,
    Receive, Redrive, Send, SentMessage, Target, Visible,
};
use broker_model::{
    ConsumerGroup, Filter, GroupName, MessageType, QueuePlacement, RecallHandle, ReceiptHandle,
    ShardId, Topic, TransactionId,
};
use broker_store::Disk;
use broker_store::limits::SEGMENT_BYTES_USUAL;
use broker_store::simulated_disk::SimulatedDisk;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::clock::Clock;
use crate::shard::{ShardOptions, open_shard};

/// The wall clock, and what a test added to it.
#[derive(Debug, Default)]
struct Skipping(AtomicU64);

impl Clock for Skipping {
    fn monotonic_ms(&self) -> u64 {
        self.wall_ms()
    }

    fn wall_ms(&self) -> u64 {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::try_from(elapsed.as_millis()).unwrap() + self.0.load(Ordering::Relaxed)
    }
}

struct Bench {
    disk: SimulatedDisk,
    clock: Arc<Skipping>,
    shard: ShardHandle,
}

fn topic() -> TopicName {
    TopicName::parse("orders").unwrap()
}

fn billing() -> GroupName {
    GroupName::parse("billing").unwrap()
}

fn head_is(id: &'static str) -> IsWanted {
    Box::new(move |head| head == id.as_bytes())
}

impl Bench {
    async fn new() -> Self {
        let disk = SimulatedDisk::default();
        let clock = Arc::new(Skipping::default());
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let data = PathBuf::from("/data");
        let options = ShardOptions {
            id: ShardId(0),
            data,
            segment_bytes: SEGMENT_BYTES_USUAL,
            seed: 1.into(),
            keys_of_head: |_, _| {},
            memory: crate::Memory::default(),
        };
        let shard = open_shard(&shared, clock.clone(), &options).unwrap();
        let bench = Self { disk, clock, shard: shard.handle.clone() };
        let (events, _) = mpsc::unbounded_channel();
        tokio::spawn(shard.run(events));
        bench
            .ask(Command::PutTopic(Box::new(Topic::with_defaults(
                topic(),
                MessageType::Normal,
                vec![QueuePlacement { shard: ShardId(0), queues: 1 }],
            ))))
            .await;
        bench.ask(Command::PutGroup(Box::new(ConsumerGroup::with_defaults(billing())))).await;
        bench
    }

    async fn ask(&self, command: Command) -> Outcome {
        self.shard.submit(command).await.unwrap()
    }

    async fn send(&self, head: &'static str, visible: Visible) -> SentMessage {
        let message = NewMessage {
            tag_hash: broker_model::tag_hash(Some("tag")),
            message_group_hash: 0,
            visible,
            head: Bytes::from_static(head.as_bytes()),
            body: Bytes::from(format!("body of {head}")),
        };
        let (messages, target) = (vec![message], Target::AnyQueue);
        match self.ask(Command::Send(Send { topic: topic(), messages, target })).await {
            Outcome::Sent(places) => places[0],
            other => panic!("{other:?}"),
        }
    }

    async fn receive(&self, from: TopicName, group: &str, client: &str) -> Vec<ReceiptHandle> {
        self.receive_with(from, group, client, Filter::All).await
    }

    async fn receive_with(
        &self,
        topic: TopicName,
        group: &str,
        client: &str,
        filter: Filter,
    ) -> Vec<ReceiptHandle> {
        let received = self.shard.receive(
            Receive {
                group: GroupName::parse(group).unwrap(),
                topic,
                filter,
                messages_max: 32,
                invisible_ms: 10_000,
                poll_until_ms: 0,
                client_id: client.into(),
                attempt_id: String::new(),
                lite_topics: None,
            },
            None,
        );
        received.await.unwrap().into_iter().map(|message| message.handle).collect()
    }

    async fn acknowledge(&self, handles: Vec<ReceiptHandle>) {
        let request = Acknowledge { group: billing(), topic: topic(), handles };
        self.ask(Command::Acknowledge(request)).await;
    }

    async fn find(&self, messages_max: usize, is_wanted: IsWanted) -> (Vec<String>, Searched) {
        let find = FindMessages {
            topic: topic(),
            times: 0..=u64::MAX,
            from: 0,
            messages_max,
            key_hash: None,
        };
        let found = self.shard.find_messages(find, is_wanted).await.unwrap();
        let heads = found.messages.iter().map(|m| String::from_utf8(m.head.to_vec()).unwrap());
        (heads.collect(), found.searched)
    }

    /// The steps of the one copy, each with group and client.
    async fn trace(&self, head: &'static str) -> (FoundMessage, Vec<(TraceStep, String)>) {
        let trace = TraceMessage { topic: topic(), since_ms: 0 };
        let mut traces = self.shard.trace(trace, head_is(head)).await.unwrap().traces;
        assert_eq!(traces.len(), 1);
        let trace = traces.remove(0);
        let mut times: Vec<_> = trace.events.iter().map(|event| event.time_ms).collect();
        times.insert(0, trace.message.stored_ms);
        assert!(times.is_sorted() && times[0] > 0, "{times:?}");
        let steps = trace.events.into_iter().map(|event| {
            let who = event.group.map_or(String::new(), |group| group.to_string());
            (plain(event.step), who + "/" + event.client_id.as_deref().unwrap_or(""))
        });
        (trace.message, steps.collect())
    }
}

/// Without times, which differ from run to run.
fn plain(step: TraceStep) -> TraceStep {
    match step {
        TraceStep::Delivered { attempt, .. } => {
            TraceStep::Delivered { attempt, invisible_until_ms: 0 }
        }
        TraceStep::InvisibleChanged { attempt, .. } => {
            TraceStep::InvisibleChanged { attempt, invisible_until_ms: 0 }
        }
        step => step,
    }
}

fn steps(expected: &[(TraceStep, &str)]) -> Vec<(TraceStep, String)> {
    expected.iter().map(|(step, who)| (*step, (*who).to_owned())).collect()
}

const fn delivered(attempt: u32) -> TraceStep {
    TraceStep::Delivered { attempt, invisible_until_ms: 0 }
}

#[tokio::test]
async fn messages_are_found_as_soon_as_their_send_is_answered() {
    let bench = Bench::new().await;
    for head in ["a", "b", "a"] {
        bench.send(head, Visible::AtOnce).await;
        assert!(bench.find(9, head_is(head)).await.0.contains(&head.to_owned()));
    }
    let (all, searched) = bench.find(9, Box::new(|_| true)).await;
    assert_eq!((all, searched.is_complete), (vec!["a".into(), "b".into(), "a".into()], true));
    let (two, searched) = bench.find(2, Box::new(|_| true)).await;
    assert_eq!((two.len(), searched.is_complete), (2, false));
    assert_eq!(bench.find(2, head_is("a")).await.0, ["a", "a"]);
}

#[tokio::test]
async fn a_found_message_has_its_place_its_bytes_and_its_time() {
    let bench = Bench::new().await;
    bench.send("early", Visible::AtOnce).await;
    bench.clock.0.store(600_000, Ordering::Relaxed);
    let begin_ms = bench.clock.wall_ms();
    bench.send("late", Visible::AtOnce).await;
    let due_ms = begin_ms + 60_000;
    bench.send("timed", Visible::At { due_ms }).await;
    let find = FindMessages {
        topic: topic(),
        times: begin_ms..=u64::MAX,
        from: 0,
        messages_max: 9,
        key_hash: None,
    };
    let found = bench.shard.find_messages(find, Box::new(|_| true)).await.unwrap().messages;
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].queue, found[0].offset), (0, Some(1)));
    assert_eq!(&found[0].body[..], b"body of late");
    assert!(found[0].stored_ms >= begin_ms);
    assert_eq!((found[1].offset, found[1].appearance), (None, Appearance::At(due_ms)));
    let absent = TopicName::parse("absent").unwrap();
    let find = FindMessages {
        topic: absent.clone(),
        times: 0..=u64::MAX,
        from: 0,
        messages_max: 9,
        key_hash: None,
    };
    let refused = bench.shard.find_messages(find, Box::new(|_| true)).await.unwrap_err();
    assert_eq!(refused, Refusal::TopicNotFound(absent));
}

#[tokio::test]
async fn every_delivery_is_told_with_its_client_until_the_acknowledgement() {
    let bench = Bench::new().await;
    bench.send("a", Visible::AtOnce).await;
    bench.send("b", Visible::AtOnce).await;
    let first = bench.receive(topic(), "billing", "client-1").await;
    let handle = first[0];
    let change = ChangeInvisible { group: billing(), topic: topic(), handle, invisible_ms: 30_000 };
    bench.ask(Command::ChangeInvisible(change)).await;
    bench.clock.0.store(60_000, Ordering::Relaxed);
    let again = bench.receive(topic(), "billing", "client-2").await;
    let of_a = again.into_iter().filter(|handle| handle.offset == 0).collect();
    bench.acknowledge(of_a).await;
    let (message, told) = bench.trace("a").await;
    assert_eq!((message.offset, &message.body[..]), (Some(0), &b"body of a"[..]));
    let changed = TraceStep::InvisibleChanged { attempt: 1, invisible_until_ms: 0 };
    let expected = [
        (delivered(1), "billing/client-1"),
        (changed, "billing/"),
        (delivered(2), "billing/client-2"),
        (TraceStep::Acknowledged, "billing/"),
    ];
    assert_eq!(told, steps(&expected));
    let (_, told) = bench.trace("b").await;
    assert_eq!(told.len(), 2, "not acknowledged: {told:?}");
}

#[tokio::test]
async fn a_filter_and_a_reset_explain_why_a_message_does_not_come() {
    let bench = Bench::new().await;
    bench.send("a", Visible::AtOnce).await;
    let other_tag = Filter::parse_tags("other").unwrap();
    bench.receive_with(topic(), "billing", "c", other_tag).await;
    bench.send("b", Visible::AtOnce).await;
    for offset in [2, 2, 0] {
        let (group, topic) = (billing(), topic());
        let set = broker_engine::SetOffset { group, topic, queue: 0, offset };
        bench.ask(Command::SetOffset(set)).await;
    }
    let (passed, rewound) = (TraceStep::PassedOver, TraceStep::Rewound);
    let group = "billing/";
    let expected = [(TraceStep::FilteredOut, group), (passed, group), (rewound, group)];
    assert_eq!(bench.trace("a").await.1, steps(&expected));
    assert_eq!(bench.trace("b").await.1, steps(&expected[1..]));
}

#[tokio::test]
async fn timed_messages_are_followed_through_the_queue_they_come_to() {
    let bench = Bench::new().await;
    let due_ms = bench.clock.wall_ms() + 60_000;
    let recalled = bench.send("recalled", Visible::At { due_ms }).await;
    bench.send("timed", Visible::At { due_ms }).await;
    bench.send("another", Visible::At { due_ms }).await;
    bench.send("plain", Visible::AtOnce).await;
    let Some(Hidden::Timed { number, due_ms, .. }) = recalled.hidden else {
        panic!("{recalled:?}")
    };
    let (shard, message_id) = (ShardId(0), String::new());
    let handle =
        RecallHandle { shard, topic: recalled.topic, number, due_ms, message_id, code: None };
    bench.ask(Command::Recall(Recall { topic: topic(), handle })).await;
    bench.clock.0.store(61_000, Ordering::Relaxed);
    // The first makes due what is; the second gets it.
    bench.send("later", Visible::AtOnce).await;
    let handles = bench.receive(topic(), "billing", "c").await;
    bench.acknowledge(handles).await;
    assert_eq!(bench.trace("recalled").await.1, steps(&[(TraceStep::Recalled, "/")]));
    let (message, told) = bench.trace("timed").await;
    let expected =
        [(TraceStep::Due, "/"), (delivered(1), "billing/c"), (TraceStep::Acknowledged, "billing/")];
    assert_eq!((message.offset, told), (Some(1), steps(&expected)));
    assert_eq!(bench.trace("another").await.0.offset, Some(2));
}

#[tokio::test]
async fn half_messages_are_followed_to_the_end_of_their_transaction() {
    let bench = Bench::new().await;
    for (head, is_commit) in [("committed", true), ("rolled back", false)] {
        let sent = bench.send(head, Visible::OnCommit { check_after_ms: 60_000 }).await;
        let Some(Hidden::Half { number, .. }) = sent.hidden else { panic!("{sent:?}") };
        let id = TransactionId { shard: ShardId(0), topic: sent.topic, number, code: None };
        bench.ask(Command::NoteTransactionCheck(id)).await;
        let end = EndTransaction { topic: topic(), id, is_commit };
        bench.ask(Command::EndTransaction(end)).await;
    }
    let handles = bench.receive(topic(), "billing", "c").await;
    bench.acknowledge(handles).await;
    let asked = (TraceStep::ProducerAsked, "/");
    let (message, told) = bench.trace("committed").await;
    let expected = [
        asked,
        (TraceStep::Committed, "/"),
        (delivered(1), "billing/c"),
        (TraceStep::Acknowledged, "billing/"),
    ];
    assert_eq!(told, steps(&expected));
    assert_eq!((message.appearance, message.offset), (Appearance::OnCommit, Some(0)));
    let (message, told) = bench.trace("rolled back").await;
    assert_eq!((message.offset, told), (None, steps(&[asked, (TraceStep::RolledBack, "/")])));
}

#[tokio::test]
async fn a_dead_letter_is_followed_there_and_back() {
    let bench = Bench::new().await;
    bench
        .ask(Command::PutGroup(Box::new(ConsumerGroup::with_defaults(
            GroupName::parse("undertaker").unwrap(),
        ))))
        .await;
    for head in ["other", "a"] {
        bench.send(head, Visible::AtOnce).await;
    }
    for handle in bench.receive(topic(), "billing", "c").await {
        let forward = ForwardToDeadLetter { group: billing(), topic: topic(), handle };
        bench.ask(Command::ForwardToDeadLetter(forward)).await;
    }
    let letters = TopicName::dead_letter_of(&billing());
    assert_eq!(bench.receive(letters, "undertaker", "u").await.len(), 2);
    let redrive = Redrive {
        group: billing(),
        topic: None,
        messages_max: 9,
        only: None,
        is_purge: false,
        is_dry_run: false,
    };
    bench.ask(Command::Redrive(redrive)).await;
    let handles = bench.receive(topic(), "billing", "c").await;
    bench.acknowledge(handles).await;
    let expected = [
        (delivered(1), "billing/c"),
        (TraceStep::DeadLettered, "billing/"),
        (delivered(1), "undertaker/u"),
        (TraceStep::Redriven, "billing/"),
        (delivered(1), "billing/c"),
        (TraceStep::Acknowledged, "billing/"),
    ];
    let (message, told) = bench.trace("a").await;
    assert_eq!((message.offset, told), (Some(1), steps(&expected)));
    let trace = TraceMessage { topic: topic(), since_ms: 0 };
    let traces = bench.shard.trace(trace, head_is("a")).await.unwrap().traces;
    let of: Vec<_> = traces[0].events.iter().map(|e| e.dead_letters_of.is_some()).collect();
    assert_eq!(of, [false, false, true, false, false, false]);
}

#[tokio::test]
async fn a_message_that_was_sent_twice_has_two_traces() {
    let bench = Bench::new().await;
    for _ in 0..TRACED_COPIES_MAX + 1 {
        bench.send("a", Visible::AtOnce).await;
    }
    let trace = TraceMessage { topic: topic(), since_ms: 0 };
    let traces = bench.shard.trace(trace, head_is("a")).await.unwrap();
    assert_eq!((traces.traces.len(), traces.searched.is_complete), (TRACED_COPIES_MAX, false));
    let places: Vec<_> = traces.traces.iter().map(|trace| trace.message.offset).collect();
    assert_eq!(places[..2], [Some(0), Some(1)]);
}

#[tokio::test]
async fn a_search_ends_at_its_bytes_and_when_nobody_waits() {
    let bench = Bench::new().await;
    for _ in 0..20 {
        bench.send("a", Visible::AtOnce).await;
    }
    let reader = lock(&bench.shard.shared.reader).clone();
    let end = bench.shard.shared.durable_position.load(Ordering::Acquire);
    let bounds = |bytes_max| Bounds { times: 0..=u64::MAX, from: 0, end, bytes_max, of_key: None };
    let (given_up, ask) = (AtomicBool::new(false), |_| Err(Refusal::Unavailable));
    let mut search = Search::new(&reader, bounds(1_000), &given_up, &ask).unwrap();
    let read = search.by_ref().map(Result::unwrap).count();
    let Searched { is_complete, until_ms } = search.searched();
    assert!(!is_complete && (3..20).contains(&read) && until_ms > 0, "{read} records");
    let mut search = Search::new(&reader, bounds(u64::MAX), &given_up, &ask).unwrap();
    assert!(search.next().is_some_and(|record| record.is_ok()));
    given_up.store(true, Ordering::Relaxed);
    assert_eq!(search.next().unwrap().unwrap_err(), Refusal::Unavailable);
}

#[tokio::test]
async fn too_many_searches_are_refused_and_damage_is_named() {
    let bench = Bench::new().await;
    bench.send("a", Visible::AtOnce).await;
    let many = u32::try_from(SEARCHES_PER_SHARD_MAX).unwrap();
    let held = Arc::clone(&bench.shard.shared.searches).try_acquire_many_owned(many).unwrap();
    let find = || FindMessages {
        topic: topic(),
        times: 0..=u64::MAX,
        from: 0,
        messages_max: 9,
        key_hash: None,
    };
    let refused = bench.shard.find_messages(find(), head_is("a")).await.unwrap_err();
    assert!(matches!(refused, Refusal::TooMany(_)), "{refused}");
    drop(held);
    assert_eq!(bench.find(9, head_is("a")).await.0, ["a"]);
    bench.disk.flip_bit(&bench.disk.files_ending(".seg")[0], 90, 1);
    let failed = bench.shard.find_messages(find(), head_is("a")).await.unwrap_err();
    assert!(failed.to_string().contains("damaged at log position 0"), "{failed}");
}
