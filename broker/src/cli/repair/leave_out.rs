//! `pinnace repair --leave-out POSITION`: the next start does not read one record. Its bytes are kept aside, and stay in the
//! log as they are.

use broker_store::Record;
use broker_store::left_out::{self, Instead};
use broker_store::log::LogOptions;
use serde::Serialize;

use super::{RepairArguments, lock};
use crate::cli::failure::Failure;
use crate::cli::output::{fields, print};
use crate::read_only_disk::ReadOnlyDisk;
use crate::real_disk::RealDisk;
use crate::serve::{deaths, whole_file};

/// What is left out, and what is lost with it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LeaveOutView {
    shard: u32,
    position: u64,
    record: String,
    becomes: &'static str,
    kept_aside: String,
    done: bool,
}

pub(super) fn run(
    arguments: &RepairArguments,
    log: &LogOptions,
    position: u64,
) -> Result<(), Failure> {
    let disk = |error: broker_store::DiskError| Failure::runtime(error.to_string());
    let Some((record, bytes)) = left_out::find(&ReadOnlyDisk, log, position).map_err(disk)? else {
        return Err(Failure::input(format!(
            "no start reads a record at log position {position} of shard-{}; 'pinnace inspect records' shows those \
             behind the newest snapshot, and what is in a snapshot cannot be left out",
            log.shard
        )));
    };
    let text = described(&record);
    let becomes = match left_out::instead_of(record) {
        Instead::Defaults(_) => {
            "the same with default settings; its messages and its progress stay"
        }
        Instead::Nothing => {
            "nothing; a message that it settled or handed out may be delivered again"
        }
        Instead::Impossible => {
            return Err(Failure::input(format!(
                "the record at log position {position} ({text}) gives a number or an offset that everything behind it \
                 depends on; it cannot be left out. Use the version of pinnace that wrote it, or restore a copy"
            )));
        }
    };
    let aside = format!("left-out-{position:020}.record");
    let view = LeaveOutView {
        shard: log.shard,
        position,
        record: text,
        becomes,
        kept_aside: log.directory.join(&aside).display().to_string(),
        done: arguments.yes,
    };
    if arguments.yes {
        let _lock = lock(arguments)?;
        let kept = whole_file::replace(&log.directory, &aside, &bytes);
        kept.map_err(|error| Failure::runtime(format!("cannot keep the record aside: {error}")))?;
        left_out::add(&RealDisk::new(&arguments.data.data), log, position).map_err(disk)?;
        deaths::forget(&arguments.data.data);
    }
    print(arguments.output.format, &view, table)
}

/// Its kind and whom it is about, in one line.
fn described(record: &Record) -> String {
    match record {
        Record::PutTopic { topic, .. } => format!("put-topic {}", topic.name),
        Record::PutGroup { group, .. } => format!("put-group {}", group.name),
        other => {
            let text = format!("{other:?}");
            text.split([' ', '(', '{']).next().unwrap_or_default().to_lowercase()
        }
    }
}

fn table(view: &LeaveOutView) -> String {
    let done = match view.done {
        true => "the next start leaves it out",
        false => "nothing was changed; --yes carries this out",
    };
    fields(&[
        ("Shard", format!("shard-{}", view.shard)),
        ("Record", format!("{} at log position {}", view.record, view.position)),
        ("Becomes", view.becomes.to_owned()),
        ("Kept aside", view.kept_aside.clone()),
        ("Repair", done.to_owned()),
    ])
}
