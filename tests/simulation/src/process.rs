//! The broker process: a real replica and its writer, with the write that was handed off and has not happened yet. Here
//! stand the seams through which planted bugs come in.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use broker_engine::ReplyTo;
use broker_model::ShardId;
use broker_replication::maintenance::{Findings, Room, Work};
use broker_replication::replica::{self, Replica, StartError};
use broker_replication::shard_poll::Claim;
use broker_replication::transport::NoPeers;
use broker_store::log::LogOptions;
use broker_store::segments::Segment;
use broker_store::writer::{Write, Writer};
use broker_store::{Disk, DiskError, OpenError};

/// Where an answer goes; who asked may be gone.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Number of the submission; 0 = nobody asked.
    pub number: u64,
    /// Whether who asked is gone.
    pub gone: Rc<Cell<bool>>,
    /// Of a poll that waits on several shards: the claim, and who we are.
    pub claim: Option<(Claim, ShardId)>,
}

impl Ticket {
    /// For one shard alone.
    #[must_use]
    pub fn new(number: u64, gone: Rc<Cell<bool>>) -> Self {
        Self { number, gone, claim: None }
    }

    /// Whether another shard answers the poll.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.claim.as_ref().is_some_and(|(claim, shard)| claim.is_lost_to(*shard))
    }
}

/// The whole head is a message's one key.
fn head_as_key(head: &[u8], hashes: &mut Vec<u64>) {
    hashes.push(broker_model::key_hash(head));
}

impl ReplyTo for Ticket {
    fn is_gone(&self) -> bool {
        self.gone.get() || self.is_lost()
    }

    fn claim(&self) -> bool {
        self.claim.as_ref().is_none_or(|(claim, shard)| claim.take(*shard))
    }
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    /// The step machine.
    pub replica: Replica<Ticket>,
    /// What the writer thread would own.
    pub writer: Writer,
    /// Handed to the writer, not done.
    pub write: Option<Write>,
    /// What the work beside the data path found, and the shard does not know yet.
    pub findings: Option<Findings>,
    /// Segments that nobody needs any more and that are there yet.
    pub unused: Vec<Segment>,
}

/// Where the log is.
#[must_use]
pub fn log_options(segment_bytes: u64) -> LogOptions {
    LogOptions { shard: 0, directory: PathBuf::from("shard-0/log"), segment_bytes }
}

impl Process {
    /// Opens the log and starts.
    ///
    /// # Errors
    /// [`StartError`]: the process refuses to start.
    pub fn start(
        disk: &Arc<dyn Disk>,
        options: &LogOptions,
        seed: u64,
        wall_ms: u64,
    ) -> Result<Self, StartError> {
        let (replica, writer) =
            replica::start(disk, options, Box::new(NoPeers), seed.into(), wall_ms)?;
        let mut process = Self { replica, writer, write: None, findings: None, unused: Vec::new() };
        if process.replica.damage().is_none() {
            process.look_at_room(disk, options).map_err(OpenError::Disk)?;
        }
        Ok(process)
    }

    /// As the shell does when it starts.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn look_at_room(
        &mut self,
        disk: &Arc<dyn Disk>,
        options: &LogOptions,
    ) -> Result<(), DiskError> {
        self.replica.set_room(Room::look(&**disk, options, self.replica.snapshot_bytes())?);
        Ok(())
    }

    /// What there is to do beside the data path now.
    pub fn work(&mut self) -> Work {
        Work {
            wants_spare: self.replica.wants_spare(),
            seal_until: self.replica.seal_until(),
            unused: std::mem::take(&mut self.unused),
            snapshot_bytes: self.replica.snapshot_bytes(),
            keys_of_head: head_as_key,
        }
    }
}
