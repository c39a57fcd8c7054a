//! A long time: clients send at a modest rate for days of simulated time, messages wait for hours, nights are quiet, the
//! process dies now and then, and retention is at work. The history is checked as others are; and what the broker holds
//! must not grow.

use broker_engine::{Command, held::Held};

use crate::audit;
use crate::bugs::PlantedBug;
use crate::plan::Plan;
use crate::world::{Summary, World};

const HOUR_MS: u64 = 3_600_000;
/// Nobody does anything in the last hours of so many.
const DAY_HOURS: u64 = 24;
const NIGHT_HOURS: u64 = 4;
/// One step of a night.
const NIGHT_STEP_MS: u64 = 600_000;
/// On average, what is held may be more later than it was earlier by this, in percent, and by `GROWTH_MAX`.
const GROWTH_MAX_PERCENT: u64 = 30;
const GROWTH_MAX: u64 = 5;

/// What is held at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Simulated hours since the beginning.
    pub hour: u64,
    /// In memory.
    pub held: Held,
    /// Files on the disk.
    pub files: u64,
    /// Their bytes.
    pub disk_bytes: u64,
}

/// Something that is counted in every sample.
pub type Count = (&'static str, fn(&Sample) -> u64);

/// Everything that must stay flat, with its name.
pub const COUNTS: [Count; 11] = [
    ("index entries", |sample| sample.held.index_entries),
    ("leases", |sample| sample.held.leases),
    ("timers", |sample| sample.held.timers),
    ("waiting polls", |sample| sample.held.waiters),
    ("members", |sample| sample.held.members),
    ("clients", |sample| sample.held.clients),
    ("progress", |sample| sample.held.progress),
    ("named receives", |sample| sample.held.attempts),
    ("bytes of state", |sample| sample.held.state_bytes),
    ("files", |sample| sample.files),
    ("bytes on the disk", |sample| sample.disk_bytes),
];

/// A long history that held.
#[derive(Debug, Clone)]
pub struct Soaked {
    /// As of any history.
    pub summary: Summary,
    /// One for each hour.
    pub samples: Vec<Sample>,
}

impl World {
    /// Plays so many hours.
    ///
    /// # Errors
    /// The first promise that was broken, or what grew.
    pub fn soak(mut self, hours: u64) -> Result<Soaked, String> {
        let begun_ms = self.true_ms;
        let mut samples: Vec<Sample> = Vec::new();
        self.begin()?;
        loop {
            let hour = (self.true_ms - begun_ms) / HOUR_MS;
            if self.process.is_some() && samples.last().is_none_or(|last| last.hour < hour) {
                samples.extend(self.sample(hour));
            }
            if hour >= hours {
                break;
            }
            if hour % DAY_HOURS < DAY_HOURS - NIGHT_HOURS {
                self.step()?;
            } else {
                self.true_ms += NIGHT_STEP_MS;
                self.rest()?;
            }
        }
        audit::audit(&mut self)?;
        check_flat(&samples, hours)?;
        Ok(Soaked { summary: self.summary(), samples })
    }

    fn sample(&self, hour: u64) -> Option<Sample> {
        let held = self.process.as_ref()?.replica.engine().held();
        let files = self.disk.files_ending("").len() as u64;
        Some(Sample { hour, held, files, disk_bytes: self.disk.used_bytes() })
    }
}

/// When everything has found its measure, what is held in the second half of the time is what was held in the first.
fn check_flat(samples: &[Sample], hours: u64) -> Result<(), String> {
    let average = |from: u64, to: u64, count: fn(&Sample) -> u64| {
        let within = samples.iter().filter(|sample| (from..to).contains(&sample.hour));
        let counts: Vec<u64> = within.map(count).collect();
        counts.iter().sum::<u64>() / (counts.len() as u64).max(1)
    };
    for (name, count) in COUNTS {
        let early = average(hours / 6, hours / 2, count);
        let late = average(hours / 2, hours + 1, count);
        if late > early + early * GROWTH_MAX_PERCENT / 100 + GROWTH_MAX {
            return Err(format!(
                "{name} grow: {early} in the first half of the time, {late} later"
            ));
        }
    }
    Ok(())
}

/// Plays a long history of a seed.
///
/// # Errors
/// As [`crate::run`].
pub fn soak(seed: u64, hours: u64, bug: Option<PlantedBug>) -> Result<Soaked, crate::Failure> {
    let plan = Plan::of(seed).for_days();
    crate::guarded(&plan, bug, || World::new(&plan, bug, false).soak(hours))
}

/// Commands before the first step that only long histories have: dead letters do not stay for ever.
pub(crate) fn dead_letter_topics(plan: &Plan) -> impl Iterator<Item = Command> + '_ {
    plan.dead_letter_topics.iter().map(|topic| Command::PutTopic(Box::new(topic.clone())))
}
