//! Key tables of sealed segments: written when a segment is sealed, and made for one that has none at each sealing. Only
//! searches read them, so that nothing here fails: what is not written is made by a later sealing, and until then its segment
//! is read.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use broker_store::key_table::key_table_path;
use broker_store::log::LogOptions;
use broker_store::segments::Segment;
use broker_store::{Disk, KeyTableFile, KeysOfHead};

/// Segments' worth of free space that are left for what cannot be done without.
const KEPT_SEGMENTS: u64 = 2;

/// Writes a table, unless the room is wanted for what cannot be done without.
pub(crate) fn write(disk: &dyn Disk, options: &LogOptions, table: &KeyTableFile) {
    if has_room(disk, options, table.length_bytes()) {
        // Another sealing tries again.
        let _ = table.write(disk, &options.directory);
    }
}

fn has_room(disk: &dyn Disk, options: &LogOptions, table_bytes: u64) -> bool {
    let kept_bytes = KEPT_SEGMENTS * options.segment_bytes;
    let space = disk.space(&options.directory);
    space.is_ok_and(|space| space.free_bytes >= kept_bytes + table_bytes)
}

/// Makes a table for the newest sealed segment that has none: one that an earlier version sealed, or whose table was lost or
/// found no room. One at a time, so that a long log costs each sealing no more than a second reading.
pub(crate) fn make_one(
    disk: &dyn Disk,
    options: &LogOptions,
    segments: &[Segment],
    sealed: u64,
    keys_of_head: KeysOfHead,
    is_given_up: &AtomicBool,
) {
    // No table is larger than a segment.
    if !has_room(disk, options, options.segment_bytes) {
        return;
    }
    let Ok(names) = disk.list(&options.directory) else { return };
    let names: HashSet<String> = names.into_iter().collect();
    let has_none = |base: u64| {
        let path = key_table_path(&options.directory, base);
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| !names.contains(name))
    };
    let pairs = segments.windows(2).map(|pair| (&pair[0], &pair[1]));
    let wants_one = |segment: &Segment| {
        // What is condensed is read in no time.
        segment.base() < sealed && !segment.is_condensed() && has_none(segment.base())
    };
    let without = pairs.rev().filter(|(segment, _)| wants_one(segment));
    for pair in without {
        let stops = || is_given_up.load(Ordering::Relaxed);
        let table = KeyTableFile::of_segment(options.shard, pair, keys_of_head, &stops);
        if let Some(table) = table {
            write(disk, options, &table);
            return;
        }
        if stops() {
            return;
        }
    }
}
