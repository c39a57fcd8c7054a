//! What the key table costs when a segment is sealed: the same segment of 64 MiB sealed with and without it, alternately, on a
//! disk in memory, for messages with and without keys. Prints milliseconds per segment, and the bytes of the table.
//!
//! `cargo run --release -p broker-grpc --example key_table_cost`

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use broker_engine::{Command, NewMessage, ReplyTo, Send, Target, Visible};
use broker_model::{MessageType, Now, QueuePlacement, ShardId, Topic, TopicName};
use broker_proto::rocketmq::{Message, SystemProperties};
use broker_replication::transport::NoPeers;
use broker_replication::{replica, sealing};
use broker_store::log::LogOptions;
use broker_store::simulated_disk::SimulatedDisk;
use broker_store::{Disk, IndexFailure, KeysOfHead};
use bytes::Bytes;
use prost::Message as _;

const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
const MESSAGES_PER_FRAME: u32 = 64;
const ROUNDS: usize = 9;

#[derive(Debug)]
struct Nobody;

impl ReplyTo for Nobody {
    fn is_gone(&self) -> bool {
        false
    }
}

fn head(number: u32, keys: u32) -> Bytes {
    let properties = SystemProperties {
        tag: Some("paid".into()),
        keys: (0..keys).map(|key| format!("invoice-{number}-{key}")).collect(),
        message_id: format!("01AABBCCDDEEFF1234{number:016X}"),
        born_host: "10.0.0.1".into(),
        born_timestamp: Some(prost_types::Timestamp { seconds: 1_900_000_000, nanos: 5 }),
        ..SystemProperties::default()
    };
    let user_properties = [("region".to_owned(), "north".to_owned())].into();
    let system_properties = Some(properties);
    Message { user_properties, system_properties, ..Message::default() }.encode_to_vec().into()
}

fn options() -> LogOptions {
    LogOptions { shard: 0, directory: "log".into(), segment_bytes: SEGMENT_BYTES }
}

/// A disk with one full segment and the beginning of the next, and how many messages were sent.
fn filled(keys: u32, body: &Bytes) -> (SimulatedDisk, u32) {
    let disk = SimulatedDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut replica, mut writer) =
        replica::start::<Nobody>(&shared, &options(), Box::new(NoPeers), 1.into(), 1)
            .expect("it starts");
    let name = TopicName::parse("orders").expect("a legal name");
    let placement = vec![QueuePlacement { shard: ShardId(0), queues: 8 }];
    let topic = Topic::with_defaults(name.clone(), MessageType::Normal, placement);
    replica.submit(Now::at(1), Command::PutTopic(Box::new(topic)), Nobody);
    let mut sent = 0;
    while replica.log().end().position <= SEGMENT_BYTES {
        let messages = (sent..sent + MESSAGES_PER_FRAME).map(|number| NewMessage {
            tag_hash: 1,
            message_group_hash: 0,
            visible: Visible::AtOnce,
            head: head(number, keys),
            body: body.clone(),
        });
        let messages = messages.collect();
        let send = Send { topic: name.clone(), messages, target: Target::AnyQueue };
        replica.submit(Now::at(1), Command::Send(send), Nobody);
        sent += MESSAGES_PER_FRAME;
        while let Some(write) = replica.step(Now::at(1)).write {
            let written = writer.write(&write).expect("a disk in memory");
            replica.written(Now::at(1), written);
        }
    }
    (disk, sent)
}

/// Seals the segment; milliseconds.
fn seal(disk: &SimulatedDisk, keys_of_head: KeysOfHead) -> f64 {
    for path in [".idx", ".keys", ".snap", ".part"].map(|ending| disk.files_ending(ending)).concat()
    {
        disk.remove(&path).expect("it is there");
    }
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let begin = Instant::now();
    let (failure, never) = (IndexFailure::default(), AtomicBool::new(false));
    let sealed = sealing::seal(&shared, &options(), SEGMENT_BYTES, keys_of_head, &failure, &never);
    assert_eq!(sealed.expect("it can be sealed").position, SEGMENT_BYTES);
    begin.elapsed().as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    for (keys, body_bytes) in [(0, 1024), (1, 1024), (3, 1024), (0, 128), (1, 128)] {
        let (disk, sent) = filled(keys, &vec![b'x'; body_bytes].into());
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(seal(&disk, |_, _| {}));
            with.push(seal(&disk, broker_grpc::keys_of_head));
        }
        let table =
            disk.files_ending(".keys").first().and_then(|path| disk.contents(Path::new(path)));
        let table_bytes = table.map_or(0, |bytes| bytes.len());
        println!(
            "{sent} messages of {body_bytes} B with {keys} keys: {:.1} ms without, {:.1} ms with; {table_bytes} B, {:.1} a message",
            median(without),
            median(with),
            table_bytes as f64 / f64::from(sent),
        );
    }
}
