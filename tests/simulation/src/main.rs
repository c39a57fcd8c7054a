//! Plays histories: the regression seeds first, then fresh ones until the time is over or their number is reached, on
//! every core. Says of each failing seed how to repeat it, and closes with one line of figures.
//!
//! `simulation [--seconds N] [--histories N] [--from SEED] [--seed SEED] [--soak HOURS]`; with a seed that one alone, event
//! by event; with hours a few long ones, and what the broker held meanwhile.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tests_simulation::soak::{COUNTS, Soaked, soak};
use tests_simulation::{Failure, Plan, PlantedBug, Summary, regressions, run, run_plan};

/// Small allocations of many threads are what histories do all day.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Failures shown; the count goes on.
const SHOWN_MAX: usize = 20;
/// Long histories that are played unless fewer are asked for.
const SOAKS_MAX: u64 = 8;

#[derive(Debug)]
struct Options {
    seconds: u64,
    histories: u64,
    from: u64,
    seed: Option<u64>,
    /// Hours of simulated time.
    soak: Option<u64>,
    /// A planted bug, by its number: to find seeds that show it.
    bug: Option<PlantedBug>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let chance = RandomState::new().build_hasher().finish() >> 20;
        let mut options = Self {
            seconds: 60,
            histories: u64::MAX,
            from: chance,
            seed: None,
            soak: None,
            bug: None,
        };
        for pair in arguments.chunks(2) {
            let [name, value] = pair else { return Err(format!("{pair:?} has no value")) };
            let number = value.parse().map_err(|_| format!("{name} {value}: not a number"))?;
            match name.as_str() {
                "--seconds" => options.seconds = number,
                "--histories" => options.histories = number,
                "--from" => options.from = number,
                "--seed" => options.seed = Some(number),
                "--soak" => options.soak = Some(number),
                "--bug" => {
                    let at = usize::try_from(number).unwrap_or(usize::MAX);
                    let bug = PlantedBug::ALL.get(at).copied();
                    options.bug = Some(bug.ok_or_else(|| format!("there is no bug {number}"))?);
                }
                _ => return Err(format!("{name} is not known")),
            }
        }
        Ok(options)
    }
}

/// What all threads found.
#[derive(Debug, Default)]
struct Findings {
    passed: AtomicU64,
    events: AtomicU64,
    deliveries: AtomicU64,
    beside_resets: AtomicU64,
    starts: AtomicU64,
    sealed: AtomicU64,
    recycled: AtomicU64,
    condensed: AtomicU64,
    taken: AtomicU64,
    with_retention: AtomicU64,
    refusals: AtomicU64,
    failures: Mutex<Vec<Failure>>,
}

impl Findings {
    fn note(&self, played: Result<Summary, Failure>) {
        match played {
            Ok(summary) => {
                self.passed.fetch_add(1, Ordering::Relaxed);
                self.events.fetch_add(summary.events, Ordering::Relaxed);
                self.deliveries.fetch_add(summary.deliveries, Ordering::Relaxed);
                self.beside_resets.fetch_add(summary.beside_resets, Ordering::Relaxed);
                self.starts.fetch_add(summary.starts, Ordering::Relaxed);
                self.sealed.fetch_add(summary.sealed, Ordering::Relaxed);
                self.recycled.fetch_add(summary.recycled, Ordering::Relaxed);
                self.condensed.fetch_add(summary.condensed, Ordering::Relaxed);
                self.taken.fetch_add(summary.taken, Ordering::Relaxed);
                let is_at_work = u64::from(summary.taken > 0);
                self.with_retention.fetch_add(is_at_work, Ordering::Relaxed);
                self.refusals.fetch_add(summary.refusals, Ordering::Relaxed);
            }
            Err(failure) => {
                let mut failures = self.failures.lock().expect("no thread panics with it");
                if failures.len() < SHOWN_MAX {
                    let Failure { seed, what } = &failure;
                    println!("seed {seed} failed: {what}\n  repeat it with: make sim SEED={seed}");
                }
                failures.push(failure);
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Options::parse(&arguments).and_then(|options| play(&options)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Long histories, on every core.
fn soak_all(options: &Options, hours: u64) -> ExitCode {
    let count = options.histories.min(SOAKS_MAX);
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let seed = options.seed.unwrap_or(options.from).wrapping_add(number);
                    match soak(seed, hours, options.bug) {
                        Ok(soaked) => println!("{}", told(seed, &soaked)),
                        Err(Failure { seed, what }) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            println!("seed {seed} failed: {what}");
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{} passed, {failed} failed", count - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line of figures, and one for every sixth part of the time.
fn told(seed: u64, Soaked { summary, samples }: &Soaked) -> String {
    let mut text = format!("seed {seed}: {summary:?}\n  hour");
    COUNTS.iter().for_each(|(name, _)| text.push_str(&format!(" | {name}")));
    for sample in samples.iter().step_by((samples.len() / 6).max(1)) {
        text.push_str(&format!("\n  {:>4}", sample.hour));
        COUNTS.iter().for_each(|(_, count)| text.push_str(&format!(" | {}", count(sample))));
    }
    text
}

fn play(options: &Options) -> Result<ExitCode, String> {
    if let Some(hours) = options.soak {
        return Ok(soak_all(options, hours));
    }
    if let Some(seed) = options.seed {
        return Ok(play_one(seed));
    }
    // A panic is a finding like others; it is shown with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let begun = Instant::now();
    let findings = Findings::default();
    for (seed, _) in regressions::seeds()? {
        findings.note(run(seed, None));
    }
    let (next, until) = (AtomicU64::new(0), begun + Duration::from_secs(options.seconds));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while Instant::now() < until {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= options.histories {
                        return;
                    }
                    findings.note(run(options.from.wrapping_add(number), options.bug));
                }
            });
        }
    });
    let failed = findings.failures.lock().map_or(0, |failures| failures.len());
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} events, {} deliveries, {} starts, {} refused starts, {} sealings, seeds from {}, {:.1} s",
        get(&findings.events),
        get(&findings.deliveries),
        get(&findings.starts),
        get(&findings.refusals),
        get(&findings.sealed),
        options.from,
        begun.elapsed().as_secs_f64()
    );
    println!(
        "retention took {} messages in {} histories; {} segments were needed no more, {} of them because what \
         was live was condensed",
        get(&findings.taken),
        get(&findings.with_retention),
        get(&findings.recycled),
        get(&findings.condensed)
    );
    println!(
        "{} messages came again that had been acknowledged while a reset ran",
        get(&findings.beside_resets)
    );
    println!("{} passed, {failed} failed", get(&findings.passed));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn play_one(seed: u64) -> ExitCode {
    let plan = Plan::of(seed);
    println!("{plan:#?}");
    match run_plan(&plan, None, true) {
        Ok(summary) => {
            println!("{summary:?}\n1 passed, 0 failed");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{}\n0 passed, 1 failed", failure.what);
            ExitCode::FAILURE
        }
    }
}
