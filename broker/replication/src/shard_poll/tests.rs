//! Which shard is asked when, what an empty answer may hide, and that of shards with one claim one hands out.

use std::path::PathBuf;

use broker_engine::{Command, NewMessage, Outcome, ProgressQuery, Send, Target, Visible};
use broker_model::{
    ConsumerGroup, Filter, GroupName, MessageType, QueuePlacement, Topic, TopicName,
};
use broker_store::Disk;
use broker_store::limits::SEGMENT_BYTES_USUAL;
use broker_store::simulated_disk::SimulatedDisk;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::*;
use crate::clock::Clock;
use crate::shard::{ShardOptions, open_shard};

fn failed() -> Refusal {
    Refusal::LogFailed("torn".to_owned())
}

fn busy() -> Refusal {
    Refusal::TooMany("polls".to_owned())
}

#[test]
fn each_shard_is_asked_in_turn_and_then_all_of_them_wait_together() {
    let mut poll = ShardPoll::new(3, 1);
    let mut asked = Vec::new();
    let together = loop {
        match poll.ask() {
            Ask::AtOnce(place) => asked.push(place),
            Ask::Together(places, _) => break places,
            Ask::Nobody(verdict) => panic!("{verdict:?}"),
        }
    };
    assert_eq!((asked, together), (vec![1, 2, 0], vec![1, 2, 0]));
    assert!(matches!(poll.ask(), Ask::Nobody(Ok(()))));
    poll.begin_waiting_again();
    assert!(matches!(poll.ask(), Ask::Together(..)), "who claimed it had nothing after all");
    assert!(matches!(ShardPoll::new(1, 0).ask(), Ask::Together(..)), "one alone waits at once");
}

#[test]
fn an_empty_answer_hides_no_refusal_that_says_that_something_is_wrong() {
    // What shard 0 and shard 1 refuse with, if they do; what is answered.
    let rows = [
        (None, None, Ok(())),
        (None, Some(failed()), Err(failed())),
        (Some(failed()), None, Err(failed())),
        (None, Some(busy()), Ok(())),
        (Some(busy()), Some(busy()), Err(busy())),
        (Some(busy()), Some(failed()), Err(failed())),
    ];
    for (first, second, expected) in rows {
        let mut poll = ShardPoll::new(2, 0);
        let refusals = [first, second];
        let verdict = loop {
            match poll.ask() {
                Ask::AtOnce(place) => {
                    if let Some(refusal) = refusals[place].clone() {
                        poll.refused(place, refusal);
                    }
                }
                Ask::Together(places, _) => {
                    assert!(places.iter().all(|place| refusals[*place].is_none()));
                }
                Ask::Nobody(verdict) => break verdict,
            }
        };
        assert_eq!(verdict, expected, "{refusals:?}");
    }
}

#[test]
fn a_claim_is_of_the_shard_that_came_first_and_stays_with_it() {
    let claim = Claim::default();
    assert!(!claim.is_lost_to(ShardId(0)) && !claim.is_held_by(ShardId(0)));
    assert!(claim.take(ShardId(0)) && claim.take(ShardId(0)) && !claim.take(ShardId(1)));
    assert!(claim.is_held_by(ShardId(0)) && !claim.is_held_by(ShardId(1)));
    assert!(claim.is_lost_to(ShardId(1)) && !claim.is_lost_to(ShardId(0)));
}

/// The time never passes: whoever waits does so until messages come.
#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn monotonic_ms(&self) -> u64 {
        1_000
    }

    fn wall_ms(&self) -> u64 {
        1_000
    }
}

fn topic() -> TopicName {
    TopicName::parse("orders").unwrap()
}

fn group() -> GroupName {
    GroupName::parse("billing").unwrap()
}

async fn shards(count: u32) -> Vec<ShardHandle> {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    let placement = (0..count).map(|id| QueuePlacement { shard: ShardId(id), queues: 1 });
    let settings = Topic::with_defaults(topic(), MessageType::Normal, placement.collect());
    let mut shards = Vec::new();
    for id in 0..count {
        let options = ShardOptions {
            id: ShardId(id),
            data: PathBuf::from("/data"),
            segment_bytes: SEGMENT_BYTES_USUAL,
            seed: 1.into(),
            keys_of_head: |_, _| {},
            memory: crate::Memory::default(),
        };
        let open = open_shard(&disk, Arc::new(Stopped), &options).unwrap();
        shards.push(open.handle.clone());
        tokio::spawn(open.run(mpsc::unbounded_channel().0));
        shards[id as usize].submit(Command::PutTopic(Box::new(settings.clone()))).await.unwrap();
        let group = ConsumerGroup::with_defaults(group());
        shards[id as usize].submit(Command::PutGroup(Box::new(group))).await.unwrap();
    }
    shards
}

async fn send(shard: &ShardHandle) {
    let message = NewMessage {
        tag_hash: 0,
        message_group_hash: 0,
        visible: Visible::AtOnce,
        head: Bytes::new(),
        body: Bytes::from_static(b"a body"),
    };
    let send = Send { topic: topic(), messages: vec![message], target: Target::AnyQueue };
    shard.submit(Command::Send(send)).await.unwrap();
}

fn receive() -> Receive {
    Receive {
        group: group(),
        topic: topic(),
        filter: Filter::All,
        messages_max: 32,
        invisible_ms: 60_000,
        poll_until_ms: 2_000,
        client_id: "tester".into(),
        attempt_id: String::new(),
        lite_topics: None,
    }
}

/// (waiting, in flight) of the group on a shard.
async fn numbers(shard: &ShardHandle) -> (usize, u64) {
    match shard.submit(Command::ReadProgress(ProgressQuery::default())).await {
        Ok(Outcome::Progress(progress, _)) => (
            progress.iter().map(|p| p.waiters).sum(),
            progress.iter().map(|p| p.inflight_messages).sum(),
        ),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn of_shards_that_share_a_claim_one_hands_out_and_the_next_poll_gets_what_the_other_has() {
    let shards = shards(2).await;
    let claim = Claim::default();
    let waiting: Vec<_> = shards
        .iter()
        .map(|shard| {
            let (shard, claim) = (shard.clone(), claim.clone());
            tokio::spawn(async move { shard.receive(receive(), Some(claim)).await })
        })
        .collect();
    for shard in &shards {
        while numbers(shard).await.0 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for shard in &shards {
        send(shard).await;
    }
    let mut received = Vec::new();
    for poll in waiting {
        received.push(poll.await.unwrap().unwrap().len());
    }
    assert_eq!(received, [1, 0], "the one that was sent to first answers");
    assert!(claim.is_held_by(ShardId(0)));
    assert_eq!(numbers(&shards[1]).await, (0, 0), "what nobody can take is not handed out");
    let (place, messages) =
        receive_from_any(&[&shards[0], &shards[1]], 0, &receive()).await.unwrap();
    assert_eq!((place, messages.len(), messages[0].handle.attempt), (1, 1, 1));
}

#[tokio::test]
async fn a_watch_hears_of_messages_and_leaves_them_to_who_waits_behind_it() {
    let shards = shards(2).await;
    let watch = tokio::spawn({
        let shards = shards.clone();
        async move { watch_any(&[&shards[0], &shards[1]], &receive()).await }
    });
    while numbers(&shards[1]).await.0 == 0 {
        tokio::task::yield_now().await;
    }
    let behind = tokio::spawn({
        let shard = shards[1].clone();
        async move { shard.receive(receive(), None).await }
    });
    while numbers(&shards[1]).await.0 < 2 {
        tokio::task::yield_now().await;
    }
    send(&shards[1]).await;
    assert_eq!(watch.await.unwrap(), Ok(true));
    let messages = behind.await.unwrap().unwrap();
    assert_eq!(messages.iter().map(|m| m.handle.attempt).collect::<Vec<_>>(), [1]);
    // What is there already is heard of at once, and counts for nobody.
    send(&shards[0]).await;
    assert_eq!(watch_any(&[&shards[0], &shards[1]], &receive()).await, Ok(true));
    assert_eq!(numbers(&shards[0]).await, (0, 0));
    let messages = shards[0].receive(receive(), None).await.unwrap();
    assert_eq!((messages.len(), messages[0].handle.attempt), (1, 1));
}
