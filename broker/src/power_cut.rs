//! A disk whose power goes, for tests of the real process: compiled only with debug assertions, and asleep unless the
//! environment wakes it. At the operation it was told, a random part of that operation reaches the disk and the process is
//! killed on the spot. Nothing here is in a release build.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use broker_store::limits::BLOCK_BYTES;
use broker_store::{AlignedBuffer, Disk, DiskError, DiskFile, Space};

/// `<seed>:<operations until the power goes>`; with `:early` behind it, a write is answered before it is on the disk.
const POWER_VARIABLE: &str = "PINNACE_TEST_POWER_CUT";
/// Size of new segments, smaller than any real one, so that segments are sealed all the time.
const SEGMENT_VARIABLE: &str = "PINNACE_TEST_SEGMENT_BYTES";
/// What a medium writes in one piece.
const SECTOR_BYTES: usize = 512;

/// The disk as it is, or one whose power goes when the environment asks for it.
pub(crate) fn wrap(disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
    let Ok(wanted) = std::env::var(POWER_VARIABLE) else { return disk };
    let mut parts = wanted.split(':');
    let mut number = || parts.next().and_then(|part| part.parse().ok());
    let (Some(seed), Some(operations_left)) = (number(), number()) else { return disk };
    let is_early = parts.next() == Some("early");
    let supply = Supply { random: seed, operations_left };
    Arc::new(PowerCutDisk { disk, supply: Arc::new(Mutex::new(supply)), is_early })
}

/// The size of segments that the environment asks for.
pub(crate) fn segment_bytes() -> Option<u64> {
    std::env::var(SEGMENT_VARIABLE).ok()?.parse().ok()
}

#[derive(Debug)]
struct Supply {
    random: u64,
    operations_left: u64,
}

impl Supply {
    fn happens(&mut self) -> bool {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.random >> 63 == 1
    }
}

#[derive(Debug)]
struct PowerCutDisk {
    disk: Arc<dyn Disk>,
    supply: Arc<Mutex<Supply>>,
    is_early: bool,
}

/// Carries out `whole`, or, when the power goes now, `part`, which may look at chance; then the process is gone.
fn powered<T>(
    supply: &Mutex<Supply>,
    whole: impl FnOnce() -> T,
    part: impl FnOnce(&mut Supply),
) -> T {
    let mut held = supply.lock().unwrap_or_else(PoisonError::into_inner);
    held.operations_left = held.operations_left.saturating_sub(1);
    if held.operations_left == 0 {
        part(&mut held);
        // Held until the end: nothing else begins.
        loop {
            let _gone = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
    }
    drop(held);
    whole()
}

impl PowerCutDisk {
    fn at_all<T>(&self, change: impl Fn() -> Result<T, DiskError>) -> Result<T, DiskError> {
        powered(&self.supply, &change, |supply| {
            if supply.happens() {
                let _nobody_hears = change();
            }
        })
    }

    /// All of a new file, or half of it, or nothing.
    fn in_part(
        &self,
        length_bytes: u64,
        create: impl Fn(u64) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        powered(
            &self.supply,
            || create(length_bytes),
            |supply| {
                if supply.happens() {
                    let _nobody_hears = create(length_bytes / 2);
                }
            },
        )
    }
}

impl Disk for PowerCutDisk {
    fn create_directory(&self, directory: &Path) -> Result<(), DiskError> {
        self.disk.create_directory(directory)
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        self.disk.list(directory)
    }

    fn create_zeroed(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        self.in_part(length_bytes, |bytes| self.disk.create_zeroed(path, bytes))
    }

    fn create_allocated(&self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        self.in_part(length_bytes, |bytes| self.disk.create_allocated(path, bytes))
    }

    fn create_filled(&self, path: &Path, contents: &[u8]) -> Result<(), DiskError> {
        powered(
            &self.supply,
            || self.disk.create_filled(path, contents),
            |supply| {
                let mut part = contents.to_vec();
                for sector in part.chunks_mut(SECTOR_BYTES) {
                    if supply.happens() {
                        sector.fill(0);
                    }
                }
                if supply.happens() {
                    let _nobody_hears = self.disk.create_filled(path, &part);
                }
            },
        )
    }

    fn open(&self, path: &Path) -> Result<Arc<dyn DiskFile>, DiskError> {
        let file = self.disk.open(path)?;
        let (supply, is_early) = (Arc::clone(&self.supply), self.is_early);
        Ok(Arc::new(PowerCutFile { file, supply, is_early }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.at_all(|| self.disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.at_all(|| self.disk.remove(path))
    }

    fn space(&self, directory: &Path) -> Result<Space, DiskError> {
        self.disk.space(directory)
    }
}

#[derive(Debug)]
struct PowerCutFile {
    file: Arc<dyn DiskFile>,
    supply: Arc<Mutex<Supply>>,
    is_early: bool,
}

impl PowerCutFile {
    /// Some sectors of a write are the new ones, the others are as they were.
    fn tear(&self, position: u64, buffer: &AlignedBuffer, supply: &mut Supply) {
        let mut torn = vec![0; buffer.as_slice().len()];
        if self.file.read_at(position, &mut torn).is_err() {
            return;
        }
        let sectors = torn.chunks_mut(SECTOR_BYTES).zip(buffer.as_slice().chunks(SECTOR_BYTES));
        for (old, new) in sectors {
            if supply.happens() {
                old.copy_from_slice(new);
            }
        }
        let mut torn_buffer = AlignedBuffer::with_capacity(torn.len());
        torn_buffer.extend(&torn);
        torn_buffer.pad_to(BLOCK_BYTES);
        let _nobody_hears = self.file.write_durable(position, &torn_buffer);
    }
}

impl DiskFile for PowerCutFile {
    fn length_bytes(&self) -> u64 {
        self.file.length_bytes()
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_at(position, buffer)
    }

    fn read_through(&self, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_through(position, buffer)
    }

    fn will_read(&self, position: u64, length_bytes: u64) {
        self.file.will_read(position, length_bytes);
    }

    fn write_durable(&self, position: u64, buffer: &AlignedBuffer) -> Result<(), DiskError> {
        powered(
            &self.supply,
            || {
                // The planted mistake: what was just answered is not there when the power goes.
                if self.is_early && self.supply.lock().is_ok_and(|held| held.operations_left < 3) {
                    return Ok(());
                }
                self.file.write_durable(position, buffer)
            },
            |supply| self.tear(position, buffer, supply),
        )
    }
}
