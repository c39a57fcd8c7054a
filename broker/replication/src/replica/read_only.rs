//! A replica whose log is damaged: it serves what is before the damage and writes nothing. What is decided meanwhile
//! (deliveries, messages that become due) is applied in memory by the code that applies committed frames, and forgotten
//! when the process ends. Whatever a client would be told is kept is refused.

use broker_engine::{Command, Frame, LayoutCommand, Refusal, ReplyTo};
use broker_model::Now;

use super::Replica;

impl<R: ReplyTo> Replica<R> {
    /// Why a command cannot be carried out; none when the log is not damaged or the command promises to keep nothing.
    pub(super) fn refused_without_writing(&self, command: &Command) -> Option<Refusal> {
        let damage = self.damage.as_ref()?;
        (!promises_nothing(command)).then(|| Refusal::ReadOnly(damage.to_string()))
    }

    /// Applies what was decided, as if it had been written.
    pub(super) fn apply_in_memory(&mut self, now: Now) {
        if self.damage.is_none() {
            return;
        }
        let time = self.stored_time(now);
        while self.open.has_records() {
            for Frame { payload, on_commit, .. } in self.open.take_frames(|_| None) {
                // No record made here holds a message, so that nobody looks for one at this position.
                let position = self.log.end().position;
                let applied = self.engine.apply(time, position, payload, &mut self.open);
                if let Err(error) = applied {
                    return self.fail(&format!("a decided record cannot be read: {error}"));
                }
                self.open.now.extend(on_commit);
            }
            self.engine.serve_waiters(now.steady_ms, &self.log, &mut self.open);
        }
    }
}

/// Whether nothing is lost when what the command does is forgotten at the next start.
fn promises_nothing(command: &Command) -> bool {
    match command {
        Command::Receive(_)
        | Command::Pull(_)
        | Command::Release(_)
        | Command::Prolong(_)
        // A group is needed to receive at all; whoever declares one was refused by the catalog.
        | Command::PutGroup(_)
        | Command::MakeGroup(_)
        | Command::ReadUnusedGroups(_)
        | Command::Join(_)
        | Command::Leave { .. }
        | Command::ReadOffset { .. }
        | Command::QueryOffset { .. }
        | Command::ReadMembers
        | Command::ReadProgress(_)
        | Command::Layout(LayoutCommand::ReadPassed { .. } | LayoutCommand::ReadHeld(_))
        | Command::ReadTopics(_)
        | Command::ListDeadLetters(_)
        | Command::ReadNames(_) => true,
        Command::Redrive(redrive) => redrive.is_dry_run,
        Command::Send(_)
        | Command::Acknowledge(_)
        | Command::ChangeInvisible(_)
        | Command::Suspend(_)
        | Command::ForwardToDeadLetter(_)
        | Command::Recall(_)
        | Command::EndTransaction(_)
        | Command::NoteTransactionCheck(_)
        | Command::SetOffset(_)
        | Command::ResetOffsets(_)
        | Command::SetLiteOffsets(_)
        | Command::PutTopic(_)
        | Command::DeleteTopic(_)
        | Command::Layout(LayoutCommand::Open { .. } | LayoutCommand::Pass(_))
        | Command::NoteGroupUse { .. }
        | Command::ForgetGroup(_)
        | Command::DeleteGroup(_) => false,
    }
}
