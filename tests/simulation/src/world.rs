//! The world of one history: clock, disk, network, process, clients and checker, and the driver that picks what happens
//! next. The door between replica and network is here; everything that passes it is told to the checker.

mod door;
mod faults;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use broker_engine::Command;
use broker_model::{GroupName, Now, TopicName};
use broker_replication::maintenance::{self, Findings, Work};
use broker_replication::sealing::SealError;
use broker_store::log::LogOptions;
use broker_store::simulated_disk::SimulatedDisk;
use broker_store::{Disk, DiskError, IndexFailure};

use crate::audit;
use crate::bugs::{EagerDisk, PlantedBug};
use crate::checker::Checker;
use crate::clients::{Clients, NewCall};
use crate::network::{Network, Packet};
use crate::plan::Plan;
use crate::process::{Process, log_options};
use crate::random::Random;
use crate::soak;
use crate::trace::Trace;

/// When histories begin, Unix time.
pub const BEGIN_MS: u64 = 1_900_000_000_000;

/// What a history was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Hash of everything that happened.
    pub trace: u64,
    /// Things that happened.
    pub events: u64,
    /// Deliveries that were checked.
    pub deliveries: u64,
    /// Of these: of what was acknowledged while a reset ran.
    pub beside_resets: u64,
    /// Starts of the process.
    pub starts: u64,
    /// Starts that were refused, and accepted as such.
    pub refusals: u64,
    /// How often segments were sealed.
    pub sealed: u64,
    /// Segments that nobody needed any more.
    pub recycled: u64,
    /// Segments of which only what is live was kept.
    pub condensed: u64,
    /// Messages that retention took, as far as anybody asked.
    pub taken: u64,
    /// Starts after the first of them.
    pub starts_behind_retention: u64,
}

impl Summary {
    /// Of both together.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        Self {
            trace: self.trace.rotate_left(1) ^ other.trace,
            events: self.events + other.events,
            deliveries: self.deliveries + other.deliveries,
            beside_resets: self.beside_resets + other.beside_resets,
            starts: self.starts + other.starts,
            refusals: self.refusals + other.refusals,
            sealed: self.sealed + other.sealed,
            recycled: self.recycled + other.recycled,
            condensed: self.condensed + other.condensed,
            taken: self.taken + other.taken,
            starts_behind_retention: self.starts_behind_retention + other.starts_behind_retention,
        }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) bug: Option<PlantedBug>,
    pub(crate) random: Random,
    /// Time as it passes; the broker's wall clock differs from it by `skew_ms`, its steady time by `steady_skew_ms`.
    pub(crate) true_ms: u64,
    skew_ms: i64,
    steady_skew_ms: i64,
    pub(crate) disk: SimulatedDisk,
    eager: Option<EagerDisk>,
    pub(crate) options: LogOptions,
    pub(crate) process: Option<Process>,
    network: Network,
    pub(crate) clients: Clients,
    pub(crate) checker: Checker,
    pub(crate) trace: Trace,
    next_ticket: u64,
    /// Ticket to call, for those whose client waits for the answer over the network.
    calls: std::collections::BTreeMap<u64, u64>,
    /// Answers that the audit waits for.
    pub(crate) direct: std::collections::BTreeMap<u64, broker_engine::Reply>,
    /// Bits flipped: file, byte, bit, and the byte as it is then; to be turned back.
    flipped: Vec<(std::path::PathBuf, usize, u8, u8)>,
    pub(crate) has_faults: bool,
    starts: u64,
    refusals: u64,
    sealed: u64,
    recycled: u64,
    condensed: u64,
    starts_behind_retention: u64,
}

impl World {
    /// A world before its first step.
    #[must_use]
    pub fn new(plan: &Plan, bug: Option<PlantedBug>, prints: bool) -> Self {
        Self {
            plan: plan.clone(),
            bug,
            random: Random::new(plan.seed),
            true_ms: BEGIN_MS,
            skew_ms: 0,
            steady_skew_ms: 0,
            disk: SimulatedDisk::default(),
            eager: None,
            options: log_options(plan.segment_bytes),
            process: None,
            network: Network::default(),
            clients: Clients::default(),
            checker: Checker::new(plan),
            trace: Trace::new(prints),
            next_ticket: 0,
            calls: std::collections::BTreeMap::new(),
            direct: std::collections::BTreeMap::new(),
            flipped: Vec::new(),
            has_faults: false,
            starts: 0,
            refusals: 0,
            sealed: 0,
            recycled: 0,
            condensed: 0,
            starts_behind_retention: 0,
        }
    }

    /// Plays the history.
    ///
    /// # Errors
    /// The first promise that was broken.
    pub fn play(mut self) -> Result<Summary, String> {
        self.begin()?;
        for _ in 0..self.plan.steps {
            self.step()?;
        }
        audit::audit(&mut self)?;
        Ok(self.summary())
    }

    /// The broker starts, and what the plan names is made.
    pub(crate) fn begin(&mut self) -> Result<(), String> {
        let inner: Arc<dyn Disk> = Arc::new(self.disk.clone());
        if self.bug == Some(PlantedBug::AnsweredBeforeSync) {
            self.eager = Some(EagerDisk::new(inner));
        }
        self.start()?;
        let topics = self.plan.topics.clone();
        for topic in topics {
            self.ask(Command::PutTopic(Box::new(topic)))?.map_err(|e| e.to_string())?;
        }
        for group in self.plan.groups.clone() {
            self.ask(Command::PutGroup(Box::new(group.settings)))?.map_err(|e| e.to_string())?;
        }
        let dead_letters: Vec<Command> = soak::dead_letter_topics(&self.plan).collect();
        for command in dead_letters {
            self.ask(command)?.map_err(|e| e.to_string())?;
        }
        self.has_faults = true;
        self.set_disk_faults(true);
        if let Some(segments) = self.plan.faults.segments_left {
            self.leave_room(segments);
        }
        Ok(())
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            trace: self.trace.hash(),
            events: self.trace.events,
            deliveries: self.checker.deliveries,
            beside_resets: self.checker.beside_resets,
            starts: self.starts,
            refusals: self.refusals,
            sealed: self.sealed,
            recycled: self.recycled,
            condensed: self.condensed,
            taken: self.checker.taken(),
            starts_behind_retention: self.starts_behind_retention,
        }
    }

    /// The broker's clocks.
    pub(crate) fn now(&self) -> Now {
        Now {
            steady_ms: self.true_ms.saturating_add_signed(self.steady_skew_ms),
            wall_ms: self.true_ms.saturating_add_signed(self.skew_ms),
        }
    }

    /// The broker's steady time.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now().steady_ms
    }

    pub(crate) fn shared_disk(&self) -> Arc<dyn Disk> {
        match &self.eager {
            Some(eager) => Arc::new(eager.clone()),
            None => Arc::new(self.disk.clone()),
        }
    }

    /// A step in which clients do nothing.
    pub(crate) fn rest(&mut self) -> Result<(), String> {
        if self.process.is_none() {
            return self.start();
        }
        self.pump()?;
        self.finish_write()?;
        self.advance_job()
    }

    /// One step of the driver.
    pub(crate) fn step(&mut self) -> Result<(), String> {
        if self.process.is_none() {
            self.true_ms += self.random.below(3_000);
            return self.start();
        }
        self.maybe_fault()?;
        if self.random.happens(self.plan.retention) {
            return self.advance_job();
        }
        match self.random.below(100) {
            0..50 => self.act(),
            50..72 => self.pump(),
            72..86 => self.finish_write(),
            86..96 => self.wait(),
            _ => self.advance_job(),
        }
    }

    fn act(&mut self) -> Result<(), String> {
        if self.random.happens(4) {
            self.trace.note(self.true_ms, format_args!("clients restart"));
            self.clients.restart();
            return Ok(());
        }
        let now = self.now();
        let call = self.clients.act(&self.plan, &mut self.random, now, &mut self.checker);
        if let Some(call) = call {
            self.send(call);
        }
        self.pump()
    }

    pub(crate) fn send(&mut self, NewCall { call, command }: NewCall) {
        let copies = 1 + u64::from(self.random.happens(self.plan.faults.duplicate));
        for _ in 0..copies {
            if self.random.happens(self.plan.faults.drop) {
                continue;
            }
            let at_ms = self.true_ms + self.random.below(self.plan.delay_ms_max + 1);
            self.network.send(at_ms, Packet::Command { call, command: command.clone() });
        }
    }

    /// Lets everything arrive that has arrived by now, and the replica work.
    pub(crate) fn pump(&mut self) -> Result<(), String> {
        while let Some(packet) = self.network.receive(self.true_ms) {
            match packet {
                Packet::Command { call, command } => {
                    if self.process.is_some() {
                        self.submit_call(call, command)?;
                    }
                }
                Packet::Reply { call, reply } => self.clients.answered(call, &reply),
            }
            if self.random.happens(300) {
                self.step_replica()?;
            }
        }
        self.step_replica()
    }

    fn wait(&mut self) -> Result<(), String> {
        let now = self.now();
        let next = self.process.as_ref().and_then(|process| process.replica.next_step_ms(now));
        let due_ms = next.map_or(0, |at_ms| at_ms.saturating_sub(now.steady_ms));
        let wait_ms = match self.random.below(3) {
            0 if due_ms < 60_000 => due_ms,
            1 => self.network.next_ms().map_or(1, |at_ms| at_ms.saturating_sub(self.true_ms)),
            _ => self.random.below(self.plan.wait_ms_max),
        };
        self.true_ms += wait_ms;
        self.pump()?;
        let (now, now_ms) = (self.now(), self.now_ms());
        let next = self.process.as_ref().map(|process| process.replica.next_step_ms(now));
        // Polls that have not looked at everything go on with the next step, which is at once.
        match next {
            Some(next) if next.is_none_or(|at_ms| at_ms > now_ms) => {
                self.checker.check_polls(now_ms)
            }
            _ => Ok(()),
        }
    }

    /// The work beside the data path happens, or the shard hears what came of it; everything else can be in between.
    fn advance_job(&mut self) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        if let Some(findings) = process.findings.take() {
            return self.deliver(findings);
        }
        let (work, note) = (process.work(), process.replica.engine().index_failure_note().clone());
        let found = self.maintain(work, &note);
        let sealed = found.as_ref().ok().and_then(|found| found.sealed.as_ref());
        let sealed = sealed.map(|sealed| sealed.as_ref().map(|sealed| sealed.position));
        self.trace.note(self.true_ms, format_args!("work beside; sealed up to {sealed:?}"));
        if let Some(process) = &mut self.process {
            process.findings = found.ok();
        }
        self.pass_delays();
        Ok(())
    }

    pub(crate) fn maintain(
        &mut self,
        work: Work,
        note: &IndexFailure,
    ) -> Result<Findings, DiskError> {
        let disk = self.shared_disk();
        maintenance::run(&disk, &self.options, work, note, &AtomicBool::new(false))
    }

    /// As the shell does.
    fn deliver(&mut self, findings: Findings) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.replica.set_room(findings.room);
        process.unused = findings.unused;
        match findings.sealed {
            Some(Ok(sealed)) => {
                self.sealed += 1;
                self.condensed += sealed.condensed.len() as u64;
                let unneeded = process.replica.sealed(sealed);
                self.recycled += unneeded.len() as u64;
                process.unused.extend(unneeded);
            }
            // The disk of a simulation writes what it is told: such a state must not come into being.
            Some(Err(error @ SealError::NotReadBack(_))) => return Err(error.to_string()),
            Some(Err(SealError::Open(error))) => process.replica.fail(&error.to_string()),
            Some(Err(SealError::Disk(_) | SealError::GivenUp)) | None => {}
        }
        self.step_replica()
    }

    /// The broker hears that the disk is whole and has room.
    pub(crate) fn look_at_room(&mut self) -> Result<(), String> {
        let disk = self.shared_disk();
        let Some(process) = &mut self.process else { return Ok(()) };
        process.look_at_room(&disk, &self.options).map_err(|error| error.to_string())
    }

    pub(crate) fn pass_delays(&mut self) {
        self.true_ms += self.disk.take_delay_ms();
    }

    /// What the broker says exists.
    pub(crate) fn names(&self) -> (Vec<TopicName>, Vec<GroupName>) {
        let Some(process) = &self.process else { return (Vec::new(), Vec::new()) };
        let engine = process.replica.engine();
        let mut topics: Vec<TopicName> = engine.topics().map(|topic| topic.name.clone()).collect();
        let mut groups: Vec<GroupName> = engine.groups().map(|group| group.name.clone()).collect();
        topics.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        groups.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        (topics, groups)
    }
}
