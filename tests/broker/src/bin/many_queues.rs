//! Measures a broker with very many queues: `many_queues [TOPICS] [QUEUES] [GROUPS]`, by default 100,000 topics of 10
//! queues and no groups. Creates them, sends to some, starts the broker again, and prints what that took. Each group makes
//! progress on 2,000 topics. Set PINNACE_BINARY to a release build. Fails beyond 1 GiB resident or 10 s to ready.

use std::time::{Duration, Instant};

use broker_proto::admin::{
    ApplyTopicRequest, ListTopicsRequest, MessageType, ResetOffsetsRequest, StartFrom, Topic,
    admin_client::AdminClient, reset_offsets_request::To,
};
use broker_proto::rocketmq::Code;
use tests_broker::client::message;
use tests_broker::{Broker, Options, Place, get};
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// Most that a broker of the default size may have resident.
const RESIDENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Longest start of a broker of the default size.
const START_MAX: Duration = Duration::from_secs(10);
/// Calls under way at one time.
const CALLS: usize = 64;
/// Topics that a group makes progress on.
const TOPICS_OF_GROUP: usize = 2_000;
/// Topics that get a message.
const TOPICS_USED: usize = 1_000;
/// Largest answer taken.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut next = |default| numbers.next().unwrap_or(Ok(default)).expect("a number");
    let (topics, queues, groups) = (next(100_000), next(10), next(0));
    let place = Place::new();
    let broker = place.start(&Options::default());
    report("empty", &broker);

    let begun = Instant::now();
    create(&broker, topics, queues).await;
    println!(
        "created {topics} topics of {queues} queues in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    report("created", &broker);
    send(&broker, topics.min(TOPICS_USED)).await;
    report("sent to", &broker);
    if groups > 0 {
        let begun = Instant::now();
        make_progress(&broker, topics.min(TOPICS_OF_GROUP), groups).await;
        println!("{groups} groups made progress in {:.1} s", begun.elapsed().as_secs_f64());
        report("received", &broker);
    }
    let asked_bytes = ask(&broker, topics).await;
    report("asked", &broker);

    broker.kill();
    let broker = place.start(&Options::default());
    let started_in = broker.started_in;
    println!("started again in {:.2} s", started_in.as_secs_f64());
    let resident_bytes = report("started again", &broker);
    assert!(resident_bytes.max(asked_bytes) < RESIDENT_BYTES_MAX, "it takes too much memory");
    assert!(started_in < START_MAX, "it takes too long to start");
}

fn name(number: usize) -> String {
    format!("topic-{number:06}")
}

fn report(when: &str, broker: &Broker) -> u64 {
    let bytes = broker.resident_bytes().expect("the broker runs");
    println!("{when}: {:.1} MiB resident", bytes as f64 / (1024.0 * 1024.0));
    bytes
}

async fn create(broker: &Broker, topics: usize, queues: usize) {
    let admin = broker.admin().await;
    let mut calls = JoinSet::new();
    for number in 0..topics {
        if calls.len() >= CALLS {
            calls.join_next().await;
        }
        calls.spawn(create_topic(admin.clone(), name(number), queues));
    }
    let _created = calls.join_all().await;
}

async fn create_topic(mut admin: AdminClient<Channel>, name: String, queues: usize) {
    let queues = u32::try_from(queues).expect("few enough");
    let r#type = MessageType::Normal.into();
    let topic = Topic { name, r#type, queues, ..Topic::default() };
    let request = ApplyTopicRequest { topic: Some(topic), ..ApplyTopicRequest::default() };
    admin.apply_topic(request).await.expect("the topic is created");
}

async fn send(broker: &Broker, topics: usize) {
    let mut client = broker.client("many-queues").await;
    for number in 0..topics {
        let sent = client.send(vec![message(&name(number), "id", b"body")]).await.expect("sent");
        assert_eq!(sent.entries[0].status.as_ref().map(|status| status.code()), Some(Code::Ok));
    }
}

async fn make_progress(broker: &Broker, topics: usize, groups: usize) {
    let mut admin = broker.admin().await;
    let topics: Vec<String> = (0..topics).map(name).collect();
    for group in 0..groups {
        let group = format!("group-{group:03}");
        broker.create_group(&group, 0).await;
        let to = Some(To::Position(StartFrom::Earliest.into()));
        let request = ResetOffsetsRequest { group, topics: topics.clone(), to, id: String::new() };
        admin.reset_offsets(request).await.expect("the progress is set");
    }
}

/// What operators ask; returns the resident memory when the answers were there.
async fn ask(broker: &Broker, topics: usize) -> u64 {
    let begun = Instant::now();
    let page = get(broker.http, "/metrics").expect("the page is served");
    let (bytes, took) = (page.len(), begun.elapsed().as_secs_f64());
    println!("/metrics: {} lines, {bytes} bytes in {took:.3} s", page.lines().count());
    let mut admin = broker.admin().await.max_decoding_message_size(ANSWER_BYTES_MAX);
    let begun = Instant::now();
    let listed = admin.list_topics(ListTopicsRequest::default()).await.expect("listed");
    assert_eq!(listed.into_inner().topics.len(), topics, "every topic is listed");
    println!("all topics listed in {:.3} s", begun.elapsed().as_secs_f64());
    report("after that", broker)
}
