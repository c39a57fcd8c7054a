//! Many objects at once: how soon all are ready, what the operator holds in memory, and that it writes nothing when nothing
//! happens. Short in the normal run; `make test-operator-scale` plays the whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use broker_proto::admin::{GroupStatus, TopicLag};
use futures::{StreamExt as _, stream};
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use serde_json::json;

use crate::fake_broker::FakeBroker;
use crate::world::{World, eventually};

/// Objects that are applied at once.
const AT_ONCE: usize = 16;
/// Groups that are behind while nothing is to be written.
const BEHIND: usize = 100;
/// Age of their oldest message at the start; the next step in which ages are told is more than a minute away.
const BEHIND_MS: u64 = 25 * 60 * 1000;

/// Numbers of one play.
struct Play {
    topics: usize,
    groups: usize,
    peace: Duration,
    /// All are ready within this time of the last apply; none beside other tests, which take what time they get.
    ready_within: Option<Duration>,
    /// Most memory of this process, which holds the operator, its broker and the test; none beside other tests.
    memory_bytes_max: Option<u64>,
}

fn play() -> Play {
    if std::env::var_os("PINNACE_TEST_SCALE").is_some() {
        let peace = Duration::from_secs(60);
        let ready_within = Some(Duration::from_secs(10));
        let memory_bytes_max = Some(64 << 20);
        Play { topics: 2000, groups: 1000, peace, ready_within, memory_bytes_max }
    } else {
        let peace = Duration::from_secs(8);
        Play { topics: 200, groups: 100, peace, ready_within: None, memory_bytes_max: None }
    }
}

/// Memory of this process that is no file, in bytes.
fn memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

async fn apply_all(world: &World, play: &Play) {
    let topics = (0..play.topics).map(|number| async move {
        world.apply::<Topic>(&format!("topic-{number}"), json!({})).await;
    });
    stream::iter(topics).buffer_unordered(AT_ONCE).for_each(|()| async {}).await;
    let topics = play.topics;
    let groups = (0..play.groups).map(|number| async move {
        let topic = format!("topic-{}", number % topics);
        let spec = json!({"subscriptions": [{"topic": topic}]});
        world.apply::<ConsumerGroup>(&format!("group-{number}"), spec).await;
    });
    stream::iter(groups).buffer_unordered(AT_ONCE).for_each(|()| async {}).await;
}

/// Tells the lag of groups that are behind, each second with its age of then.
async fn tell_lag(broker: Arc<FakeBroker>, topics: usize) {
    let start = Instant::now();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let waited = u64::try_from(start.elapsed().as_millis()).unwrap();
        for number in 0..BEHIND {
            let topic = format!("topic-{}", number % topics);
            let lag_ms = BEHIND_MS + waited;
            let lag = TopicLag { topic, lag_messages: 7, lag_ms, ..TopicLag::default() };
            let name = format!("group-{number}");
            broker.report(GroupStatus { name, topics: vec![lag], ..GroupStatus::default() });
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_objects_are_ready_soon_and_nothing_is_written_in_peace_though_groups_are_behind() {
    let play = play();
    let world = World::new().await;
    let broker = Arc::new(world.broker("default", 0).await);
    let operator = world.operator("a");
    world.apply::<BrokerCluster>("default", json!({})).await;
    world.wait_condition::<BrokerCluster>("default", "Ready", "True", "Serving").await;
    let before_bytes = memory_bytes();
    let start = Instant::now();
    apply_all(&world, &play).await;
    let applied = Instant::now();
    let all = u64::try_from(play.topics + play.groups).unwrap();
    let ready = ["reason=\"Synced\"", "state=\"ready\""];
    eventually("all are ready", || async {
        (operator.metric("pinnace_operator_objects", &ready).await == all).then_some(())
    })
    .await;
    let took = applied.elapsed();
    let first_reconciles = operator.metric("pinnace_operator_reconciles_total", &[]).await;

    let lag = tokio::spawn(tell_lag(Arc::clone(&broker), play.topics));
    // The lag is written once, and then an event is.
    eventually("nothing is written for a while", || async {
        let before = operator.writes().await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        (operator.writes().await == before).then_some(())
    })
    .await;
    let writes = operator.writes().await;
    tokio::time::sleep(play.peace).await;
    let idle_writes = operator.writes().await - writes;
    lag.abort();
    let memory = memory_bytes();
    let reconciles = operator.metric("pinnace_operator_reconciles_total", &[]).await;
    println!(
        "{} topics and {} groups applied in {:.1} s; the last one ready {:.1} s after the last apply; {first_reconciles} \
         reconciles till then, {reconciles} in all; {writes} writes, {idle_writes} in {} s of peace with {BEHIND} groups \
         behind; memory {:.1} MiB with broker and test, {:.1} MiB before",
        play.topics,
        play.groups,
        (applied - start).as_secs_f64(),
        took.as_secs_f64(),
        play.peace.as_secs(),
        memory as f64 / f64::from(1 << 20),
        before_bytes as f64 / f64::from(1 << 20),
    );
    assert!(play.ready_within.is_none_or(|max| took <= max), "{took:?}");
    assert_eq!(idle_writes, 0);
    assert!(play.memory_bytes_max.is_none_or(|max| memory < max), "{memory} bytes");
    operator.stop().await;
}
