//! A disk in memory that fails as real ones do: a write can be torn at 512-byte sectors in any subset and then never
//! works again; bits can rot. What was written durably is there after [`SimulatedDisk::restart`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{AlignedBuffer, Disk, DiskError, DiskFile, Space};

const SECTOR_BYTES: usize = 512;

/// Clones share the medium.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<PathBuf, Vec<u8>>,
    /// Durable writes until the torn one; none = no fault planned.
    writes_until_tear: Option<u64>,
    random: u64,
    is_dead: bool,
    writes: u64,
}

impl State {
    fn random(&mut self) -> u64 {
        // SplitMix64: small, and the same everywhere.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn error(operation: &'static str, path: &Path, message: &str) -> DiskError {
    let is_missing = message == "missing";
    DiskError {
        operation,
        path: path.to_owned(),
        message: message.to_owned(),
        is_full: false,
        is_missing,
    }
}

impl SimulatedDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `writes`-th durable write from now (0 = the next) is torn as `seed` says, and every one after it fails.
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

    /// Turns one bit of a file.
    pub fn flip_bit(&self, path: &Path, position: usize, bit: u8) {
        if let Some(byte) = self.state().files.get_mut(path).and_then(|f| f.get_mut(position)) {
            *byte ^= 1 << (bit % 8);
        }
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
        let ends = |path: &&PathBuf| path.to_string_lossy().ends_with(suffix);
        let mut paths: Vec<_> = state.files.keys().filter(ends).cloned().collect();
        paths.sort();
        paths
    }
}

impl Disk for SimulatedDisk {
    fn create_directory(&self, _directory: &Path) -> Result<(), DiskError> {
        Ok(())
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        let state = self.state();
        let inside = state.files.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create_zeroed(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        let length =
            usize::try_from(length_bytes).map_err(|_| error("create", path, "too large"))?;
        let mut state = self.state();
        if state.is_dead {
            return Err(error("create", path, "the machine is off"));
        }
        state.files.insert(path.to_owned(), vec![0; length]);
        Ok(())
    }

    fn create_filled(&self, path: &Path, contents: &[u8]) -> Result<(), DiskError> {
        let mut state = self.state();
        if state.is_dead {
            return Err(error("create", path, "the machine is off"));
        }
        state.writes += 1;
        let tears = state.writes_until_tear == Some(0);
        state.writes_until_tear = state.writes_until_tear.and_then(|n| n.checked_sub(1));
        let mut written = contents.to_vec();
        if tears {
            for sector in written.chunks_mut(SECTOR_BYTES) {
                if state.random().is_multiple_of(2) {
                    sector.fill(0);
                }
            }
            state.is_dead = true;
        }
        state.files.insert(path.to_owned(), written);
        if tears { Err(error("create", path, "torn")) } else { Ok(()) }
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        let length_bytes = match self.state().files.get(path) {
            Some(bytes) => bytes.len() as u64,
            None => return Err(error("open", path, "missing")),
        };
        Ok(Arc::new(SimulatedFile { disk: self.clone(), path: path.to_owned(), length_bytes }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        if state.is_dead {
            return Err(error("rename", from, "the machine is off"));
        }
        let bytes = state.files.remove(from).ok_or_else(|| error("rename", from, "missing"))?;
        state.files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let removed = self.state().files.remove(path);
        removed.map(|_| ()).ok_or_else(|| error("remove", path, "missing"))
    }

    fn space(&self, _directory: &Path) -> Result<Space, DiskError> {
        Ok(Space { free_bytes: 1 << 40, total_bytes: 1 << 40 })
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    path: PathBuf,
    length_bytes: u64,
}

impl DiskFile for SimulatedFile {
    fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let state = self.disk.state();
        let bytes =
            state.files.get(&self.path).ok_or_else(|| error("read", &self.path, "missing"))?;
        let from = usize::try_from(position).map_err(|_| error("read", &self.path, "too far"))?;
        let wanted = bytes.get(from..from + buffer.len());
        buffer.copy_from_slice(wanted.ok_or_else(|| error("read", &self.path, "beyond the end"))?);
        Ok(())
    }

    fn write_durable(&self, position: u64, buffer: &AlignedBuffer) -> Result<(), DiskError> {
        let mut state = self.disk.state();
        if state.is_dead {
            return Err(error("write", &self.path, "the machine is off"));
        }
        state.writes += 1;
        let tears = state.writes_until_tear == Some(0);
        state.writes_until_tear = state.writes_until_tear.and_then(|n| n.checked_sub(1));
        let from = usize::try_from(position).map_err(|_| error("write", &self.path, "too far"))?;
        for (number, sector) in buffer.as_slice().chunks(SECTOR_BYTES).enumerate() {
            if tears && state.random().is_multiple_of(2) {
                continue;
            }
            let at = from + number * SECTOR_BYTES;
            let file = state.files.get_mut(&self.path);
            let place = file.and_then(|bytes| bytes.get_mut(at..at + sector.len()));
            place
                .ok_or_else(|| error("write", &self.path, "beyond the end"))?
                .copy_from_slice(sector);
        }
        if tears {
            state.is_dead = true;
            return Err(error("write", &self.path, "the power went"));
        }
        Ok(())
    }
}
