//! Bytes that commands may take while they wait for a shard or for its disk. A command takes its share when it is handed
//! over and gives it back with its answer, so that slow disks and silent consumers cost no more than the limits say.

use std::sync::Arc;

use broker_engine::{Command, CommandKind, Refusal};
use broker_model::limits::{
    POLL_BYTES_PER_SHARD_MAX, SEND_BYTES_PER_SHARD_MAX, SMALL_COMMAND_BYTES_PER_SHARD_MAX,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The share of one command; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    _permit: OwnedSemaphorePermit,
}

/// One budget for each kind, so that large sends do not keep acknowledgements out.
#[derive(Debug)]
pub(super) struct Budgets {
    sends: Arc<Semaphore>,
    polls: Arc<Semaphore>,
    small: Arc<Semaphore>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            sends: Arc::new(Semaphore::new(SEND_BYTES_PER_SHARD_MAX)),
            polls: Arc::new(Semaphore::new(POLL_BYTES_PER_SHARD_MAX)),
            small: Arc::new(Semaphore::new(SMALL_COMMAND_BYTES_PER_SHARD_MAX)),
        }
    }
}

impl Budgets {
    /// Takes the share of a command.
    ///
    /// # Errors
    /// [`Refusal::TooMany`] when its budget is used up; nothing waits here.
    pub(super) fn take(&self, command: &Command) -> Result<Share, Refusal> {
        let (budget, max, hint) = match command.kind() {
            CommandKind::Send => (
                &self.sends,
                SEND_BYTES_PER_SHARD_MAX,
                "of sends wait for the disk of this shard; send slower or in smaller requests, and try again",
            ),
            CommandKind::Poll => (
                &self.polls,
                POLL_BYTES_PER_SHARD_MAX,
                "of polls wait on this shard; use fewer consumers, or shorter filters",
            ),
            CommandKind::Small => (
                &self.small,
                SMALL_COMMAND_BYTES_PER_SHARD_MAX,
                "of acknowledgements and other commands wait for this shard; try again later",
            ),
        };
        let bytes = u32::try_from(command.held_bytes()).unwrap_or(u32::MAX);
        match budget.clone().try_acquire_many_owned(bytes) {
            Ok(permit) => Ok(Share { _permit: permit }),
            Err(_) => Err(Refusal::TooMany(format!("{} MiB {hint}", max / (1024 * 1024)))),
        }
    }
}

#[cfg(test)]
mod tests;
