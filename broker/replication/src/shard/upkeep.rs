//! What a shard does beside its commands: it looks at the disk, has segments made ready, sealed and removed on a blocking
//! thread, and tries again what found no room. Decides only when; what is done stands in `maintenance`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker_model::Now;
use broker_store::writer::Written;
use broker_store::{DiskError, WriteError};

use super::{Input, ShardTask, lock};
use crate::maintenance::{self, Findings, Room, Work};
use crate::replica::StartError;
use crate::sealing::{SealError, Sealed};
use crate::writer_thread::Finished;

/// Bytes written between two looks at the disk, at most.
const UPKEEP_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// With smaller segments, one part of a segment in so many.
const UPKEEP_PART: u64 = 8;
/// How soon a full disk is looked at again, and a segment that somebody reads yet.
const RECHECK_MS: u64 = 1_000;
/// How soon sealing that failed is tried again, unless room came meanwhile: it begins with a reading of the log.
const SEAL_AGAIN_MS: u64 = 30_000;
/// What does not read back may never do so, and what has to be read grows: the pause doubles up to this.
const SEAL_AGAIN_MS_MAX: u64 = 16 * SEAL_AGAIN_MS;

/// When sealing may be tried, and what became of it since it last succeeded.
#[derive(Debug, Default)]
pub(super) struct SealingTries {
    /// Not before.
    after_ms: u64,
    /// What the last failure said: it is logged once.
    failure: String,
    pause_ms: u64,
}

impl SealingTries {
    /// Takes note of a failure. Says whether it is news.
    fn failed(&mut self, now_ms: u64, failure: String, is_disk: bool) -> bool {
        let doubled_ms = (2 * self.pause_ms).clamp(SEAL_AGAIN_MS, SEAL_AGAIN_MS_MAX);
        self.pause_ms = if is_disk { SEAL_AGAIN_MS } else { doubled_ms };
        self.after_ms = now_ms.saturating_add(self.pause_ms);
        let is_news = self.failure != failure;
        self.failure = failure;
        is_news
    }
}

impl ShardTask {
    /// The first look at the space, before anything is taken in.
    pub(super) fn look_at_room(&mut self) -> Result<(), StartError> {
        if self.replica.damage().is_none() {
            let room = Room::look(&*self.disk, &self.log_options, self.replica.snapshot_bytes());
            let room = room.map_err(broker_store::OpenError::Disk)?;
            self.note_room(room);
        }
        Ok(())
    }

    /// When [`ShardTask::keep_up`] has something to do by time alone.
    pub(super) fn next_upkeep_ms(&self) -> Option<u64> {
        let retry_ms = self.waiting_write.as_ref().map(|(_, at_ms)| *at_ms);
        let recheck_ms = self.recheck_at_ms.filter(|_| !self.is_maintaining);
        retry_ms.into_iter().chain(recheck_ms).min().filter(|_| !self.is_over())
    }

    fn is_over(&self) -> bool {
        self.replica.failure().is_some() || self.replica.damage().is_some()
    }

    /// Begins what is due.
    pub(super) fn keep_up(&mut self, now_ms: u64) {
        if self.is_over() {
            return;
        }
        if let Some((write, _)) = self.waiting_write.take_if(|(_, at_ms)| *at_ms <= now_ms) {
            self.writer.write(write);
        }
        let position = self.replica.log().end().position;
        let upkeep_bytes = UPKEEP_BYTES_MAX.min(self.log_options.segment_bytes / UPKEEP_PART);
        let seal_until = self.replica.seal_until().filter(|_| now_ms >= self.sealing.after_ms);
        let is_due = position >= self.maintained_position + upkeep_bytes
            || seal_until.is_some()
            || self.recheck_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
        if !self.is_maintaining && is_due {
            self.maintained_position = position;
            self.maintain(seal_until);
        }
    }

    fn maintain(&mut self, seal_until: Option<u64>) {
        self.is_maintaining = true;
        self.recheck_at_ms = None;
        let work = Work {
            wants_spare: self.replica.wants_spare(),
            seal_until,
            unused: std::mem::take(&mut self.unused),
            snapshot_bytes: self.replica.snapshot_bytes(),
            keys_of_head: self.keys_of_head,
        };
        let (disk, options) = (self.disk.clone(), self.log_options.clone());
        let failure = self.replica.engine().index_failure_note().clone();
        let (inputs, is_given_up) = (self.own_inputs.clone(), Arc::clone(&self.is_given_up));
        tokio::task::spawn_blocking(move || {
            let findings = maintenance::run(&disk, &options, work, &failure, &is_given_up);
            if let Some(inputs) = inputs.upgrade() {
                let _stopped = inputs.blocking_send(Input::Maintained(findings));
            }
        });
    }

    pub(super) fn on_written(&mut self, (write, result): Finished) {
        let now = self.shared.clock.now();
        match result {
            Ok(written) => self.take_written(now, written),
            Err(WriteError::NoRoom(error)) => {
                if !self.replica.is_write_waiting() {
                    tracing::error!(shard = %self.shared.name, %error, "the disk is full: what is to be stored waits");
                }
                self.replica.write_waits();
                self.waiting_write = Some((write, now.steady_ms + RECHECK_MS));
            }
            Err(WriteError::Failed(error)) => self.replica.fail(&error.to_string()),
        }
    }

    fn take_written(&mut self, now: Now, written: Written) {
        let enters_segment = written.opens_segment();
        self.replica.written(now, written);
        if enters_segment {
            *lock(&self.shared.reader) = self.replica.reader();
            // A spare was used: there shall be another.
            self.recheck_at_ms = Some(now.steady_ms);
        }
    }

    pub(super) fn on_maintained(&mut self, now_ms: u64, findings: Result<Findings, DiskError>) {
        self.is_maintaining = false;
        let Findings { room, failure, sealed, unused } = match findings {
            Ok(findings) => findings,
            Err(error) => {
                self.recheck_at_ms = Some(now_ms + RECHECK_MS);
                return tracing::warn!(shard = %self.shared.name, %error, "the space of the volume is not known");
            }
        };
        if self.is_nearly_full && !room.is_nearly_full {
            self.sealing.after_ms = now_ms;
        }
        self.note_room(room);
        self.unused = unused;
        if let Some(error) = failure {
            // A convenience: without it the writer makes its segment itself.
            tracing::warn!(shard = %self.shared.name, %error, "a segment could not be made ready or removed");
        }
        if let Some(sealed) = sealed {
            self.note_sealed(now_ms, sealed);
        }
        if room.is_nearly_full || !self.unused.is_empty() {
            self.recheck_at_ms = Some(now_ms + RECHECK_MS);
        }
    }

    fn note_room(&mut self, room: Room) {
        if room.is_nearly_full != self.is_nearly_full {
            self.is_nearly_full = room.is_nearly_full;
            let (shard, ready) = (&self.shared.name, room.ready_segments);
            if room.is_nearly_full {
                tracing::warn!(%shard, ready, "the disk is nearly full: sends are refused");
            } else {
                tracing::info!(%shard, "the disk has room again: sends are taken");
            }
        }
        self.replica.set_room(room);
    }

    fn note_sealed(&mut self, now_ms: u64, sealed: Result<Sealed, SealError>) {
        match sealed {
            Ok(mut sealed) => {
                if let Some(error) = sealed.not_condensed.take() {
                    tracing::warn!(shard = %self.shared.name, %error, "an old segment could not be condensed: it stays");
                }
                if let Some(error) = sealed.not_removed.take() {
                    tracing::warn!(shard = %self.shared.name, %error, "old snapshots could not be removed: they stay, and the segments that they need");
                }
                if !std::mem::take(&mut self.sealing).failure.is_empty() {
                    tracing::info!(shard = %self.shared.name, "segments are sealed again");
                }
                let segments = sealed.segments as u64;
                self.shared.sealed_segments.fetch_add(segments, Ordering::Relaxed);
                self.unused.extend(self.replica.sealed(sealed));
                *lock(&self.shared.reader) = self.replica.reader();
            }
            Err(SealError::GivenUp) => {}
            Err(error @ (SealError::Disk(_) | SealError::NotReadBack(_))) => {
                self.shared.sealing_failures.fetch_add(1, Ordering::Relaxed);
                let is_disk = matches!(error, SealError::Disk(_));
                if self.sealing.failed(now_ms, error.to_string(), is_disk) {
                    let (shard, pause_s) = (&self.shared.name, self.sealing.pause_ms / 1_000);
                    tracing::warn!(%shard, %error, pause_s, "segments could not be sealed: nothing older is removed; will try again");
                }
                self.recheck_at_ms = Some(self.sealing.after_ms);
            }
            // What was stored cannot be read: what is stored behind it would be lost by a repair.
            Err(SealError::Open(error)) => self.replica.fail(&error.to_string()),
        }
    }
}
