//! What consensus with one voter costs against a bare log: the same sends through engine and log with and without
//! raft-rs between them, alternately, on a disk in memory. Prints microseconds of this thread per frame.
//!
//! `cargo run --release -p broker-replication --example raft_cost`

use std::sync::Arc;
use std::time::Instant;

use broker_engine::{Command, Effects, Engine, NewMessage, ReplyTo, Send, Target, Visible};
use broker_model::{MessageType, Now, QueuePlacement, ShardId, Topic, TopicName};
use broker_replication::replica;
use broker_replication::transport::NoPeers;
use broker_store::log::{LogEnd, LogOptions};
use broker_store::simulated_disk::SimulatedDisk;
use broker_store::{Disk, FrameKind, NewFrame, recovery};
use bytes::Bytes;

const FRAMES: u32 = 20_000;
const ROUNDS: usize = 7;

#[derive(Debug)]
struct Nobody;

impl ReplyTo for Nobody {
    fn is_gone(&self) -> bool {
        false
    }
}

fn topic() -> Topic {
    Topic::with_defaults(
        TopicName::parse("orders").expect("a legal name"),
        MessageType::Normal,
        vec![QueuePlacement { shard: ShardId(0), queues: 8 }],
    )
}

fn send(body: &Bytes) -> Command {
    let message = NewMessage {
        tag_hash: 0,
        message_group_hash: 0,
        visible: Visible::AtOnce,
        head: Bytes::from_static(b"head"),
        body: body.clone(),
    };
    Command::Send(Send { topic: topic().name, messages: vec![message], target: Target::AnyQueue })
}

fn medium() -> (Arc<dyn Disk>, LogOptions) {
    let segment_bytes = 64 * 1024 * 1024;
    let options = LogOptions { shard: 0, directory: "log".into(), segment_bytes };
    (Arc::new(SimulatedDisk::default()), options)
}

fn micros_per_frame(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e6 / f64::from(FRAMES)
}

/// Engine and log, nothing between.
fn bare(body: &Bytes) -> f64 {
    let (disk, options) = medium();
    let opened = recovery::open(&disk, &options, LogEnd::default(), &mut |_| Ok(()));
    let (mut log, mut writer) = opened.expect("an empty disk opens");
    let mut engine = Engine::new(ShardId(0), 1.into());
    let mut index = 0;
    let mut frame = |command: Command| {
        let mut effects = Effects::default();
        engine.handle(Now::at(0), command, Nobody, &log, &mut effects);
        index += 1;
        let payload = std::mem::take(&mut effects.payload).freeze();
        let records = effects.records;
        let kind = FrameKind::Entry;
        let new = NewFrame { kind, term: 1, index, time_ms: 0, records, payload: payload.clone() };
        let position = log.append(new).expect("small enough");
        let write = log.take_write().expect("one frame is queued");
        log.written(writer.write(&write).expect("memory does not fail"));
        engine.apply(Now::at(0), position, payload, &mut effects).expect("just encoded");
    };
    frame(Command::PutTopic(Box::new(topic())));
    let begin = Instant::now();
    (0..FRAMES).for_each(|_| frame(send(body)));
    micros_per_frame(begin)
}

/// The same through a replica.
fn replicated(body: &Bytes) -> f64 {
    let (disk, options) = medium();
    let started = replica::start(&disk, &options, Box::new(NoPeers), 1.into(), 0);
    let (mut replica, mut writer) = started.expect("an empty disk opens");
    let mut frame = |command: Command| {
        replica.submit(Now::at(0), command, Nobody);
        while let Some(write) = replica.step(Now::at(0)).write {
            replica.written(Now::at(0), writer.write(&write).expect("memory does not fail"));
        }
    };
    frame(Command::PutTopic(Box::new(topic())));
    let begin = Instant::now();
    (0..FRAMES).for_each(|_| frame(send(body)));
    micros_per_frame(begin)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    let body = Bytes::from(vec![7; 1024]);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(bare(&body));
        with.push(replicated(&body));
    }
    let (without, with) = (median(without), median(with));
    println!("engine and bare log:     {without:.2} us per frame of one 1 KiB message");
    println!("through raft-rs:         {with:.2} us per frame");
    println!("consensus, one voter:    {:.2} us per frame", with - without);
}
