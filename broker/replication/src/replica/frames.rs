//! Closing frames: what is open goes to the log in as many frames as it takes, each with the answers that wait for it.

use broker_engine::{Frame, Refusal, ReplyTo};
use broker_model::Now;

use super::Replica;
use crate::raft_log::CARRIES_RECORDS;

/// Leases alone wait this long for a frame with something that is waited for.
pub(super) const LEASE_DELAY_MS: u64 = 20;

/// A closed frame on its way.
#[derive(Debug)]
pub(super) struct Closed<R> {
    pub(super) time: Now,
    pub(super) frame: Frame<R>,
}

/// So much waits to be written that work for which nobody asked just now has to wait.
const LOG_BEHIND_BYTES: u64 = 4 * 1024 * 1024;

impl<R: ReplyTo> Replica<R> {
    /// Whether more waits to be written than is written at once. The end of a write is a step in which work goes on.
    pub(super) fn is_log_behind(&self) -> bool {
        let unwritten = self.log.end().position.saturating_sub(self.log.durable_position());
        self.log.is_writing() && unwritten + self.open.payload.len() as u64 > LOG_BEHIND_BYTES
    }

    pub(super) fn close_frame_when_due(&mut self, now: Now) {
        if !self.open.has_records() {
            return self.answer_behind_closed_frames();
        }
        let since_ms = *self.open_since_ms.get_or_insert(now.steady_ms);
        if self.log.is_writing() {
            return;
        }
        // Leases are logged, not waited for: alone they are no reason for a sync of their own right away.
        if !self.open.on_commit.is_empty() || now.steady_ms >= since_ms + LEASE_DELAY_MS {
            self.close_frame(now);
        }
    }

    /// Answers that wait for records of earlier frames only.
    fn answer_behind_closed_frames(&mut self) {
        let in_flight = self.in_flight.back_mut().map(|in_flight| &mut in_flight.closed);
        match self.proposed.back_mut().or(in_flight) {
            Some(closed) => closed.frame.on_commit.append(&mut self.open.on_commit),
            None => self.open.now.append(&mut self.open.on_commit),
        }
    }

    /// Proposes what is open, in as many frames as it takes.
    pub(super) fn close_frame(&mut self, now: Now) {
        if !self.open.has_records() || self.damage.is_some() || self.has_index_failure() {
            return;
        }
        self.open_since_ms = None;
        let time = self.stored_time(now);
        for frame in self.open.take_frames(|bytes| self.log.take_reusable(bytes)) {
            match self.node.propose(Vec::new(), vec![CARRIES_RECORDS]) {
                Ok(()) => self.proposed.push_back(Closed { time, frame }),
                Err(_) => {
                    let unanswered = frame.on_commit.into_iter();
                    let refused = unanswered.map(|(reply, _)| (reply, Err(Refusal::Unavailable)));
                    self.open.now.extend(refused);
                }
            }
        }
    }
}
