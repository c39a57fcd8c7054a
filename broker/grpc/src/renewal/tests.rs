//! The book-keeping of prolonged deliveries, without a shard.

use broker_model::ShardId;

use super::*;

fn handle(offset: u64, nonce: u32) -> ReceiptHandle {
    ReceiptHandle { shard: ShardId(0), topic: 1, group: 2, queue: 3, offset, nonce, attempt: 1 }
}

fn tracked(renewals: &Renewals, client_id: &str, handle: ReceiptHandle, now_ms: u64) {
    let names = (GroupName::parse("billing").unwrap(), TopicName::parse("orders").unwrap());
    let delivery = Tracked { handle, expires_ms: now_ms + 60_000 };
    renewals.track(&client_id.into(), (&names.0, &names.1), [delivery].into_iter(), now_ms);
}

fn alive(client_id: &str, now_ms: u64) -> Sessions {
    let sessions = Sessions::default();
    sessions.touch(client_id, None, now_ms).unwrap();
    sessions
}

#[tokio::test]
async fn the_clients_handle_stands_for_the_renewed_one() {
    let renewals = Renewals::new();
    tracked(&renewals, "a", handle(7, 1), 0);
    let due = renewals.take_due(&alive("a", 0), 51_000);
    assert_eq!(due.len(), 1);
    renewals.renewed(due[0].0, Ok((handle(7, 2), 60_000)), 51_000);
    let settlement = renewals.settle(handle(7, 1)).await;
    assert_eq!(settlement.handle, handle(7, 2));
    settlement.done();
    assert_eq!(renewals.count(), 0);
    assert_eq!(renewals.settle(handle(7, 1)).await.handle, handle(7, 1), "unknown: as given");
}

#[tokio::test]
async fn settling_waits_for_a_prolonging_on_its_way() {
    let renewals = Arc::new(Renewals::new());
    tracked(&renewals, "a", handle(7, 1), 0);
    let due = renewals.take_due(&alive("a", 0), 55_000);
    let other = Arc::clone(&renewals);
    let settling = tokio::spawn(async move { other.settle(handle(7, 1)).await.handle });
    while renewals.rounds.receiver_count() == 0 {
        tokio::task::yield_now().await;
    }
    renewals.renewed(due[0].0, Ok((handle(7, 9), 60_000)), 55_000);
    renewals.rounds.send_replace(());
    assert_eq!(settling.await.unwrap(), handle(7, 9));
}

#[tokio::test]
async fn a_settlement_that_was_given_up_leaves_the_delivery_prolonged() {
    let renewals = Renewals::new();
    tracked(&renewals, "a", handle(7, 1), 0);
    let settlement = renewals.settle(handle(7, 1)).await;
    assert!(renewals.take_due(&alive("a", 0), 55_000).is_empty(), "not while it is settled");
    drop(settlement);
    assert_eq!(renewals.take_due(&alive("a", 0), 55_000).len(), 1);
}

#[test]
fn a_delivery_is_let_go_when_the_client_is_silent_or_time_is_up() {
    let renewals = Renewals::new();
    tracked(&renewals, "silent", handle(1, 1), 0);
    assert!(renewals.take_due(&Sessions::default(), 55_000).is_empty());
    assert_eq!(renewals.count(), 1, "it may still be settled until its slice ends");
    assert!(renewals.take_due(&Sessions::default(), 60_000).is_empty());
    assert_eq!(renewals.count(), 0);

    tracked(&renewals, "slow", handle(2, 1), 0);
    let key = Key::of(&handle(2, 1));
    renewals.renewed(key, Ok((handle(2, 2), 60_000)), AUTO_RENEW_TOTAL_MS);
    let now_ms = AUTO_RENEW_TOTAL_MS + 55_000;
    assert!(renewals.take_due(&alive("slow", now_ms), now_ms).is_empty());
}

#[test]
fn a_prolonging_that_fails_is_tried_again_a_few_times() {
    let renewals = Renewals::new();
    tracked(&renewals, "a", handle(1, 1), 0);
    for _ in 0..RENEWAL_FAILURES_MAX {
        let due = renewals.take_due(&alive("a", 0), 55_000);
        renewals.renewed(due[0].0, Err(Refusal::Unavailable), 55_000);
    }
    assert!(renewals.take_due(&alive("a", 0), 55_000).is_empty());
    tracked(&renewals, "a", handle(2, 1), 0);
    let due = renewals.take_due(&alive("a", 0), 55_000);
    renewals.renewed(due[0].0, Err(Refusal::InvalidHandle), 55_000);
    assert_eq!(renewals.count(), 1, "a delivery that is over is dropped at once");
}

#[derive(Debug)]
struct StoppedClock;

const NOW_MS: u64 = 1_700_000_000_000;

impl broker_replication::Clock for StoppedClock {
    fn now_ms(&self) -> u64 {
        NOW_MS
    }
}

/// A running shard with one message delivered to group billing for 60 s.
async fn delivered() -> (Catalog, broker_replication::DeliveredMessage) {
    use broker_engine::{NewMessage, Receive, Send, Target, Visible};
    use broker_model::{ConsumerGroup, Filter, MessageType, QueuePlacement, Topic};
    let disk: Arc<dyn broker_store::Disk> =
        Arc::new(broker_store::simulated_disk::SimulatedDisk::default());
    let options = broker_replication::ShardOptions {
        id: ShardId(0),
        data: "/data".into(),
        segment_bytes: broker_store::limits::SEGMENT_BYTES_MIN,
        seed: 7,
        keys_of_head: crate::keys_of_head,
    };
    let shard = broker_replication::open_shard(&disk, Arc::new(StoppedClock), &options).unwrap();
    let handle = shard.handle.clone();
    tokio::spawn(shard.run(tokio::sync::mpsc::unbounded_channel().0));
    let catalog = Catalog::new(vec![handle.clone()], Vec::new(), Vec::new(), 1);
    let (group, topic) =
        (GroupName::parse("billing").unwrap(), TopicName::parse("orders").unwrap());
    let settings = Topic::with_defaults(
        topic.clone(),
        MessageType::Normal,
        vec![QueuePlacement { shard: ShardId(0), queues: 1 }],
    );
    catalog.apply_topic(settings, Default::default()).await.unwrap();
    let billing = ConsumerGroup::with_defaults(group.clone());
    catalog.apply_group(billing, Default::default()).await.unwrap();
    let messages = vec![NewMessage {
        tag_hash: 0,
        message_group_hash: 0,
        visible: Visible::AtOnce,
        head: "head".into(),
        body: "body".into(),
    }];
    handle
        .submit(Command::Send(Send { topic: topic.clone(), messages, target: Target::AnyQueue }))
        .await
        .unwrap();
    let receive = Receive {
        group,
        topic,
        filter: Filter::All,
        messages_max: 1,
        invisible_ms: 60_000,
        poll_until_ms: NOW_MS,
        client_id: "tester".into(),
        attempt_id: String::new(),
        lite_topics: None,
    };
    let mut messages = handle.receive(receive, None).await.unwrap();
    (catalog, messages.remove(0))
}

#[tokio::test]
async fn a_round_prolongs_on_the_shard_and_the_old_handle_still_settles() {
    use broker_engine::Acknowledge;
    let (catalog, message) = delivered().await;
    let renewals = Renewals::new();
    tracked(&renewals, "a", message.handle, NOW_MS);
    let later_ms = NOW_MS + 55_000;
    renewals.round(&catalog, &alive("a", later_ms), later_ms).await;
    let settlement = renewals.settle(message.handle).await;
    assert_ne!(settlement.handle, message.handle, "the shard made a new handle");
    let command = Acknowledge {
        group: GroupName::parse("billing").unwrap(),
        topic: TopicName::parse("orders").unwrap(),
        handles: vec![settlement.handle],
    };
    let outcome = catalog.shards()[0].submit(Command::Acknowledge(command)).await.unwrap();
    assert!(matches!(outcome, Outcome::Acknowledged(results) if results == [Ok(())]));
    settlement.done();
    let progress = catalog.progress(None).await.unwrap();
    assert_eq!(progress[0].lag_messages, 0);
}

#[tokio::test]
async fn a_client_that_is_gone_gives_back_what_it_holds() {
    let (catalog, message) = delivered().await;
    let renewals = Renewals::new();
    tracked(&renewals, "a", message.handle, NOW_MS);
    renewals.release_client(&catalog, "b").await;
    assert_eq!(renewals.count(), 1, "others keep theirs");
    renewals.release_client(&catalog, "a").await;
    assert_eq!(renewals.count(), 0);
    let old = renewals.settle(message.handle).await.handle;
    let command = ChangeInvisible {
        group: GroupName::parse("billing").unwrap(),
        topic: TopicName::parse("orders").unwrap(),
        handle: old,
        invisible_ms: 0,
    };
    let refused = catalog.shards()[0].submit(Command::ChangeInvisible(command)).await;
    assert_eq!(refused.unwrap_err(), Refusal::InvalidHandle, "the client's handle is void");
}
