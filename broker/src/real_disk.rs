//! The [`Disk`] of a running broker: files of the local file system. Writes go around the page cache with direct,
//! synchronous I/O where the file system has it, which is tried once at start; else a write is followed by a sync.
//! A failed write or sync is only reported here; what follows from it is the log's business.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_store::limits::BLOCK_BYTES;
use broker_store::{AlignedBuffer, Disk, DiskError, DiskFile, Space};
// Of rustix `OFlags::DSYNC` is O_SYNC: that syncs times as well, and by the way names, which hides a directory that was not
// synced.
use libc::O_DSYNC;
use rustix::fs::{FallocateFlags, OFlags};

/// Zeros are written in pieces of this size.
const ZERO_PIECE_BYTES: usize = 1024 * 1024;
/// Name of the file that is written to find out what the file system can do.
const PROBE: &str = "direct-io.probe";

/// How written bytes become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// `O_DIRECT | O_DSYNC`: one system call, no page cache.
    Direct,
    /// Write, then `fdatasync`.
    Synced,
}

/// Files of the local file system.
#[derive(Debug)]
pub(crate) struct RealDisk {
    mode: WriteMode,
}

impl RealDisk {
    /// A disk for files below `directory`, which must exist; tries there what the file system can do.
    pub(crate) fn new(directory: &Path) -> Self {
        let probe = directory.join(PROBE);
        let mode = match try_direct(&probe) {
            Ok(()) => WriteMode::Direct,
            // The file could be opened for it; that there is no room now says nothing about later.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => WriteMode::Direct,
            Err(error) => {
                tracing::info!(%error, "no direct I/O here; every write is followed by a sync");
                WriteMode::Synced
            }
        };
        // It may never have been made; a file left behind disturbs nothing.
        let _ = fs::remove_file(&probe);
        Self { mode }
    }
}

impl Disk for RealDisk {
    fn create_directory(&self, directory: &Path) -> Result<(), DiskError> {
        let failed = |error| failure("create directory", directory, &error);
        create_directory(directory).map_err(failed)
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        let failed = |error| failure("list", directory, &error);
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_file = entry.file_type().map_err(failed)?.is_file();
            let Ok(name) = entry.file_name().into_string() else { continue };
            if is_file {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create_zeroed(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        if let Err(error) = fill_with_zeros(path, length_bytes, self.mode) {
            // The space is wanted back, above all when there was too little of it.
            let _ = fs::remove_file(path);
            return Err(failure("create", path, &error));
        }
        synced_parent(path)
    }

    fn create_allocated(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        match allocate(path, length_bytes) {
            Ok(true) => synced_parent(path),
            Ok(false) => self.create_zeroed(path, length_bytes),
            Err(error) => {
                // As above: the space is wanted back.
                let _ = fs::remove_file(path);
                Err(failure("create", path, &error))
            }
        }
    }

    fn create_filled(&self, path: &Path, contents: &[u8]) -> Result<(), DiskError> {
        let written = File::create(path).and_then(|mut file| {
            file.write_all(contents)?;
            file.sync_all()
        });
        if let Err(error) = written {
            // As above: the space is wanted back.
            let _ = fs::remove_file(path);
            return Err(failure("create", path, &error));
        }
        synced_parent(path)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        let failed = |error| failure("open", path, &error);
        let reader = File::open(path).map_err(failed)?;
        let writer = open_for_writing(path, self.mode, false).map_err(failed)?;
        let length_bytes = reader.metadata().map_err(failed)?.len();
        let (path, mode) = (path.to_owned(), self.mode);
        Ok(Arc::new(RealFile { path, reader, writer, mode, length_bytes }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        fs::rename(from, to).map_err(|error| failure("rename", from, &error))?;
        synced_parent(to)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        fs::remove_file(path).map_err(|error| failure("remove", path, &error))?;
        synced_parent(path)
    }

    fn space(&self, directory: &Path) -> Result<Space, DiskError> {
        let volume = rustix::fs::statvfs(directory)
            .map_err(|error| failure("read the free space of", directory, &error.into()))?;
        Ok(Space {
            free_bytes: volume.f_bavail.saturating_mul(volume.f_frsize),
            total_bytes: volume.f_blocks.saturating_mul(volume.f_frsize),
        })
    }
}

/// One file, open twice: direct I/O needs a descriptor of its own, reads of single messages go through the page cache.
#[derive(Debug)]
struct RealFile {
    path: PathBuf,
    reader: File,
    writer: File,
    mode: WriteMode,
    length_bytes: u64,
}

impl DiskFile for RealFile {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.reader
            .read_exact_at(buffer, position)
            .map_err(|error| failure("read", &self.path, &error))
    }

    fn read_through(&self, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let is_aligned = buffer.as_ptr().align_offset(BLOCK_BYTES) == 0
            && buffer.len().is_multiple_of(BLOCK_BYTES)
            && position.is_multiple_of(BLOCK_BYTES as u64);
        // What cannot be read like this says why in the other way.
        let is_read = self.mode == WriteMode::Direct
            && is_aligned
            && self.writer.read_exact_at(buffer, position).is_ok();
        if is_read { Ok(()) } else { self.read_at(position, buffer) }
    }

    fn will_read(&self, position: u64, length_bytes: u64) {
        let length = std::num::NonZeroU64::new(length_bytes);
        // Advice that is not taken costs time only.
        let _ = rustix::fs::fadvise(&self.reader, position, length, rustix::fs::Advice::WillNeed);
    }

    fn write_durable(&self, position: u64, buffer: &AlignedBuffer) -> Result<(), DiskError> {
        let bytes = buffer.as_slice();
        self.writer
            .write_all_at(bytes, position)
            .map_err(|error| failure("write", &self.path, &error))?;
        match self.mode {
            WriteMode::Direct => Ok(()),
            WriteMode::Synced => {
                self.writer.sync_data().map_err(|error| failure("sync", &self.path, &error))
            }
        }
    }
}

fn open_for_writing(path: &Path, mode: WriteMode, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create).truncate(create);
    if mode == WriteMode::Direct {
        options.custom_flags(OFlags::DIRECT.bits().cast_signed() | O_DSYNC);
    }
    options.open(path)
}

fn try_direct(probe: &Path) -> io::Result<()> {
    let file = open_for_writing(probe, WriteMode::Direct, true)?;
    let mut block = AlignedBuffer::with_capacity(BLOCK_BYTES);
    block.extend(&[0]);
    block.pad_to(BLOCK_BYTES);
    file.write_all_at(block.as_slice(), 0)
}

/// Zeros are really written: an allocated but unwritten block costs a metadata update at its first write, and that
/// would be the write that a client waits for.
fn fill_with_zeros(path: &Path, length_bytes: u64, mode: WriteMode) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if mode == WriteMode::Direct {
        options.custom_flags(OFlags::DIRECT.bits().cast_signed());
    }
    let file = options.open(path)?;
    take_space(&file, length_bytes)?;
    let mut zeros = AlignedBuffer::with_capacity(ZERO_PIECE_BYTES);
    zeros.extend(&[0]);
    zeros.pad_to(ZERO_PIECE_BYTES);
    let mut position = 0;
    while position < length_bytes {
        let rest = usize::try_from(length_bytes - position).unwrap_or(usize::MAX);
        let piece = &zeros.as_slice()[..rest.min(ZERO_PIECE_BYTES)];
        file.write_all_at(piece, position)?;
        position += piece.len() as u64;
    }
    file.sync_all()
}

/// A file of this length whose blocks are its own; false where the file system cannot give them without writing.
fn allocate(path: &Path, length_bytes: u64) -> io::Result<bool> {
    let file = File::create(path)?;
    let is_taken = take_space(&file, length_bytes)?;
    file.sync_all()?;
    Ok(is_taken)
}

fn take_space(file: &File, length_bytes: u64) -> io::Result<bool> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length_bytes) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Creates a directory and its parents, durably. The names of the last two are synced in any case: who made them may have
/// died before it did so.
///
/// # Errors
/// Those of the system.
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    const SYNCED_ALWAYS: usize = 2;
    let named = directory.ancestors().take_while(|a| !a.as_os_str().is_empty());
    let unsure: Vec<&Path> = named
        .enumerate()
        .filter(|(depth, ancestor)| *depth < SYNCED_ALWAYS || !ancestor.exists())
        .map(|(_, ancestor)| ancestor)
        .collect();
    fs::create_dir_all(directory)?;
    unsure.into_iter().try_for_each(sync_parent)
}

/// A new, renamed or removed name is durable only once its directory is.
fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent_of(path))?.sync_all()
}

fn synced_parent(path: &Path) -> Result<(), DiskError> {
    sync_parent(path).map_err(|error| failure("sync directory", parent_of(path), &error))
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn failure(operation: &'static str, path: &Path, error: &io::Error) -> DiskError {
    DiskError {
        operation,
        path: path.to_owned(),
        message: error.to_string(),
        is_full: matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
        is_missing: error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH_BYTES: u64 = 3 * BLOCK_BYTES as u64;

    fn block_of(byte: u8) -> AlignedBuffer {
        let mut buffer = AlignedBuffer::with_capacity(BLOCK_BYTES);
        buffer.extend(&[byte; BLOCK_BYTES]);
        buffer
    }

    fn write_and_read_back(disk: &RealDisk, path: &Path) {
        disk.create_zeroed(path, LENGTH_BYTES).unwrap();
        let file = disk.open(path).unwrap();
        assert_eq!(file.length_bytes(), LENGTH_BYTES);
        let mut read = vec![9; BLOCK_BYTES + 10];
        file.read_at(5, &mut read).unwrap();
        assert!(read.iter().all(|b| *b == 0));
        file.write_durable(BLOCK_BYTES as u64, &block_of(7)).unwrap();
        file.read_at(BLOCK_BYTES as u64 - 5, &mut read).unwrap();
        assert_eq!((&read[..5], read[5], read[read.len() - 6]), (&[0; 5][..], 7, 7));
        assert!(file.read_at(LENGTH_BYTES - 1, &mut [0; 2]).is_err(), "beyond the end");
    }

    #[test]
    fn what_was_written_is_read_back_with_the_best_mode_and_with_syncs() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let best = RealDisk::new(folder.path());
        write_and_read_back(&best, &folder.path().join("best"));
        write_and_read_back(&RealDisk { mode: WriteMode::Synced }, &folder.path().join("synced"));
        assert_eq!(best.list(folder.path()).unwrap().len(), 2, "the probe is gone");
    }

    #[test]
    fn direct_writes_sync_data_and_what_it_takes_to_read_it_and_nothing_else() {
        let folder = tempfile::tempdir_in(".").unwrap();
        let path = folder.path().join("flags");
        // Not every file system has direct I/O.
        let Ok(file) = open_for_writing(&path, WriteMode::Direct, true) else { return };
        let flags = rustix::fs::fcntl_getfl(&file).unwrap().bits().cast_signed();
        assert_eq!(flags & libc::O_SYNC, O_DSYNC);
    }

    #[test]
    fn allocated_files_read_as_zeros_and_have_their_blocks() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir_in(".").unwrap();
        let path = folder.path().join("reserve");
        let disk = RealDisk::new(folder.path());
        disk.create_allocated(&path, LENGTH_BYTES).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert!(metadata.blocks() * 512 >= LENGTH_BYTES, "{} blocks", metadata.blocks());
        let file = disk.open(&path).unwrap();
        let mut read = vec![9; usize::try_from(LENGTH_BYTES).unwrap()];
        file.read_at(0, &mut read).unwrap();
        assert!(read.iter().all(|b| *b == 0));
        file.write_durable(0, &block_of(7)).unwrap();
    }

    #[test]
    fn files_are_named_renamed_and_removed_as_asked() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path());
        let directory = folder.path().join("shard-0/log");
        disk.create_directory(&directory).unwrap();
        disk.create_zeroed(&directory.join("a"), LENGTH_BYTES).unwrap();
        disk.rename(&directory.join("a"), &directory.join("b")).unwrap();
        assert_eq!(disk.list(&directory).unwrap(), ["b"]);
        disk.remove(&directory.join("b")).unwrap();
        assert!(disk.list(&directory).unwrap().is_empty());
        let space = disk.space(&directory).unwrap();
        assert!(space.free_bytes <= space.total_bytes && space.total_bytes > 0);
    }

    #[test]
    fn errors_name_the_operation_the_path_and_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path());
        let error = disk.open(&folder.path().join("absent")).unwrap_err();
        assert!(error.is_missing && !error.is_full);
        let text = error.to_string();
        assert!(text.starts_with("open ") && text.contains("absent"), "{text}");
    }
}
