//! The power goes in the middle of an operation of the disk, again and again, on the same data: of a write any part may be on
//! the disk, of a rename or removal all or nothing. What was acknowledged before is there afterwards.
//! `POWER_CUT_ROUNDS=1000` asks for the long form. Needs a debug build of the broker: a release build has no such disk.

use std::time::Duration;

use tests_broker::broker::{Options, POWER_CUT, Place, SEGMENT_BYTES};

use crate::crash::{Chance, Known, Shared, finish, fresh_seed, load, read_all};

const ROUNDS_VARIABLE: &str = "POWER_CUT_ROUNDS";
const ROUNDS_DEFAULT: u32 = 8;
/// Operations of the disk until the power goes; a start takes some of them.
const OPERATIONS_MAX: u64 = 120;
/// A few segments are sealed in each round.
const SMALL_SEGMENT_BYTES: u64 = 1024 * 1024;
/// Everything acknowledged came back by then; what did not is lost.
const READ_MAX: Duration = Duration::from_secs(60);

fn options(shards: u32) -> Options {
    Options::shards(shards).environment(SEGMENT_BYTES, SMALL_SEGMENT_BYTES)
}

/// Rounds of load that end when the power goes.
struct Cuts {
    place: Place,
    shards: u32,
    chance: Chance,
    known: Shared,
    /// Cuts before the broker was ready.
    at_start: u32,
}

impl Cuts {
    async fn new(shards: u32, seed: u64) -> Self {
        let place = Place::new();
        let broker = place.start(&options(shards));
        broker.create("orders", "billing").await;
        broker.create_group("audit", 0).await;
        broker.kill();
        Self { place, shards, chance: Chance(seed), known: Shared::default(), at_start: 0 }
    }

    /// One round; `how` is told to the disk.
    async fn round(&mut self, number: u32, how: &str) {
        let (seed, operations) =
            (self.chance.below(u64::MAX), self.chance.below(OPERATIONS_MAX) + 1);
        let options =
            options(self.shards).environment(POWER_CUT, format!("{seed}:{operations}{how}"));
        let Some(broker) = self.place.start_or_be_killed(&options) else {
            self.at_start += 1;
            return;
        };
        let work = load(&broker, number, &mut self.chance, &self.known).await;
        assert!(!broker.exit().success(), "the power went");
        work.join_all().await;
    }

    fn known(self) -> (Place, Known) {
        (self.place, std::sync::Arc::into_inner(self.known).unwrap().into_inner().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_of_one_shard_under_load_lose_nothing_acknowledged() {
    cut_under_load(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_of_three_shards_under_load_lose_nothing_acknowledged() {
    cut_under_load(3).await;
}

async fn cut_under_load(shards: u32) {
    let rounds = std::env::var(ROUNDS_VARIABLE)
        .map_or(ROUNDS_DEFAULT, |text| text.parse().expect("POWER_CUT_ROUNDS is a number"));
    let seed = fresh_seed();
    println!("seed {seed}, {rounds} rounds, {shards} shards");
    let mut cuts = Cuts::new(shards, seed).await;
    for number in 0..rounds {
        cuts.round(number, "").await;
        assert_eq!(cuts.known.lock().unwrap().violations, [""; 0], "round {number}");
    }
    let (known, at_start) = (cuts.known.clone(), cuts.at_start);
    let broker = cuts.place.start(&options(shards));
    finish(&broker, &known).await;
    drop(known);
    let (_place, known) = cuts.known();
    let seen = read_all(&broker, &known, READ_MAX).await.expect("nothing is lost");
    assert_eq!(known.violations, [""; 0]);
    println!("{}; {at_start} cuts during a start", known.summary(seen.len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_answers_before_it_writes_is_caught() {
    const ROUNDS_MAX: u32 = 40;
    let mut chance = Chance(fresh_seed());
    for number in 0..ROUNDS_MAX {
        let mut cuts = Cuts::new(2, chance.below(u64::MAX)).await;
        cuts.round(number, ":early").await;
        let (place, known) = cuts.known();
        let broker = place.start(&options(2));
        if read_all(&broker, &known, Duration::from_secs(2)).await.is_none() {
            return;
        }
    }
    panic!("an answer before the write is never missed");
}
