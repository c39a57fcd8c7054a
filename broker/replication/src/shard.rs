//! A shard as tasks: one task owns the replica, one thread writes. Others talk to it through a bounded queue.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker_engine::{Command, Delivery, Outcome, Receive, Refusal, Reply, ReplyTo, Source};
use broker_model::{ConsumerGroup, ReceiptHandle, ShardId, Topic, TopicName, shard_name};
use broker_store::log::LogOptions;
use broker_store::reader::log_directory;
use broker_store::writer::Written;
use broker_store::{Disk, DiskError, LogReader, Record};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::clock::Clock;
use crate::maintenance::{self, Findings};
use crate::replica::{self, Replica, StartError};
use crate::transport::NoPeers;
use crate::writer_thread::WriterThread;

/// Commands that may wait for a shard; beyond it callers wait.
const QUEUED_COMMANDS_MAX: usize = 16 * 1024;
/// Commands taken in one step.
const COMMANDS_PER_STEP: usize = 1024;
/// Bytes written between two looks at the disk.
const MAINTENANCE_BYTES: u64 = 8 * 1024 * 1024;
/// How often a full disk is looked at again.
const FULL_DISK_RECHECK_MS: u64 = 1_000;

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
    pub seed: u64,
}

/// A message as handed to a consumer.
#[derive(Debug, Clone)]
pub struct DeliveredMessage {
    /// For acknowledging it.
    pub handle: ReceiptHandle,
    /// When it was stored, Unix time.
    pub stored_ms: u64,
    /// When it becomes visible to others, Unix time.
    pub invisible_until_ms: u64,
    /// The topic it was sent to, when it comes from a dead-letter topic.
    pub origin_topic: Option<TopicName>,
    /// As stored.
    pub head: Bytes,
    /// As stored.
    pub body: Bytes,
}

/// Numbers of a running shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardStatus {
    /// "leader" or "failed".
    pub role: &'static str,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// The last durable entry.
    pub durable_index: u64,
    /// Why the log failed, if it did.
    pub failure: Option<String>,
}

/// Where the answer to a command goes; none when nobody asked.
#[derive(Debug)]
pub struct Slot(Option<oneshot::Sender<Reply>>);

impl ReplyTo for Slot {
    fn is_gone(&self) -> bool {
        self.0.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

enum Input {
    Command(Command, Slot),
    Maintained(Result<Findings, DiskError>),
    Stop(oneshot::Sender<()>),
}

#[derive(Debug)]
struct Shared {
    id: ShardId,
    name: String,
    clock: Arc<dyn Clock>,
    log_bytes: AtomicU64,
    durable_index: AtomicU64,
    is_leader: AtomicBool,
    failure: Mutex<Option<String>>,
    reader: Mutex<LogReader>,
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
    pub topics: Vec<Topic>,
    /// What its log says exists.
    pub groups: Vec<ConsumerGroup>,
    task: ShardTask,
}

impl OpenShard {
    /// Runs the shard until it is stopped; for the runtime that is to own it. `new_topics` hears of dead-letter topics
    /// that come into being.
    pub async fn run(self, new_topics: mpsc::UnboundedSender<Topic>) {
        self.task.run(new_topics).await;
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Command(..) => "Command",
            Self::Maintained(..) => "Maintained",
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
    let now_ms = clock.now_ms();
    let (replica, writer) =
        replica::start(disk, &log_options, Box::new(NoPeers), options.seed, now_ms)?;
    let name = shard_name(options.id);
    let (finished, written) = mpsc::unbounded_channel();
    let writer = WriterThread::start(&name, writer, finished).map_err(|error| {
        StartError::Open(broker_store::OpenError::Disk(DiskError {
            operation: "start the writer thread of",
            path: log_options.directory.clone(),
            message: error.to_string(),
            is_full: false,
            is_missing: false,
        }))
    })?;
    let shared = Arc::new(Shared {
        id: options.id,
        name,
        clock,
        log_bytes: AtomicU64::new(0),
        durable_index: AtomicU64::new(0),
        is_leader: AtomicBool::new(replica.is_leader()),
        failure: Mutex::new(None),
        reader: Mutex::new(replica.reader()),
    });
    let (inputs, queue) = mpsc::channel(QUEUED_COMMANDS_MAX);
    let handle = ShardHandle { shared: shared.clone(), inputs };
    let topics = replica.engine().topics().cloned().collect();
    let groups = replica.engine().groups().cloned().collect();
    let task = ShardTask {
        replica,
        writer,
        written,
        queue,
        own_inputs: handle.inputs.downgrade(),
        shared,
        disk: disk.clone(),
        log_options,
        maintained_bytes: 0,
        is_maintaining: false,
        recheck_at_ms: None,
    };
    Ok(OpenShard { handle, topics, groups, task })
}

#[derive(Debug)]
struct ShardTask {
    replica: Replica<Slot>,
    writer: WriterThread,
    written: mpsc::UnboundedReceiver<Result<Written, DiskError>>,
    queue: mpsc::Receiver<Input>,
    own_inputs: mpsc::WeakSender<Input>,
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    log_options: LogOptions,
    maintained_bytes: u64,
    is_maintaining: bool,
    recheck_at_ms: Option<u64>,
}

impl ShardTask {
    async fn run(mut self, new_topics: mpsc::UnboundedSender<Topic>) {
        let mut inputs = Vec::with_capacity(COMMANDS_PER_STEP);
        let mut stopping: Option<oneshot::Sender<()>> = None;
        loop {
            self.step(&new_topics);
            if stopping.is_some() && !self.replica.is_busy() {
                break;
            }
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                Some(result) = self.written.recv() => self.on_written(result),
                count = self.queue.recv_many(&mut inputs, COMMANDS_PER_STEP) => {
                    if count == 0 {
                        break;
                    }
                }
                () = sleep_until(wake_at) => {}
            }
            let now_ms = self.shared.clock.now_ms();
            for input in inputs.drain(..) {
                match input {
                    Input::Command(command, slot) => self.replica.submit(now_ms, command, slot),
                    Input::Maintained(findings) => self.on_maintained(now_ms, findings),
                    Input::Stop(done) => {
                        self.replica.stop(now_ms);
                        stopping = Some(done);
                    }
                }
            }
        }
        if let Some(done) = stopping {
            // Nobody to tell is fine: the shard stops either way.
            let _gone = done.send(());
        }
    }

    fn step(&mut self, new_topics: &mpsc::UnboundedSender<Topic>) {
        let now_ms = self.shared.clock.now_ms();
        let output = self.replica.step(now_ms);
        if let Some(write) = output.write {
            self.writer.write(write);
        }
        for topic in output.new_topics {
            let _catalog_gone = new_topics.send(topic);
        }
        let undelivered = release(output.replies);
        if !undelivered.is_empty() {
            // The pollers went away after messages were picked for them: others shall have them now.
            self.replica.submit(now_ms, Command::Release(undelivered), Slot(None));
        }
        let log = self.replica.log();
        self.shared.log_bytes.store(log.bytes(), Ordering::Relaxed);
        self.shared.durable_index.store(log.durable_index(), Ordering::Relaxed);
        self.maintain(now_ms);
    }

    fn wake_at(&self) -> Option<Instant> {
        let next_ms = self.replica.next_step_ms().into_iter().chain(self.recheck_at_ms).min()?;
        let wait_ms = next_ms.saturating_sub(self.shared.clock.now_ms());
        Some(Instant::now() + Duration::from_millis(wait_ms))
    }

    fn on_written(&mut self, result: Result<Written, DiskError>) {
        match result {
            Ok(written) => {
                let opens_segment = written.opens_segment();
                self.replica.written(self.shared.clock.now_ms(), written);
                if opens_segment {
                    *lock(&self.shared.reader) = self.replica.reader();
                }
            }
            Err(error) => {
                let reason = error.to_string();
                tracing::error!(shard = %self.shared.name, %reason, "the log failed; nothing more is stored");
                self.replica.fail(&reason);
                *lock(&self.shared.failure) = Some(reason);
            }
        }
    }

    fn maintain(&mut self, now_ms: u64) {
        let bytes = self.replica.log().bytes();
        let is_due = bytes >= self.maintained_bytes + MAINTENANCE_BYTES
            || self.recheck_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        if self.is_maintaining || !is_due || self.replica.failure().is_some() {
            return;
        }
        self.maintained_bytes = bytes;
        self.is_maintaining = true;
        self.recheck_at_ms = None;
        let (disk, options) = (self.disk.clone(), self.log_options.clone());
        let (inputs, wants_spare) = (self.own_inputs.clone(), self.replica.log().wants_spare());
        tokio::task::spawn_blocking(move || {
            let findings = maintenance::run(&disk, &options, wants_spare);
            if let Some(inputs) = inputs.upgrade() {
                let _stopped = inputs.blocking_send(Input::Maintained(findings));
            }
        });
    }

    fn on_maintained(&mut self, now_ms: u64, findings: Result<Findings, DiskError>) {
        self.is_maintaining = false;
        match findings {
            Ok(Findings { is_disk_full }) => {
                self.replica.set_disk_full(is_disk_full);
                self.recheck_at_ms = is_disk_full.then_some(now_ms + FULL_DISK_RECHECK_MS);
            }
            Err(error) => {
                // The spare is a convenience: without it the writer makes its segment itself.
                tracing::warn!(shard = %self.shared.name, %error, "the spare segment could not be made");
            }
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

/// Sends answers; returns the handles of messages whose poller is gone.
fn release(replies: Vec<(Slot, Reply)>) -> Vec<ReceiptHandle> {
    let mut undelivered = Vec::new();
    for (slot, reply) in replies {
        let Some(sender) = slot.0 else { continue };
        if let Err(Ok(Outcome::Received(deliveries))) = sender.send(reply) {
            undelivered.extend(deliveries.into_iter().map(|delivery| delivery.handle));
        }
    }
    undelivered
}

impl ShardHandle {
    /// Which shard.
    #[must_use]
    pub fn id(&self) -> ShardId {
        self.shared.id
    }

    /// Its name on the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The shard's clock, Unix time.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.shared.clock.now_ms()
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn submit(&self, command: Command) -> Reply {
        let (sender, answer) = oneshot::channel();
        let input = Input::Command(command, Slot(Some(sender)));
        self.inputs.send(input).await.map_err(|_| Refusal::Unavailable)?;
        // The command was taken in; whether it was carried out is not known any more.
        answer
            .await
            .map_err(|_| Refusal::LogFailed("the shard ended before it answered".to_owned()))?
    }

    /// Receives messages, waiting for them until the polling time ends. Dropping the future ends the wait; messages that
    /// were picked for it meanwhile become visible again at once.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn receive(&self, receive: Receive) -> Result<Vec<DeliveredMessage>, Refusal> {
        let (sender, answer) = oneshot::channel();
        let input = Input::Command(Command::Receive(receive), Slot(Some(sender)));
        self.inputs.send(input).await.map_err(|_| Refusal::Unavailable)?;
        let mut poll = WaitingPoll { inputs: &self.inputs, answer, taken: Vec::new() };
        let reply = (&mut poll.answer).await.map_err(|_| Refusal::Unavailable)?;
        let Outcome::Received(deliveries) = reply? else { return Ok(Vec::new()) };
        let is_cold = |delivery: &Delivery| matches!(delivery.source, Source::Log { .. });
        if !deliveries.iter().any(is_cold) {
            return read_all(None, deliveries.into());
        }
        poll.taken = deliveries.iter().map(|delivery| delivery.handle).collect();
        let messages = self.read_cold(deliveries).await;
        poll.taken.clear();
        messages
    }

    /// Reads what is not in memory any more.
    async fn read_cold(&self, deliveries: Vec<Delivery>) -> Result<Vec<DeliveredMessage>, Refusal> {
        let reader = lock(&self.shared.reader).clone();
        let read = tokio::task::spawn_blocking(move || read_all(Some(&reader), deliveries.into()));
        read.await.map_err(|_| Refusal::Unavailable)?
    }

    /// Numbers of the shard.
    #[must_use]
    pub fn status(&self) -> ShardStatus {
        let failure = lock(&self.shared.failure).clone();
        let is_leader = self.shared.is_leader.load(Ordering::Relaxed);
        ShardStatus {
            role: if failure.is_some() || !is_leader { "failed" } else { "leader" },
            log_bytes: self.shared.log_bytes.load(Ordering::Relaxed),
            durable_index: self.shared.durable_index.load(Ordering::Relaxed),
            failure,
        }
    }

    /// Answers waiting polls, makes everything durable that was taken in, and ends the shard.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.inputs.send(Input::Stop(done)).await.is_ok() {
            // A closed channel means that it is gone already.
            let _gone = stopped.await;
        }
    }
}

/// Gives back what a poll was answered with when it is dropped before anybody took it.
struct WaitingPoll<'a> {
    inputs: &'a mpsc::Sender<Input>,
    answer: oneshot::Receiver<Reply>,
    taken: Vec<ReceiptHandle>,
}

impl Drop for WaitingPoll<'_> {
    fn drop(&mut self) {
        // An answer that comes from now on finds nobody, which the shard notices itself.
        self.answer.close();
        if let Ok(Ok(Outcome::Received(deliveries))) = self.answer.try_recv() {
            self.taken.extend(deliveries.into_iter().map(|delivery| delivery.handle));
        }
        if !self.taken.is_empty() {
            let release = Command::Release(std::mem::take(&mut self.taken));
            // When the queue is full they become visible at the end of their invisible duration.
            let _full = self.inputs.try_send(Input::Command(release, Slot(None)));
        }
    }
}

fn read_all(
    reader: Option<&LogReader>,
    deliveries: VecDeque<Delivery>,
) -> Result<Vec<DeliveredMessage>, Refusal> {
    let mut messages = Vec::with_capacity(deliveries.len());
    for delivery in deliveries {
        let (head, body) = match delivery.source {
            Source::Memory { head, body } => (head, body),
            Source::Log { position, length_bytes } => read_one(reader, position, length_bytes)?,
        };
        messages.push(DeliveredMessage {
            handle: delivery.handle,
            stored_ms: delivery.stored_ms,
            invisible_until_ms: delivery.invisible_until_ms,
            origin_topic: delivery.origin_topic,
            head,
            body,
        });
    }
    Ok(messages)
}

fn read_one(
    reader: Option<&LogReader>,
    position: u64,
    length_bytes: u32,
) -> Result<(Bytes, Bytes), Refusal> {
    let reader = reader.ok_or(Refusal::Unavailable)?;
    match reader.record(position, length_bytes) {
        Ok(Record::Message(message)) => Ok((message.head, message.body)),
        Ok(_) => Err(Refusal::LogFailed(format!("no message at log position {position}"))),
        Err(error) => {
            tracing::error!(%error, "a stored message cannot be read");
            Err(Refusal::LogFailed(error.to_string()))
        }
    }
}
