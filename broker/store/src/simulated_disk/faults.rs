//! The kinds of faults of the simulated disk and how often each happens. All are off until somebody asks for them.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskFault {
    /// A write fails; nothing of it is on the medium.
    FailedWrite,
    /// A sync fails; any subset of the sectors is on the medium.
    FailedSync,
    /// A read fails; the next one may work.
    FailedRead,
    /// A read returns one sector as it was before it was last written.
    StaleRead,
    /// A read returns one sector of another place of the same file, or all that another read of it should get.
    MisdirectedRead,
    /// An operation takes long.
    Slow,
    /// There is no room for a new file.
    NoSpace,
}

/// Where reads may lie: in files that are named, below the position given. Above it nobody could notice, with one copy
/// and nothing later that vouches for what stands there.
pub type LieBounds = BTreeMap<PathBuf, u64>;

/// How often operations fail, each out of 1,000.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// Of writes.
    pub failed_writes: u64,
    /// Of writes.
    pub failed_syncs: u64,
    /// Of reads.
    pub failed_reads: u64,
    /// Of reads.
    pub stale_reads: u64,
    /// Of reads.
    pub misdirected_reads: u64,
    /// Of all operations.
    pub slow_operations: u64,
    /// How long a slow operation takes at most, milliseconds.
    pub slow_ms_max: u64,
    /// Where stale and misdirected reads may happen.
    pub lie_bounds: LieBounds,
}
