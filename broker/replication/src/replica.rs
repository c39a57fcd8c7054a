//! One replica of a shard as a plain step machine: commands and finished writes go in, replies and writes come out.
//!
//! The way of a command: the engine decides and adds records to the open frame; when the log is idle the frame is closed
//! and proposed to raft-rs; the ready entry is appended to the log and handed to the writer; once the write is durable
//! raft-rs commits it; then the engine applies the records and the replies are released. Raft entries are frames.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;

use broker_engine::{
    Command, Effects, Engine, Frame, Refusal, Reply, ReplyTo, Seed, TransactionCheck, limits,
};
use broker_model::{Now, Topic};
use broker_store::damage;
use broker_store::limits::send_bytes_max;
use broker_store::log::LogOptions;
use broker_store::recovery::{self, OpenError};
use broker_store::writer::{Write, Writer, Written};
use broker_store::{Damage, Disk, FrameKind, Log, LogReader, NewFrame};
use bytes::Bytes;
use raft::{Config, RawNode};

use crate::raft_log::{RaftLog, Vote};
use crate::recovered::{REPLICA_ID, Recovered, TimedMessages};
use crate::transport::Transport;
use frames::{Closed, LEASE_DELAY_MS};
use room::KnownRoom;

mod frames;
mod read_only;
mod room;
mod sealed_segments;

/// After this much silence a marker frame vouches for the last entry (storage-format.md, "torn or damaged").
const MARK_DELAY_MS: u64 = 100;
/// Where the times of frames stand still, because the wall clock was set back, the log says so often how far the steady time
/// has come.
const STEADY_NOTE_MS: u64 = 1_000;

/// Why a replica cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// raft-rs refuses the state.
    #[error("consensus cannot start: {0}")]
    Consensus(#[from] raft::Error),
}

/// What a step wants done.
#[derive(Debug)]
pub struct Output<R> {
    /// To release.
    pub replies: Vec<(R, Reply)>,
    /// To give to the writer.
    pub write: Option<Write>,
    /// Dead-letter topics that came into being.
    pub new_topics: Vec<Topic>,
    /// Transactions whose producers are to be asked.
    pub checks: Vec<TransactionCheck>,
}

/// A frame in the log that is not committed yet.
#[derive(Debug)]
struct InFlight<R> {
    index: u64,
    payload_position: u64,
    closed: Closed<R>,
}

/// One replica. `R` is where answers go.
pub struct Replica<R> {
    node: RawNode<RaftLog>,
    engine: Engine<R>,
    log: Log,
    /// Of new segments.
    segment_bytes: u64,
    room: KnownRoom,
    transport: Box<dyn Transport>,
    open: Effects<R>,
    open_since_ms: Option<u64>,
    proposed: VecDeque<Closed<R>>,
    in_flight: VecDeque<InFlight<R>>,
    /// Ready numbers not reported as persisted, with the log position that they need.
    persisting: VecDeque<(u64, u64)>,
    vote: Vote,
    /// When it started.
    begin: Now,
    /// The time stored last; the next one is no earlier.
    stored_ms: u64,
    /// How far the steady time has come, as a start would read it in the log.
    noted_ms: u64,
    mark_at_ms: Option<u64>,
    /// The last entry that a marker vouches for.
    marked_index: u64,
    failure: Option<String>,
    /// The log is damaged: what is before the damage is served, and nothing is written.
    damage: Option<Damage>,
    /// Log position of the last frame applied since the start; 0 before the first.
    applied_position: u64,
    /// Where the log goes on behind the newest snapshot, and how large that is.
    sealed_position: u64,
    snapshot_bytes: u64,
    unusable_snapshots: Vec<String>,
}

impl<R> Debug for Replica<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("vote", &self.vote)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// Opens the log, replays it, and starts consensus. `seed` is chance given from outside, `wall_ms` Unix time. Durations
/// count on from [`Replica::begin`].
///
/// # Errors
/// [`StartError`].
pub fn start<R: ReplyTo>(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    transport: Box<dyn Transport>,
    seed: Seed,
    wall_ms: u64,
) -> Result<(Replica<R>, Writer), StartError> {
    let mut state = Recovered::load(disk, options, seed, TimedMessages::InMemory)?;
    let sealed_position = state.start.position;
    let opened = recovery::open(disk, options, state.start, &mut |frame| state.take(frame));
    let (log, writer, damage) = match opened {
        Ok((log, writer)) => (log, writer, None),
        Err(error) if error.is_damage() => {
            // From the snapshot again, and no further than what is whole.
            state = Recovered::load(disk, options, seed, TimedMessages::InMemory)?;
            let start = state.start;
            let readable =
                damage::open_read_only(disk, options, start, &mut |frame| state.take(frame));
            let (log, writer, damage) = readable?.ok_or(error)?;
            (log, writer, Some(damage))
        }
        Err(error) => return Err(error.into()),
    };
    let (stored_ms, noted_ms) = state.newest_times();
    let begin = Now { steady_ms: noted_ms.max(wall_ms), wall_ms };
    let Recovered { mut engine, mut raft_log, vote, snapshot_bytes, unusable, .. } = state;
    // Without a message nothing is too old.
    let newest_ms = if stored_ms > 0 { stored_ms } else { wall_ms };
    engine.believe_date(Now { steady_ms: begin.steady_ms, wall_ms: newest_ms });
    raft_log.start(vote.clone());
    engine.set_send_bytes_max(send_bytes_max(log.frame_payload_bytes_max()));
    let open = Effects::for_frames(log.frame_payload_bytes_max());
    let config = Config {
        id: REPLICA_ID,
        applied: log.end().index,
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    };
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let mut node = RawNode::new(&config, raft_log, &logger)?;
    if damage.is_none() {
        node.campaign()?;
    }
    let mut replica = Replica {
        node,
        engine,
        log,
        segment_bytes: options.segment_bytes,
        room: KnownRoom::default(),
        transport,
        open,
        open_since_ms: None,
        proposed: VecDeque::new(),
        in_flight: VecDeque::new(),
        persisting: VecDeque::new(),
        vote,
        begin,
        stored_ms,
        noted_ms,
        mark_at_ms: None,
        marked_index: 0,
        failure: None,
        damage,
        applied_position: 0,
        sealed_position,
        snapshot_bytes,
        unusable_snapshots: unusable.iter().map(ToString::to_string).collect(),
    };
    replica.process_ready(begin);
    Ok((replica, writer))
}

impl<R: ReplyTo> Replica<R> {
    /// When it started: the steady time begins at the newest time in the log, or at the wall clock when that is later.
    #[must_use]
    pub fn begin(&self) -> Now {
        self.begin
    }

    /// Takes a command in. Its answer comes out of this or a later step.
    pub fn submit(&mut self, now: Now, command: Command, reply: R) {
        if let Some(failure) = &self.failure {
            return self.open.now.push((reply, Err(Refusal::LogFailed(failure.clone()))));
        }
        if let Some(refusal) = self.refused_without_writing(&command) {
            return self.open.now.push((reply, Err(refusal)));
        }
        if let Some(refusal) = self.refused_for_room(&command) {
            return self.open.now.push((reply, Err(refusal)));
        }
        if !self.is_leader() {
            return self.open.now.push((reply, Err(Refusal::Unavailable)));
        }
        // What time has made due comes first, so that an expired delivery is there for this very receive.
        if self.next_tick_ms(now).is_some_and(|due_ms| due_ms <= now.steady_ms) {
            self.tick(now);
        }
        self.engine.handle(now, command, reply, &self.log, &mut self.open);
        if self.open.payload.len() >= limits().frame_bytes_target {
            self.close_frame(now);
        }
    }

    /// Does what time has made due, then gathers everything to be done outside.
    pub fn step(&mut self, now: Now) -> Output<R> {
        let limits = limits();
        let is_busy = self.is_log_behind();
        let work = if is_busy { limits.work_per_busy_step } else { limits.work_per_step };
        self.engine.begin_step(work);
        if self.failure.is_none() && self.is_leader() {
            self.tick(now);
            self.serve_waiters(now);
            self.close_frame_when_due(now);
            self.mark_when_due(now);
        }
        self.process_ready(now);
        self.apply_in_memory(now);
        self.stop_without_index();
        self.engine.end_step();
        let write = self.log.take_write();
        let replies = std::mem::take(&mut self.open.now);
        let new_topics = std::mem::take(&mut self.open.new_topics);
        let checks = std::mem::take(&mut self.open.checks);
        Output { replies, write, new_topics, checks }
    }

    /// Takes note of a finished write; the next [`Replica::step`] releases what it made durable.
    pub fn written(&mut self, now: Now, written: Written) {
        if written.opens_segment() {
            self.entered_segment();
        }
        self.log.written(written);
        if self.log.durable_index() > self.marked_index {
            self.mark_at_ms = Some(now.steady_ms + MARK_DELAY_MS);
        }
        self.process_ready(now);
    }

    /// The log failed: nothing more is stored, and what was in flight is answered with the reason.
    pub fn fail(&mut self, reason: &str) {
        self.failure = Some(reason.to_owned());
        let frames = self.proposed.drain(..).chain(self.in_flight.drain(..).map(|f| f.closed));
        let unanswered = frames.flat_map(|closed| closed.frame.on_commit);
        let unanswered = unanswered.chain(self.open.on_commit.drain(..));
        let refused =
            unanswered.map(|(reply, _)| (reply, Err(Refusal::LogFailed(reason.to_owned()))));
        let refused: Vec<_> = refused.collect();
        self.open.now.extend(refused);
        self.engine.answer_all_waiters(&mut self.open);
    }

    /// What was decided while an index file could not be read took messages for gone that are there: it goes nowhere.
    fn stop_without_index(&mut self) {
        let Some(error) = self.engine.index_failure().filter(|_| self.failure.is_none()) else {
            return;
        };
        let reason = error.to_string();
        self.fail(&reason);
        for (_, reply) in &mut self.open.now {
            if reply.is_ok() {
                *reply = Err(Refusal::LogFailed(reason.clone()));
            }
        }
    }

    /// Answers polls that wait, closes the open frame: the shard stops after the next writes.
    pub fn stop(&mut self, now: Now) {
        self.engine.answer_all_waiters(&mut self.open);
        self.close_frame(now);
    }

    /// Whether something is not durable yet.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.failure.is_none()
            && (self.log.is_writing() || !self.in_flight.is_empty() || !self.proposed.is_empty())
    }

    /// When [`Replica::step`] has something to do by time alone, in steady time, unless the wall clock is set before.
    #[must_use]
    pub fn next_step_ms(&self, now: Now) -> Option<u64> {
        if self.failure.is_some() {
            return None;
        }
        let lease =
            self.open_since_ms.filter(|_| !self.log.is_writing()).map(|ms| ms + LEASE_DELAY_MS);
        let mark = self.mark_at_ms.filter(|_| !self.log.is_writing());
        self.next_tick_ms(now).into_iter().chain(lease).chain(mark).min()
    }

    /// Whether this replica decides.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        // Without a log to write there is nobody to agree with.
        self.damage.is_some() || self.node.raft.state == raft::StateRole::Leader
    }

    fn has_index_failure(&self) -> bool {
        self.engine.index_failure().is_some()
    }

    /// Snapshots that could not be used at the start, and why.
    #[must_use]
    pub fn unusable_snapshots(&self) -> &[String] {
        &self.unusable_snapshots
    }

    /// Why the log failed, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// What of the log is damaged, if anything is; nothing is written then.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// The engine, for asking.
    #[must_use]
    pub fn engine(&self) -> &Engine<R> {
        &self.engine
    }

    /// The log, for asking.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Bytes of the newest snapshot; 0 without one.
    #[must_use]
    pub fn snapshot_bytes(&self) -> u64 {
        self.snapshot_bytes
    }

    /// For reading messages outside.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        self.log.reader()
    }

    /// Once the log has been silent for a while, a frame that says "all before is durable" follows the last entry, so
    /// that damage to it can be told from a torn write.
    fn mark_when_due(&mut self, now: Now) {
        if self.mark_at_ms.is_some_and(|at_ms| at_ms <= now.steady_ms) && !self.log.is_writing() {
            self.append_hard_state(now);
            self.marked_index = self.log.end().index;
            self.mark_at_ms = None;
        }
    }

    /// The time that is stored with what happens now: times in the log never go back, so that it can be searched by them.
    fn stored_time(&mut self, now: Now) -> Now {
        self.stored_ms = self.stored_ms.max(now.wall_ms);
        Now { wall_ms: self.stored_ms, ..now }
    }

    /// Entries say how far the steady time has come, unless the wall clock was set back: then a hard state does.
    fn note_steady_time(&mut self, now: Now, is_idle: bool) {
        let noted_ms = self.noted_ms.max(now.wall_ms);
        if !is_idle && now.steady_ms >= noted_ms.saturating_add(STEADY_NOTE_MS) {
            self.append_hard_state(now);
        }
    }

    /// A hard state carries steady time.
    fn append_hard_state(&mut self, now: Now) {
        self.noted_ms = self.noted_ms.max(now.steady_ms);
        let appended = self.log.append(NewFrame {
            kind: FrameKind::HardState,
            term: self.vote.term,
            index: self.log.end().index,
            time_ms: now.steady_ms,
            records: 0,
            payload: self.vote.encode().into(),
        });
        if let Err(error) = appended {
            self.fail(&error.to_string());
        }
    }

    fn process_ready(&mut self, now: Now) {
        while self.failure.is_none() && (self.node.has_ready() || self.report_persisted()) {
            let mut ready = self.node.ready();
            self.transport.send(ready.take_messages());
            if let Some(committed) = ready.take_committed_entries().last() {
                self.commit(now, committed.get_index());
            }
            if let Some(hard_state) = ready.hs() {
                let changed = (hard_state.get_term(), hard_state.get_vote())
                    != (self.vote.term, self.vote.vote);
                if changed {
                    (self.vote.term, self.vote.vote) =
                        (hard_state.get_term(), hard_state.get_vote());
                    self.append_hard_state(now);
                }
            }
            self.note_steady_time(now, ready.entries().is_empty());
            for entry in ready.take_entries() {
                let carries_records = !entry.get_data().is_empty();
                self.append_entry(now, entry.get_index(), entry.get_term(), carries_records);
                if self.failure.is_some() {
                    return;
                }
            }
            self.transport.send(ready.take_persisted_messages());
            self.persisting.push_back((ready.number(), self.log.end().position));
            self.node.advance_append_async(ready);
        }
    }

    /// Tells raft-rs what is durable by now; a ready without anything to write is as soon as all before it is. Returns
    /// whether that gave raft-rs something new to say.
    fn report_persisted(&mut self) -> bool {
        let durable = self.log.durable_position();
        while let Some((number, needed)) = self.persisting.front().copied() {
            if needed > durable {
                break;
            }
            self.persisting.pop_front();
            self.node.on_persist_ready(number);
        }
        self.node.has_ready()
    }

    fn append_entry(&mut self, now: Now, index: u64, term: u64, carries_records: bool) {
        let proposed = if carries_records { self.proposed.pop_front() } else { None };
        let closed = proposed.unwrap_or_else(|| Closed {
            time: self.stored_time(now),
            frame: Frame { payload: Bytes::new(), records: 0, on_commit: Vec::new() },
        });
        self.noted_ms = self.noted_ms.max(closed.time.wall_ms);
        let appended = self.log.append(NewFrame {
            kind: FrameKind::Entry,
            term,
            index,
            time_ms: closed.time.wall_ms,
            records: closed.frame.records,
            payload: closed.frame.payload.clone(),
        });
        match appended {
            Ok(payload_position) => {
                self.node.mut_store().append(index, term);
                self.in_flight.push_back(InFlight { index, payload_position, closed });
            }
            // Nothing of it was written: what was answered before stays readable.
            Err(error) => {
                self.proposed.push_front(closed);
                self.fail(&error.to_string());
            }
        }
    }

    fn commit(&mut self, now: Now, index: u64) {
        while self.in_flight.front().is_some_and(|next| next.index <= index) {
            let Some(InFlight { payload_position, closed, .. }) = self.in_flight.pop_front() else {
                break;
            };
            let Closed { time, frame } = closed;
            let applied = self.engine.apply(time, payload_position, frame.payload, &mut self.open);
            if let Err(error) = applied {
                // Our own bytes, just encoded: memory is broken or there is a bug. Stop before more is built on it.
                return self.fail(&format!("a committed frame cannot be read: {error}"));
            }
            self.applied_position = payload_position;
            self.open.now.extend(frame.on_commit);
        }
        self.node.advance_apply_to(index);
        self.serve_waiters(now);
    }
}

#[cfg(test)]
mod tests;
