//! Commands that may take long: each does a part in a step, in records that hold without those of the next one, and is answered
//! when all of it is durable. One after the other, so that two for the same group do not mix; others are served in between.

use crate::command::Outcome;
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::group_use::{Forgetting, ReadingUnused};
use crate::member::Joining;
use crate::offsets::Resetting;
use crate::redrive::Redriving;
use crate::refusal::Refusal;

/// A command that is being carried out.
#[derive(Debug)]
pub(crate) struct Task<R> {
    pub(crate) reply: R,
    kind: TaskKind,
    /// Whether the answer waits for records.
    has_records: bool,
}

/// What is to be done, and how far it is.
#[derive(Debug)]
pub(crate) enum TaskKind {
    Reset(Resetting),
    Redrive(Redriving),
    Join(Joining),
    ReadUnusedGroups(ReadingUnused),
    ForgetGroup(Forgetting),
}

/// How far a part of a task went.
pub(crate) enum Part {
    /// More is to be done.
    Unfinished,
    /// All is done, and this is the answer.
    Finished(Outcome),
}

impl<R: ReplyTo> Engine<R> {
    /// Carries out a command, as far as this step allows.
    pub(crate) fn begin_task(&mut self, reply: R, kind: TaskKind, effects: &mut Effects<R>) {
        self.tasks.push_back(Task { reply, kind, has_records: false });
        if self.tasks.len() == 1 {
            self.work = self.work.saturating_sub(self.do_tasks(self.work, effects));
        }
    }

    /// Goes on with the tasks, up to this much of work; says how much was done.
    pub(crate) fn do_tasks(&mut self, work: u32, effects: &mut Effects<R>) -> u32 {
        let mut left = work;
        while left > 0
            && let Some(mut task) = self.tasks.pop_front()
        {
            let before = effects.records;
            let part = match &mut task.kind {
                TaskKind::Reset(reset) => self.reset_on(reset, &mut left, effects),
                TaskKind::Redrive(redrive) => self.redrive_on(redrive, &mut left, effects),
                TaskKind::Join(join) => self.join_on(join, &mut left, effects),
                TaskKind::ReadUnusedGroups(read) => Ok(self.read_unused_on(read, &mut left)),
                TaskKind::ForgetGroup(forget) => self.forget_on(forget, &mut left, effects),
            };
            task.has_records |= effects.records > before;
            let answer: Result<Outcome, Refusal> = match part {
                Ok(Part::Unfinished) => {
                    self.tasks.push_front(task);
                    left = 0;
                    continue;
                }
                Ok(Part::Finished(outcome)) => Ok(outcome),
                Err(refusal) => Err(refusal),
            };
            if task.has_records && answer.is_ok() {
                effects.on_commit.push((task.reply, answer));
            } else {
                effects.now.push((task.reply, answer));
            }
            effects.end_piece();
        }
        work.saturating_sub(left)
    }
}
