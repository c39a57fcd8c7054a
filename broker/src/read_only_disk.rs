//! A [`Disk`] that can only be looked at: for verbs that read the files of a data directory and must not change a byte.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_store::{AlignedBuffer, Disk, DiskError, DiskFile, Space};

/// Files of the local file system, opened for reading only.
#[derive(Debug)]
pub(crate) struct ReadOnlyDisk;

impl Disk for ReadOnlyDisk {
    fn create_directory(&self, directory: &Path) -> Result<(), DiskError> {
        Err(refused("create directory", directory))
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        let failed = |error| failure("list", directory, &error);
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        Ok(names)
    }

    fn create_zeroed(&self, path: &Path, _length_bytes: u64) -> Result<(), DiskError> {
        Err(refused("create", path))
    }

    fn create_filled(&self, path: &Path, _contents: &[u8]) -> Result<(), DiskError> {
        Err(refused("create", path))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        let failed = |error| failure("open", path, &error);
        let file = File::open(path).map_err(failed)?;
        let length_bytes = file.metadata().map_err(failed)?.len();
        Ok(Arc::new(ReadOnlyFile { path: path.to_owned(), file, length_bytes }))
    }

    fn rename(&self, from: &Path, _to: &Path) -> Result<(), DiskError> {
        Err(refused("rename", from))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        Err(refused("remove", path))
    }

    fn space(&self, directory: &Path) -> Result<Space, DiskError> {
        Err(refused("read the free space of", directory))
    }
}

#[derive(Debug)]
struct ReadOnlyFile {
    path: PathBuf,
    file: File,
    length_bytes: u64,
}

impl DiskFile for ReadOnlyFile {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let read = self.file.read_exact_at(buffer, position);
        read.map_err(|error| failure("read", &self.path, &error))
    }

    fn write_durable(&self, _position: u64, _buffer: &AlignedBuffer) -> Result<(), DiskError> {
        Err(refused("write", &self.path))
    }
}

fn failure(operation: &'static str, path: &Path, error: &io::Error) -> DiskError {
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    let (path, message) = (path.to_owned(), error.to_string());
    DiskError { operation, path, message, is_full: false, is_missing }
}

fn refused(operation: &'static str, path: &Path) -> DiskError {
    failure(operation, path, &io::Error::other("it is only looked at"))
}
