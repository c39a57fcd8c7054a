//! Bugs planted on purpose, to show that the checker bites: most at the seams, in what goes in and out of the replica or
//! at the disk; those that must sit inside are switches of the crate concerned.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use broker_engine::{Command, Outcome, Reply, Visible};
use broker_model::{DeadLetterPolicy, Filter, MessageType};
use broker_store::switches;
use broker_store::{AlignedBuffer, Disk, DiskError, DiskFile, Space};

const LATE_TIMER_MS: u64 = 60_000;
const LATE_EXPIRY_MS: u64 = 600_000;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// A write counts as durable before it is.
    AnsweredBeforeSync,
    /// Damage below a durable mark is cut like a torn tail.
    CutCorruption,
    /// A torn frame counts as whole.
    TornFrames,
    /// A message that was handed out is handed out to others too.
    TwoHolders,
    /// Timed messages come three seconds early.
    EarlyTimer,
    /// Messages of a message group overtake each other.
    ReorderedMessageGroup,
    /// Acknowledgements are answered and forgotten.
    ForgottenAcknowledgement,
    /// Half messages are visible.
    HalfShown,
    /// Rollbacks commit.
    RolledBackShown,
    /// Recalls are answered and forgotten.
    ForgottenRecall,
    /// Every delivery says that it is the first.
    UncountedAttempts,
    /// Groups have one attempt more than they should.
    OneAttemptMore,
    /// Dead letters are thrown away.
    DroppedDeadLetter,
    /// A dead letter can be put back twice.
    ForgottenRedrive,
    /// Resets are answered and forgotten.
    LostReset,
    /// All consumers of a broadcasting group share their progress.
    SharedBroadcast,
    /// Filters let everything through.
    IgnoredFilter,
    /// The changed invisible duration does not count.
    ForgottenRenewal,
    /// A body comes back changed.
    ChangedBody,
    /// A whole record that the disk read from another place is taken for the message.
    AnyRecord,
    /// Retention forgets who has what is kept.
    ForgottenLeases,
    /// Retention makes all that is kept new.
    ForgottenProgress,
    /// Retention takes what is too young.
    GreedyRetention,
    /// What retention took is back after a restart.
    UnloggedTrim,
    /// What nobody sees yet is not kept of a segment that is condensed.
    ForgottenLeftovers,
    /// Timed messages become visible a minute after they are due.
    LateTimer,
    /// Deliveries end ten minutes after their invisible duration.
    LateExpiry,
    /// Messages of the lowest priority come first.
    LowestPriorityFirst,
    /// Of a PRIORITY topic, what comes once more comes before what is new, whatever its level.
    DueBeforeLevel,
    /// Every receive looks at the queues from the first one on.
    NoRotation,
    /// A time in a sealed segment is taken for the time of its first message.
    TimeOfSegment,
    /// A transaction is rolled back after one question.
    OneQuestion,
    /// A delivery that reached nobody counts.
    CountedRelease,
    /// Every shard that a poll waits on answers it.
    IgnoredClaim,
}

impl PlantedBug {
    /// All of them.
    pub const ALL: [Self; 34] = [
        Self::AnsweredBeforeSync,
        Self::CutCorruption,
        Self::TornFrames,
        Self::TwoHolders,
        Self::EarlyTimer,
        Self::ReorderedMessageGroup,
        Self::ForgottenAcknowledgement,
        Self::HalfShown,
        Self::RolledBackShown,
        Self::ForgottenRecall,
        Self::UncountedAttempts,
        Self::OneAttemptMore,
        Self::DroppedDeadLetter,
        Self::ForgottenRedrive,
        Self::LostReset,
        Self::SharedBroadcast,
        Self::IgnoredFilter,
        Self::ForgottenRenewal,
        Self::ChangedBody,
        Self::AnyRecord,
        Self::ForgottenLeases,
        Self::ForgottenProgress,
        Self::GreedyRetention,
        Self::UnloggedTrim,
        Self::ForgottenLeftovers,
        Self::LateTimer,
        Self::LateExpiry,
        Self::LowestPriorityFirst,
        Self::DueBeforeLevel,
        Self::NoRotation,
        Self::TimeOfSegment,
        Self::OneQuestion,
        Self::CountedRelease,
        Self::IgnoredClaim,
    ];

    /// The switch inside the broker, for those that sit there.
    #[must_use]
    pub fn switch(self) -> Option<switches::Bug> {
        match self {
            Self::CutCorruption => Some(switches::Bug::CutCorruption),
            Self::TornFrames => Some(switches::Bug::TornFrames),
            Self::ForgottenRedrive => Some(switches::Bug::ForgottenRedrive),
            Self::AnyRecord => Some(switches::Bug::AnyRecord),
            Self::ForgottenLeases => Some(switches::Bug::ForgottenLeases),
            Self::ForgottenProgress => Some(switches::Bug::ForgottenProgress),
            Self::GreedyRetention => Some(switches::Bug::GreedyRetention),
            Self::UnloggedTrim => Some(switches::Bug::UnloggedTrim),
            Self::ForgottenLeftovers => Some(switches::Bug::ForgottenLeftovers),
            Self::LowestPriorityFirst | Self::NoRotation => Some(switches::Bug::QueuesByNumber),
            Self::DueBeforeLevel => Some(switches::Bug::DueBeforeLevel),
            Self::TimeOfSegment => Some(switches::Bug::TimeOfSegment),
            Self::OneQuestion => Some(switches::Bug::OneQuestion),
            _ => None,
        }
    }

    /// What the replica gets instead of a command; none = the answer is made up, by [`PlantedBug::made_up`].
    #[must_use]
    pub fn distort(self, mut command: Command) -> Option<Command> {
        match (self, &mut command) {
            (Self::EarlyTimer, Command::Send(send)) => {
                for message in &mut send.messages {
                    if let Visible::At { due_ms } = &mut message.visible {
                        *due_ms = due_ms.saturating_sub(3_000);
                    }
                }
            }
            (Self::LateTimer, Command::Send(send)) => {
                for message in &mut send.messages {
                    if let Visible::At { due_ms } = &mut message.visible {
                        *due_ms += LATE_TIMER_MS;
                    }
                }
            }
            (Self::LateExpiry, Command::Receive(receive)) => receive.invisible_ms += LATE_EXPIRY_MS,
            (Self::HalfShown, Command::Send(send)) => {
                send.messages.iter_mut().for_each(|m| {
                    if matches!(m.visible, Visible::OnCommit { .. }) {
                        m.visible = Visible::AtOnce;
                    }
                });
            }
            (Self::ReorderedMessageGroup, Command::Send(send)) => {
                for (message, salt) in send.messages.iter_mut().zip(1u64..) {
                    if message.message_group_hash != 0 {
                        message.message_group_hash ^= salt << 32 | message.body.len() as u64;
                    }
                }
            }
            (Self::RolledBackShown, Command::EndTransaction(end)) => end.is_commit = true,
            (Self::OneAttemptMore, Command::PutGroup(group)) => group.retry.max_attempts += 1,
            (Self::DroppedDeadLetter, Command::PutGroup(group)) => {
                group.dead_letter = DeadLetterPolicy::Discard;
            }
            (Self::SharedBroadcast, Command::Receive(receive)) => {
                receive.client_id = "everybody".into();
            }
            (Self::IgnoredFilter, Command::Receive(receive)) => receive.filter = Filter::All,
            (Self::ForgottenAcknowledgement, Command::Acknowledge(_))
            | (Self::ForgottenRecall, Command::Recall(_))
            | (Self::LostReset, Command::ResetOffsets(_) | Command::SetOffset(_)) => return None,
            (Self::ForgottenRenewal, Command::ChangeInvisible(change)) => {
                change.invisible_ms = 0;
            }
            _ => {}
        }
        Some(command)
    }

    /// The answer to a command that was forgotten.
    pub fn made_up(command: &Command) -> Reply {
        match command {
            Command::Acknowledge(request) => {
                Ok(Outcome::Acknowledged(vec![Ok(()); request.handles.len()]))
            }
            _ => Ok(Outcome::Done),
        }
    }

    /// What clients get instead of an answer.
    pub fn distort_reply(self, reply: &mut Reply) {
        let Ok(Outcome::Received(deliveries)) = reply else { return };
        for delivery in deliveries {
            if self == Self::LateExpiry {
                delivery.invisible_until_ms -= LATE_EXPIRY_MS;
            }
            if self == Self::UncountedAttempts {
                delivery.handle.attempt = 1;
            }
            if self == Self::ChangedBody
                && let broker_engine::Source::Memory { body, .. } = &mut delivery.source
                && body.len() > 20
            {
                *body = body.slice(..body.len() - 1);
            }
        }
    }

    /// Topics that the bug needs.
    #[must_use]
    pub fn needs(self) -> Option<MessageType> {
        match self {
            Self::EarlyTimer | Self::ForgottenRecall => Some(MessageType::Delay),
            Self::HalfShown | Self::RolledBackShown => Some(MessageType::Transaction),
            Self::ReorderedMessageGroup => Some(MessageType::Fifo),
            _ => None,
        }
    }
}

type Held = Arc<Mutex<Option<(Arc<dyn DiskFile>, u64, AlignedBuffer)>>>;

/// A disk that says a write is durable while it still holds it back.
#[derive(Debug, Clone)]
pub struct EagerDisk {
    inner: Arc<dyn Disk>,
    held: Held,
}

impl EagerDisk {
    /// In front of another disk.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, held: Held::default() }
    }

    /// The power goes: what is held back is lost.
    pub fn forget(&self) {
        *lock(&self.held) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn flush(held: &Held) -> Result<(), DiskError> {
    match lock(held).take() {
        Some((file, position, buffer)) => file.write_durable(position, &buffer),
        None => Ok(()),
    }
}

impl Disk for EagerDisk {
    fn create_directory(&self, directory: &Path) -> Result<(), DiskError> {
        self.inner.create_directory(directory)
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        self.inner.list(directory)
    }

    fn create_zeroed(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        self.inner.create_zeroed(path, length_bytes)
    }

    fn create_allocated(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        self.inner.create_allocated(path, length_bytes)
    }

    fn create_filled(&self, path: &Path, contents: &[u8]) -> Result<(), DiskError> {
        self.inner.create_filled(path, contents)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        let inner = self.inner.open(path)?;
        Ok(Arc::new(EagerFile { inner, held: self.held.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.inner.remove(path)
    }

    fn space(&self, directory: &Path) -> Result<Space, DiskError> {
        self.inner.space(directory)
    }
}

#[derive(Debug)]
struct EagerFile {
    inner: Arc<dyn DiskFile>,
    held: Held,
}

impl DiskFile for EagerFile {
    fn length_bytes(&self) -> u64 {
        self.inner.length_bytes()
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        flush(&self.held)?;
        self.inner.read_at(position, buffer)
    }

    fn write_durable(&self, position: u64, buffer: &AlignedBuffer) -> Result<(), DiskError> {
        flush(&self.held)?;
        let mut copy = AlignedBuffer::with_capacity(buffer.as_slice().len());
        copy.extend(buffer.as_slice());
        *lock(&self.held) = Some((self.inner.clone(), position, copy));
        Ok(())
    }
}
