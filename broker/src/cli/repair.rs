//! `pinnace repair`: makes a damaged log writable again, and leaves out a record on which starts die, once somebody has
//! seen what is lost and said yes.

mod leave_out;

use broker_model::ShardId;
use broker_store::repair::{self, Plan};
use clap::Args;
use serde::Serialize;

use super::data_directory::DataArguments;
use super::failure::Failure;
use super::output::{OutputArguments, bytes, fields, print};
use crate::read_only_disk::ReadOnlyDisk;
use crate::real_disk::RealDisk;
use crate::serve::data_lock::{DataLock, LockError};

/// Arguments of `pinnace repair`.
#[derive(Debug, Args)]
pub(crate) struct RepairArguments {
    #[command(flatten)]
    data: DataArguments,
    /// Only say what is damaged and what a repair would do.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Leave out the record at this log position, on which starts die, instead of mending damage.
    #[arg(long, value_name = "POSITION", env = "PINNACE_LEAVE_OUT")]
    leave_out: Option<u64>,
    /// Carry it out.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    output: OutputArguments,
}

/// What is damaged, and what becomes of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RepairView {
    shard: u32,
    damaged: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<DamageView>,
    files_kept_aside: Vec<String>,
    repaired: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DamageView {
    from: u64,
    to: u64,
    first_index: u64,
    last_index: u64,
    durable_index: u64,
    highest_index: u64,
    frames_behind: u64,
    bytes_behind: u64,
    /// Entries that were acknowledged and will be in the log no more, as far as the log still tells.
    entries_lost_at_least: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
}

/// Runs `pinnace repair`.
pub(crate) fn run(arguments: &RepairArguments) -> Result<(), Failure> {
    let log = arguments.data.log()?;
    if let Some(position) = arguments.leave_out {
        return leave_out::run(arguments, &log, position);
    }
    if !arguments.yes {
        let plan = repair::plan(&ReadOnlyDisk, &log).map_err(failed)?;
        return show(arguments, log.shard, plan.as_ref(), false);
    }
    let _lock = lock(arguments)?;
    let disk = RealDisk::new(&arguments.data.data);
    let plan = repair::plan(&disk, &log).map_err(failed)?;
    if let Some(plan) = &plan {
        repair::carry_out(&disk, &log, plan).map_err(failed)?;
    }
    show(arguments, log.shard, plan.as_ref(), plan.is_some())
}

fn lock(arguments: &RepairArguments) -> Result<DataLock, Failure> {
    DataLock::take(&arguments.data.data).map_err(|error| match error {
        LockError::Taken(_) => Failure::input(format!(
            "a running broker holds {}; stop it first, a log is repaired while nobody uses it",
            arguments.data.data.display()
        )),
        LockError::Io { .. } => Failure::runtime(error.to_string()),
    })
}

fn failed(error: repair::RepairError) -> Failure {
    Failure::runtime(error.to_string())
}

fn show(
    arguments: &RepairArguments,
    shard: u32,
    plan: Option<&Plan>,
    repaired: bool,
) -> Result<(), Failure> {
    let asides = plan.map(|plan| plan.asides.as_slice()).unwrap_or_default();
    let view = RepairView {
        shard,
        damaged: plan.is_some(),
        damage: plan.map(|plan| damage_view(&plan.damage)),
        files_kept_aside: asides.iter().map(|aside| aside.aside.display().to_string()).collect(),
        repaired,
    };
    print(arguments.output.format, &view, |view| table(view, arguments.yes))
}

fn damage_view(damage: &broker_store::Damage) -> DamageView {
    let last = damage.highest_index.max(damage.durable_index).max(damage.last_index);
    DamageView {
        from: damage.from,
        to: damage.to,
        first_index: damage.first_index,
        last_index: damage.last_index,
        durable_index: damage.durable_index,
        highest_index: damage.highest_index,
        frames_behind: damage.frames_behind,
        bytes_behind: damage.bytes_behind,
        entries_lost_at_least: (last + 1).saturating_sub(damage.first_index),
        cause: damage.cause.clone(),
    }
}

fn table(view: &RepairView, is_meant: bool) -> String {
    let name = broker_model::shard_name(ShardId(view.shard));
    let Some(damage) = &view.damage else {
        return format!("the log of {name} is not damaged; there is nothing to repair\n");
    };
    let last = damage.first_index + damage.entries_lost_at_least.saturating_sub(1);
    let mut rows = vec![
        ("Shard", name),
        ("Damaged", format!("log positions [{}, {})", damage.from, damage.to)),
        ("Damaged indexes", format!("{} to {}", damage.first_index, damage.last_index)),
        ("Durable", format!("every entry up to index {} was", damage.durable_index)),
        (
            "Whole behind it",
            format!(
                "{} frames, {}, up to index {}; they are not kept in the log",
                damage.frames_behind,
                bytes(damage.bytes_behind),
                damage.highest_index
            ),
        ),
        (
            "Lost from the log",
            format!(
                "at least {} entries, indexes {} to {last}; more if the damage reaches behind the last whole frame",
                damage.entries_lost_at_least, damage.first_index
            ),
        ),
    ];
    rows.extend(damage.cause.iter().map(|cause| ("Cause", cause.clone())));
    rows.extend(view.files_kept_aside.iter().map(|file| ("Kept aside", file.clone())));
    let done = match (view.repaired, is_meant) {
        (true, _) => "the log ends at the damage and can be written again",
        _ => "nothing was changed; --yes carries this out",
    };
    rows.push(("Repair", done.to_owned()));
    fields(&rows)
}
