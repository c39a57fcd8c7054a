//! Everything that time alone causes: deliveries that expire, messages that are due, producers to be asked about their
//! transactions, lite topics that nobody uses, messages beyond retention, and polls that end without a message.

use broker_model::Now;
use broker_store::Log;
use broker_store::record::{Death, DeathCause, Place};

use crate::command::Outcome;
use crate::effects::{Effects, ReplyTo};
use crate::engine::Engine;
use crate::refusal::Refusal;
use crate::state::Expiry;
use crate::waiting::End;

/// Polls answered empty in one step; the others are in the next.
const POLLS_ENDED_PER_STEP: usize = 4_096;

impl<R: ReplyTo> Engine<R> {
    /// When [`Engine::tick`] has something to do next, in steady time, unless the wall clock is set before; none when
    /// nothing waits for time.
    #[must_use]
    pub fn next_tick_ms(&self, now: Now) -> Option<u64> {
        let expiry = self.state.expiries.first().map(|expiry| expiry.deadline_ms);
        let check = self.state.transactions.next_check_ms();
        let left_ms = self.next_due_ms().map(|due_ms| due_ms.saturating_sub(now.wall_ms));
        let due = left_ms.map(|left_ms| now.steady_ms.saturating_add(left_ms));
        let (lite, trim) = (self.next_lite_check_ms, self.retention.next_ms);
        let declared = self.declared_from.filter(|_| !self.state.subscribers.is_empty());
        let declared = declared.map(|_| 0);
        let times = [declared, expiry, self.next_poll_end_ms(), check, due, lite, trim];
        let at_once = (self.has_polls_to_serve() || !self.tasks.is_empty()).then_some(0);
        times.into_iter().flatten().chain(at_once).min()
    }

    /// When [`Engine::end_polls`] has something to do next.
    #[must_use]
    pub fn next_poll_end_ms(&self) -> Option<u64> {
        let poll = self.state.poll_ends.first().map(|end| end.deadline_ms);
        let pull = self.state.pull_ends.first().map(|end| end.deadline_ms);
        poll.into_iter().chain(pull).min()
    }

    /// When [`Engine::end_polls_without_room`] has something to do next.
    #[must_use]
    pub fn next_poll_end_without_room_ms(&self) -> Option<u64> {
        if self.holds_ended_polls { Some(0) } else { self.next_poll_end_ms() }
    }

    /// Does what is due. Only the leader calls this.
    pub fn tick(&mut self, now: Now, log: &Log, effects: &mut Effects<R>) {
        let now_ms = now.steady_ms;
        // Each kind gets a part, so that none waits for the end of another.
        let share = self.work.div_ceil(5);
        let mut done = self.begin_all_declared(share, effects);
        done = done.saturating_add(self.release_due(now.wall_ms, share, effects));
        done = done.saturating_add(self.check_transactions(now_ms, share, log, effects));
        if share > 0 && self.next_lite_check_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.expire_lite_topics(now_ms, effects);
        }
        if share > 0 && self.retention.next_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.trim_topics(now, effects);
        }
        done = done.saturating_add(self.expire_due(now_ms, share, effects));
        done = done.saturating_add(self.do_tasks(share, effects));
        self.work = self.work.saturating_sub(done);
        self.end_polls(now_ms, log, effects);
    }

    fn expire_due(&mut self, now_ms: u64, share: u32, effects: &mut Effects<R>) -> u32 {
        let mut done = 0;
        while done < share
            && let Some(expiry) = self.state.expiries.first().copied()
            && expiry.deadline_ms <= now_ms
        {
            self.state.expiries.remove(&expiry);
            let before = effects.records;
            self.expire(expiry, effects);
            done = done.saturating_add(effects.records.saturating_sub(before).max(1));
            effects.end_piece();
        }
        done
    }

    /// Answers the polls whose time ends, which needs no record. Part of [`Engine::tick`].
    pub fn end_polls(&mut self, now_ms: u64, log: &Log, effects: &mut Effects<R>) {
        for _ in 0..POLLS_ENDED_PER_STEP {
            let ended = self.state.poll_ends.first().copied();
            let Some(end) = ended.filter(|end| end.deadline_ms <= now_ms) else { break };
            self.state.poll_ends.remove(&end);
            let Some(progress) = self.state.group_topic_mut(end.group_topic) else { continue };
            match progress.waiters.end(end.waiter) {
                End::Gone => {}
                // It is answered when it has looked at everything.
                End::Looks => self.holds_ended_polls = true,
                End::Of(waiter) => {
                    self.state.waiters = self.state.waiters.saturating_sub(1);
                    effects.now.push((waiter.reply, Ok(Outcome::Received(Vec::new()))));
                }
            }
        }
        while let Some(end) = self.state.pull_ends.first().copied() {
            if end.deadline_ms > now_ms {
                break;
            }
            self.state.pull_ends.remove(&end);
            self.serve_pulls(end.topic, Some(now_ms), log, effects);
        }
    }

    /// The same while the log has no room for a record. No poll can look on, because what it finds is a record: those whose
    /// time is over are refused as a new one is, since nobody is told that there is nothing before all was looked at.
    pub fn end_polls_without_room(&mut self, now_ms: u64, log: &Log, effects: &mut Effects<R>) {
        self.end_polls(now_ms, log, effects);
        if !std::mem::take(&mut self.holds_ended_polls) {
            return;
        }
        for &index in &self.looking {
            let Some(progress) = self.state.group_topic_mut(index) else { continue };
            for waiter in progress.waiters.take_ended_looking(now_ms) {
                self.state.waiters = self.state.waiters.saturating_sub(1);
                self.state.poll_ends.remove(&waiter.end(index));
                effects.now.push((waiter.reply, Err(Refusal::NoRoom)));
            }
        }
    }

    fn expire(&mut self, expiry: Expiry, effects: &mut Effects<R>) {
        let Some(progress) = self.state.group_topic_mut(expiry.group_topic) else { return };
        if progress.cursors_pending > 0 {
            return progress.passed.push(expiry);
        }
        let (group, topic) = (progress.group, progress.topic);
        let attempts_max = match self.reads_own_dead_letters(group, topic) {
            true => u32::MAX,
            false => self.state.attempts_max(group),
        };
        let progress = self.state.group_topic_mut(expiry.group_topic);
        let queue = progress.and_then(|p| p.queues.get_mut(expiry.queue as usize));
        let Some(queue) = queue else { return };
        let attempts = queue.attempt_of_batch(expiry.first, expiry.nonce).unwrap_or(attempts_max);
        let exhausted = queue.expire(expiry.first, expiry.nonce, attempts_max);
        for offset in exhausted {
            let death = Death { attempts, cause: DeathCause::AttemptsUsedUp };
            self.dead_letter(Place { group, topic, queue: expiry.queue, offset }, death, effects);
        }
        self.wake(expiry.group_topic, expiry.queue);
    }
}
