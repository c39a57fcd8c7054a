//! What the simulated disk holds, and its chance: names, inodes with their sectors, planned and drawn faults.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsString;
use std::path::Path;

use super::faults::{DiskFault, DiskFaults};
use super::{SECTOR_BYTES, error};
use crate::disk::DiskError;

/// Reads that a misdirected one may be mistaken for.
const RECENT_READS: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Inode {
    pub(super) bytes: Vec<u8>,
    /// Sectors as they were before they were last written; kept only when reads may be stale.
    previous: HashMap<usize, Vec<u8>>,
    /// Byte ranges that cannot be read.
    broken: Vec<(u64, u64)>,
}

/// How the write that begins now ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tear {
    None,
    Power,
    FailedWrite,
    FailedSync,
}

#[derive(Debug, Default)]
pub(super) struct Medium {
    /// By the bytes of their paths, which are compared faster than the paths are.
    pub(super) names: BTreeMap<OsString, u64>,
    pub(super) inodes: HashMap<u64, Inode>,
    next_inode: u64,
    /// Durable writes until the torn one; none = no tear planned.
    pub(super) writes_until_tear: Option<u64>,
    pub(super) random: u64,
    pub(super) is_dead: bool,
    pub(super) writes: u64,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) faults: DiskFaults,
    /// The end of the names of files that are created wrong, and where.
    pub(super) garbled: Option<(String, usize)>,
    pub(super) injected: Vec<DiskFault>,
    pub(super) delay_ms: u64,
    /// Inode, beginning and length of the newest reads; kept only when reads may be misdirected.
    recent_reads: VecDeque<(u64, usize, usize)>,
}

impl Medium {
    pub(super) fn draw(&mut self) -> u64 {
        // SplitMix64: small, and the same everywhere.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn happens(&mut self, of_1000: u64, fault: DiskFault) -> bool {
        let happens = of_1000 > 0 && self.draw() % 1_000 < of_1000;
        if happens {
            self.injected.push(fault);
        }
        happens
    }

    /// Every changing operation passes here first.
    pub(super) fn begin(&mut self, operation: &'static str, path: &Path) -> Result<(), DiskError> {
        if self.is_dead {
            return Err(error(operation, path, "the machine is off"));
        }
        if self.happens(self.faults.slow_operations, DiskFault::Slow) {
            self.delay_ms += self.draw() % self.faults.slow_ms_max.max(1) + 1;
        }
        Ok(())
    }

    /// Counts a durable write and says how it ends.
    pub(super) fn next_write(&mut self) -> Tear {
        self.writes += 1;
        let tears = self.writes_until_tear == Some(0);
        self.writes_until_tear = self.writes_until_tear.and_then(|n| n.checked_sub(1));
        if tears {
            self.is_dead = true;
            return Tear::Power;
        }
        if self.happens(self.faults.failed_writes, DiskFault::FailedWrite) {
            return Tear::FailedWrite;
        }
        if self.happens(self.faults.failed_syncs, DiskFault::FailedSync) {
            return Tear::FailedSync;
        }
        Tear::None
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let lengths = self.names.values().filter_map(|inode| self.inodes.get(inode));
        lengths.map(|inode| inode.bytes.len() as u64).sum()
    }

    /// Checks that a file of this length has room in the place of what bears its name now.
    pub(super) fn make_room(&mut self, path: &Path, length_bytes: u64) -> Result<(), DiskError> {
        let replaced = self.bytes_mut(path).map_or(0, |bytes| bytes.len() as u64);
        let used_bytes = self.used_bytes() - replaced + length_bytes;
        if self.capacity_bytes.is_some_and(|capacity_bytes| used_bytes > capacity_bytes) {
            self.injected.push(DiskFault::NoSpace);
            return Err(error("create", path, "no space is left"));
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, path: &Path, bytes: Vec<u8>) {
        self.next_inode += 1;
        self.inodes.insert(self.next_inode, Inode { bytes, ..Inode::default() });
        self.names.insert(path.into(), self.next_inode);
    }

    /// Takes the name away; who has the file open keeps it.
    pub(super) fn remove(&mut self, path: &Path) -> bool {
        self.names.remove(path.as_os_str()).is_some()
    }

    pub(super) fn bytes_mut(&mut self, path: &Path) -> Option<&mut Vec<u8>> {
        let inode = self.names.get(path.as_os_str())?;
        self.inodes.get_mut(inode).map(|inode| &mut inode.bytes)
    }

    pub(super) fn break_range(&mut self, path: &Path, from: u64, to: u64) {
        let inode = self.names.get(path.as_os_str()).copied();
        if let Some(inode) = inode.and_then(|inode| self.inodes.get_mut(&inode)) {
            inode.broken.push((from, to));
        }
    }

    pub(super) fn heal(&mut self) {
        self.inodes.values_mut().for_each(|inode| inode.broken.clear());
    }

    pub(super) fn write_sector(&mut self, inode: u64, at: usize, sector: &[u8]) -> bool {
        let keeps_previous = self.faults.stale_reads > 0;
        let Some(inode) = self.inodes.get_mut(&inode) else { return false };
        let Some(place) = inode.bytes.get_mut(at..at + sector.len()) else { return false };
        if keeps_previous && place != sector {
            inode.previous.insert(at / SECTOR_BYTES, place.to_vec());
        }
        place.copy_from_slice(sector);
        true
    }

    pub(super) fn read(
        &mut self,
        inode: u64,
        path: &Path,
        from: usize,
        buffer: &mut [u8],
    ) -> Result<(), DiskError> {
        let to = from + buffer.len();
        let found = self.inodes.get(&inode).ok_or_else(|| error("read", path, "missing"))?;
        let is_broken =
            found.broken.iter().any(|(start, end)| (from as u64) < *end && *start < to as u64);
        let wanted = found.bytes.get(from..to);
        buffer.copy_from_slice(wanted.ok_or_else(|| error("read", path, "beyond the end"))?);
        if is_broken {
            self.injected.push(DiskFault::FailedRead);
            return Err(error("read", path, "the medium is damaged"));
        }
        if self.happens(self.faults.failed_reads, DiskFault::FailedRead) {
            return Err(error("read", path, "the read failed"));
        }
        self.lie(inode, path, from, buffer);
        if self.faults.misdirected_reads > 0 {
            self.recent_reads.push_back((inode, from, buffer.len()));
            if self.recent_reads.len() > RECENT_READS {
                self.recent_reads.pop_front();
            }
        }
        Ok(())
    }

    /// Where another read of the same file and length began, if there was one.
    fn alike(&self, inode: u64, from: usize, length: usize, chance: usize) -> Option<usize> {
        let reads = self.recent_reads.iter().filter(|read| (read.0, read.2) == (inode, length));
        let others: Vec<usize> = reads.map(|read| read.1).filter(|other| *other != from).collect();
        others.get(chance % others.len().max(1)).copied()
    }

    /// Replaces one sector of what was read by an older state or by another place, or all of it by what another read of
    /// the same length gets.
    fn lie(&mut self, inode: u64, path: &Path, from: usize, buffer: &mut [u8]) {
        let bound = self.faults.lie_bounds.get(path).copied().unwrap_or(0);
        let end = (from + buffer.len()).min(usize::try_from(bound).unwrap_or(usize::MAX));
        if from >= end {
            return;
        }
        let sector = (from + self.draw() as usize % (end - from)) / SECTOR_BYTES;
        let is_stale = self.happens(self.faults.stale_reads, DiskFault::StaleRead);
        let is_misdirected =
            !is_stale && self.happens(self.faults.misdirected_reads, DiskFault::MisdirectedRead);
        if !is_stale && !is_misdirected {
            return;
        }
        let chance = self.draw() as usize;
        if is_misdirected && let Some(other) = self.alike(inode, from, buffer.len(), chance) {
            let bytes = self.inodes.get(&inode).map(|inode| &inode.bytes[other..]);
            for (place, byte) in buffer[..end - from].iter_mut().zip(bytes.unwrap_or_default()) {
                *place = *byte;
            }
            return;
        }
        let Some(found) = self.inodes.get(&inode) else { return };
        let sectors = found.bytes.len() / SECTOR_BYTES;
        let other = (chance % sectors.max(1)) * SECTOR_BYTES;
        let elsewhere = found.bytes.get(other..other + SECTOR_BYTES);
        let zeros = [0; SECTOR_BYTES];
        let content = if is_stale {
            found.previous.get(&sector).map_or(&zeros[..], Vec::as_slice)
        } else {
            elsewhere.unwrap_or(&zeros)
        };
        for (byte, position) in content.iter().zip(sector * SECTOR_BYTES..) {
            if (from..end).contains(&position) {
                buffer[position - from] = *byte;
            }
        }
    }
}
