//! The short form of the simulation: the seeds that failed once, a few hundred others, and the same history twice.

use std::sync::LazyLock;

use tests_simulation::soak::{Soaked, soak};
use tests_simulation::{Failure, Plan, Summary, regressions, run};

/// Fixed seeds, so that a failure of this test is the change's and not chance's; `make sim` plays fresh ones.
const HISTORIES: u64 = 300;

/// These, played once for all tests that look at them.
static PLAYED: LazyLock<Vec<Result<Summary, Failure>>> =
    LazyLock::new(|| (0..HISTORIES).map(|seed| run(seed, None)).collect());

#[test]
fn what_failed_once_holds_now() {
    let seeds = regressions::seeds().expect("a seed and what it was in each line");
    let failed: Vec<_> = seeds.iter().filter_map(|(seed, _)| run(*seed, None).err()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn no_promise_is_broken_in_some_hundred_histories() {
    let failed: Vec<_> = PLAYED.iter().filter_map(|played| played.as_ref().err()).collect();
    assert!(failed.is_empty(), "repeat each with make sim SEED=n: {failed:#?}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 1_000..1_040 {
        let first = run(seed, None).map_err(|failure| failure.what);
        let second = run(seed, None).map_err(|failure| failure.what);
        assert_eq!(first, second, "seed {seed}");
    }
    assert_ne!(run(1, None).expect("holds").trace, run(2, None).expect("holds").trace);
}

#[test]
fn retention_takes_messages_and_gives_segments_back() {
    let played: Vec<_> = PLAYED.iter().flatten().collect();
    let sum = |of: fn(&Summary) -> u64| played.iter().map(|summary| of(summary)).sum::<u64>();
    let at_work = played.iter().filter(|summary| summary.taken > 0).count();
    assert!(at_work > 50, "{at_work} of {} histories", played.len());
    assert!(sum(|s| s.taken) > 1_000 && sum(|s| s.starts_behind_retention) > 50);
    assert!(sum(|s| s.recycled) > 0, "no segment came back");
}

/// The short form of `make sim-soak`.
#[test]
fn what_is_held_stays_flat_for_two_days() {
    let Soaked { summary, samples } = soak(1, 48, None).expect("holds");
    assert!(samples.len() > 40 && summary.recycled > 20 && summary.taken > 1_000, "{summary:?}");
}

#[test]
fn histories_have_every_kind_of_fault() {
    let plans: Vec<_> = (0..HISTORIES).map(Plan::of).collect();
    let has = |is_on: fn(&Plan) -> bool| plans.iter().filter(|plan| is_on(plan)).count();
    assert!(has(|p| p.faults.kill > 0) > 50 && has(|p| p.faults.clock_jump > 0) > 50);
    assert!(has(|p| p.faults.bit_flip > 0) > 50 && has(|p| p.faults.disk_full > 0) > 50);
    assert!(has(|p| p.faults.segments_left.is_some()) > 20);
    assert!(has(|p| p.faults.failed_writes > 0) > 50 && has(|p| p.faults.failed_syncs > 0) > 50);
    assert!(has(|p| p.faults.stale_reads > 0) > 50 && has(|p| p.faults.failed_reads > 0) > 50);
    assert!(has(|p| p.faults.misdirected_reads > 0) > 50);
    assert!(has(|p| p.faults.drop > 0) > 50 && has(|p| p.faults.duplicate > 0) > 50);
}
