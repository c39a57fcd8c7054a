//! Groups by first use on real shards: which of them are forgotten, on all shards or on none, and over a restart.

use std::path::PathBuf;

use broker_engine::SetOffset;
use broker_model::limits::{GROUP_PROGRESS_UNUSED_HOURS_MAX, GROUP_UNUSED_HOURS_MAX};
use broker_model::{ConsumerGroup, MessageType, QueuePlacement, ShardId, Topic, TopicName};
use broker_store::Disk;
use broker_store::limits::SEGMENT_BYTES_MIN;
use broker_store::simulated_disk::SimulatedDisk;
use tokio::sync::mpsc;

use super::*;
use crate::clock::SystemClock;
use crate::shard::{ShardOptions, open_shard};
use crate::{ApplyOptions, Memory};

async fn start(disk: &Arc<dyn Disk>) -> Catalog {
    let (mut handles, mut known) = (Vec::new(), Vec::new());
    for id in 0..2 {
        let options = ShardOptions {
            id: ShardId(id),
            data: PathBuf::from("/data"),
            segment_bytes: SEGMENT_BYTES_MIN,
            seed: 1.into(),
            keys_of_head: |_, _| {},
            memory: Memory::default(),
        };
        let mut open = open_shard(disk, Arc::new(SystemClock), &options).unwrap();
        handles.push(open.handle.clone());
        known.push(std::mem::take(&mut open.known));
        tokio::spawn(open.run(mpsc::unbounded_channel().0));
    }
    let catalog = Catalog::new(handles, known, 1);
    catalog.complete_shards().await.unwrap();
    catalog
}

fn name(text: &str) -> GroupName {
    GroupName::parse(text).unwrap()
}

fn topic() -> TopicName {
    TopicName::parse("orders").unwrap()
}

async fn serve_hours(catalog: &Catalog, hours: u64) {
    let mut round = UseRound::default();
    for _ in 0..hours {
        catalog.use_round(&mut round, true).await.unwrap();
    }
}

/// A message on the second shard alone, which the group is past.
async fn set_progress(catalog: &Catalog, group: &str) {
    let placement = vec![QueuePlacement { shard: ShardId(1), queues: 1 }];
    let settings = Topic::with_defaults(topic(), MessageType::Normal, placement);
    catalog.apply_topic(settings, ApplyOptions::default()).await.unwrap();
    let message = broker_engine::NewMessage {
        tag_hash: 0,
        message_group_hash: 0,
        visible: broker_engine::Visible::AtOnce,
        head: bytes::Bytes::new(),
        body: bytes::Bytes::from_static(b"a body"),
    };
    let target = broker_engine::Target::AnyQueue;
    let send = broker_engine::Send { topic: topic(), messages: vec![message], target };
    let shard = &catalog.shards()[1];
    shard.submit(Command::Send(send)).await.unwrap();
    let set = SetOffset { group: name(group), topic: topic(), queue: 0, offset: 1 };
    shard.submit(Command::SetOffset(set)).await.unwrap();
}

fn names(catalog: &Catalog) -> Vec<String> {
    catalog.groups().iter().map(|entry| entry.group.name.to_string()).collect()
}

#[tokio::test]
async fn groups_that_nobody_declared_or_used_for_long_go_from_all_shards() {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    let catalog = start(&disk).await;
    for group in ["declared-later", "stranger", "used", "weekly"] {
        catalog.ensure_group(&name(group)).await.unwrap();
    }
    // The settings are those that it has.
    let declared = ConsumerGroup::with_defaults(name("declared-later"));
    let (_, is_changed) = catalog.apply_group(declared, ApplyOptions::default()).await.unwrap();
    assert!(is_changed);
    set_progress(&catalog, "weekly").await;
    serve_hours(&catalog, GROUP_UNUSED_HOURS_MAX - 1).await;
    assert_eq!(names(&catalog).len(), 4);
    catalog.ensure_group(&name("used")).await.unwrap();
    serve_hours(&catalog, 2).await;
    assert_eq!(names(&catalog), ["declared-later", "used", "weekly"]);
    for shard in catalog.shards() {
        shard.stop().await;
    }
    let catalog = start(&disk).await;
    assert_eq!(names(&catalog), ["declared-later", "used", "weekly"]);
    // It was used two hours before; these go on to count.
    serve_hours(&catalog, GROUP_UNUSED_HOURS_MAX - 3).await;
    assert_eq!(names(&catalog), ["declared-later", "used", "weekly"]);
    serve_hours(&catalog, 1).await;
    assert_eq!(names(&catalog), ["declared-later", "weekly"]);
    serve_hours(&catalog, GROUP_PROGRESS_UNUSED_HOURS_MAX).await;
    assert_eq!(names(&catalog), ["declared-later"]);
    assert!(catalog.ensure_group(&name("weekly")).await.is_ok(), "it may come back");
}

#[tokio::test]
async fn a_group_that_is_used_while_it_is_looked_at_stays() {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    let catalog = start(&disk).await;
    catalog.ensure_group(&name("stranger")).await.unwrap();
    let mut round = UseRound::default();
    for _ in 0..2 * GROUP_UNUSED_HOURS_MAX {
        catalog.ensure_group(&name("stranger")).await.unwrap();
        catalog.use_round(&mut round, true).await.unwrap();
    }
    assert_eq!(names(&catalog), ["stranger"]);
    // One shard has seen a use that the other has not.
    for _ in 0..GROUP_UNUSED_HOURS_MAX + 1 {
        let groups = vec![name("stranger")];
        let used = Command::NoteGroupUse { groups, is_hour_over: true };
        catalog.shards()[1].submit(used).await.unwrap();
        let passed = Command::NoteGroupUse { groups: Vec::new(), is_hour_over: true };
        catalog.shards()[0].submit(passed).await.unwrap();
    }
    catalog.use_round(&mut round, false).await.unwrap();
    assert!(!catalog.forget_group(&name("stranger")).await.unwrap());
    assert_eq!(names(&catalog), ["stranger"]);
    assert!(catalog.ensure_group(&name("stranger")).await.is_ok());
}
