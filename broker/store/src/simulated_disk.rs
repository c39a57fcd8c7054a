//! A disk in memory that fails as real ones do, each kind of fault by itself and as a seed says. Files are inodes: an open
//! file goes on working after its name was renamed or removed. What was written durably is there after
//! [`SimulatedDisk::restart`]; of what was under way when the machine went off, any subset of sectors.

mod faults;
mod medium;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{AlignedBuffer, Disk, DiskError, DiskFile, Space};

pub use faults::{DiskFault, DiskFaults, LieBounds};
use medium::{Medium, Tear};

/// What a write is torn into, and what read faults replace.
pub const SECTOR_BYTES: usize = 512;

/// Clones share the medium.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<Medium>>,
}

fn error(operation: &'static str, path: &Path, message: &str) -> DiskError {
    DiskError {
        operation,
        path: path.to_owned(),
        message: message.to_owned(),
        is_full: message == "no space is left",
        is_missing: message == "missing",
    }
}

fn index(operation: &'static str, path: &Path, position: u64) -> Result<usize, DiskError> {
    usize::try_from(position).map_err(|_| error(operation, path, "too far"))
}

impl SimulatedDisk {
    fn state(&self) -> MutexGuard<'_, Medium> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `writes`-th durable write from now (0 = the next) is torn as `seed` says, and every one after it fails. When it
    /// is the next, making a file of zeros may be what is interrupted.
    pub fn tear_after(&self, writes: u64, seed: u64) {
        let mut state = self.state();
        state.writes_until_tear = Some(writes);
        state.random = seed;
    }

    /// The machine comes back: what is on the medium can be read and written again.
    pub fn restart(&self) {
        let mut state = self.state();
        state.is_dead = false;
        state.writes_until_tear = None;
    }

    /// Faults from now on, drawn as `seed` says.
    pub fn set_faults(&self, faults: DiskFaults, seed: u64) {
        let mut state = self.state();
        state.faults = faults;
        state.random = seed;
    }

    /// Which faults happened since the last call.
    #[must_use]
    pub fn take_injected(&self) -> Vec<DiskFault> {
        std::mem::take(&mut self.state().injected)
    }

    /// Simulated time that slow operations took since the last call, milliseconds.
    #[must_use]
    pub fn take_delay_ms(&self) -> u64 {
        std::mem::take(&mut self.state().delay_ms)
    }

    /// Size of the volume; files count with their whole length. None = without a limit.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// Bytes of all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Every read that touches these bytes of a file fails until [`SimulatedDisk::heal`].
    pub fn break_range(&self, path: &Path, from: u64, to: u64) {
        self.state().break_range(path, from, to);
    }

    /// All broken ranges can be read again.
    pub fn heal(&self) {
        self.state().heal();
    }

    /// Turns one bit of a file.
    pub fn flip_bit(&self, path: &Path, position: usize, bit: u8) {
        if let Some(byte) = self.state().bytes_mut(path).and_then(|bytes| bytes.get_mut(position)) {
            *byte ^= 1 << (bit % 8);
        }
    }

    /// Every file that is created from now on under a name that ends so holds another byte than was meant at this place, and
    /// nothing is said of it. None = no more.
    pub fn garble_created(&self, suffix: &str, at: Option<usize>) {
        self.state().garbled = at.map(|at| (suffix.to_owned(), at));
    }

    /// What a file holds; none when there is no such file.
    #[must_use]
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        self.state().bytes_mut(path).map(|bytes| bytes.clone())
    }

    /// Durable writes so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Files whose name ends so, sorted.
    #[must_use]
    pub fn files_ending(&self, suffix: &str) -> Vec<PathBuf> {
        let state = self.state();
        let ends = |path: &&OsString| path.as_encoded_bytes().ends_with(suffix.as_bytes());
        state.names.keys().filter(ends).map(PathBuf::from).collect()
    }
}

impl Disk for SimulatedDisk {
    fn create_directory(&self, _directory: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        let state = self.state();
        let names = state.names.keys().map(Path::new);
        let inside = names.filter(|path| path.parent() == Some(directory));
        // Not in the order of names, as real directories are not.
        Ok(inside.rev().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create_zeroed(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        let length = index("create", path, length_bytes)?;
        let mut state = self.state();
        state.begin("create", path)?;
        state.make_room(path, length_bytes)?;
        let tears = state.writes_until_tear == Some(0) && state.draw().is_multiple_of(2);
        if tears {
            state.is_dead = true;
            let part = usize::try_from(state.draw() % (length_bytes + 1)).unwrap_or(length);
            state.insert(path, vec![0; part]);
            return Err(error("create", path, "torn"));
        }
        state.insert(path, vec![0; length]);
        Ok(())
    }

    fn create_filled(&self, path: &Path, contents: &[u8]) -> Result<(), DiskError> {
        let mut state = self.state();
        state.begin("create", path)?;
        state.make_room(path, contents.len() as u64)?;
        let mut written = contents.to_vec();
        let garbled = state.garbled.as_ref();
        let garbled = garbled.filter(|(suffix, _)| path.to_string_lossy().ends_with(suffix));
        if let Some(byte) = garbled.and_then(|(_, at)| written.get_mut(*at)) {
            *byte ^= 1;
        }
        let tear = state.next_write();
        if tear != Tear::None {
            for sector in written.chunks_mut(SECTOR_BYTES) {
                if state.draw().is_multiple_of(2) {
                    sector.fill(0);
                }
            }
        }
        if tear == Tear::Power && state.draw().is_multiple_of(2) {
            let kept = state.draw() as usize % (written.len() + 1);
            written.truncate(kept);
        }
        if tear == Tear::FailedWrite {
            // Reported and cleaned up, as the real disk does.
            state.remove(path);
            return Err(error("create", path, "the write failed"));
        }
        state.insert(path, written);
        match tear {
            Tear::None => Ok(()),
            Tear::Power => Err(error("create", path, "torn")),
            Tear::FailedWrite | Tear::FailedSync => Err(error("create", path, "the sync failed")),
        }
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        let state = self.state();
        let Some(&inode) = state.names.get(path.as_os_str()) else {
            return Err(error("open", path, "missing"));
        };
        let length_bytes = state.inodes.get(&inode).map_or(0, |inode| inode.bytes.len() as u64);
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            path: path.to_owned(),
            inode,
            length_bytes,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        state.begin("rename", from)?;
        let inode =
            state.names.remove(from.as_os_str()).ok_or_else(|| error("rename", from, "missing"))?;
        state.names.insert(to.into(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        state.begin("remove", path)?;
        if state.remove(path) { Ok(()) } else { Err(error("remove", path, "missing")) }
    }

    fn space(&self, _directory: &Path) -> Result<Space, DiskError> {
        let state = self.state();
        let total_bytes = state.capacity_bytes.unwrap_or(1 << 40);
        let free_bytes = total_bytes.saturating_sub(state.used_bytes());
        Ok(Space { free_bytes, total_bytes })
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    /// The name that it was opened under.
    path: PathBuf,
    inode: u64,
    length_bytes: u64,
}

impl DiskFile for SimulatedFile {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let from = index("read", &self.path, position)?;
        self.disk.state().read(self.inode, &self.path, from, buffer)
    }

    fn write_durable(&self, position: u64, buffer: &AlignedBuffer) -> Result<(), DiskError> {
        let from = index("write", &self.path, position)?;
        let mut state = self.disk.state();
        state.begin("write", &self.path)?;
        let tear = state.next_write();
        if tear == Tear::FailedWrite {
            return Err(error("write", &self.path, "the write failed"));
        }
        for (number, sector) in buffer.as_slice().chunks(SECTOR_BYTES).enumerate() {
            if tear != Tear::None && state.draw().is_multiple_of(2) {
                continue;
            }
            if !state.write_sector(self.inode, from + number * SECTOR_BYTES, sector) {
                return Err(error("write", &self.path, "beyond the end"));
            }
        }
        match tear {
            Tear::None => Ok(()),
            Tear::Power => Err(error("write", &self.path, "the power went")),
            Tear::FailedWrite | Tear::FailedSync => {
                Err(error("write", &self.path, "the sync failed"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
