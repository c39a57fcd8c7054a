//! Work beside the data path, on a blocking thread and only when there was writing: zero-filled spares ahead of the
//! writer, and a look at the space that is left.

use std::sync::Arc;

use broker_store::log::LogOptions;
use broker_store::segments::prepare_spare;
use broker_store::{Disk, DiskError};

/// Segments' worth of space that is kept for acknowledgements and metadata when sends are already refused.
pub(crate) const RESERVE_SEGMENTS: u64 = 2;

/// What one round found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Findings {
    pub(crate) is_disk_full: bool,
}

/// One round: checks the space, and makes the spare when there is room for it and one is wanted.
pub(crate) fn run(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    wants_spare: bool,
) -> Result<Findings, DiskError> {
    let space = disk.space(&options.directory)?;
    let reserve_bytes = RESERVE_SEGMENTS * options.segment_bytes;
    let is_disk_full = space.free_bytes < reserve_bytes;
    if wants_spare && !is_disk_full {
        prepare_spare(&**disk, &options.directory, options.segment_bytes)?;
    }
    Ok(Findings { is_disk_full })
}
