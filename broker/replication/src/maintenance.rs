//! Work beside the data path, on a blocking thread and only when there was writing: zero-filled spares ahead of the
//! writer, a look at the space that is left, sealing of full segments, and removal of those that nobody needs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use broker_store::log::LogOptions;
use broker_store::segments::{Segment, prepare_spare, recycle};
use broker_store::{Disk, DiskError, IndexFailure};

use crate::sealing::{self, SealError, Sealed};

/// Segments' worth of space that is kept for acknowledgements and metadata when sends are already refused.
pub(crate) const RESERVE_SEGMENTS: u64 = 2;

/// What there is to do in one round.
#[derive(Debug)]
pub struct Work {
    /// Whether a spare will be wanted soon.
    pub wants_spare: bool,
    /// Up to where segments are to be sealed, if any are.
    pub seal_until: Option<u64>,
    /// Segments to be removed once nobody reads them.
    pub unused: Vec<Segment>,
}

/// What one round found.
#[derive(Debug)]
pub struct Findings {
    /// Whether sends are to be refused.
    pub is_disk_full: bool,
    /// Why the spare could not be made or a segment not removed.
    pub failure: Option<DiskError>,
    /// What sealing came to, if it was asked for.
    pub sealed: Option<Result<Sealed, SealError>>,
    /// Segments that somebody reads yet, or that could not be removed.
    pub unused: Vec<Segment>,
}

/// One round: removes what is unused, checks the space, makes the spare when there is room for it and one is wanted, and
/// seals.
///
/// # Errors
/// [`DiskError`] when the space cannot be told.
pub fn run(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    work: Work,
    failure: &IndexFailure,
    is_given_up: &AtomicBool,
) -> Result<Findings, DiskError> {
    let mut findings =
        Findings { is_disk_full: false, failure: None, sealed: None, unused: Vec::new() };
    for segment in work.unused {
        let base = segment.base();
        if !segment.is_unused() {
            findings.unused.push(segment);
        } else if let Err(error) = recycle(&**disk, &options.directory, base) {
            findings.failure = Some(error);
            findings.unused.push(segment);
        }
    }
    let space = disk.space(&options.directory)?;
    let reserve_bytes = RESERVE_SEGMENTS * options.segment_bytes;
    findings.is_disk_full = space.free_bytes < reserve_bytes;
    if work.wants_spare && !findings.is_disk_full {
        let made = prepare_spare(&**disk, &options.directory, options.segment_bytes);
        findings.failure = made.err().or(findings.failure);
    }
    findings.sealed =
        work.seal_until.map(|until| sealing::seal(disk, options, until, failure, is_given_up));
    Ok(findings)
}
