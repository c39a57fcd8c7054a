//! Segment files: their names, a zero-filled spare kept ready so that the writer never waits for space, and a reserve of
//! space that is ours when the volume is full. A segment is `<log position of its first byte, 20 digits>.seg`; what is
//! left of one that was condensed has the same name with `.live`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::condensed::{Condensed, UNFINISHED_CONDENSED, condensed_path};
use crate::disk::{Disk, DiskError, DiskFile};
use crate::key_table::key_table_path;
use crate::sealed_index::index_path;

const SPARE: &str = "spare.zero";
const RESERVE: &str = "reserve.zero";
/// A segment being made by the writer, and what is being made ahead of it: both may happen at the same time.
pub(crate) const UNFINISHED_SEGMENT: &str = "segment.tmp";
const UNFINISHED_SPARE: &str = "spare.tmp";
const UNFINISHED_RESERVE: &str = "reserve.tmp";
/// The index of a segment being made.
pub(crate) const UNFINISHED_INDEX: &str = "index.tmp";
/// The key table of a segment being made.
pub(crate) const UNFINISHED_KEYS: &str = "keys.tmp";

const UNFINISHED: [&str; 6] = [
    UNFINISHED_SEGMENT,
    UNFINISHED_SPARE,
    UNFINISHED_RESERVE,
    UNFINISHED_INDEX,
    UNFINISHED_KEYS,
    UNFINISHED_CONDENSED,
];

/// A part of the log in one file.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Log position of its first byte.
    pub(crate) base: u64,
    /// The file; its length is the segment's, unless that is condensed.
    pub(crate) file: Arc<dyn DiskFile>,
    /// Set when the file holds nothing but what was live of the segment: then it has no frames.
    pub(crate) condensed: Option<Arc<Condensed>>,
}

impl Segment {
    pub(crate) fn whole(base: u64, file: Arc<dyn DiskFile>) -> Self {
        Self { base, file, condensed: None }
    }

    /// Log position behind its last byte.
    #[must_use]
    pub fn end(&self) -> u64 {
        match &self.condensed {
            None => self.base + self.file.length_bytes(),
            Some(condensed) => condensed.end(),
        }
    }

    /// Whether only what was live of it is kept.
    #[must_use]
    pub fn is_condensed(&self) -> bool {
        self.condensed.is_some()
    }

    /// Bytes of its file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.file.length_bytes()
    }

    /// Log position of its first byte.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Whether nobody else can read it any more.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        Arc::strong_count(&self.file) == 1
    }
}

pub(crate) fn segment_path(directory: &Path, base: u64) -> PathBuf {
    directory.join(format!("{base:020}.seg"))
}

/// Removes what an interrupted preparation left, indexes and key tables without a segment, and what was condensed of
/// segments that are there yet: whole, they say more.
pub(crate) fn remove_unfinished(disk: &dyn Disk, directory: &Path) -> Result<(), DiskError> {
    let names = disk.list(directory)?;
    let is_there = |stem: &str, ending: &str| names.contains(&format!("{stem}.{ending}"));
    for name in &names {
        let is_stray = match name.rsplit_once('.') {
            Some((stem, "idx")) => !is_there(stem, "seg") && !is_there(stem, "live"),
            Some((stem, "keys")) => !is_there(stem, "seg"),
            Some((stem, "live")) => is_there(stem, "seg"),
            _ => false,
        };
        if is_stray || UNFINISHED.contains(&&**name) {
            disk.remove(&directory.join(name))?;
        }
    }
    Ok(())
}

/// The segments of a directory, in the order of the log; condensed ones only where the whole one is gone. Changes
/// nothing.
///
/// # Errors
/// [`DiskError`].
pub fn look(disk: &dyn Disk, directory: &Path) -> Result<Vec<Segment>, DiskError> {
    let names = disk.list(directory)?;
    let bases = |ending: &'static str| {
        let stems = names.iter().filter_map(move |name| name.strip_suffix(ending));
        stems.filter_map(|digits| digits.parse().ok())
    };
    let whole: BTreeSet<u64> = bases(".seg").collect();
    let mut segments = Vec::new();
    for base in &whole {
        segments.push(Segment::whole(*base, disk.open(&segment_path(directory, *base))?));
    }
    for base in bases(".live").filter(|base| !whole.contains(base)) {
        segments.push(Condensed::open(disk, directory, base)?);
    }
    segments.sort_by_key(|segment| segment.base);
    Ok(segments)
}

/// Log positions of the segments that were condensed, also of those that are there yet, in no order.
///
/// # Errors
/// [`DiskError`].
pub fn condensed_bases(disk: &dyn Disk, directory: &Path) -> Result<Vec<u64>, DiskError> {
    let names = disk.list(directory)?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".live")?.parse().ok()).collect())
}

/// Opens the segment at `base`, which has no frame that counts, making it from a spare, the reserve, or anew when it does
/// not exist in this length: an earlier start may have made it in another one and written nothing into it.
pub(crate) fn open_or_create(
    disk: &dyn Disk,
    directory: &Path,
    base: u64,
    length_bytes: u64,
) -> Result<Segment, DiskError> {
    let path = segment_path(directory, base);
    match disk.open(&path) {
        Ok(file) if file.length_bytes() == length_bytes => return Ok(Segment::whole(base, file)),
        Ok(_) => remove_if_there(disk, &path)?,
        Err(error) if error.is_missing => {}
        Err(error) => return Err(error),
    }
    let mut is_made = false;
    for name in [SPARE, RESERVE] {
        if !is_made && is_ready(disk, directory, name, length_bytes)? {
            is_made = match disk.rename(&directory.join(name), &path) {
                // The reserve was given back just now.
                Err(error) if error.is_missing => false,
                result => result.map(|()| true)?,
            };
        }
    }
    if !is_made {
        create(disk, &directory.join(UNFINISHED_SEGMENT), length_bytes, &path)?;
    }
    Ok(Segment::whole(base, disk.open(&path)?))
}

/// Whether a segment waits under this name. One that was made for another size goes.
fn is_ready(
    disk: &dyn Disk,
    directory: &Path,
    name: &str,
    length_bytes: u64,
) -> Result<bool, DiskError> {
    let path = directory.join(name);
    match disk.open(&path) {
        Ok(file) if file.length_bytes() == length_bytes => Ok(true),
        Ok(_) => remove_if_there(disk, &path).map(|()| false),
        Err(error) if error.is_missing => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
    match disk.remove(path) {
        Err(error) if error.is_missing => Ok(()),
        result => result,
    }
}

/// Segments that wait for the log to go on into: space that is ours, however full the volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadySegments {
    /// Filled with zeros: the next one.
    pub has_spare: bool,
    /// Only allocated: used when there is no room for a spare.
    pub has_reserve: bool,
}

impl ReadySegments {
    /// Looks for them.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn look(disk: &dyn Disk, directory: &Path, length_bytes: u64) -> Result<Self, DiskError> {
        let has_spare = is_ready(disk, directory, SPARE, length_bytes)?;
        let has_reserve = is_ready(disk, directory, RESERVE, length_bytes)?;
        Ok(Self { has_spare, has_reserve })
    }

    /// How many they are.
    #[must_use]
    pub fn count(self) -> u64 {
        u64::from(self.has_spare) + u64::from(self.has_reserve)
    }
}

/// Makes the spare. Slow: for a background thread.
///
/// # Errors
/// [`DiskError`], with `is_full` when there is no room for it.
pub fn prepare_spare(
    disk: &dyn Disk,
    directory: &Path,
    length_bytes: u64,
) -> Result<(), DiskError> {
    create(disk, &directory.join(UNFINISHED_SPARE), length_bytes, &directory.join(SPARE))
}

/// Takes the space of the reserve.
///
/// # Errors
/// [`DiskError`], with `is_full` when there is no room for it.
pub fn take_reserve(disk: &dyn Disk, directory: &Path, length_bytes: u64) -> Result<(), DiskError> {
    let unfinished = directory.join(UNFINISHED_RESERVE);
    disk.create_allocated(&unfinished, length_bytes)?;
    disk.rename(&unfinished, &directory.join(RESERVE))
}

/// Gives the space of the reserve back to the volume. The log may have taken it meanwhile.
///
/// # Errors
/// [`DiskError`].
pub fn give_reserve_back(disk: &dyn Disk, directory: &Path) -> Result<(), DiskError> {
    remove_if_there(disk, &directory.join(RESERVE))
}

/// Gives back the space of a segment that is not read any more, and removes what is derived from it; its index stays with what
/// is condensed of it. `length_bytes` is that of new segments.
///
/// # Errors
/// [`DiskError`].
pub fn give_back(
    disk: &dyn Disk,
    directory: &Path,
    segment: &Segment,
    length_bytes: u64,
) -> Result<(), DiskError> {
    let (base, condensed) = (segment.base, condensed_path(directory, segment.base));
    if segment.is_condensed() {
        remove_if_there(disk, &index_path(directory, base))?;
        return remove_if_there(disk, &condensed);
    }
    match disk.open(&condensed) {
        Ok(_) => {}
        Err(error) if error.is_missing => remove_if_there(disk, &index_path(directory, base))?,
        Err(error) => return Err(error),
    }
    recycle(disk, directory, segment, length_bytes)
}

/// Turns a segment that is no longer needed into the spare, else the reserve; removes it when both are there, or when new
/// segments have another length. What it holds stays on the disk until it is overwritten; no frame of it is valid at
/// another position.
pub(crate) fn recycle(
    disk: &dyn Disk,
    directory: &Path,
    segment: &Segment,
    length_bytes: u64,
) -> Result<(), DiskError> {
    let path = segment_path(directory, segment.base);
    remove_if_there(disk, &key_table_path(directory, segment.base))?;
    let names = [SPARE, RESERVE].into_iter().filter(|_| segment.file_bytes() == length_bytes);
    for name in names {
        if !is_ready(disk, directory, name, length_bytes)? {
            return disk.rename(&path, &directory.join(name));
        }
    }
    disk.remove(&path)
}

fn create(
    disk: &dyn Disk,
    unfinished: &Path,
    length_bytes: u64,
    path: &Path,
) -> Result<(), DiskError> {
    disk.create_zeroed(unfinished, length_bytes)?;
    disk.rename(unfinished, path)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::disk::Space;
    use crate::simulated_disk::SimulatedDisk;

    const LENGTH_BYTES: u64 = 64 * 1024;

    /// While a file of zeros is being made for the first time, the writer needs its next segment.
    #[derive(Debug, Default)]
    struct BusyDisk {
        inner: SimulatedDisk,
        was_interrupted: AtomicBool,
    }

    impl Disk for BusyDisk {
        fn create_directory(&self, directory: &Path) -> Result<(), DiskError> {
            self.inner.create_directory(directory)
        }

        fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
            self.inner.list(directory)
        }

        fn create_zeroed(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
            self.inner.create_zeroed(path, length_bytes)?;
            if !self.was_interrupted.swap(true, Ordering::Relaxed) {
                open_or_create(self, Path::new("log"), LENGTH_BYTES, LENGTH_BYTES)?;
            }
            Ok(())
        }

        fn create_filled(&self, path: &Path, contents: &[u8]) -> Result<(), DiskError> {
            self.inner.create_filled(path, contents)
        }

        fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
            self.inner.open(path)
        }

        fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
            self.inner.rename(from, to)
        }

        fn remove(&self, path: &Path) -> Result<(), DiskError> {
            self.inner.remove(path)
        }

        fn space(&self, directory: &Path) -> Result<Space, DiskError> {
            self.inner.space(directory)
        }
    }

    #[test]
    fn the_writer_can_make_a_segment_while_a_spare_is_being_made() {
        let disk = BusyDisk::default();
        prepare_spare(&disk, Path::new("log"), LENGTH_BYTES).unwrap();
        let mut names = disk.list(Path::new("log")).unwrap();
        names.sort();
        assert_eq!(names, ["00000000000000065536.seg", "spare.zero"]);
    }

    #[test]
    fn what_an_interrupted_preparation_left_is_removed() {
        let disk = SimulatedDisk::default();
        for name in [UNFINISHED_SEGMENT, UNFINISHED_SPARE, UNFINISHED_RESERVE] {
            disk.create_zeroed(&Path::new("log").join(name), LENGTH_BYTES).unwrap();
        }
        assert!(look(&disk, Path::new("log")).unwrap().is_empty());
        remove_unfinished(&disk, Path::new("log")).unwrap();
        assert!(disk.list(Path::new("log")).unwrap().is_empty());
    }
}
