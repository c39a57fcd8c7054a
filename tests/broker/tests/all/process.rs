//! The broker as a process: how fast it starts, what it costs, how it refuses to start.

use std::fs;
use std::process::{Output, Stdio};
use std::time::Duration;

use tests_broker::broker::{Options, Place, serve_command};
use tests_broker::get;

const READY_MAX: Duration = Duration::from_secs(1);
const IDLE_WATCHED: Duration = Duration::from_secs(3);
/// 0.5 % of a core.
const IDLE_CPU_SHARE_MAX: f64 = 0.005;
/// A build without optimisation maps about three times as much code.
const IDLE_RESIDENT_BYTES_MAX: f64 =
    if cfg!(debug_assertions) { 60.0 } else { 40.0 } * 1024.0 * 1024.0;

fn refused(place: &Place, options: &Options) -> (Option<i32>, String) {
    let Output { status, stderr, .. } =
        serve_command(&place.data(), options).stdout(Stdio::null()).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    let errors: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{said}");
    (status.code(), errors[0].to_owned())
}

#[test]
fn a_broker_is_ready_within_a_second() {
    // A machine busy with other work may delay any one of them.
    let fastest = (0..5).map(|_| Place::new().start(&Options::default()).started_in).min();
    assert!(fastest < Some(READY_MAX), "ready after {fastest:?}");
}

#[tokio::test]
async fn an_idle_broker_costs_next_to_nothing() {
    let place = Place::new();
    let broker = place.start(&Options::shards(2));
    broker.create("orders", "billing").await;
    let cpu_seconds = || broker.metric("process_cpu_seconds_total", "");
    // The first page is made at the cost of loading the code for it.
    let _ = cpu_seconds();
    let before = cpu_seconds();
    tokio::time::sleep(IDLE_WATCHED).await;
    let share = (cpu_seconds() - before) / IDLE_WATCHED.as_secs_f64();
    assert!(share < IDLE_CPU_SHARE_MAX, "{} % of a core", share * 100.0);
    let resident_bytes = broker.metric("process_resident_memory_bytes", "");
    assert!(resident_bytes < IDLE_RESIDENT_BYTES_MAX, "{resident_bytes} bytes resident");
}

#[tokio::test]
async fn probes_and_pages_are_served() {
    let place = Place::new();
    let broker = place.start(&Options::default());
    for (path, status) in
        [("/healthz", "200"), ("/readyz", "200"), ("/metrics", "200"), ("/", "404")]
    {
        let answer = get(broker.http, path).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
    assert_eq!(broker.metric("pinnace_shard_leads", ""), 1.0);
    // At the least the entry with which it became leader; it leads a moment before that is durable.
    broker.wait_for_metric("pinnace_shard_append_seconds_count", "", 1.0).await;
}

#[test]
fn a_second_process_on_the_same_data_is_turned_away() {
    let place = Place::new();
    let broker = place.start(&Options::default());
    let (code, line) = refused(&place, &Options::default());
    assert_eq!(code, Some(2));
    assert!(line.contains("in use by another process"), "{line}");
    broker.terminate();
    assert!(broker.exit().success());
    drop(place.start(&Options::default()));
}

#[test]
fn data_that_would_not_be_served_or_is_anothers_is_refused() {
    let place = Place::new();
    drop(place.start(&Options::shards(3)));
    let (code, line) = refused(&place, &Options::shards(2));
    assert_eq!(code, Some(2));
    assert!(line.contains("shard-2") && line.contains("--shards 3"), "{line}");
    let (code, line) = refused(&place, &Options::shards(3).with("--broker-id", 1));
    assert_eq!(code, Some(2));
    assert!(line.contains("belongs to broker 0"), "{line}");
    drop(place.start(&Options::shards(4)));
}

#[test]
fn a_taken_port_is_named() {
    let place = Place::new();
    let broker = place.start(&Options::default());
    let other = Place::new();
    let (code, line) = refused(&other, &Options::default().with("--admin", broker.listen));
    assert_eq!(code, Some(1));
    assert!(line.contains(&broker.listen.to_string()) && line.contains("another port"), "{line}");
}

#[test]
fn a_later_storage_format_is_refused_before_anything_is_touched() {
    let place = Place::new();
    fs::create_dir_all(place.data()).unwrap();
    fs::write(place.data().join("format"), "pinnace storage format 200\n").unwrap();
    let (code, line) = refused(&place, &Options::default());
    assert_eq!(code, Some(2));
    assert!(line.contains("storage format 200") && line.contains("reads up to 3"), "{line}");
    assert!(!place.data().join("identity").exists() && !place.data().join("shard-0").exists());
}
