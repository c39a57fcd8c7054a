//! One process per data directory. The lock is the kernel's: it ends with the process, however that ends. The directory itself
//! is locked beside the file in it, so that whoever deletes the file lets no second process in.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::real_disk::create_directory;

const FILE_NAME: &str = "lock";

/// Holds the directory until dropped.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
    _directory: File,
}

/// Why the directory is not ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error(
        "the data directory {0} is in use by another process; stop that one, or use another --data directory"
    )]
    Taken(PathBuf),
    #[error("cannot use the data directory {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
}

impl DataLock {
    /// Takes the directory, making it when it is missing.
    ///
    /// # Errors
    /// [`LockError`].
    pub(crate) fn take(directory: &Path) -> Result<Self, LockError> {
        let failed = |error| LockError::Io { path: directory.to_owned(), error };
        create_directory(directory).map_err(failed)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(FILE_NAME))
            .map_err(failed)?;
        let itself = File::open(directory).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Taken(directory.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        match itself.try_lock() {
            Err(TryLockError::WouldBlock) => Err(LockError::Taken(directory.to_owned())),
            // Not every file system locks directories; the file has to do there.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self { _file: file, _directory: itself }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("new/data");
        let first = DataLock::take(&directory).unwrap();
        let text = DataLock::take(&directory).unwrap_err().to_string();
        assert!(text.contains("in use by another process"), "{text}");
        std::fs::remove_file(directory.join(FILE_NAME)).unwrap();
        let text = DataLock::take(&directory).unwrap_err().to_string();
        assert!(text.contains("in use by another process"), "without the file: {text}");
        drop(first);
        DataLock::take(&directory).unwrap();
    }

    #[test]
    fn a_path_that_cannot_be_a_directory_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let text = DataLock::take(&file).unwrap_err().to_string();
        assert!(text.contains("file"), "{text}");
    }
}
