//! Bytes that survive: one log per shard, made of frames in preallocated segments, over the [`Disk`] trait.
//! Synchronous and free of clocks and threads. docs/storage-format.md draws every byte that this crate writes.

pub mod condensed;
pub mod damage;
pub mod disk;
#[cfg(test)]
mod faulty_disk;
pub mod frame;
pub mod key_table;
pub mod left_out;
pub mod limits;
pub mod log;
pub mod read_back;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod repair;
pub mod sealed_index;
mod segment_scan;
pub mod segments;
#[cfg(any(test, feature = "simulation"))]
pub mod simulated_disk;
pub mod snapshot;
#[cfg(any(test, feature = "simulation"))]
pub mod switches;
pub mod walk;
pub mod writer;

pub use condensed::{CondenseError, Leftovers};
pub use damage::Damage;
pub use disk::{AlignedBuffer, Disk, DiskError, DiskFile, Space};
pub use frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
pub use key_table::{KeyTable, KeyTableBuilder, KeyTableFile, KeysOfHead, TopicKey};
pub use log::{FrameTooLarge, Log, LogOptions, NewFrame};
pub use reader::{
    KeyedRecords, LogReader, LoggedRecord, MessageIdentity, ReadError, Records, Stored,
};
pub use record::{Lease, MessageRecord, Record, RecordError};
pub use recovery::{OpenError, RecoveredFrame, open};
pub use sealed_index::{IndexBuilder, IndexEntry, IndexFailure, SealedIndex, SealedRun};
pub use snapshot::{SnapshotHead, SnapshotWriter};
pub use writer::{Write, WriteError, Writer};
