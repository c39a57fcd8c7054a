//! A simulated disk that dies before or in the middle of a chosen change, or cannot read some bytes of a file.
//! For tests of what looks into damaged logs and mends them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::{AlignedBuffer, Disk, DiskError, DiskFile, Space};
use crate::simulated_disk::SimulatedDisk;

/// The medium survives; a new one on the same medium is a machine that came back.
#[derive(Debug)]
pub(crate) struct FaultyDisk {
    inner: SimulatedDisk,
    /// Changes that still succeed.
    changes_left: AtomicU64,
    unreadable: Option<(PathBuf, Range<u64>)>,
}

impl FaultyDisk {
    pub(crate) fn dying_after(inner: &SimulatedDisk, changes: u64) -> Self {
        Self { inner: inner.clone(), changes_left: AtomicU64::new(changes), unreadable: None }
    }

    pub(crate) fn unreadable(inner: &SimulatedDisk, path: &Path, bytes: Range<u64>) -> Self {
        let unreadable = Some((path.to_owned(), bytes));
        Self { inner: inner.clone(), changes_left: AtomicU64::new(u64::MAX), unreadable }
    }

    fn change(&self, path: &Path) -> Result<(), DiskError> {
        let left = |left: u64| Some(left.saturating_sub(1));
        match self.changes_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
            Ok(1..) => Ok(()),
            _ => Err(error("change", path)),
        }
    }
}

fn error(operation: &'static str, path: &Path) -> DiskError {
    let message = "I/O error".to_owned();
    DiskError { operation, path: path.to_owned(), message, is_full: false, is_missing: false }
}

impl Disk for FaultyDisk {
    fn create_directory(&self, directory: &Path) -> Result<(), DiskError> {
        self.inner.create_directory(directory)
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        self.inner.list(directory)
    }

    fn create_zeroed(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        self.change(path)?;
        self.inner.create_zeroed(path, length_bytes)
    }

    fn create_filled(&self, path: &Path, contents: &[u8]) -> Result<(), DiskError> {
        self.change(path)?;
        self.inner.create_filled(path, &contents[..contents.len() / 2])?;
        // The second half is a change of its own: a file can be left half written.
        self.change(path)?;
        self.inner.create_filled(path, contents)
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        let inner = self.inner.open(path)?;
        let ours = self.unreadable.iter().find(|(bad, _)| bad == path);
        let unreadable = ours.map_or(0..0, |(_, bytes)| bytes.clone());
        Ok(Arc::new(FaultyFile { inner, path: path.to_owned(), unreadable }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.change(from)?;
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.change(path)?;
        self.inner.remove(path)
    }

    fn space(&self, directory: &Path) -> Result<Space, DiskError> {
        self.inner.space(directory)
    }
}

#[derive(Debug)]
struct FaultyFile {
    inner: Arc<dyn DiskFile>,
    path: PathBuf,
    unreadable: Range<u64>,
}

impl DiskFile for FaultyFile {
    fn length_bytes(&self) -> u64 {
        self.inner.length_bytes()
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let end = position + buffer.len() as u64;
        if position < self.unreadable.end && self.unreadable.start < end {
            return Err(error("read", &self.path));
        }
        self.inner.read_at(position, buffer)
    }

    fn write_durable(&self, position: u64, buffer: &AlignedBuffer) -> Result<(), DiskError> {
        self.inner.write_durable(position, buffer)
    }
}
