//! A disk that breaks, for tests of the real process: compiled only with debug assertions, and asleep unless the environment
//! wakes it. From the operation that it was told on, every operation of one kind fails with an I/O error, as on a medium that
//! is worn out. Nothing here is in a release build.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use broker_store::{AlignedBuffer, Disk, DiskError, DiskFile, Space};

/// `<kind>:<operations that still work>`, the kind being `reads`, `writes` or `syncs`.
const VARIABLE: &str = "PINNACE_TEST_FAILING_DISK";

/// The disk as it is, or one that breaks when the environment asks for it.
pub(crate) fn wrap(disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
    let Ok(wanted) = std::env::var(VARIABLE) else { return disk };
    let Some((kind, count)) = wanted.split_once(':') else { return disk };
    let (Some(kind), Ok(count)) = (Kind::of(kind), count.parse()) else { return disk };
    Arc::new(FailingDisk { disk, wear: Arc::new(Wear { kind, left: AtomicU64::new(count) }) })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reads,
    /// Nothing of the write is there.
    Writes,
    /// The bytes may be there, and nobody knows.
    Syncs,
}

impl Kind {
    fn of(text: &str) -> Option<Self> {
        match text {
            "reads" => Some(Self::Reads),
            "writes" => Some(Self::Writes),
            "syncs" => Some(Self::Syncs),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Wear {
    kind: Kind,
    left: AtomicU64,
}

impl Wear {
    /// Counts an operation of a kind.
    ///
    /// # Errors
    /// Once the medium is worn out.
    fn take(&self, kind: Kind, path: &Path) -> Result<(), DiskError> {
        if kind != self.kind {
            return Ok(());
        }
        let one_less = |left: u64| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            return Ok(());
        }
        let operation = match kind {
            Kind::Reads => "read",
            Kind::Writes => "write",
            Kind::Syncs => "sync",
        };
        let message = std::io::Error::from_raw_os_error(libc::EIO).to_string();
        let path = path.to_owned();
        Err(DiskError { operation, path, message, is_full: false, is_missing: false })
    }
}

#[derive(Debug)]
struct FailingDisk {
    disk: Arc<dyn Disk>,
    wear: Arc<Wear>,
}

impl FailingDisk {
    /// A change: it is written, then synced.
    fn change<T>(
        &self,
        path: &Path,
        change: impl FnOnce() -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        self.wear.take(Kind::Writes, path)?;
        let changed = change()?;
        self.wear.take(Kind::Syncs, path)?;
        Ok(changed)
    }
}

impl Disk for FailingDisk {
    fn create_directory(&self, directory: &Path) -> Result<(), DiskError> {
        self.change(directory, || self.disk.create_directory(directory))
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        self.disk.list(directory)
    }

    fn create_zeroed(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        self.change(path, || self.disk.create_zeroed(path, length_bytes))
    }

    fn create_allocated(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        self.change(path, || self.disk.create_allocated(path, length_bytes))
    }

    fn create_filled(&self, path: &Path, contents: &[u8]) -> Result<(), DiskError> {
        self.change(path, || self.disk.create_filled(path, contents))
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        let (file, wear) = (self.disk.open(path)?, Arc::clone(&self.wear));
        Ok(Arc::new(FailingFile { file, path: path.to_owned(), wear }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.change(from, || self.disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.change(path, || self.disk.remove(path))
    }

    fn space(&self, directory: &Path) -> Result<Space, DiskError> {
        self.disk.space(directory)
    }
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    wear: Arc<Wear>,
}

impl DiskFile for FailingFile {
    fn length_bytes(&self) -> u64 {
        self.file.length_bytes()
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.wear.take(Kind::Reads, &self.path)?;
        self.file.read_at(position, buffer)
    }

    fn will_read(&self, position: u64, length_bytes: u64) {
        self.file.will_read(position, length_bytes);
    }

    fn write_durable(&self, position: u64, buffer: &AlignedBuffer) -> Result<(), DiskError> {
        self.wear.take(Kind::Writes, &self.path)?;
        self.file.write_durable(position, buffer)?;
        self.wear.take(Kind::Syncs, &self.path)
    }
}
