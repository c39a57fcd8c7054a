//! Records that a person decided to leave out, because starts died on them: their log positions, in a file beside the
//! segments. The log itself stays as it is. Only what gives no number and no offset can be left out: everything behind
//! such a record depends on it (docs/adr/0006).

use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::Bytes;

use crate::disk::{Disk, DiskError};
use crate::log::LogOptions;
use crate::record::Record;
use crate::snapshot;
use crate::walk::{self, Found};

/// The file, in the directory of the log.
const FILE: &str = "left-out";
const UNFINISHED_FILE: &str = "left-out.unfinished";
/// While it exists, a start looks at records one by one, so that the one on which it dies is known.
pub const DIED_FILE: &str = "died";

/// What is applied in place of a record that is left out.
#[derive(Debug, Clone, PartialEq)]
pub enum Instead {
    /// The same topic or group with default settings: its number, its name, its type and its queues stay.
    Defaults(Box<Record>),
    /// Nothing.
    Nothing,
    /// It cannot be left out.
    Impossible,
}

/// What becomes of a record that is left out.
#[must_use]
pub fn instead_of(record: Record) -> Instead {
    match record {
        Record::PutTopic { number, mut topic } => {
            topic.retention_ms = None;
            topic.retention_bytes = None;
            topic.max_message_bytes = None;
            topic.lite_expiry_ms = None;
            Instead::Defaults(Box::new(Record::PutTopic { number, topic }))
        }
        Record::PutGroup { number, mut group } => {
            group.retry = broker_model::RetryPolicy::default();
            group.subscriptions = Vec::new();
            Instead::Defaults(Box::new(Record::PutGroup { number, group }))
        }
        Record::Lease(_)
        | Record::Acknowledge(_)
        | Record::ChangeInvisible { .. }
        | Record::Release { .. }
        | Record::Prolong { .. }
        | Record::TransactionCheck { .. }
        | Record::Cursor(_)
        | Record::Reset { .. }
        | Record::GroupUse { .. }
        | Record::ServedHours { .. }
        | Record::OpenLayout { .. }
        | Record::PassLayout { .. } => Instead::Nothing,
        _ => Instead::Impossible,
    }
}

fn path(log: &LogOptions) -> PathBuf {
    log.directory.join(FILE)
}

/// The log positions of all records that are left out.
///
/// # Errors
/// [`DiskError`], also when the file says something else.
pub fn read(disk: &dyn Disk, log: &LogOptions) -> Result<BTreeSet<u64>, DiskError> {
    let path = path(log);
    let file = match disk.open(&path) {
        Err(error) if error.is_missing => return Ok(BTreeSet::new()),
        file => file?,
    };
    let illegible = || DiskError {
        operation: "understand",
        path: path.clone(),
        message: "it holds one log position in each line and nothing else".to_owned(),
        is_full: false,
        is_missing: false,
    };
    let mut bytes = vec![0; usize::try_from(file.length_bytes()).map_err(|_| illegible())?];
    file.read_at(0, &mut bytes)?;
    let text = String::from_utf8(bytes).map_err(|_| illegible())?;
    text.lines().map(|line| line.parse().map_err(|_| illegible())).collect()
}

/// Leaves out the record at this position from now on.
///
/// # Errors
/// [`DiskError`]; then nothing more is left out than before.
pub fn add(disk: &dyn Disk, log: &LogOptions, position: u64) -> Result<(), DiskError> {
    let mut positions = read(disk, log)?;
    positions.insert(position);
    let text = positions.iter().fold(String::new(), |text, position| format!("{text}{position}\n"));
    let unfinished = log.directory.join(UNFINISHED_FILE);
    disk.create_filled(&unfinished, text.as_bytes())?;
    disk.rename(&unfinished, &path(log))
}

/// The record at this position, and its bytes; none when no start reads one there, because there is none or because it is
/// in a snapshot.
///
/// # Errors
/// [`DiskError`].
pub fn find(
    disk: &dyn Disk,
    log: &LogOptions,
    position: u64,
) -> Result<Option<(Record, Bytes)>, DiskError> {
    let start = snapshot::start(disk, log)?;
    let mut wanted = None;
    walk::walk(disk, log.shard, &log.directory, start, &mut |found| {
        let Found::Frame(frame) = found else { return true };
        let first = walk::payload_position(&frame.header);
        if first < start.position || first > position {
            return first <= position;
        }
        let Some(payload) = frame.payload else { return true };
        wanted = record_at(payload, first, position);
        wanted.is_none()
    })?;
    Ok(wanted)
}

fn record_at(mut payload: Bytes, first: u64, position: u64) -> Option<(Record, Bytes)> {
    let whole = payload.clone();
    while !payload.is_empty() {
        let start = whole.len().checked_sub(payload.len())?;
        let record = Record::decode(&mut payload).ok()?;
        let end = whole.len().checked_sub(payload.len())?;
        if first.saturating_add(start as u64) == position {
            return Some((record, whole.slice(start..end)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated_disk::SimulatedDisk;

    #[test]
    fn positions_are_added_and_a_file_that_says_something_else_is_an_error() {
        let disk = SimulatedDisk::default();
        let log = LogOptions { shard: 0, directory: "log".into(), segment_bytes: 1 };
        assert!(read(&disk, &log).unwrap().is_empty());
        for position in [700, 5, 700] {
            add(&disk, &log, position).unwrap();
        }
        assert_eq!(read(&disk, &log).unwrap(), [5, 700].into());
        disk.create_filled(&path(&log), b"5\nmany\n").unwrap();
        assert_eq!(read(&disk, &log).unwrap_err().operation, "understand");
    }
}
