//! Segment files: their names, and zero-filled spares kept ready so that the writer never waits for space.
//! A segment is `<log position of its first byte, 20 digits>.seg`; a spare is `spare.zero`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskError, DiskFile};

const SPARE: &str = "spare.zero";
const UNFINISHED: &str = "unfinished.tmp";

/// A part of the log in one file.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// Log position of its first byte.
    pub(crate) base: u64,
    /// The file; its length is the segment's.
    pub(crate) file: Arc<dyn DiskFile>,
}

impl Segment {
    /// Log position behind its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.file.length_bytes()
    }
}

pub(crate) fn segment_path(directory: &Path, base: u64) -> PathBuf {
    directory.join(format!("{base:020}.seg"))
}

/// The segments of a directory, in the order of the log. Removes what an interrupted preparation left.
pub(crate) fn list(disk: &dyn Disk, directory: &Path) -> Result<Vec<Segment>, DiskError> {
    let mut segments = Vec::new();
    for name in disk.list(directory)? {
        if name == UNFINISHED {
            disk.remove(&directory.join(name))?;
            continue;
        }
        let base = name.strip_suffix(".seg").and_then(|digits| digits.parse().ok());
        if let Some(base) = base {
            segments.push(Segment { base, file: disk.open(&directory.join(name))? });
        }
    }
    segments.sort_by_key(|segment| segment.base);
    Ok(segments)
}

/// Opens the segment at `base`, making it from the spare or anew when it does not exist.
pub(crate) fn open_or_create(
    disk: &dyn Disk,
    directory: &Path,
    base: u64,
    length_bytes: u64,
) -> Result<Segment, DiskError> {
    let path = segment_path(directory, base);
    match disk.open(&path) {
        Ok(file) => return Ok(Segment { base, file }),
        Err(error) if error.is_missing => {}
        Err(error) => return Err(error),
    }
    let spare = directory.join(SPARE);
    match disk.open(&spare) {
        Ok(file) if file.length_bytes() == length_bytes => disk.rename(&spare, &path)?,
        Ok(_) => {
            // Made for another segment size.
            disk.remove(&spare)?;
            create(disk, directory, length_bytes, &path)?;
        }
        Err(error) if error.is_missing => create(disk, directory, length_bytes, &path)?,
        Err(error) => return Err(error),
    }
    Ok(Segment { base, file: disk.open(&path)? })
}

/// Makes the spare when there is none. Slow: for a background thread.
///
/// # Errors
/// [`DiskError`], with `is_full` when there is no room for it.
pub fn prepare_spare(
    disk: &dyn Disk,
    directory: &Path,
    length_bytes: u64,
) -> Result<(), DiskError> {
    let spare = directory.join(SPARE);
    match disk.open(&spare) {
        Err(error) if error.is_missing => create(disk, directory, length_bytes, &spare),
        Err(error) => Err(error),
        Ok(_) => Ok(()),
    }
}

/// Turns a segment that is no longer needed into the spare, or removes it when there is one. What it holds stays on the
/// disk until it is overwritten; no frame of it is valid at another position.
///
/// # Errors
/// [`DiskError`].
pub fn recycle(disk: &dyn Disk, directory: &Path, base: u64) -> Result<(), DiskError> {
    let (path, spare) = (segment_path(directory, base), directory.join(SPARE));
    match disk.open(&spare) {
        Err(error) if error.is_missing => disk.rename(&path, &spare),
        Err(error) => Err(error),
        Ok(_) => disk.remove(&path),
    }
}

fn create(
    disk: &dyn Disk,
    directory: &Path,
    length_bytes: u64,
    path: &Path,
) -> Result<(), DiskError> {
    let unfinished = directory.join(UNFINISHED);
    disk.create_zeroed(&unfinished, length_bytes)?;
    disk.rename(&unfinished, path)
}
