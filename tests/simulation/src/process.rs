//! The broker process: a real replica and its writer, with the write that was handed off and has not happened yet. Here
//! stand the seams through which planted bugs come in.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use broker_engine::ReplyTo;
use broker_replication::replica::{self, Replica, StartError};
use broker_replication::transport::NoPeers;
use broker_store::Disk;
use broker_store::log::LogOptions;
use broker_store::writer::{Write, Writer};

/// Where an answer goes; who asked may be gone.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Number of the submission; 0 = nobody asked.
    pub number: u64,
    /// Whether who asked is gone.
    pub gone: Rc<Cell<bool>>,
}

impl ReplyTo for Ticket {
    fn is_gone(&self) -> bool {
        self.gone.get()
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
    /// The background job under way, as its next step.
    pub job: Option<Job>,
}

/// Work beside the data path, one step at a time, so that everything else can happen in between. A job whose process
/// dies is gone. Snapshots and retention are further kinds of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Look at the space that is left.
    Space,
    /// Make a spare segment.
    Spare,
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
        now_ms: u64,
    ) -> Result<Self, StartError> {
        let (replica, writer) = replica::start(disk, options, Box::new(NoPeers), seed, now_ms)?;
        Ok(Self { replica, writer, write: None, job: None })
    }
}
