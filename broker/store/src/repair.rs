//! Making a damaged log writable again, by an operator's decision: it ends where the damage begins, and everything from
//! there on is kept aside. Killed at any step it can be run again; docs/adr/0006 says why it cuts and joins nothing.

use std::path::{Path, PathBuf};

use crate::damage::{self, Damage};
use crate::disk::{Disk, DiskError};
use crate::log::{LogEnd, LogOptions};
use crate::recovery::OpenError;
use crate::segments::{self, Segment, UNFINISHED_SEGMENT, segment_path};

/// A file that a repair keeps aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// The file of the log.
    pub file: PathBuf,
    /// Its name from then on.
    pub aside: PathBuf,
    /// Whether the log keeps the part of the file before the damage, so that the file is copied.
    pub is_cut: bool,
}

/// What a repair does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What is damaged.
    pub damage: Damage,
    /// What is put aside, in this order.
    pub asides: Vec<Aside>,
}

/// Why a log cannot be repaired.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepairError {
    /// The files cannot be looked at.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk failed; the repair can be run again.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The undamaged beginning cannot be copied.
    #[error(
        "{path} cannot be read even before the damage, at log position {position}; restore it from a copy"
    )]
    Unreadable {
        /// The segment file.
        path: PathBuf,
        /// Where.
        position: u64,
    },
}

/// What a repair would do; none when the log is not damaged behind `start`, where the newest snapshot ends that can be
/// used. Changes nothing.
///
/// # Errors
/// [`RepairError`].
pub fn plan(
    disk: &dyn Disk,
    options: &LogOptions,
    start: LogEnd,
) -> Result<Option<Plan>, RepairError> {
    let Some(damage) = damage::find(disk, options, start)? else {
        return Ok(None);
    };
    let directory = &options.directory;
    let segments = segments::look(disk, directory).map_err(OpenError::from)?;
    let mut asides: Vec<Aside> = Vec::new();
    // The cut one first, so that nothing is gone before it is kept; then from the end, so that no hole comes into being.
    let is_cut = |s: &&Segment| s.base <= damage.from && damage.from < s.end();
    asides.extend(segments.iter().find(is_cut).map(|s| aside(directory, s, damage.from, true)));
    let later = segments.iter().rev().filter(|s| s.base > damage.from && !s.is_condensed());
    asides.extend(later.map(|s| aside(directory, s, s.base, false)));
    Ok(Some(Plan { damage, asides }))
}

fn aside(directory: &Path, segment: &Segment, position: u64, is_cut: bool) -> Aside {
    Aside {
        file: segment_path(directory, segment.base),
        aside: directory.join(format!("damaged-{position:020}.seg")),
        is_cut,
    }
}

/// Carries out a plan. The log ends at the damage afterwards and can be opened.
///
/// # Errors
/// [`RepairError`]; what was done until then is no loss, and the repair can be run again.
pub fn carry_out(disk: &dyn Disk, options: &LogOptions, plan: &Plan) -> Result<(), RepairError> {
    let cut = plan.asides.iter().find(|aside| aside.is_cut);
    if let Some(cut) = cut {
        keep_copy(disk, options, cut)?;
    }
    for later in plan.asides.iter().filter(|aside| !aside.is_cut) {
        disk.rename(&later.file, &free_name(disk, &later.aside)?)?;
    }
    if let Some(cut) = cut {
        cut_segment(disk, options, cut, plan.damage.from)?;
    }
    Ok(())
}

/// The whole file under its new name, as far as it can be read: what cannot is zeros in the copy.
fn keep_copy(disk: &dyn Disk, options: &LogOptions, cut: &Aside) -> Result<(), DiskError> {
    let file = disk.open(&cut.file)?;
    let bytes = readable(&*file, file.length_bytes());
    // An interrupted repair kept it already.
    if disk.open(&cut.aside).is_ok_and(|kept| readable(&*kept, kept.length_bytes()) == bytes) {
        return Ok(());
    }
    let unfinished = options.directory.join(UNFINISHED_SEGMENT);
    disk.create_filled(&unfinished, &bytes)?;
    disk.rename(&unfinished, &free_name(disk, &cut.aside)?)
}

fn cut_segment(
    disk: &dyn Disk,
    options: &LogOptions,
    cut: &Aside,
    end: u64,
) -> Result<(), RepairError> {
    let file = disk.open(&cut.file)?;
    let base = base_of(&cut.file);
    let mut bytes = vec![0; usize::try_from(file.length_bytes()).expect("segments fit in memory")];
    let kept = usize::try_from(end - base).expect("segments fit in memory");
    file.read_at(0, &mut bytes[..kept])
        .map_err(|_| RepairError::Unreadable { path: cut.file.clone(), position: base })?;
    let unfinished = options.directory.join(UNFINISHED_SEGMENT);
    disk.create_filled(&unfinished, &bytes)?;
    Ok(disk.rename(&unfinished, &cut.file)?)
}

fn base_of(path: &Path) -> u64 {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn readable(file: &dyn crate::disk::DiskFile, length_bytes: u64) -> Vec<u8> {
    const PIECE_BYTES: usize = 4096;
    let mut bytes = vec![0; usize::try_from(length_bytes).expect("segments fit in memory")];
    if file.read_at(0, &mut bytes).is_ok() {
        return bytes;
    }
    let mut at = 0;
    for piece in bytes.chunks_mut(PIECE_BYTES) {
        if file.read_at(at, piece).is_err() {
            piece.fill(0);
        }
        at += piece.len() as u64;
    }
    bytes
}

/// Evidence of an earlier repair is never replaced.
fn free_name(disk: &dyn Disk, wanted: &Path) -> Result<PathBuf, DiskError> {
    let directory = wanted.parent().unwrap_or_else(|| Path::new(""));
    let names = disk.list(directory)?;
    let stem = wanted.file_stem().and_then(|stem| stem.to_str()).unwrap_or("damaged");
    let mut name = format!("{stem}.seg");
    let mut number = 1;
    while names.contains(&name) {
        number += 1;
        name = format!("{stem}-{number}.seg");
    }
    Ok(directory.join(name))
}

#[cfg(test)]
mod tests;
