//! Snapshots of a shard's state as files: parts with their checksums, and a head that is written last and makes them
//! count. What is in the parts is the caller's. Beside the log, in `snapshot`: `<log position, 20 digits>.snap` is a head,
//! `<log position>-<number>.part` a part of it; docs/storage-format.md draws them.

mod piece;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use crc32c::crc32c;

use crate::disk::{Disk, DiskError, DiskFile};
use crate::log::{LogEnd, LogOptions};
use crate::read_back::{create_compared, differs};
use crate::sealed_index::IndexFailure;

pub use piece::{PartFile, Piece};

const MAGIC: &[u8; 4] = b"PNS1";
const VERSION: u32 = 1;
const UNFINISHED_HEAD: &str = "head.tmp";

/// The head of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The shard.
    pub shard: u32,
    /// Where the log goes on behind the state: the beginning of a segment.
    pub end: LogEnd,
    /// Payload of the last hard-state frame; empty before the first.
    pub hard_state: Bytes,
    /// Log positions of the older segments that the state needs, ascending.
    pub needs: Vec<u64>,
    /// Length and checksum of each part.
    pub parts: Vec<(u64, u32)>,
}

/// A snapshot cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The bytes are not what was written.
    #[error("the snapshot file {} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        what: &'static str,
    },
    /// The bytes are what was written, and hold no state that this version can take in.
    #[error("the snapshot {} cannot be loaded: it holds an illegal {what}", path.display())]
    Unloadable {
        /// Its head.
        path: PathBuf,
        /// What cannot be taken in.
        what: &'static str,
    },
    /// A later version of Pinnace wrote it.
    #[error("the snapshot file {} is of a later version of Pinnace: start that version", path.display())]
    LaterVersion {
        /// The file.
        path: PathBuf,
    },
}

/// The directory of a shard's snapshots.
#[must_use]
pub fn snapshot_directory(log: &LogOptions) -> PathBuf {
    log.directory.with_file_name("snapshot")
}

/// The file of a snapshot's head.
#[must_use]
pub fn head_path(directory: &Path, position: u64) -> PathBuf {
    directory.join(format!("{position:020}.snap"))
}

fn part_path(directory: &Path, position: u64, number: usize) -> PathBuf {
    directory.join(format!("{position:020}-{number:05}.part"))
}

/// Log positions of the snapshots in a directory, the newest first.
///
/// # Errors
/// [`DiskError`].
pub fn positions(disk: &dyn Disk, directory: &Path) -> Result<Vec<u64>, DiskError> {
    let names = match disk.list(directory) {
        // There was none yet.
        Err(error) if error.is_missing => return Ok(Vec::new()),
        names => names?,
    };
    let heads = names.iter().filter_map(|name| name.strip_suffix(".snap")?.parse().ok());
    let mut positions: Vec<u64> = heads.collect();
    positions.sort_unstable_by(|a, b| b.cmp(a));
    Ok(positions)
}

/// Where the log goes on behind the newest snapshot that is whole; its beginning when there is none.
///
/// # Errors
/// [`DiskError`] when the directory cannot be listed.
pub fn start(disk: &dyn Disk, log: &LogOptions) -> Result<LogEnd, DiskError> {
    let directory = snapshot_directory(log);
    for position in positions(disk, &directory)? {
        let Ok(head) = SnapshotHead::read(disk, &directory, log.shard, position) else { continue };
        if head.check_parts(disk, &directory).is_ok() {
            return Ok(head.end);
        }
    }
    Ok(LogEnd::default())
}

/// What a head says of a part.
#[must_use]
pub fn length_and_checksum(part: &[u8]) -> (u64, u32) {
    (part.len() as u64, crc32c(part))
}

/// Writes one snapshot, part by part.
#[derive(Debug)]
pub struct SnapshotWriter<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    position: u64,
    parts: Vec<(u64, u32)>,
}

impl<'a> SnapshotWriter<'a> {
    /// A snapshot of the state before a log position.
    #[must_use]
    pub fn new(disk: &'a dyn Disk, directory: &'a Path, position: u64) -> Self {
        Self { disk, directory, position, parts: Vec::new() }
    }

    /// Writes the next part durably.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn part(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        let path = part_path(self.directory, self.position, self.parts.len());
        self.disk.create_filled(&path, bytes)?;
        self.parts.push(length_and_checksum(bytes));
        Ok(())
    }

    /// Writes the head beside its place, so that the snapshot can be read and does not count yet.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn finish(self, head: SnapshotHead) -> Result<UncountedSnapshot<'a>, DiskError> {
        let head = SnapshotHead { parts: self.parts, ..head };
        let path = self.directory.join(UNFINISHED_HEAD);
        create_compared(self.disk, &path, &head.encode())?;
        let read = SnapshotHead::decode(&path, &read_whole(&*self.disk.open(&path)?)?);
        if read.as_ref() != Ok(&head) {
            return Err(differs(&path));
        }
        Ok(UncountedSnapshot { disk: self.disk, directory: self.directory, head })
    }
}

/// A snapshot that is whole and does not count yet: to be read once before anything is built on it.
#[derive(Debug)]
pub struct UncountedSnapshot<'a> {
    disk: &'a dyn Disk,
    directory: &'a Path,
    head: SnapshotHead,
}

impl UncountedSnapshot<'_> {
    /// Its head, as it was meant and as it stands on the disk.
    #[must_use]
    pub fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// From now on the snapshot counts.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn publish(self) -> Result<SnapshotHead, DiskError> {
        let unfinished = self.directory.join(UNFINISHED_HEAD);
        self.disk.rename(&unfinished, &head_path(self.directory, self.head.end.position))?;
        Ok(self.head)
    }
}

impl SnapshotHead {
    /// Bytes of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        // A head that is read may say anything.
        self.parts.iter().fold(0, |sum: u64, (bytes, _)| sum.saturating_add(*bytes))
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let end = &self.end;
        for field in [VERSION, self.shard, end.checksum, 0] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        for field in [end.position, end.index, end.term, end.record] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        for count in [self.hard_state.len(), self.needs.len(), self.parts.len()] {
            bytes.extend_from_slice(&(count as u64).to_le_bytes());
        }
        bytes.extend_from_slice(&self.hard_state);
        self.needs.iter().for_each(|base| bytes.extend_from_slice(&base.to_le_bytes()));
        for (length, checksum) in &self.parts {
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&checksum.to_le_bytes());
        }
        let checksum = crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, SnapshotError> {
        let damaged = |what| SnapshotError::Damaged { path: path.to_owned(), what };
        let Some((content, checksum)) = bytes.split_last_chunk::<4>() else {
            return Err(damaged("it is too short"));
        };
        if crc32c(content).to_le_bytes() != *checksum || content.get(..4) != Some(&MAGIC[..]) {
            return Err(damaged("its checksum"));
        }
        let mut fields = Bytes::copy_from_slice(&content[4..]);
        if fields.try_get_u32_le().is_ok_and(|version| version > VERSION) {
            return Err(SnapshotError::LaterVersion { path: path.to_owned() });
        }
        Self::decode_fields(&mut fields).map_err(|_| damaged("it is too short"))
    }

    fn decode_fields(fields: &mut Bytes) -> Result<Self, bytes::TryGetError> {
        let (shard, checksum) = (fields.try_get_u32_le()?, fields.try_get_u32_le()?);
        let _reserved = fields.try_get_u32_le()?;
        let end = LogEnd {
            position: fields.try_get_u64_le()?,
            index: fields.try_get_u64_le()?,
            term: fields.try_get_u64_le()?,
            record: fields.try_get_u64_le()?,
            checksum,
        };
        let hard_state = fields.try_get_u64_le()?;
        let (needs, parts) = (fields.try_get_u64_le()?, fields.try_get_u64_le()?);
        let hard_state = usize::try_from(hard_state).unwrap_or(usize::MAX).min(fields.len());
        let hard_state = fields.split_to(hard_state);
        let needs = (0..needs).map(|_| fields.try_get_u64_le()).collect::<Result<_, _>>()?;
        let part = |_| Ok((fields.try_get_u64_le()?, fields.try_get_u32_le()?));
        let parts = (0..parts).map(part).collect::<Result<_, _>>()?;
        Ok(Self { shard, end, hard_state, needs, parts })
    }

    /// Reads the head of the snapshot at a log position.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn read(
        disk: &dyn Disk,
        directory: &Path,
        shard: u32,
        position: u64,
    ) -> Result<Self, SnapshotError> {
        let path = head_path(directory, position);
        let head = Self::decode(&path, &read_whole(&*disk.open(&path)?)?)?;
        if (head.shard, head.end.position) != (shard, position) {
            return Err(SnapshotError::Damaged { path, what: "it is another one's" });
        }
        Ok(head)
    }

    /// Reads every part, to see whether it holds.
    ///
    /// # Errors
    /// [`SnapshotError`] of the first one that does not.
    pub fn check_parts(&self, disk: &dyn Disk, directory: &Path) -> Result<(), SnapshotError> {
        (0..self.parts.len()).try_for_each(|number| self.part(disk, directory, number).map(drop))
    }

    /// Reads a part.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn part(
        &self,
        disk: &dyn Disk,
        directory: &Path,
        number: usize,
    ) -> Result<Bytes, SnapshotError> {
        let path = part_path(directory, self.end.position, number);
        self.read_part(number, &path, &*disk.open(&path)?)
    }

    /// Reads a part and keeps it open, so that pieces of it can be read again; what cannot be is noted as `failure`.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn open_part(
        &self,
        disk: &dyn Disk,
        directory: &Path,
        number: usize,
        failure: &IndexFailure,
    ) -> Result<(Bytes, Arc<PartFile>), SnapshotError> {
        let path = part_path(directory, self.end.position, number);
        let file = disk.open(&path)?;
        let bytes = self.read_part(number, &path, &*file)?;
        Ok((bytes, PartFile::new(path, file, failure)))
    }

    fn read_part(
        &self,
        number: usize,
        path: &Path,
        file: &dyn DiskFile,
    ) -> Result<Bytes, SnapshotError> {
        let bytes = read_whole(file)?;
        let is_whole = self.parts.get(number) == Some(&length_and_checksum(&bytes));
        if is_whole {
            Ok(bytes.into())
        } else {
            Err(SnapshotError::Damaged { path: path.to_owned(), what: "its checksum" })
        }
    }
}

fn read_whole(file: &dyn DiskFile) -> Result<Vec<u8>, DiskError> {
    let length = usize::try_from(file.length_bytes()).expect("parts fit in memory");
    let mut bytes = vec![0; length];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Removes every snapshot but those at the positions `kept`, and what was never finished.
///
/// # Errors
/// [`DiskError`].
pub fn remove_all_but(disk: &dyn Disk, directory: &Path, kept: &[u64]) -> Result<(), DiskError> {
    // Heads first: a head promises its parts.
    for old in positions(disk, directory)?.iter().filter(|position| !kept.contains(position)) {
        disk.remove(&head_path(directory, *old))?;
    }
    remove_uncounted(disk, directory)
}

/// Removes what belongs to no snapshot that counts.
///
/// # Errors
/// [`DiskError`].
pub fn remove_uncounted(disk: &dyn Disk, directory: &Path) -> Result<(), DiskError> {
    let kept = positions(disk, directory)?;
    for name in disk.list(directory)? {
        let part = name.strip_suffix(".part").and_then(|stem| stem.split_once('-'));
        let position = part.and_then(|(position, _)| position.parse().ok());
        let is_stray = position.is_some_and(|position: u64| !kept.contains(&position));
        if is_stray || name == UNFINISHED_HEAD {
            disk.remove(&directory.join(name))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
