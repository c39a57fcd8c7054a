//! Work beside the data path, on a blocking thread and only when there was writing: a reserve of space and a zero-filled
//! spare ahead of the writer, a look at the space that is left, sealing of full segments, and removal of those that nobody
//! needs. A full volume is no failure here: what finds no room is tried again once there is some.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use broker_store::log::LogOptions;
use broker_store::segments::{
    ReadySegments, Segment, give_back, give_reserve_back, prepare_spare, take_reserve,
};
use broker_store::{Disk, DiskError, IndexFailure, KeysOfHead};

use crate::sealing::{self, SealError, Sealed};

/// Segments' worth of free space below which sends are refused; the spare of the shard counts as one of them, the reserve
/// does not. With the reserve that is enough to go on into two more, so that two snapshots come of it: without them retention
/// gives nothing back.
const ROOM_SEGMENTS: u64 = 2;
/// Beside a segment that gives space back, one part of it in so many is left for an index file and a snapshot.
const SEALING_PART: u64 = 8;

/// Free space below which sends are refused.
fn room_bytes(options: &LogOptions, snapshot_bytes: u64) -> u64 {
    let segments_bytes = ROOM_SEGMENTS.saturating_mul(options.segment_bytes);
    segments_bytes.saturating_add(sealing_bytes(options, snapshot_bytes))
}

/// What sealing may take: snapshots do not shrink with segments.
fn sealing_bytes(options: &LogOptions, snapshot_bytes: u64) -> u64 {
    (options.segment_bytes / SEALING_PART).max(snapshot_bytes)
}

/// What there is to do in one round.
#[derive(Debug)]
pub struct Work {
    /// Whether a spare is wanted.
    pub wants_spare: WantsSpare,
    /// Up to where segments are to be sealed, if any are.
    pub seal_until: Option<u64>,
    /// Segments to be removed once nobody reads them.
    pub unused: Vec<Segment>,
    /// Size of the newest snapshot: the next one takes about as much, while the two before it are there.
    pub snapshot_bytes: u64,
    /// Tells the keys of a message, for the key tables of the segments that are sealed.
    pub keys_of_head: KeysOfHead,
}

/// How much a spare is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantsSpare {
    /// Not yet.
    No,
    /// The log will go on into it.
    Soon,
    /// Space comes back once the log goes on into it: what little there is shall do.
    Now,
}

/// The space that a shard has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Whether sends are to be refused.
    pub is_nearly_full: bool,
    /// Segments that the log can go on into, however full the volume is.
    pub ready_segments: u64,
}

impl Room {
    /// Looks at the volume. `snapshot_bytes` is the size of the newest snapshot.
    ///
    /// # Errors
    /// [`DiskError`] when the space cannot be told.
    pub fn look(
        disk: &dyn Disk,
        options: &LogOptions,
        snapshot_bytes: u64,
    ) -> Result<Self, DiskError> {
        let ready = look_for_ready(disk, options)?;
        let free_bytes = disk.space(&options.directory)?.free_bytes;
        let spare_bytes = u64::from(ready.has_spare) * options.segment_bytes;
        let is_nearly_full =
            free_bytes.saturating_add(spare_bytes) < room_bytes(options, snapshot_bytes);
        Ok(Self { is_nearly_full, ready_segments: ready.count() })
    }
}

/// What one round found.
#[derive(Debug)]
pub struct Findings {
    /// The space at its end.
    pub room: Room,
    /// Why the spare or the reserve could not be made, or a segment not removed; not that there was no room.
    pub failure: Option<DiskError>,
    /// What sealing came to, if it was asked for.
    pub sealed: Option<Result<Sealed, SealError>>,
    /// Segments that somebody reads yet, or that could not be removed.
    pub unused: Vec<Segment>,
}

/// One round: removes what is unused, takes the reserve and makes the spare when there is room for them, and seals.
///
/// # Errors
/// [`DiskError`] when the space cannot be told.
pub fn run(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    work: Work,
    index_failure: &IndexFailure,
    is_given_up: &AtomicBool,
) -> Result<Findings, DiskError> {
    let (mut failure, mut unused) = (None, Vec::new());
    for segment in work.unused {
        if !segment.is_unused() {
            unused.push(segment);
        } else if let Err(error) =
            give_back(&**disk, &options.directory, &segment, options.segment_bytes)
        {
            failure = Some(error);
            unused.push(segment);
        }
    }
    if let Err(error) = get_ready(&**disk, options, work.wants_spare, work.snapshot_bytes)
        && !error.is_no_room()
    {
        failure = Some(error);
    }
    let keys = work.keys_of_head;
    let seal = |until| seal_with_reserve(disk, options, until, keys, index_failure, is_given_up);
    let sealed = work.seal_until.map(seal);
    let newest = sealed.as_ref().and_then(|sealed| sealed.as_ref().ok());
    let snapshot_bytes = newest.map_or(work.snapshot_bytes, |sealed| sealed.snapshot_bytes);
    let room = Room::look(&**disk, options, snapshot_bytes)?;
    Ok(Findings { room, failure, sealed, unused })
}

fn look_for_ready(disk: &dyn Disk, options: &LogOptions) -> Result<ReadySegments, DiskError> {
    ReadySegments::look(disk, &options.directory, options.segment_bytes)
}

/// Takes the reserve and makes the spare. Neither may be what fills the volume, so that many shards on a small one do not
/// take each other's last room.
fn get_ready(
    disk: &dyn Disk,
    options: &LogOptions,
    wants: WantsSpare,
    snapshot_bytes: u64,
) -> Result<(), DiskError> {
    let (directory, segment_bytes) = (&options.directory, options.segment_bytes);
    let room_bytes = room_bytes(options, snapshot_bytes);
    let ready = look_for_ready(disk, options)?;
    let free_bytes = disk.space(directory)?.free_bytes;
    if !ready.has_reserve && free_bytes >= room_bytes + segment_bytes {
        take_reserve(disk, directory, segment_bytes)?;
        // Others may have taken theirs at the same time.
        if disk.space(directory)?.free_bytes < room_bytes {
            give_reserve_back(disk, directory)?;
        }
    }
    let spare_room_bytes = match wants {
        WantsSpare::No => return Ok(()),
        WantsSpare::Soon => room_bytes,
        WantsSpare::Now => segment_bytes.saturating_add(sealing_bytes(options, snapshot_bytes)),
    };
    if !ready.has_spare && disk.space(directory)?.free_bytes >= spare_room_bytes {
        prepare_spare(disk, directory, segment_bytes)?;
    }
    Ok(())
}

/// Seals; on a full volume with the space of the reserve, as long as the log has the spare to go on into: without sealing
/// retention gives nothing back.
fn seal_with_reserve(
    disk: &Arc<dyn Disk>,
    options: &LogOptions,
    until: u64,
    keys_of_head: KeysOfHead,
    index_failure: &IndexFailure,
    is_given_up: &AtomicBool,
) -> Result<Sealed, SealError> {
    let sealed = sealing::seal(disk, options, until, keys_of_head, index_failure, is_given_up);
    let Err(SealError::Disk(error)) = &sealed else { return sealed };
    let ready = look_for_ready(&**disk, options)?;
    if !error.is_no_room() || !ready.has_spare || !ready.has_reserve {
        return sealed;
    }
    give_reserve_back(&**disk, &options.directory)?;
    sealing::seal(disk, options, until, keys_of_head, index_failure, is_given_up)
}
