//! The disk breaks under the broker: it ends with one line that says so, or goes on with what it can, and what was
//! acknowledged is there once the disk works. Needs a debug build of the broker, and for volumes the right to mount them.

use std::time::Duration;

use broker_proto::rocketmq::Code;
use tests_broker::broker::{Broker, FAILING_DISK, Options, Place, SEGMENT_BYTES};
use tests_broker::{Volume, get};
use tokio::task::JoinSet;

use crate::crash::{Chance, Shared, finish, fresh_seed, load, read_all};

/// So that segments are made and sealed meanwhile.
const SMALL_SEGMENT_BYTES: u64 = 1024 * 1024;
const READ_MAX: Duration = Duration::from_secs(30);
const STORED_MIN: usize = 500;

fn options() -> Options {
    Options::shards(2).environment(SEGMENT_BYTES, SMALL_SEGMENT_BYTES)
}

async fn prepare(place: &Place) {
    let broker = place.start(&options());
    broker.create("orders", "billing").await;
    broker.create_group("audit", 0).await;
    broker.kill();
}

fn known() -> Shared {
    let known = Shared::default();
    known.lock().unwrap().last_code = Some(Code::InternalServerError);
    known
}

/// It ends by itself with exit code 1 and says why in one line.
fn ends_with_one_line(broker: Broker, parts: &[&str]) {
    let log = broker.log.clone();
    assert_eq!(broker.exit().code(), Some(1));
    let logged = std::fs::read_to_string(log).unwrap();
    let errors: Vec<_> = logged.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{logged}");
    for part in parts {
        assert!(errors[0].contains(part), "{}", errors[0]);
    }
}

/// Everything that was acknowledged is there, and nothing else.
async fn nothing_is_lost(place: &Place, known: Shared) {
    let broker = place.start(&options());
    finish(&broker, &known).await;
    let known = std::sync::Arc::into_inner(known).unwrap().into_inner().unwrap();
    let seen = read_all(&broker, &known, READ_MAX).await.expect("nothing is lost");
    assert_eq!(known.violations, [""; 0]);
    println!("{}", known.summary(seen.len()));
}

async fn wait_until_stored(known: &Shared, least: usize) {
    while known.lock().unwrap().stored.len() < least {
        assert_eq!(known.lock().unwrap().violations, [""; 0]);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A broker with its data on a volume, under load, once much is stored.
async fn loaded_on(volume: &Volume, known: &Shared) -> (Place, Broker, JoinSet<()>) {
    let place = Place::new();
    place.put_data_on(volume);
    prepare(&place).await;
    let broker = place.start(&options());
    let work = load(&broker, 0, &mut Chance(fresh_seed()), known).await;
    wait_until_stored(known, STORED_MIN).await;
    (place, broker, work)
}

async fn break_under_load(how: &str, says: &str) {
    let place = Place::new();
    prepare(&place).await;
    let (known, mut chance) = (known(), Chance(fresh_seed()));
    let broker = place.start(&options().environment(FAILING_DISK, how));
    let work = load(&broker, 0, &mut chance, &known).await;
    ends_with_one_line(broker, &["has failed", says, "Input/output error"]);
    work.join_all().await;
    assert!(!known.lock().unwrap().stored.is_empty());
    nothing_is_lost(&place, known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_fail_end_the_broker_and_lose_nothing_acknowledged() {
    break_under_load("writes:200", "write").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syncs_that_fail_end_the_broker_and_lose_nothing_acknowledged() {
    break_under_load("syncs:200", "sync").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_read_at_a_start_is_left_alone() {
    let place = Place::new();
    prepare(&place).await;
    let (known, mut chance) = (known(), Chance(fresh_seed()));
    let broker = place.start(&options());
    let work = load(&broker, 0, &mut chance, &known).await;
    // No segment is full by then, so that no snapshot says what is in the log.
    wait_until_stored(&known, 100).await;
    broker.kill();
    work.join_all().await;
    let broker = place.start(&options().environment(FAILING_DISK, "reads:0"));
    let ready = get(broker.http, "/readyz").unwrap();
    assert!(ready.contains("read-only") && ready.contains("Input/output error"), "{ready}");
    broker.terminate();
    assert!(broker.exit().success());
    nothing_is_lost(&place, known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_cannot_be_sealed_are_counted_and_hold_nothing_up() {
    let place = Place::new();
    prepare(&place).await;
    let known = known();
    let broker = place.start(&options());
    // A folder where sealing writes its file first: it fails, and nothing else does.
    let in_the_way = place.data().join("shard-0/log/index.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    let work = load(&broker, 0, &mut Chance(fresh_seed()), &known).await;
    broker.wait_for_metric("pinnace_shard_sealing_failures", "shard-0", 1.0).await;
    broker.wait_for_metric("pinnace_shard_sealed_segments", "shard-1", 1.0).await;
    assert_eq!(broker.metric("pinnace_shard_sealed_segments", "shard-0"), 0.0);
    let stored = known.lock().unwrap().stored.len();
    wait_until_stored(&known, stored + STORED_MIN).await;
    broker.kill();
    work.join_all().await;
    std::fs::remove_dir(&in_the_way).unwrap();
    nothing_is_lost(&place, known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_turns_read_only_ends_the_broker_and_loses_nothing_acknowledged() {
    let Some(volume) = Volume::mount(64) else { return };
    let known = known();
    let (place, broker, work) = loaded_on(&volume, &known).await;
    volume.abort();
    ends_with_one_line(broker, &["has failed"]);
    work.join_all().await;
    volume.heal();
    nothing_is_lost(&place, known).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_on_the_volume_and_not_in_the_memory_of_the_system() {
    let Some(volume) = Volume::mount(64) else { return };
    let known = known();
    let (_place, broker, work) = loaded_on(&volume, &known).await;
    broker.kill();
    let found = volume.after_power_loss();
    work.join_all().await;
    let other = Place::new();
    other.put_data_on(&found);
    nothing_is_lost(&other, known).await;
}
