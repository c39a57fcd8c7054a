//! What is derived from the log and can be made again from it: index files of sealed segments, and snapshots.

use std::sync::Arc;

use broker_store::log::LogOptions;
use broker_store::sealed_index::index_path;
use broker_store::snapshot::{self, SnapshotHead};
use broker_store::{Disk, IndexFailure, SealedIndex, SealedRun, segments};
use serde::Serialize;

use super::{InspectArguments, failed};
use crate::cli::failure::Failure;
use crate::cli::message::rfc3339;
use crate::cli::output::Lines;
use crate::read_only_disk::ReadOnlyDisk;

const INDEX_HEADER: &str = "BASE                 TOPIC   QUEUE   OFFSETS                  BYTES         LAST TIME                 REFERS TO       DAMAGE";
const SNAPSHOTS_HEADER: &str =
    "POSITION             INDEX        TERM   RECORD       PARTS  BYTES         NEEDS     DAMAGE";

/// Consecutive messages of one queue in the index of one segment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunView {
    base: u64,
    topic: u32,
    queue: u32,
    first_offset: u64,
    end_offset: u64,
    bytes: u64,
    last_time: String,
    refers_to: Vec<u64>,
    damage: Option<String>,
}

/// A segment whose index is not there or cannot be used.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NoIndexView {
    base: u64,
    damage: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotView {
    position: u64,
    index: u64,
    term: u64,
    record: u64,
    parts: usize,
    bytes: u64,
    needs_segments: Vec<u64>,
    damage: Option<String>,
}

/// The runs of every segment that the newest snapshot covers; every block of them is read and checked.
pub(super) fn index(arguments: &InspectArguments, log: &LogOptions) -> Result<(), Failure> {
    let covered = snapshot::start(&ReadOnlyDisk, log).map_err(failed)?.position;
    let mut lines = Lines::new(arguments.output.format, INDEX_HEADER);
    for segment in segments::look(&ReadOnlyDisk, &log.directory).map_err(failed)? {
        let base = segment.base();
        if base >= covered.min(arguments.to) || segment.end() <= arguments.from {
            continue;
        }
        let note = IndexFailure::default();
        match SealedIndex::open(&ReadOnlyDisk, &log.directory, log.shard, base, &note) {
            Ok(runs) => {
                for run in runs {
                    lines.print(&run_view(base, &run, log), run_row)?;
                }
            }
            Err(error) => {
                let view = NoIndexView { base, damage: error.to_string() };
                lines.print(&view, |view| format!("{:020} {}", view.base, view.damage))?;
            }
        }
    }
    Ok(())
}

fn run_view(base: u64, run: &SealedRun, log: &LogOptions) -> RunView {
    let holds = (run.first..run.end()).all(|offset| run.entry(offset).is_some());
    let path = index_path(&log.directory, base);
    RunView {
        base,
        topic: run.topic,
        queue: run.queue,
        first_offset: run.first,
        end_offset: run.end(),
        bytes: run.bytes,
        last_time: rfc3339(run.last_ms),
        refers_to: run.refers_to().iter().map(|other| other.base).collect(),
        damage: (!holds).then(|| format!("a block in {} does not hold", path.display())),
    }
}

fn run_row(view: &RunView) -> String {
    let RunView { base, topic, queue, bytes, last_time, .. } = view;
    let offsets = format!("{}..{}", view.first_offset, view.end_offset);
    let refers_to: Vec<String> = view.refers_to.iter().map(ToString::to_string).collect();
    let refers_to = if refers_to.is_empty() { "-".to_owned() } else { refers_to.join(",") };
    let damage = view.damage.as_deref().unwrap_or("-");
    format!(
        "{base:020} {topic:<7} {queue:<7} {offsets:<24} {bytes:<13} {last_time:<25} {refers_to:<15} {damage}"
    )
}

/// The snapshots, the newest first; each is loaded as a start would load it.
pub(super) fn snapshots(arguments: &InspectArguments, log: &LogOptions) -> Result<(), Failure> {
    let directory = snapshot::snapshot_directory(log);
    let mut lines = Lines::new(arguments.output.format, SNAPSHOTS_HEADER);
    for position in snapshot::positions(&ReadOnlyDisk, &directory).map_err(failed)? {
        let view = match SnapshotHead::read(&ReadOnlyDisk, &directory, log.shard, position) {
            Ok(head) => {
                let disk: Arc<dyn Disk> = Arc::new(ReadOnlyDisk);
                let damage = broker_replication::load_snapshot(&disk, log, position).err();
                SnapshotView {
                    position,
                    index: head.end.index,
                    term: head.end.term,
                    record: head.end.record,
                    parts: head.parts.len(),
                    bytes: head.bytes(),
                    damage: damage.map(|error| error.to_string()),
                    needs_segments: head.needs,
                }
            }
            Err(error) => SnapshotView {
                position,
                index: 0,
                term: 0,
                record: 0,
                parts: 0,
                bytes: 0,
                needs_segments: Vec::new(),
                damage: Some(error.to_string()),
            },
        };
        lines.print(&view, snapshot_row)?;
    }
    Ok(())
}

fn snapshot_row(view: &SnapshotView) -> String {
    let SnapshotView { position, index, term, record, parts, bytes, .. } = view;
    let needs = view.needs_segments.len();
    let damage = view.damage.as_deref().unwrap_or("-");
    format!(
        "{position:020} {index:<12} {term:<6} {record:<12} {parts:<6} {bytes:<13} {needs:<9} {damage}"
    )
}
