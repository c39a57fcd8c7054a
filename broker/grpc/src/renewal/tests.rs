//! The book-keeping of prolonged deliveries, without a shard.

use broker_model::ShardId;

use super::*;

fn handle(offset: u64, nonce: u32) -> ReceiptHandle {
    ReceiptHandle {
        shard: ShardId(0),
        topic: 1,
        group: 2,
        queue: 3,
        offset,
        nonce,
        attempt: 1,
        code: None,
    }
}

const SLICE_MS: u64 = 60_000;

fn renewals() -> Renewals {
    Renewals::new(RenewalTiming::default())
}

fn receiver(client_id: &str, connection: Option<Connection>) -> Receiver {
    Receiver {
        client_id: client_id.into(),
        group: GroupName::parse("billing").unwrap(),
        topic: TopicName::parse("orders").unwrap(),
        connection,
    }
}

fn tracked(renewals: &Renewals, client_id: &str, handles: &[ReceiptHandle], now_ms: u64) {
    tracked_over(None, renewals, client_id, handles, now_ms);
}

fn tracked_over(
    connection: Option<&Connection>,
    renewals: &Renewals,
    client_id: &str,
    handles: &[ReceiptHandle],
    now_ms: u64,
) {
    let expires_ms = now_ms + SLICE_MS;
    let deliveries: Vec<_> =
        handles.iter().map(|handle| Tracked { handle: *handle, expires_ms }).collect();
    renewals.track(receiver(client_id, connection.cloned()), &deliveries, now_ms);
}

fn alive(client_id: &str, now_ms: u64) -> Sessions {
    let sessions = Sessions::default();
    sessions.touch(client_id, None, now_ms).unwrap();
    sessions
}

/// What a look finds to prolong, by offset, for a client that was seen just then.
fn to_prolong(renewals: &Renewals, now_ms: u64) -> Vec<u64> {
    let due = renewals.take_due(&alive("a", now_ms), now_ms);
    assert!(due.to_release.is_empty());
    let handles = due.to_prolong.iter().flat_map(|(_, held)| held.handles());
    handles.map(|handle| handle.offset).collect()
}

#[test]
fn what_was_handed_out_together_is_prolonged_together_without_what_was_settled() {
    let renewals = renewals();
    tracked(&renewals, "a", &[7, 9, 12].map(|offset| handle(offset, 1)), 0);
    renewals.settled(&handle(9, 1));
    renewals.settled(&handle(9, 1));
    renewals.settled(&handle(8, 1));
    renewals.settled(&handle(7, 2));
    assert!(to_prolong(&renewals, 40_000).is_empty(), "there is time");
    assert_eq!(to_prolong(&renewals, 51_000), [7, 12]);
    assert!(to_prolong(&renewals, 51_000).is_empty(), "it is on its way");
    renewals.prolonged(Key::of(&handle(7, 1)), Ok(60_000), 51_000);
    assert!(to_prolong(&renewals, 100_000).is_empty());
    renewals.settled(&handle(12, 1));
    assert_eq!(to_prolong(&renewals, 105_000), [7]);
    renewals.settled(&handle(7, 1));
    assert_eq!(renewals.count(), 0);
}

#[test]
fn an_answer_whose_connection_broke_early_ends_with_its_slice_and_one_that_outlived_it_does_not() {
    // When the connection broke, whether something of the answer was settled, and whether the rest is prolonged.
    let rows = [
        (None, false, true),
        (Some(1_500), false, false),
        (Some(39_000), false, false),
        (Some(41_000), false, true),
        (Some(1_500), true, true),
    ];
    for (closed_ms, is_seen, is_prolonged) in rows {
        let (renewals, connection) = (renewals(), Connection::default());
        tracked_over(Some(&connection), &renewals, "a", &[handle(1, 1), handle(2, 1)], 0);
        if let Some(closed_ms) = closed_ms {
            connection.close(closed_ms);
        }
        if is_seen {
            renewals.settled(&handle(1, 1));
        }
        assert_eq!(!to_prolong(&renewals, 55_000).is_empty(), is_prolonged, "{closed_ms:?}");
        if !is_prolonged {
            assert!(to_prolong(&renewals, SLICE_MS).is_empty());
            assert_eq!(renewals.count(), 0, "others have it now");
        }
    }
}

#[test]
fn an_answer_that_another_broker_passed_on_is_proven_by_settling_some_of_it() {
    for is_seen in [false, true] {
        let (renewals, connection) = (renewals(), Connection::unproven());
        tracked_over(Some(&connection), &renewals, "a", &[handle(1, 1), handle(2, 1)], 0);
        if is_seen {
            renewals.settled(&handle(1, 1));
        }
        assert_eq!(to_prolong(&renewals, 55_000), if is_seen { vec![2] } else { vec![] });
    }
}

#[test]
fn what_a_silent_client_has_goes_to_others_after_a_slice_however_long_it_was_prolonged() {
    let renewals = renewals();
    tracked(&renewals, "silent", &[handle(1, 1)], 0);
    tracked(&renewals, "a", &[handle(2, 2)], 0);
    let hour_ms = 3_600_000;
    for offset in [1, 2] {
        let key = Key::of(&handle(offset, u32::try_from(offset).unwrap()));
        renewals.prolonged(key, Ok(hour_ms), 0);
    }
    let sessions = alive("silent", 0);
    sessions.touch("a", None, SLICE_MS).unwrap();
    assert!(renewals.take_due(&sessions, SLICE_MS).to_release.is_empty());
    let due = renewals.take_due(&sessions, SLICE_MS + 1);
    let released: Vec<_> = due.to_release.iter().map(|held| held.first.offset).collect();
    assert_eq!((released, renewals.count()), (vec![1], 1));
}

#[test]
fn a_delivery_is_let_go_when_its_time_is_up() {
    let renewals = renewals();
    tracked(&renewals, "a", &[handle(2, 1)], 0);
    let total_ms = renewals.timing.total_ms();
    renewals.prolonged(Key::of(&handle(2, 1)), Ok(SLICE_MS), total_ms);
    assert!(to_prolong(&renewals, total_ms + 55_000).is_empty());
}

#[test]
fn a_prolonging_that_fails_is_tried_again_a_few_times() {
    let renewals = renewals();
    tracked(&renewals, "a", &[handle(1, 1)], 0);
    for _ in 0..RENEWAL_FAILURES_MAX {
        assert_eq!(to_prolong(&renewals, 55_000), [1]);
        renewals.prolonged(Key::of(&handle(1, 1)), Err(Refusal::Unavailable), 55_000);
    }
    assert!(to_prolong(&renewals, 55_000).is_empty());
    tracked(&renewals, "a", &[handle(2, 2)], 0);
    assert_eq!(to_prolong(&renewals, 55_000), [2]);
    renewals.prolonged(Key::of(&handle(2, 2)), Err(Refusal::InvalidHandle), 55_000);
    assert_eq!(renewals.count(), 1, "a delivery that is over is dropped at once");
}

#[derive(Debug)]
struct StoppedClock;

const NOW_MS: u64 = 1_700_000_000_000;

impl broker_replication::Clock for StoppedClock {
    fn monotonic_ms(&self) -> u64 {
        NOW_MS
    }

    fn wall_ms(&self) -> u64 {
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
        segment_bytes: broker_store::limits::SEGMENT_BYTES_USUAL,
        seed: 7.into(),
        keys_of_head: crate::keys_of_head,
        memory: broker_replication::Memory::default(),
    };
    let shard = broker_replication::open_shard(&disk, Arc::new(StoppedClock), &options).unwrap();
    let handle = shard.handle.clone();
    tokio::spawn(shard.run(tokio::sync::mpsc::unbounded_channel().0));
    let catalog = Catalog::new(vec![handle.clone()], Vec::new(), 1);
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
async fn a_round_prolongs_on_the_shard_and_the_handle_of_the_client_stays_valid() {
    use broker_engine::{Acknowledge, Outcome};
    let (catalog, message) = delivered().await;
    let renewals = renewals();
    tracked(&renewals, "a", &[message.handle], NOW_MS);
    let later_ms = NOW_MS + 55_000;
    renewals.round(&catalog, &alive("a", later_ms), later_ms).await;
    assert!(to_prolong(&renewals, later_ms).is_empty(), "it was prolonged");
    let command = Acknowledge {
        group: GroupName::parse("billing").unwrap(),
        topic: TopicName::parse("orders").unwrap(),
        handles: vec![message.handle],
    };
    let outcome = catalog.shards()[0].submit(Command::Acknowledge(command)).await.unwrap();
    assert!(matches!(outcome, Outcome::Acknowledged(results) if results == [Ok(())]));
    let progress = catalog.progress(None).await.unwrap();
    assert_eq!(progress[0].lag_messages, 0);
}

#[tokio::test]
async fn a_client_that_is_gone_gives_back_what_it_holds() {
    let (catalog, message) = delivered().await;
    let renewals = renewals();
    tracked(&renewals, "a", &[message.handle], NOW_MS);
    renewals.release_client(&catalog, "b").await;
    assert_eq!(renewals.count(), 1, "others keep theirs");
    renewals.release_client(&catalog, "a").await;
    assert_eq!(renewals.count(), 0);
    let command = ChangeInvisible {
        group: GroupName::parse("billing").unwrap(),
        topic: TopicName::parse("orders").unwrap(),
        handle: message.handle,
        invisible_ms: 0,
    };
    let refused = catalog.shards()[0].submit(Command::ChangeInvisible(command)).await;
    assert_eq!(refused.unwrap_err(), Refusal::InvalidHandle, "the client's handle is void");
}
