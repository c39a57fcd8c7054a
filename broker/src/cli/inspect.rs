//! `pinnace inspect`: looks into the log of a data directory or a copy of one: its segments, frames or records, what is
//! derived from them, and what of it does not hold. Reads only, one frame at a time.

mod derived;
mod fields;
mod views;

use broker_store::log::{LogEnd, LogOptions};
use broker_store::walk::{self, Found};
use broker_store::{FrameKind, Record, damage, segments, snapshot};
use clap::{Args, ValueEnum};

use super::data_directory::DataArguments;
use super::failure::Failure;
use super::output::{Lines, OutputArguments, say};
use crate::read_only_disk::ReadOnlyDisk;
use views::{FrameLine, RecordLine, Segments};

/// What is shown of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// The segment files, with what is in each and what is damaged.
    Segments,
    /// Every frame, with every field of its header and which checks hold.
    Frames,
    /// Every record, with its fields.
    Records,
    /// The index of every sealed segment: which messages of which queue are in it.
    Index,
    /// The snapshots, with the segments that each needs.
    Snapshots,
}

/// Arguments of `pinnace inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// What is shown.
    #[arg(value_enum, default_value = "segments")]
    what: What,
    #[command(flatten)]
    data: DataArguments,
    /// Show what is at this log position or behind it.
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    from: u64,
    /// Show what begins before this log position.
    #[arg(long, value_name = "POSITION", default_value_t = u64::MAX,
          hide_default_value = true)]
    to: u64,
    /// Show the bodies of messages too, as text; else their size only.
    #[arg(long)]
    bodies: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs `pinnace inspect`.
pub(crate) fn run(arguments: &InspectArguments) -> Result<(), Failure> {
    if arguments.from > arguments.to {
        return Err(Failure::input("--from is behind --to; nothing lies between them"));
    }
    let log = arguments.data.log()?;
    if arguments.data.is_held() {
        say(format_args!(
            "note: a running broker holds {}; what it writes or recycles meanwhile may look damaged",
            arguments.data.data.display()
        ));
    }
    match arguments.what {
        What::Segments => segments(arguments, &log),
        What::Frames => frames(arguments, &log),
        What::Records => records(arguments, &log),
        What::Index => derived::index(arguments, &log),
        What::Snapshots => derived::snapshots(arguments, &log),
    }
}

fn segments(arguments: &InspectArguments, log: &LogOptions) -> Result<(), Failure> {
    let extents = walk::extents(&ReadOnlyDisk, &log.directory).map_err(failed)?;
    let mut segments = Segments::new(&extents);
    let start = start(log)?;
    walk::walk(&ReadOnlyDisk, log.shard, &log.directory, start, &mut |found| {
        segments.take(&found);
        true
    })
    .map_err(failed)?;
    let mut lines = Lines::new(arguments.output.format, views::SEGMENTS_HEADER);
    for view in segments.views(arguments.from, arguments.to) {
        lines.print(&view, views::segment_row)?;
    }
    let found = damage::find(&ReadOnlyDisk, log, start);
    if let Some(damage) = found.map_err(|error| Failure::runtime(error.to_string()))? {
        say(format_args!("damaged: {damage}"));
    }
    let kept = std::fs::read_dir(&log.directory).into_iter().flatten().flatten();
    let mut kept: Vec<String> =
        kept.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    kept.retain(|name| name.starts_with("damaged-"));
    kept.sort();
    for name in kept {
        say(format_args!("kept aside by a repair: {name}"));
    }
    Ok(())
}

fn frames(arguments: &InspectArguments, log: &LogOptions) -> Result<(), Failure> {
    let mut lines = Lines::new(arguments.output.format, views::FRAMES_HEADER);
    each(arguments, log, &mut |found| lines.print(&FrameLine::from(found), views::frame_row))
}

fn records(arguments: &InspectArguments, log: &LogOptions) -> Result<(), Failure> {
    let mut lines = Lines::new(arguments.output.format, views::RECORDS_HEADER);
    each(arguments, log, &mut |found| {
        let frame = match &found {
            Found::Frame(frame) if frame.header.kind == FrameKind::HardState => return Ok(()),
            Found::Frame(frame) => frame,
            Found::Condensed(condensed) => {
                lines.print(&RecordLine::condensed(condensed), views::record_row)?;
                let segments = segments::look(&ReadOnlyDisk, &log.directory).map_err(failed)?;
                let segment = segments.iter().find(|segment| segment.base() == condensed.from);
                let kept = segment.and_then(|segment| segment.condensed_records(log.shard));
                return kept.into_iter().flatten().flatten().try_for_each(|logged| {
                    let line = RecordLine::kept(logged, arguments.bodies);
                    lines.print(&line, views::record_row)
                });
            }
            Found::Gap(gap) if gap.meaning == walk::GapMeaning::Hole => {
                return lines.print(&RecordLine::hole(gap), views::record_row);
            }
            Found::Gap(_) => return Ok(()),
        };
        let Some(mut payload) = frame.payload.clone() else {
            return lines.print(&RecordLine::unreadable(&frame.header), views::record_row);
        };
        let (total, start) = (payload.len(), walk::payload_position(&frame.header));
        while !payload.is_empty() {
            let position = start + (total - payload.len()) as u64;
            let before = payload.len();
            let record = Record::decode(&mut payload);
            let is_readable = record.is_ok();
            let length = (before - payload.len()) as u64;
            let line = RecordLine::new(position, length, &frame.header, record, arguments.bodies);
            lines.print(&line, views::record_row)?;
            if !is_readable {
                break;
            }
        }
        Ok(())
    })
}

/// Everything between the positions asked for, in order.
fn each(
    arguments: &InspectArguments,
    log: &LogOptions,
    show: &mut dyn FnMut(Found) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut outcome = Ok(());
    walk::walk(&ReadOnlyDisk, log.shard, &log.directory, start(log)?, &mut |found| {
        let (from, to) = views::range(&found);
        if from >= arguments.to {
            return false;
        }
        if to > arguments.from {
            outcome = show(found);
        }
        outcome.is_ok()
    })
    .map_err(failed)?;
    outcome
}

/// Where the newest snapshot ends.
fn start(log: &LogOptions) -> Result<LogEnd, Failure> {
    snapshot::start(&ReadOnlyDisk, log).map_err(failed)
}

fn failed(error: broker_store::DiskError) -> Failure {
    Failure::runtime(error.to_string())
}
