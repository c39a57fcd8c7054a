//! A shard as tasks: one task owns the replica, one thread writes. Others talk to it through a bounded queue.

pub mod answers;
mod budget;
mod handle;
pub mod lookup;
mod upkeep;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker_engine::{Command, Known, Reply, ReplyTo, Seed, TransactionCheck};
use broker_model::{Now, ReceiptHandle, ShardId, Topic, TopicName, shard_name};
use broker_store::log::LogOptions;
use broker_store::reader::log_directory;
use broker_store::sealed_index::IndexError;
use broker_store::segments::Segment;
use broker_store::writer::Write;
use broker_store::{Damage, Disk, DiskError, KeysOfHead, LogReader};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::append_times::{AppendTimes, AppendTimesSeen};
use crate::clock::{Clock, ShardClock};
use crate::maintenance::Findings;
use crate::memory::{self, Memory};
use crate::replica::{self, Replica, StartError};
use crate::shard_poll::Claim;
use crate::transport::NoPeers;
use crate::writer_thread::{Finished, WriterThread};
use budget::{Budgets, Share};
use upkeep::SealingTries;

/// Commands that may wait for a shard; beyond it callers wait, sends and polls are refused.
const QUEUED_COMMANDS_MAX: usize = 16 * 1024;
/// Commands taken in one step.
const COMMANDS_PER_STEP: usize = 1024;

/// Before each step the connections of the same core get so many turns, in which they read what has arrived: what they hand over
/// shares the step, and with it the write, the sync and the wake-ups. With nothing to read a turn takes a microsecond or two.
const TURNS_BEFORE_STEP: u32 = 3;
/// The longest sleep while something waits for its time: somebody may set the wall clock meanwhile.
const CLOCK_LOOK_MS: u64 = 1_000;

/// What a shard needs.
#[derive(Debug, Clone)]
pub struct ShardOptions {
    /// Which shard.
    pub id: ShardId,
    /// The data directory of the broker.
    pub data: PathBuf,
    /// Size of new segments.
    pub segment_bytes: u64,
    /// Chance given from outside.
    pub seed: Seed,
    /// Tells the keys of a message, for the key tables of sealed segments.
    pub keys_of_head: KeysOfHead,
    /// The memory of the process, which all shards share.
    pub memory: Memory,
}

/// A message as handed to a consumer.
#[derive(Debug, Clone)]
pub struct DeliveredMessage {
    /// For acknowledging it.
    pub handle: ReceiptHandle,
    /// When it was stored, Unix time.
    pub stored_ms: u64,
    /// When it becomes visible to others, in the shard's steady time.
    pub invisible_until_ms: u64,
    /// The topic it was sent to, when it comes from a dead-letter topic.
    pub origin_topic: Option<TopicName>,
    /// As stored.
    pub head: Bytes,
    /// As stored.
    pub body: Bytes,
    /// The answer's part of the memory; to be kept as long as the answer is.
    pub share: Option<Arc<memory::Share>>,
}

/// Numbers of a running shard.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardStatus {
    /// "leader", "failed", or "read-only" while the log is damaged.
    pub role: &'static str,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// The last durable entry.
    pub durable_index: u64,
    /// Whether sends are refused because the volume is nearly full.
    pub refuses_sends: bool,
    /// How long its durable writes took.
    pub append_times: AppendTimesSeen,
    /// Segments sealed since it was opened.
    pub sealed_segments: u64,
    /// How often sealing failed since then.
    pub sealing_failures: u64,
    /// Why the log failed, if it did.
    pub failure: Option<String>,
    /// What of the log is damaged, so that the shard is read-only.
    pub damage: Option<Damage>,
    /// When the oldest message kept was stored, Unix time, as it was when numbers of topics were asked for last.
    pub oldest_ms: Option<u64>,
}

/// Where the answer to a command goes; none when nobody asked. Holds the command's share of the memory until then.
#[derive(Debug, Default)]
pub struct Slot {
    sender: Option<oneshot::Sender<Reply>>,
    home: Option<answers::Home>,
    /// Of a poll that waits on several shards: the claim, and who we are.
    claim: Option<(Claim, ShardId)>,
    _share: Option<Share>,
}

impl ReplyTo for Slot {
    fn is_gone(&self) -> bool {
        let is_lost = self.claim.as_ref().is_some_and(|(claim, shard)| claim.is_lost_to(*shard));
        is_lost || self.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn claim(&self) -> bool {
        self.claim.as_ref().is_none_or(|(claim, shard)| claim.take(*shard))
    }
}

enum Input {
    Command(Command, Slot),
    Maintained(Result<Findings, DiskError>),
    /// There is something in [`Shared::given_back`].
    GivenBack,
    Stop(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Shared {
    id: ShardId,
    name: String,
    clock: ShardClock,
    log_bytes: AtomicU64,
    durable_index: AtomicU64,
    /// Log position up to which readers may read.
    durable_position: AtomicU64,
    refuses_sends: AtomicBool,
    append_times: Arc<AppendTimes>,
    sealed_segments: AtomicU64,
    sealing_failures: AtomicU64,
    /// 0 when no message is kept.
    oldest_ms: AtomicU64,
    is_leader: AtomicBool,
    failure: Mutex<Option<String>>,
    damage: Option<Damage>,
    reader: Mutex<LogReader>,
    /// Where the log is, for what is derived from it.
    disk: Arc<dyn Disk>,
    log_directory: PathBuf,
    budgets: Budgets,
    /// Deliveries that reached nobody. Beside the queue of commands, which may be full: a delivery that is not given back
    /// counts. There are no more of them than messages in flight.
    given_back: Mutex<Vec<ReceiptHandle>>,
    /// Searches of the log that may begin.
    searches: Arc<Semaphore>,
}

/// What a shard says without being asked.
#[derive(Debug)]
pub enum ShardEvent {
    /// A dead-letter topic came into being.
    NewTopic(Topic),
    /// The producer of a transaction is to be asked how it ended.
    TransactionCheck(TransactionCheck),
}

/// Messages read from a queue without being delivered.
#[derive(Debug, Clone)]
pub struct PulledMessages {
    /// The messages; their handles name only their place.
    pub messages: Vec<DeliveredMessage>,
    /// Where to read on.
    pub next_offset: u64,
    /// Whether the offset asked for is beyond the queue.
    pub is_out_of_range: bool,
}

/// Talks to a shard; cheap to clone.
#[derive(Debug, Clone)]
pub struct ShardHandle {
    shared: Arc<Shared>,
    inputs: mpsc::Sender<Input>,
}

/// A shard that was opened but does not run yet.
#[derive(Debug)]
pub struct OpenShard {
    /// To talk to it once it runs.
    pub handle: ShardHandle,
    /// What its log says exists.
    pub known: Known,
    task: ShardTask,
}

impl OpenShard {
    /// Shards of one process tell the same steady time, the one that is furthest: a poll may wait on several of them.
    pub fn share_steady_time(shards: &[Self]) {
        let ahead_ms = shards.iter().map(|shard| shard.handle.shared.clock.ahead_ms()).max();
        for shard in shards {
            shard.handle.shared.clock.set_ahead(ahead_ms.unwrap_or(0));
        }
    }

    /// Runs the shard until it is stopped; for the runtime that is to own it. `events` hears of what nobody asked for.
    pub async fn run(self, events: mpsc::UnboundedSender<ShardEvent>) {
        self.task.run(events).await;
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Command(..) => "Command",
            Self::Maintained(..) => "Maintained",
            Self::GivenBack => "GivenBack",
            Self::Stop(..) => "Stop",
        })
    }
}

/// Opens a shard: replays its log. Blocks; takes as long as the log is large.
///
/// # Errors
/// [`StartError`]; nothing was changed then.
pub fn open_shard(
    disk: &Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    options: &ShardOptions,
) -> Result<OpenShard, StartError> {
    let log_options = LogOptions {
        shard: options.id.0,
        directory: options.data.join(log_directory(options.id)),
        segment_bytes: options.segment_bytes,
    };
    let wall_ms = clock.wall_ms();
    let (replica, writer) =
        replica::start(disk, &log_options, Box::new(NoPeers), options.seed, wall_ms)?;
    let begin = replica.begin();
    let name = shard_name(options.id);
    tell_what_is_wrong(&name, &replica);
    let (finished, written) = mpsc::unbounded_channel();
    let append_times = Arc::<AppendTimes>::default();
    let started = WriterThread::start(&name, writer, finished, append_times.clone());
    let writer = started.map_err(|error| no_writer_thread(&log_options, &error))?;
    let shared = Arc::new(Shared {
        id: options.id,
        name,
        clock: ShardClock::begin(clock, begin),
        log_bytes: AtomicU64::new(0),
        durable_index: AtomicU64::new(0),
        durable_position: AtomicU64::new(replica.log().durable_position()),
        refuses_sends: AtomicBool::new(false),
        append_times,
        sealed_segments: AtomicU64::new(0),
        sealing_failures: AtomicU64::new(0),
        oldest_ms: AtomicU64::new(0),
        is_leader: AtomicBool::new(replica.is_leader()),
        failure: Mutex::new(None),
        damage: replica.damage().cloned(),
        reader: Mutex::new(replica.reader()),
        disk: disk.clone(),
        log_directory: log_options.directory.clone(),
        budgets: Budgets::new(options.memory.clone()),
        given_back: Mutex::default(),
        searches: Arc::new(Semaphore::new(lookup::SEARCHES_PER_SHARD_MAX)),
    });
    let (inputs, queue) = mpsc::channel(QUEUED_COMMANDS_MAX);
    let handle = ShardHandle { shared: shared.clone(), inputs };
    let known = replica.engine().known();
    let mut task = ShardTask {
        replica,
        writer,
        written,
        queue,
        own_inputs: handle.inputs.downgrade(),
        shared,
        disk: disk.clone(),
        log_options,
        keys_of_head: options.keys_of_head,
        maintained_position: 0,
        is_maintaining: false,
        sealing: SealingTries::default(),
        unused: Vec::new(),
        is_given_up: Arc::default(),
        // The reserve is taken as soon as the shard runs.
        recheck_at_ms: Some(begin.steady_ms),
        waiting_write: None,
        is_nearly_full: false,
    };
    task.look_at_room()?;
    Ok(OpenShard { handle, known, task })
}

fn no_writer_thread(log: &LogOptions, error: &std::io::Error) -> StartError {
    StartError::Open(broker_store::OpenError::Disk(DiskError {
        operation: "start the writer thread of",
        path: log.directory.clone(),
        message: error.to_string(),
        is_full: false,
        is_missing: false,
    }))
}

fn tell_what_is_wrong(name: &str, replica: &Replica<Slot>) {
    for reason in replica.unusable_snapshots() {
        tracing::warn!(shard = name, reason, "a snapshot cannot be used; the one before it is");
    }
    if let Some(damage) = replica.damage() {
        tracing::error!(
            shard = name,
            from = damage.from,
            to = damage.to,
            first_index = damage.first_index,
            last_index = damage.last_index,
            "{damage}; the shard is read-only: what is before the damage is served, nothing is stored"
        );
    }
}

#[derive(Debug)]
struct ShardTask {
    replica: Replica<Slot>,
    writer: WriterThread,
    written: mpsc::UnboundedReceiver<Finished>,
    queue: mpsc::Receiver<Input>,
    own_inputs: mpsc::WeakSender<Input>,
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    log_options: LogOptions,
    keys_of_head: KeysOfHead,
    maintained_position: u64,
    is_maintaining: bool,
    /// When sealing may be tried, after it failed.
    sealing: SealingTries,
    /// Segments that nobody needs any more and that are there yet.
    unused: Vec<Segment>,
    /// Set when the shard ends: work beside it is not to be waited for.
    is_given_up: Arc<AtomicBool>,
    recheck_at_ms: Option<u64>,
    /// A write that found no room for its segment, and when it is tried again.
    waiting_write: Option<(Write, u64)>,
    /// Whether the volume was nearly full when it was last looked at.
    is_nearly_full: bool,
}

impl ShardTask {
    async fn run(mut self, events: mpsc::UnboundedSender<ShardEvent>) {
        let mut inputs = Vec::with_capacity(COMMANDS_PER_STEP);
        let mut stopping: Option<oneshot::Sender<()>> = None;
        loop {
            self.step(&events);
            // What waits for room may wait for ever.
            let is_idle = !self.replica.is_busy() || self.waiting_write.is_some();
            if stopping.is_some() && is_idle {
                break;
            }
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                Some(finished) = self.written.recv() => self.on_written(finished),
                count = self.queue.recv_many(&mut inputs, COMMANDS_PER_STEP) => {
                    if count == 0 {
                        break;
                    }
                }
                () = sleep_until(wake_at) => {}
            }
            self.give_turns(&mut inputs).await;
            let now = self.shared.clock.now();
            for input in inputs.drain(..) {
                match input {
                    Input::Command(command, slot) => self.replica.submit(now, command, slot),
                    Input::Maintained(findings) => self.on_maintained(now.steady_ms, findings),
                    // They are taken back before each step.
                    Input::GivenBack => {}
                    Input::Stop(done) => {
                        self.replica.stop(now);
                        stopping = Some(done);
                    }
                }
            }
        }
        self.is_given_up.store(true, Ordering::Relaxed);
        if let Some(done) = stopping {
            // Nobody to tell is fine: the shard stops either way.
            let _gone = done.send(());
        }
    }

    /// Lets the connections of this core work, and takes in what came of it.
    async fn give_turns(&mut self, inputs: &mut Vec<Input>) {
        for _ in 0..TURNS_BEFORE_STEP {
            tokio::task::yield_now().await;
        }
        while let Ok(finished) = self.written.try_recv() {
            self.on_written(finished);
        }
        while inputs.len() < COMMANDS_PER_STEP
            && let Ok(input) = self.queue.try_recv()
        {
            inputs.push(input);
        }
    }

    fn step(&mut self, events: &mpsc::UnboundedSender<ShardEvent>) {
        let now = self.shared.clock.now();
        let given_back = std::mem::take(&mut *lock(&self.shared.given_back));
        self.take_back(now, given_back);
        let output = self.replica.step(now);
        self.note_failure();
        if let Some(write) = output.write {
            self.writer.write(write);
        }
        // Before the replies: who is told that something is stored finds it.
        let durable_position = self.replica.log().durable_position();
        self.shared.durable_position.store(durable_position, Ordering::Release);
        let topics = output.new_topics.into_iter().map(ShardEvent::NewTopic);
        for event in topics.chain(output.checks.into_iter().map(ShardEvent::TransactionCheck)) {
            let _listener_gone = events.send(event);
        }
        let undelivered = answers::release(output.replies, &self.shared, &self.own_inputs);
        // The pollers went away after messages were picked for them: others shall have them now.
        self.take_back(now, undelivered);
        let log = self.replica.log();
        self.shared.log_bytes.store(log.bytes(), Ordering::Relaxed);
        self.shared.durable_index.store(log.durable_index(), Ordering::Relaxed);
        self.shared.refuses_sends.store(self.replica.refuses_sends(), Ordering::Relaxed);
        self.keep_up(now.steady_ms);
    }

    fn take_back(&mut self, now: Now, undelivered: Vec<ReceiptHandle>) {
        if !undelivered.is_empty() {
            self.replica.submit(now, Command::Release(undelivered), Slot::default());
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let upkeep_ms = self.next_upkeep_ms();
        let now = self.shared.clock.now();
        let next_ms = self.replica.next_step_ms(now).into_iter().chain(upkeep_ms).min()?;
        let wait_ms = next_ms.saturating_sub(now.steady_ms).min(CLOCK_LOOK_MS);
        Some(Instant::now() + Duration::from_millis(wait_ms))
    }

    /// Tells everybody that the shard is over, once. An index file that is damaged is removed: the next start builds it
    /// from its segment.
    fn note_failure(&mut self) {
        let Some(reason) = self.replica.failure() else { return };
        let mut known = lock(&self.shared.failure);
        if known.is_some() {
            return;
        }
        tracing::error!(shard = %self.shared.name, reason, "the log failed; nothing more is stored");
        *known = Some(reason.to_owned());
        let index = self.replica.engine().index_failure();
        if let Some(IndexError::Damaged { path, .. }) = index {
            // What cannot be removed is refused again at the next start.
            let _ = self.disk.remove(path);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What the lock guards is replaced whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
