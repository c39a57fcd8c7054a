//! Gives a broker more to do at one moment than fits into a second, and measures what a send of somebody else costs
//! meanwhile: `long_jobs [JOB] [PART] [KILLS]`. JOB is skip, reset, expire, timers, redrive, trim or all; PART says which part
//! of the real size is played, one in so many, by default 100; KILLS how often the broker is killed in the middle of the job
//! and started again before it is measured, by default 2. Set PINNACE_BINARY to a release build. Fails when the 99th
//! percentile of the sends is 500 ms or more, when the log is damaged after a kill, or when an answered send is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use broker_proto::admin::{
    ApplyTopicRequest, ListGroupsRequest, ListTopicsRequest, MessageType,
    RedriveDeadLettersRequest, ResetOffsetsRequest, Retention, StartFrom, Topic, TopicLag,
    admin_client::AdminClient, reset_offsets_request::To,
};
use broker_proto::rocketmq::{Code, FilterExpression, FilterType, Message, SendResultEntry};
use tests_broker::broker::SEGMENT_BYTES;
use tests_broker::client::{Client, message, receive_request, span};
use tests_broker::{Broker, Options, Place};
use tokio::task::{JoinHandle, JoinSet};
use tonic::Status;
use tonic::transport::Channel;

/// Sends of others are answered within this, 99 of 100.
const SEND_P99_MAX: Duration = Duration::from_millis(500);
/// The real sizes.
const SKIPPED: usize = 40_000_000;
const QUEUES: usize = 2_000_000;
const IN_FLIGHT: usize = 5_000_000;
const TIMED: usize = 10_000_000;
const REDRIVEN: usize = 1_000_000;
const TRIMMED: usize = 1_000_000;

const BATCH: usize = 1_000;
const QUEUES_OF_TOPIC: u32 = 1_024;
const CONNECTIONS: usize = 8;
const GROUP: &str = "billing";
const ORDERS: &str = "orders";
const OTHERS: &str = "others";
const PAUSE: Duration = Duration::from_millis(5);
/// What is received stays invisible for as long, so that all of it is due when the broker starts again.
const INVISIBLE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Skip,
    Reset,
    Expire,
    Timers,
    Redrive,
    Trim,
}

const JOBS: [(&str, Job, usize); 6] = [
    ("skip", Job::Skip, SKIPPED),
    ("reset", Job::Reset, QUEUES),
    ("expire", Job::Expire, IN_FLIGHT),
    ("timers", Job::Timers, TIMED),
    ("redrive", Job::Redrive, REDRIVEN),
    ("trim", Job::Trim, TRIMMED),
];

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next().unwrap_or_else(|| "all".to_owned());
    let mut number =
        |default| arguments.next().map_or(default, |text| text.parse::<usize>().expect("a number"));
    let (part, kills) = (number(100).max(1), number(2));
    let mut played = 0;
    for (name, job, size) in JOBS {
        if wanted == "all" || wanted == name {
            play(name, job, size.div_ceil(part), kills).await;
            played += 1;
        }
    }
    assert!(played > 0, "the jobs are skip, reset, expire, timers, redrive, trim and all");
}

async fn play(name: &str, job: Job, size: usize, kills: usize) {
    let place = Place::new();
    let mut options = Options::default();
    if job == Job::Trim {
        // Retention takes whole segments.
        options = options.environment(SEGMENT_BYTES, 1024 * 1024);
    }
    let mut broker = place.start(&options);
    let begun = Instant::now();
    broker.create(OTHERS, "audit").await;
    prepare(&broker, job, size).await;
    println!("{name}: {size} prepared in {:.1} s", begun.elapsed().as_secs_f64());
    if matches!(job, Job::Expire | Job::Timers) {
        // What is due is due at once when it comes back.
        broker.kill();
        tokio::time::sleep(INVISIBLE).await;
        broker = place.start(&options);
    }
    let mut sent = 0;
    for kill in 0..kills {
        let others = Others::of(&broker).await;
        let doing = Doing::of(&broker, job, size, kill).await;
        let doing = tokio::spawn(async move { do_job(doing).await.is_ok() });
        tokio::time::sleep(Duration::from_millis(200) * (1 + u32::try_from(kill).unwrap_or(1)))
            .await;
        broker.kill();
        sent += others.end().await.len();
        doing.abort();
        broker = place.start(&options);
        let damaged = broker.metric("pinnace_shard_damaged_bytes", "");
        assert!(damaged == 0.0, "{damaged} bytes of the log are damaged after a kill");
    }
    let left = left(&mut broker.admin().await, job, size).await.expect("the broker answers");
    assert!(kills > 0 || left > 0, "there is nothing to do");
    let others = Others::of(&broker).await;
    let begun = Instant::now();
    do_job(Doing::of(&broker, job, size, kills).await).await.expect("the job is done");
    let took = begun.elapsed();
    let mut latencies = others.end().await;
    sent += latencies.len();
    latencies.sort_unstable();
    let at = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or_default();
    let (p50, p99, worst) = (at(50), at(99), latencies.last().copied().unwrap_or_default());
    println!(
        "{name}: {left} that were left done in {took:.1?}; {} sends of others: {p50:.1?}, p99 {p99:.1?}, worst {worst:.1?}",
        latencies.len()
    );
    assert!(p99 < SEND_P99_MAX, "sends of others wait too long");
    let held = messages(&mut broker.admin().await, OTHERS).await.expect("listed");
    assert!(held >= sent as u64, "{held} messages of {sent} answered sends are left");
    broker.kill();
    let broker = place.start(&options);
    assert!(broker.metric("pinnace_shard_damaged_bytes", "") == 0.0, "the log is damaged");
}

/// A producer that has nothing to do with the job: one send after the other.
struct Others {
    is_over: Arc<AtomicBool>,
    sending: JoinHandle<Vec<Duration>>,
}

impl Others {
    async fn of(broker: &Broker) -> Self {
        let mut client = broker.client("others").await;
        let is_over = Arc::<AtomicBool>::default();
        let until = is_over.clone();
        let sending = tokio::spawn(async move {
            let mut latencies = Vec::new();
            while !until.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let Ok(answer) = client.send(vec![message(OTHERS, "id", b"body")]).await else {
                    break;
                };
                if answer.entries.first().is_some_and(is_ok) {
                    latencies.push(begun.elapsed());
                }
                tokio::time::sleep(PAUSE).await;
            }
            latencies
        });
        Self { is_over, sending }
    }

    /// How long each send took that was answered.
    async fn end(self) -> Vec<Duration> {
        self.is_over.store(true, Ordering::Relaxed);
        self.sending.await.expect("it ends")
    }
}

fn is_ok(entry: &SendResultEntry) -> bool {
    entry.status.as_ref().is_some_and(|status| status.code() == Code::Ok)
}

async fn prepare(broker: &Broker, job: Job, size: usize) {
    match job {
        Job::Skip => {
            broker.create(ORDERS, GROUP).await;
            fill(broker, size, &|_| {}).await;
        }
        Job::Reset => {
            broker.create_group(GROUP, 0).await;
            for number in 0..topics_of(size) {
                put_topic(broker, &topic(number), MessageType::Normal, QUEUES_OF_TOPIC).await;
            }
            join(broker, topics_of(size)).await;
        }
        Job::Expire | Job::Redrive => {
            // A group has at most 200,000 messages of one queue in flight.
            let queues = u32::try_from(size / 100_000 + 4).expect("few enough");
            put_topic(broker, ORDERS, MessageType::Normal, queues).await;
            broker.create_group(GROUP, if job == Job::Redrive { 1 } else { 0 }).await;
            fill(broker, size, &|_| {}).await;
            receive_all(broker, size).await;
            if job == Job::Redrive {
                let mut admin = broker.admin().await;
                while messages(&mut admin, &dead_letters()).await.expect("listed") < size as u64 {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Job::Timers => {
            put_topic(broker, ORDERS, MessageType::Delay, 8).await;
            let due =
                SystemTime::now() + Duration::from_secs(10) + INVISIBLE * (size / 1_000_000) as u32;
            fill(broker, size, &move |message| {
                if let Some(properties) = &mut message.system_properties {
                    properties.message_type = broker_proto::rocketmq::MessageType::Delay.into();
                    properties.delivery_timestamp = Some(due.into());
                }
            })
            .await;
            let left = due.duration_since(SystemTime::now()).unwrap_or_default();
            tokio::time::sleep(left.saturating_sub(INVISIBLE / 2)).await;
        }
        Job::Trim => {
            put_topic(broker, ORDERS, MessageType::Normal, 8).await;
            fill(broker, size, &|_| {}).await;
        }
    }
}

/// Lets the group have progress on so many topics: a reset names none and means all of them.
async fn join(broker: &Broker, topics: usize) {
    let mut clients = Vec::new();
    for connection in 0..CONNECTIONS {
        clients.push(broker.client(&format!("consumer-{connection}")).await);
    }
    // A poll waits for some seconds, so that all of them wait at one time.
    let mut joining = JoinSet::new();
    for number in 0..topics {
        let mut client = clients[number % CONNECTIONS].clone();
        joining.spawn(async move {
            let received = client.receive_with(receive_request(&topic(number), GROUP, 1)).await;
            assert!(received.expect("the broker answers").messages.is_empty(), "nothing was sent");
        });
    }
    joining.join_all().await;
}

fn dead_letters() -> String {
    format!("%DLQ%{GROUP}")
}

fn topics_of(queues: usize) -> usize {
    queues.div_ceil(QUEUES_OF_TOPIC as usize)
}

fn topic(number: usize) -> String {
    format!("topic-{number:06}")
}

async fn put_topic(broker: &Broker, name: &str, message_type: MessageType, queues: u32) {
    let r#type = message_type.into();
    let topic = Topic { name: name.to_owned(), r#type, queues, ..Topic::default() };
    let request = ApplyTopicRequest { topic: Some(topic), ..ApplyTopicRequest::default() };
    broker.admin().await.apply_topic(request).await.expect("the topic is created");
}

/// Sends so many messages with a tag to the topic of the orders.
async fn fill(broker: &Broker, size: usize, change: &(dyn Fn(&mut Message) + Sync)) {
    let mut template = message(ORDERS, "id", b"x");
    if let Some(properties) = &mut template.system_properties {
        properties.tag = Some("paid".to_owned());
    }
    change(&mut template);
    let mut filling = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let mut client = broker.client(&format!("producer-{connection}")).await;
        let (template, share) = (template.clone(), size.div_ceil(CONNECTIONS));
        let share = share.min(size.saturating_sub(connection * share));
        filling.spawn(async move {
            for from in (0..share).step_by(BATCH) {
                let batch = vec![template.clone(); BATCH.min(share - from)];
                let answer = client.send(batch).await.expect("the broker answers");
                assert!(answer.entries.iter().all(is_ok), "{:?}", answer.status);
            }
        });
    }
    filling.join_all().await;
}

/// Receives so many messages of the orders, and acknowledges none.
async fn receive_all(broker: &Broker, size: usize) {
    let received = Arc::<AtomicUsize>::default();
    let mut receiving = JoinSet::new();
    for connection in 0..CONNECTIONS * 4 {
        let mut client = broker.client(&format!("consumer-{connection}")).await;
        let received = received.clone();
        receiving.spawn(async move {
            while received.load(Ordering::Relaxed) < size {
                let mut request = receive_request(ORDERS, GROUP, 32);
                request.invisible_duration = Some(span(INVISIBLE));
                let answer = client.receive_with(request).await.expect("the broker answers");
                received.fetch_add(answer.messages.len(), Ordering::Relaxed);
            }
        });
    }
    receiving.join_all().await;
}

/// A job on a broker.
struct Doing {
    client: Client,
    admin: AdminClient<Channel>,
    job: Job,
    size: usize,
    round: usize,
}

impl Doing {
    async fn of(broker: &Broker, job: Job, size: usize, round: usize) -> Self {
        let (client, admin) = (broker.client("worker").await, broker.admin().await);
        Self { client, admin, job, size, round }
    }
}

/// Does a job to its end.
///
/// # Errors
/// What the broker said, or that it is gone.
async fn do_job(doing: Doing) -> Result<(), Status> {
    let Doing { mut client, mut admin, job, size, round } = doing;
    match job {
        Job::Skip => {
            let mut request = receive_request(ORDERS, GROUP, 32);
            let (r#type, expression) = (FilterType::Tag.into(), "nobody".to_owned());
            request.filter_expression = Some(FilterExpression { r#type, expression });
            // A call may be over before all was looked at; the next one goes on. The group counts from its first one on.
            loop {
                let received = client.receive_with(request.clone()).await?;
                assert!(received.messages.is_empty(), "nobody has this tag");
                if lag(&mut admin).await? == 0 {
                    break;
                }
            }
        }
        Job::Reset => {
            let request = ResetOffsetsRequest {
                group: GROUP.to_owned(),
                topics: Vec::new(),
                to: Some(To::Position(StartFrom::Latest.into())),
                id: format!("round-{round}"),
            };
            admin.reset_offsets(request).await?;
        }
        Job::Expire => {
            while in_flight(&mut admin).await? > 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Job::Timers => {
            while messages(&mut admin, ORDERS).await? < size as u64 {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Job::Redrive => loop {
            let (group, messages_max) = (GROUP.to_owned(), u32::MAX);
            let request = RedriveDeadLettersRequest { group, messages_max, ..Default::default() };
            let answer = admin.redrive_dead_letters(request).await?;
            if answer.into_inner().left == 0 {
                break;
            }
        },
        Job::Trim => {
            let mut topic = topic_of(&mut admin).await?;
            topic.retention = Some(Retention { time: None, bytes: Some(1) });
            let request = ApplyTopicRequest { topic: Some(topic), ..ApplyTopicRequest::default() };
            admin.apply_topic(request).await?;
            // One segment is not sealed yet.
            while messages(&mut admin, ORDERS).await? > size as u64 / 2 {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(())
}

/// How much of a job is left to do: before the broker was killed in the middle of it all of it was.
async fn left(admin: &mut AdminClient<Channel>, job: Job, size: usize) -> Result<u64, Status> {
    let size = size as u64;
    Ok(match job {
        Job::Skip if group_topics(admin).await?.is_empty() => size,
        Job::Skip => lag(admin).await?,
        Job::Reset => size,
        Job::Expire => in_flight(admin).await?,
        Job::Timers => size.saturating_sub(messages(admin, ORDERS).await?),
        Job::Redrive => messages(admin, &dead_letters()).await?,
        Job::Trim => messages(admin, ORDERS).await?.saturating_sub(size / 2),
    })
}

async fn topic_of(admin: &mut AdminClient<Channel>) -> Result<Topic, Status> {
    let listed = admin.list_topics(ListTopicsRequest::default()).await?;
    let mut topics = listed.into_inner().topics.into_iter();
    Ok(topics.find(|topic| topic.name == ORDERS).expect("it was created"))
}

/// Messages that a topic holds.
async fn messages(admin: &mut AdminClient<Channel>, topic: &str) -> Result<u64, Status> {
    let listed = admin.list_topics(ListTopicsRequest::default()).await?;
    let status = listed.into_inner().status;
    Ok(status.iter().filter(|status| status.name == topic).map(|status| status.messages).sum())
}

async fn group_topics(admin: &mut AdminClient<Channel>) -> Result<Vec<TopicLag>, Status> {
    let request = ListGroupsRequest { names: vec![GROUP.to_owned()] };
    let listed = admin.list_groups(request).await?.into_inner();
    Ok(listed.status.into_iter().flat_map(|group| group.topics).collect())
}

async fn lag(admin: &mut AdminClient<Channel>) -> Result<u64, Status> {
    Ok(group_topics(admin).await?.iter().map(|topic| topic.lag_messages).sum())
}

async fn in_flight(admin: &mut AdminClient<Channel>) -> Result<u64, Status> {
    Ok(group_topics(admin).await?.iter().map(|topic| topic.inflight_messages).sum())
}
