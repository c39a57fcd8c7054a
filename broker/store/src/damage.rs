//! What is damaged in a log that cannot be opened for writing: the exact range, and what stands behind it. Such a log is
//! read up to the damage and never written; `repair` is how an operator makes it writable again.

use std::sync::Arc;

use crate::disk::Disk;
use crate::frame::FrameKind;
use crate::log::{Log, LogEnd, LogOptions};
use crate::recovery::{OpenError, RecoveredFrame};
use crate::segments;
use crate::walk::{Found, FoundFrame, Gap, GapMeaning, payload_position, walk_segments};
use crate::writer::Writer;

/// Damage to durable frames of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The shard.
    pub shard: u32,
    /// Log position where the last good frame ends.
    pub from: u64,
    /// Log position of the first whole frame behind the damage; without one, where the log's files end.
    pub to: u64,
    /// Index of the first entry that cannot be read.
    pub first_index: u64,
    /// Index of the last entry that is known to be damaged.
    pub last_index: u64,
    /// What later frames promise: every entry up to it was durable.
    pub durable_index: u64,
    /// Whole frames behind the damage.
    pub frames_behind: u64,
    /// Bytes of the whole frames behind the damage.
    pub bytes_behind: u64,
    /// The highest index of any whole frame behind the damage, 0 without one.
    pub highest_index: u64,
    /// What the medium said about bytes that it cannot read, or that no file holds.
    pub cause: Option<String>,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { shard, from, to, first_index, last_index, .. } = self;
        write!(
            f,
            "the log of shard {shard} is damaged at log positions [{from}, {to}), indexes {first_index} to {last_index}"
        )?;
        if let Some(cause) = &self.cause {
            write!(f, " ({cause})")?;
        }
        write!(f, "; restore its files from a copy, or see 'pinnace repair --shard {shard}'")
    }
}

/// Gathers what a walk comes across.
#[derive(Debug)]
pub(crate) struct Survey {
    shard: u32,
    /// Where the last good frame ends.
    pub(crate) end: LogEnd,
    is_broken: bool,
    /// First whole frame behind the break: position, and index of the entry before it.
    behind: Option<(u64, u64)>,
    frames_behind: u64,
    bytes_behind: u64,
    durable_index: u64,
    highest_index: u64,
    cause: Option<String>,
    files_end: u64,
}

impl Survey {
    pub(crate) fn new(shard: u32, start: LogEnd) -> Self {
        Self {
            shard,
            end: start,
            is_broken: false,
            behind: None,
            frames_behind: 0,
            bytes_behind: 0,
            durable_index: 0,
            highest_index: 0,
            cause: None,
            files_end: start.position,
        }
    }

    /// Takes in what a walk found; gives back a frame that belongs to the good beginning of the log.
    pub(crate) fn take(&mut self, found: Found) -> Option<RecoveredFrame> {
        match found {
            Found::Gap(gap) => {
                self.gap(&gap);
                None
            }
            // Only what a snapshot covers is condensed.
            Found::Condensed(_) => None,
            Found::Frame(frame) => self.frame(frame),
        }
    }

    fn gap(&mut self, gap: &Gap) {
        self.files_end = gap.to;
        if gap.meaning == GapMeaning::Unused && gap.unreadable.is_none() {
            return;
        }
        // Frames can carry on behind bytes that cannot be read when those were never used.
        if gap.meaning != GapMeaning::Unused {
            self.is_broken = true;
        }
        if self.cause.is_none() && gap.meaning != GapMeaning::Unused {
            let missing = || format!("no file holds all of [{}, {})", gap.from, gap.to);
            let unreadable = gap.unreadable.as_ref().map(ToString::to_string);
            self.cause = unreadable.or_else(|| gap.is_missing.then(missing));
        }
    }

    fn frame(&mut self, frame: FoundFrame) -> Option<RecoveredFrame> {
        let FoundFrame { header, checksum, payload, follows } = frame;
        let frame_end = header.position + header.frame_bytes();
        self.files_end = frame_end;
        self.is_broken |= !follows || payload.is_none();
        let payload = payload?;
        let is_entry = header.kind == FrameKind::Entry;
        if self.is_broken {
            let before = header.index.saturating_sub(u64::from(is_entry));
            self.behind.get_or_insert((header.position, before));
            self.frames_behind += 1;
            self.bytes_behind += header.frame_bytes();
            self.durable_index = self.durable_index.max(header.durable_index);
            self.highest_index = self.highest_index.max(header.index);
            return None;
        }
        self.end = LogEnd {
            position: frame_end,
            index: header.index,
            term: if is_entry { header.term } else { self.end.term },
            checksum,
            record: header.first_record.wrapping_add(u64::from(header.records)),
        };
        Some(RecoveredFrame { header, payload, payload_position: payload_position(&header) })
    }

    /// The damage; none when the log ends with a torn tail at most.
    pub(crate) fn damage(&self) -> Option<Damage> {
        // Without a cause of the medium's, only a later promise tells damage from a torn tail.
        if self.durable_index <= self.end.index && self.cause.is_none() {
            return None;
        }
        let behind = self.behind.filter(|(_, before)| *before >= self.end.index);
        let first_index = self.end.index.saturating_add(1);
        let last_index = behind.map_or(self.durable_index, |(_, before)| before);
        Some(Damage {
            shard: self.shard,
            from: self.end.position,
            to: behind.map_or(self.files_end, |(position, _)| position),
            first_index,
            last_index: last_index.max(first_index),
            durable_index: self.durable_index,
            frames_behind: self.frames_behind,
            bytes_behind: self.bytes_behind,
            highest_index: self.highest_index,
            cause: self.cause.clone(),
        })
    }
}

/// Finds out what is damaged behind `start`, where the newest snapshot ends; none when the log can be opened as it is.
/// Changes nothing.
///
/// # Errors
/// [`OpenError`] when the files cannot be looked at.
pub fn find(
    disk: &dyn Disk,
    options: &LogOptions,
    start: LogEnd,
) -> Result<Option<Damage>, OpenError> {
    let segments = segments::look(disk, &options.directory)?;
    let mut survey = Survey::new(options.shard, start);
    walk_segments(options.shard, &segments, start, &mut |found| {
        survey.take(found);
        true
    });
    Ok(survey.damage())
}

/// Reads a damaged log from `start` up to the damage and gives every frame to `visit`, in order. The writer that comes
/// with it refuses everything. None when nothing is damaged. Changes nothing.
///
/// # Errors
/// [`OpenError`] when the files cannot be looked at, also any that `visit` returns.
pub fn open_read_only(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    start: LogEnd,
    visit: &mut dyn FnMut(RecoveredFrame) -> Result<(), OpenError>,
) -> Result<Option<(Log, Writer, Damage)>, OpenError> {
    let segments = segments::look(&**disk, &options.directory)?;
    let mut survey = Survey::new(options.shard, start);
    let mut outcome = Ok(());
    walk_segments(options.shard, &segments, start, &mut |found| {
        outcome = survey.take(found).map_or(Ok(()), &mut *visit);
        outcome.is_ok()
    });
    outcome?;
    let Some(damage) = survey.damage() else { return Ok(None) };
    let Some(last) = segments.iter().rfind(|s| s.base <= survey.end.position).cloned() else {
        return Ok(None);
    };
    let reason = damage.to_string();
    let writer = Writer::refusing(disk.clone(), options.clone(), last, &reason);
    Ok(Some((Log::new(options.clone(), segments, survey.end), writer, damage)))
}

#[cfg(test)]
mod tests;
