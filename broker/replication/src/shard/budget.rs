//! Bytes that commands may take while they wait for a shard or for its disk. A command takes its share when it is handed
//! over and gives it back with its answer, so that slow disks and silent consumers cost no more than the limits say.

use broker_engine::{Command, CommandKind, Refusal};
use broker_model::limits::{
    POLL_BYTES_PER_SHARD_MAX, SEND_BYTES_PER_SHARD_MAX, SMALL_COMMAND_BYTES_PER_SHARD_MAX,
};

use crate::memory::{self, Memory, Part};

/// What one command takes of the shard and of the process; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    _shares: [memory::Share; 2],
}

/// One budget for each kind, so that large sends do not keep acknowledgements out.
#[derive(Debug)]
pub(super) struct Budgets {
    sends: Part,
    polls: Part,
    small: Part,
    process: Memory,
}

impl Budgets {
    /// The budgets of one shard within those of the process.
    pub(super) fn new(process: Memory) -> Self {
        Self {
            sends: Part::new(SEND_BYTES_PER_SHARD_MAX),
            polls: Part::new(POLL_BYTES_PER_SHARD_MAX),
            small: Part::new(SMALL_COMMAND_BYTES_PER_SHARD_MAX),
            process,
        }
    }

    /// Those of the process.
    pub(super) fn process(&self) -> &Memory {
        &self.process
    }

    /// Takes the share of a command.
    ///
    /// # Errors
    /// [`Refusal::TooMany`] when its budget is used up; nothing waits here.
    pub(super) fn take(&self, command: &Command) -> Result<Share, Refusal> {
        let (shard, process, hint) = match command.kind() {
            CommandKind::Send => (
                &self.sends,
                &self.process.sends,
                "of sends wait for the disk; send slower or in smaller requests, and try again",
            ),
            CommandKind::Poll => (
                &self.polls,
                &self.process.polls,
                "of polls wait; use fewer consumers, or shorter filters",
            ),
            CommandKind::Small => (
                &self.small,
                &self.process.commands,
                "of acknowledgements and other commands wait; try again later",
            ),
        };
        let bytes = command.held_bytes();
        let shares = shard.take(bytes).and_then(|own| Some([own, process.take(bytes)?]));
        shares.map(|shares| Share { _shares: shares }).ok_or_else(|| {
            let max = shard.max().min(process.max());
            Refusal::TooMany(format!("{} MiB {hint}", max / (1024 * 1024)))
        })
    }
}

#[cfg(test)]
mod tests;
