//! Fills each budget of a shard that does not run yet, then runs it: what was taken in is answered, and room is back.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use broker_engine::{
    NewMessage, OffsetAt, Outcome, ProgressQuery, Receive, Reply, ResetOffsets, Send, Target,
    Visible,
};
use broker_model::{
    ConsumerGroup, Filter, GroupName, MessageType, QueuePlacement, ShardId, Topic, TopicName,
};
use broker_store::Disk;
use broker_store::limits::SEGMENT_BYTES_USUAL;
use broker_store::simulated_disk::SimulatedDisk;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::*;
use crate::clock::Clock;
use crate::shard::{OpenShard, ShardHandle, ShardOptions, open_shard};

const BODY_BYTES: usize = 4 * 1024 * 1024;
/// Shared, so that a test of a budget that is missing does not take the memory itself.
static BODY: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![7; BODY_BYTES]));

#[derive(Debug)]
struct StoppedClock;

impl Clock for StoppedClock {
    fn monotonic_ms(&self) -> u64 {
        1_000_000
    }

    fn wall_ms(&self) -> u64 {
        1_000_000
    }
}

fn open(disk: &Arc<dyn Disk>) -> OpenShard {
    open_with(disk, Memory::default())
}

fn open_with(disk: &Arc<dyn Disk>, memory: Memory) -> OpenShard {
    let data = PathBuf::from("/data");
    let options = ShardOptions {
        id: ShardId(0),
        data,
        segment_bytes: SEGMENT_BYTES_USUAL,
        seed: 1.into(),
        keys_of_head: |_, _| {},
        memory,
    };
    open_shard(disk, Arc::new(StoppedClock), &options).unwrap()
}

/// A shard that knows the topic and the group, and does not run yet.
async fn opened() -> OpenShard {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    let first = open(&disk);
    let shard = first.handle.clone();
    let (events, _listener) = mpsc::unbounded_channel();
    let running = tokio::spawn(first.run(events));
    shard.submit(put_topic()).await.unwrap();
    shard.submit(put_group()).await.unwrap();
    shard.stop().await;
    running.await.unwrap();
    open(&disk)
}

fn topic() -> TopicName {
    TopicName::parse("orders").unwrap()
}

fn group() -> GroupName {
    GroupName::parse("billing").unwrap()
}

fn put_topic() -> Command {
    let placement = vec![QueuePlacement { shard: ShardId(0), queues: 1 }];
    Command::PutTopic(Box::new(Topic::with_defaults(topic(), MessageType::Normal, placement)))
}

fn put_group() -> Command {
    Command::PutGroup(Box::new(ConsumerGroup::with_defaults(group())))
}

fn large_send() -> Command {
    let message = NewMessage {
        tag_hash: 0,
        message_group_hash: 0,
        visible: Visible::AtOnce,
        head: Bytes::from_static(b"head"),
        body: BODY.clone(),
    };
    Command::Send(Send { topic: topic(), messages: vec![message], target: Target::AnyQueue })
}

fn poll(lite_topics: Option<Arc<BTreeSet<String>>>) -> Command {
    Command::Receive(Receive {
        group: group(),
        topic: topic(),
        filter: Filter::All,
        messages_max: 1,
        invisible_ms: 10_000,
        // Over already: answered at once when there is nothing.
        poll_until_ms: 0,
        client_id: "client".into(),
        attempt_id: String::new(),
        lite_topics,
    })
}

fn reset(id_bytes: usize) -> Command {
    let (topics, id) = (vec![topic()], "r".repeat(id_bytes));
    Command::ResetOffsets(ResetOffsets { group: group(), topics, to: OffsetAt::Latest, id })
}

fn start(waiting: &mut JoinSet<Reply>, shard: &ShardHandle, command: Command) {
    let shard = shard.clone();
    waiting.spawn(async move { shard.submit(command).await });
}

fn is_too_many(reply: &Reply) -> bool {
    matches!(reply, Err(Refusal::TooMany(_)))
}

/// Hands commands over until one is refused; returns how many were taken in.
async fn fill(
    waiting: &mut JoinSet<Reply>,
    shard: &ShardHandle,
    command: impl Fn() -> Command,
) -> usize {
    for taken in 0..4096 {
        start(waiting, shard, command());
        // Everything that can go on has done so when this task is the only one left to run.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        if let Some(refused) = waiting.try_join_next() {
            let refused = refused.unwrap();
            assert!(is_too_many(&refused), "{refused:?}");
            return taken;
        }
    }
    panic!("nothing was refused");
}

#[tokio::test]
async fn sends_beyond_the_budget_are_refused_and_small_commands_are_not() {
    let opened = opened().await;
    let shard = opened.handle.clone();
    let mut waiting = JoinSet::new();
    let sends = fill(&mut waiting, &shard, large_send).await;
    // The fixed parts of the messages take the place of the last one.
    assert_eq!(sends, SEND_BYTES_PER_SHARD_MAX / BODY_BYTES - 1);
    let refused = shard.submit(large_send()).await.unwrap_err();
    assert!(refused.to_string().contains("64 MiB of sends"), "{refused}");

    start(&mut waiting, &shard, reset(10));
    start(&mut waiting, &shard, poll(None));
    let (events, _listener) = mpsc::unbounded_channel();
    tokio::spawn(opened.run(events));
    let mut stored = 0;
    while let Some(reply) = waiting.join_next().await {
        stored += usize::from(matches!(reply.unwrap().unwrap(), Outcome::Sent(_)));
    }
    assert_eq!(stored, sends, "what was taken in is carried out, small commands too");
    for _ in 0..2 * sends {
        assert!(matches!(shard.submit(large_send()).await, Ok(Outcome::Sent(_))), "room is back");
    }
    shard.stop().await;
}

#[tokio::test]
async fn polls_beyond_the_budget_are_refused_and_sends_are_not() {
    let opened = opened().await;
    let shard = opened.handle.clone();
    let names: BTreeSet<String> = (0..2000).map(|n| format!("{n:064}")).collect();
    let names = Arc::new(names);
    let mut waiting = JoinSet::new();
    let polls = fill(&mut waiting, &shard, || poll(Some(names.clone()))).await;
    assert!(polls > 100 && polls * 2000 * 64 <= POLL_BYTES_PER_SHARD_MAX, "{polls} polls");
    start(&mut waiting, &shard, large_send());
    let (events, _listener) = mpsc::unbounded_channel();
    tokio::spawn(opened.run(events));
    while let Some(reply) = waiting.join_next().await {
        assert!(!is_too_many(&reply.unwrap()));
    }
    assert!(!is_too_many(&shard.submit(poll(Some(names))).await), "room is back");
    shard.stop().await;
}

#[tokio::test]
async fn small_commands_have_a_budget_too() {
    let opened = opened().await;
    let shard = opened.handle.clone();
    let mut waiting = JoinSet::new();
    let half_bytes = SMALL_COMMAND_BYTES_PER_SHARD_MAX / 2;
    assert_eq!(fill(&mut waiting, &shard, || reset(half_bytes)).await, 1);
    start(&mut waiting, &shard, large_send());
    // The reset with its long id is no legal command, and answered as such; what counts is that it goes on.
    let (events, _listener) = mpsc::unbounded_channel();
    tokio::spawn(opened.run(events));
    while let Some(reply) = waiting.join_next().await {
        assert!(!is_too_many(&reply.unwrap()));
    }
    let progress = shard.submit(Command::ReadProgress(ProgressQuery::default())).await;
    assert!(matches!(progress, Ok(Outcome::Progress(_, _))), "{progress:?}");
    shard.stop().await;
}

#[tokio::test]
async fn shards_share_the_memory_of_the_process() {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    // A quarter of half of it is for sends: three large ones, and none of them is over before the shard runs.
    let opened = open_with(&disk, Memory::of_process(112 << 20));
    let shard = opened.handle.clone();
    let mut waiting = JoinSet::new();
    assert_eq!(fill(&mut waiting, &shard, large_send).await, 3);
    let refused = shard.submit(large_send()).await.unwrap_err();
    assert!(refused.to_string().contains("13 MiB of sends"), "{refused}");
}
