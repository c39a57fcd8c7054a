//! One seed is one history: the real store, delivery, engine and replica of a shard run on a simulated clock, disk and
//! network, with clients that send, receive and retry, and with faults at any step. A checker that sees only what clients
//! asked and were answered says whether the promises held. Nothing here reads a clock, a file or real chance.

pub mod audit;
pub mod bugs;
pub mod checker;
pub mod clients;
pub mod network;
pub mod plan;
pub mod process;
pub mod random;
pub mod regressions;
pub mod searches;
pub mod shards;
pub mod soak;
pub mod trace;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use bugs::PlantedBug;
pub use plan::Plan;
pub use world::Summary;

/// A history that broke a promise.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which history.
    pub seed: u64,
    /// What was broken.
    pub what: String,
}

/// Plays one history to its end.
///
/// # Errors
/// [`Failure`] with the first promise that was broken, or the panic.
pub fn run(seed: u64, bug: Option<PlantedBug>) -> Result<Summary, Failure> {
    run_plan(&Plan::of(seed), bug, false)
}

/// Plays the history of a plan, printing every event when asked.
///
/// # Errors
/// As [`run`].
pub fn run_plan(plan: &Plan, bug: Option<PlantedBug>, prints: bool) -> Result<Summary, Failure> {
    guarded(plan, bug, || match plan.shards {
        1 => world::World::new(plan, bug, prints).play(),
        _ => shards::Shards::new(plan, bug, prints).play(),
    })
}

/// With the switches of a plan and a bug; a panic is a failure like others.
fn guarded<T>(
    plan: &Plan,
    bug: Option<PlantedBug>,
    play: impl FnOnce() -> Result<T, String>,
) -> Result<T, Failure> {
    broker_store::switches::set_tail_cache_bytes(Some(plan.tail_cache_bytes));
    broker_store::switches::set_bug(bug.and_then(PlantedBug::switch));
    broker_engine::set_limits(plan.limits);
    let played = catch_unwind(AssertUnwindSafe(play));
    broker_engine::set_limits(None);
    broker_store::switches::set_bug(None);
    broker_store::switches::set_tail_cache_bytes(None);
    let failure = |what| Failure { seed: plan.seed, what };
    match played {
        Ok(Ok(summary)) => Ok(summary),
        Ok(Err(what)) => Err(failure(what)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(failure(format!("panic: {}", text.unwrap_or("without a text"))))
        }
    }
}
