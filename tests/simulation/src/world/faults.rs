//! What goes wrong: the process dies at any point and comes back, the clock jumps, bits flip, the volume fills up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use broker_model::Now;
use broker_replication::replica::StartError;
use broker_store::simulated_disk::{DiskFaults, LieBounds};
use broker_store::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, OpenError};

use super::World;
use crate::process::Process;

impl World {
    pub(super) fn maybe_fault(&mut self) -> Result<(), String> {
        let faults = self.plan.faults.clone();
        if self.random.happens(faults.kill) {
            self.kill()?;
        }
        if self.random.happens(faults.pause) {
            self.true_ms += self.random.below(60_000);
        }
        if self.random.happens(faults.clock_jump) {
            self.jump();
        }
        if self.random.happens(faults.bit_flip) {
            self.flip();
        }
        if self.random.happens(faults.broken_range) {
            self.break_range();
        }
        if self.random.happens(faults.disk_full) {
            let segments = self.random.below(4);
            self.leave_room(faults.segments_left.unwrap_or(segments));
        }
        let returns = if faults.segments_left.is_some() { 2 } else { faults.disk_full * 3 };
        if self.random.happens(returns) {
            self.disk.set_capacity(None);
        }
        Ok(())
    }

    /// Others take all of the volume but so many segments.
    pub(super) fn leave_room(&self, segments: u64) {
        let room_bytes = segments * self.plan.segment_bytes;
        self.disk.set_capacity(Some(self.disk.used_bytes() + room_bytes));
    }

    /// A new process counts its steady time from what the log says.
    fn begin_steady_time(&mut self, begin: Now) {
        self.checker.steady_time_begins(self.now_ms(), begin.steady_ms);
        self.steady_skew_ms = begin.steady_ms.cast_signed() - self.true_ms.cast_signed();
        self.checker.set_clock(self.now());
    }

    fn jump(&mut self) {
        let by_ms = i64::try_from(self.random.below(600_000)).unwrap_or(0) - 300_000;
        self.trace.note(self.true_ms, format_args!("the clock jumps by {by_ms} ms"));
        if by_ms < 0 {
            let from_ms = self.now().wall_ms;
            self.checker.clock_goes_back(from_ms, from_ms.saturating_add_signed(by_ms));
        }
        self.skew_ms += by_ms;
        self.checker.set_clock(self.now());
    }

    /// The power goes; a write that was handed off happened, happened in part, or did not.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        let chance = self.random.below(4);
        self.trace.note(self.true_ms, format_args!("killed ({chance})"));
        if chance == 0 {
            // In the middle of background work.
            let (work, note) =
                (process.work(), process.replica.engine().index_failure_note().clone());
            self.disk.tear_after(self.random.below(8), self.random.draw());
            let _torn = self.maintain(work, &note);
        } else if let Some(write) = process.write.take() {
            if chance > 1 {
                self.disk.tear_after(0, self.random.draw());
            }
            if chance > 0 {
                let _nobody_hears = process.writer.write(&write);
            }
        }
        self.end_process();
        Ok(())
    }

    pub(super) fn end_process(&mut self) {
        self.process = None;
        self.calls.clear();
        if let Some(eager) = &self.eager {
            eager.forget();
        }
        self.checker.killed();
        if self.random.happens(500) {
            self.disk.heal();
        }
        self.disk.restart();
    }

    /// Starts the process; a refusal is accepted only when the disk gave a reason.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        self.prepare_start();
        for attempt in 0..3 {
            let before = self.log_contents();
            let Now { wall_ms, steady_ms: now_ms } = self.now();
            let (disk, seed) = (self.shared_disk(), self.random.draw());
            let (what, is_damage) = match Process::start(&disk, &self.options, seed, wall_ms) {
                Ok(process) => match process.replica.damage() {
                    None => {
                        self.starts += 1;
                        self.starts_behind_retention += u64::from(self.checker.taken() > 0);
                        self.trace.note(now_ms, format_args!("started"));
                        self.begin_steady_time(process.replica.begin());
                        self.process = Some(process);
                        self.set_disk_faults(self.has_faults);
                        return self.step_replica();
                    }
                    // It would serve what is before the damage; here the operator mends the log first.
                    Some(damage) => (damage.to_string(), true),
                },
                Err(error) => (error.to_string(), is_damage(&error)),
            };
            self.trace.note(now_ms, format_args!("refused to serve: {what}"));
            self.refusals += 1;
            self.judge_refusal(&what, is_damage, attempt, &before)?;
        }
        Err("the broker refuses to start on a healthy disk".to_owned())
    }

    fn prepare_start(&mut self) {
        if self.has_faults && self.random.happens(self.plan.faults.lose_snapshot) {
            let mut snapshots = self.disk.files_ending(".snap");
            let newest = snapshots.pop();
            // Without any of them the log must begin at its beginning.
            let may_be_lost = self.recycled == 0 || !snapshots.is_empty();
            if let Some(path) = newest.filter(|_| may_be_lost) {
                let disk = self.shared_disk();
                let _gone = disk.remove(&path);
            }
        }
        self.set_disk_faults(self.has_faults);
    }

    /// After a refusal nothing has changed, and once the cause is gone the broker starts.
    fn judge_refusal(
        &mut self,
        what: &str,
        is_damage: bool,
        attempt: u32,
        before: &BTreeMap<PathBuf, Vec<u8>>,
    ) -> Result<(), String> {
        let has_reason = !self.disk.take_injected().is_empty() || !self.flipped.is_empty();
        if !has_reason || attempt > 0 {
            return Err(format!("the broker does not serve: {what}"));
        }
        if is_damage && self.log_contents() != *before {
            return Err(format!("the broker refused to serve and changed the log: {what}"));
        }
        // The operator restores the files from a copy, replaces the disk, makes room.
        self.repair();
        Ok(())
    }

    /// The disk is whole and honest again.
    pub(crate) fn repair(&mut self) {
        for (path, byte, bit, damaged) in std::mem::take(&mut self.flipped).into_iter().rev() {
            let now = self.disk.contents(&path).and_then(|bytes| bytes.get(byte).copied());
            // The writer may have put the right bytes there meanwhile.
            if now == Some(damaged) {
                self.disk.flip_bit(&path, byte, bit);
            }
        }
        self.disk.heal();
        self.disk.set_capacity(None);
        self.set_disk_faults(false);
        let _seen = self.disk.take_injected();
    }

    fn log_contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        if self.flipped.is_empty() {
            return BTreeMap::new();
        }
        let files = self.disk.files_ending(".seg");
        files
            .into_iter()
            .filter_map(|path| Some((path.clone(), self.disk.contents(&path)?)))
            .collect()
    }

    pub(crate) fn set_disk_faults(&mut self, are_on: bool) {
        let plan = &self.plan.faults;
        let faults = if are_on {
            DiskFaults {
                failed_writes: plan.failed_writes,
                failed_syncs: plan.failed_syncs,
                failed_reads: plan.failed_reads,
                stale_reads: plan.stale_reads,
                misdirected_reads: plan.misdirected_reads,
                slow_operations: plan.slow_operations,
                slow_ms_max: 2_000,
                lie_bounds: self.vouched_for(),
            }
        } else {
            DiskFaults::default()
        };
        let seed = self.random.draw();
        self.disk.set_faults(faults, seed);
    }

    /// How far damage can be noticed: up to the end of the entries that the last mark vouches for, and not the frame with
    /// the mark itself.
    fn vouched_for(&self) -> LieBounds {
        let mut frames = Vec::new();
        let files = self.disk.files_ending(".seg");
        for (file, path) in files.iter().enumerate() {
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let Ok(base) = name.parse::<u64>() else { continue };
            let bytes = self.disk.contents(path).unwrap_or_default();
            let mut at = 0;
            while let Some(found) = bytes.get(at..at + FRAME_HEADER_BYTES) {
                let header = FrameHeader::decode(found).map(|(header, _)| header);
                // A torn frame vouches for nothing.
                let is_whole = |header: &FrameHeader| {
                    let from = at + FRAME_HEADER_BYTES;
                    let payload = bytes.get(from..from + header.payload_bytes as usize);
                    header.position == base + at as u64
                        && payload.is_some_and(|p| crc32c::crc32c(p) == header.payload_checksum)
                };
                match header.filter(is_whole) {
                    Some(header) => {
                        at += usize::try_from(header.frame_bytes()).unwrap_or(64);
                        frames.push((file, base, header));
                    }
                    None => at += 64,
                }
            }
        }
        let mark = frames.iter().map(|(_, _, header)| header.durable_index).max().unwrap_or(0);
        let mut ends = BTreeMap::new();
        for (file, base, header) in &frames {
            if header.index > mark || header.durable_index == mark {
                break;
            }
            // A frame without an entry has the index of the one before, and no mark vouches for it.
            if header.kind == FrameKind::Entry {
                ends.insert(*file, header.position + header.frame_bytes() - base);
            }
        }
        ends.into_iter().map(|(file, end)| (files[file].clone(), end)).collect()
    }

    /// A bit of a durable frame turns.
    fn flip(&mut self) {
        let bounds = self.vouched_for();
        let paths: Vec<(&PathBuf, &u64)> = bounds.iter().collect();
        let Some((path, bound)) = self.random.pick(&paths).copied() else { return };
        let byte = usize::try_from(self.random.below(*bound)).unwrap_or(0);
        let bit = u8::try_from(self.random.below(8)).unwrap_or(0);
        self.trace.note(
            self.true_ms,
            format_args!("bit {bit} of byte {byte} of {} turns", path.display()),
        );
        self.disk.flip_bit(path, byte, bit);
        let now = self.disk.contents(path).and_then(|bytes| bytes.get(byte).copied());
        self.flipped.push((path.clone(), byte, bit, now.unwrap_or_default()));
    }

    fn break_range(&mut self) {
        let files = self.disk.files_ending(".seg");
        let Some(path) = self.random.pick(&files).cloned() else { return };
        let from = self.random.below(self.plan.segment_bytes);
        self.trace.note(self.true_ms, format_args!("{} breaks at {from}", shown(&path)));
        self.disk.break_range(&path, from, from + 4_096);
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn is_damage(error: &StartError) -> bool {
    matches!(error, StartError::Open(OpenError::Corrupt { .. } | OpenError::Unreadable { .. }))
}
