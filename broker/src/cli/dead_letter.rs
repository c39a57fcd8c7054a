//! `pinnace dead-letter list|show|redrive|purge`: messages that groups could not consume, and what becomes of them.

mod show;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use broker_model::{GroupName, TopicName};
use broker_proto::admin::{
    DeadLetterPlace, Group, GroupStatus, ListDeadLettersRequest, RedriveDeadLettersRequest,
};
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::admin::{Admin, AdminArguments};
use super::cluster::Cluster;
use super::declared::ListArguments;
use super::failure::Failure;
use super::group::group_name;
use super::output::{OutputArguments, columns, print};
use super::topic::any_name;

/// Calls per second at the most: a rate is kept by small steps, not by one large one each second.
const STEPS_PER_SECOND: u32 = 10;
/// Most dead letters of one call; the broker stops at some number by itself.
const STEP_MESSAGES_MAX: u32 = 1_000;

/// The verbs on dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterVerb {
    /// List consumer groups that have dead letters.
    List(ListArguments),
    /// Show dead letters of a group: their messages, when and why they died.
    Show(show::ShowArguments),
    /// Put dead letters of a group back to where they came from; the group gets them again, each once.
    Redrive(RedriveArguments),
    /// Take dead letters of a group away for good.
    Purge(PurgeArguments),
}

/// Arguments of `pinnace dead-letter redrive`.
#[derive(Debug, Args)]
pub(crate) struct RedriveArguments {
    /// The group whose dead letters they are.
    #[arg(value_parser = group_name)]
    group: String,
    /// Only those that came from this topic.
    #[arg(long, value_name = "TOPIC", value_parser = any_name)]
    topic: Option<String>,
    /// Only the one with this message id.
    #[arg(long, value_name = "ID", conflicts_with_all = ["topic", "max"])]
    id: Option<String>,
    /// At most this many [default: all that are there at the start].
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// At most this many in a second.
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Only say how many there are.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Arguments of `pinnace dead-letter purge`.
#[derive(Debug, Args)]
pub(crate) struct PurgeArguments {
    /// The group whose dead letters they are.
    #[arg(value_parser = group_name)]
    group: String,
    /// Only those that came from this topic.
    #[arg(long, value_name = "TOPIC", value_parser = any_name)]
    topic: Option<String>,
    /// Only the one with this message id.
    #[arg(long, value_name = "ID", conflicts_with = "topic")]
    id: Option<String>,
    /// Do it; without it they are only counted.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// The dead letters of one group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeadLettersView {
    group: String,
    /// Where they can be received from.
    topic: String,
    dead_letters: u64,
}

/// What became of a redrive.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RedriveView {
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    /// Put back by this call.
    redriven: u64,
    /// That match and are still there.
    left: u64,
    dry_run: bool,
}

/// What became of a purge.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PurgeView {
    group: String,
    purged: u64,
    /// That match and are still there.
    left: u64,
}

impl RedriveView {
    fn text(&self) -> String {
        let Self { group, redriven, left, .. } = self;
        if self.dry_run {
            format!("{left} dead letters of {group} can be put back\n")
        } else {
            format!("{redriven} dead letters of {group} put back, {left} left\n")
        }
    }
}

/// Runs a verb on dead letters.
pub(crate) async fn run(verb: DeadLetterVerb) -> Result<(), Failure> {
    match verb {
        DeadLetterVerb::List(arguments) => list(arguments).await,
        DeadLetterVerb::Show(arguments) => show::run(arguments).await,
        DeadLetterVerb::Redrive(arguments) => redrive(arguments).await,
        DeadLetterVerb::Purge(arguments) => purge(arguments).await,
    }
}

async fn list(arguments: ListArguments) -> Result<(), Failure> {
    let groups = Cluster::connect(&arguments.admin).await?.groups(&[]).await?;
    let view = |(group, status): (Group, GroupStatus)| {
        let topic = GroupName::parse(&group.name).map(|name| TopicName::dead_letter_of(&name));
        let dead_letters = status.topics.iter().map(|topic| topic.dead_letters).sum();
        let topic = topic.map(|topic| topic.to_string()).unwrap_or_default();
        DeadLettersView { topic, dead_letters, group: group.name }
    };
    let mut views: Vec<_> = groups.into_iter().map(view).collect();
    views.retain(|view| view.dead_letters > 0);
    print(arguments.output.format, &views, |views| {
        let row = |view: &DeadLettersView| {
            vec![view.group.clone(), view.topic.clone(), view.dead_letters.to_string()]
        };
        columns(&["GROUP", "TOPIC", "DEAD LETTERS"], views.iter().map(row).collect())
    })
}

async fn redrive(arguments: RedriveArguments) -> Result<(), Failure> {
    let mut cluster = Cluster::connect(&arguments.admin).await?;
    let only = place_of(&mut cluster, &arguments.group, arguments.id.as_deref()).await?;
    let request = |messages_max: u32, dry_run: bool| RedriveDeadLettersRequest {
        group: arguments.group.clone(),
        topic: arguments.topic.clone().unwrap_or_default(),
        messages_max,
        dry_run,
        only: only.clone(),
    };
    let mut left =
        cluster.end_dead_letters(request(0, true), Admin::redrive_dead_letters).await?.left;
    let mut redriven = 0;
    if !arguments.dry_run {
        // No more than were there at the start: a message that fails again must not go round for ever.
        let wanted = arguments.max.unwrap_or(left).min(left);
        let (step, pause) = pace(arguments.rate);
        let mut turns = interval(pause);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut progress = Progress::new();
        while redriven < wanted {
            turns.tick().await;
            let messages = step.min(u32::try_from(wanted - redriven).unwrap_or(u32::MAX));
            let request = request(messages, false);
            let answer = cluster.end_dead_letters(request, Admin::redrive_dead_letters).await;
            let answer = answer.map_err(|failure| interrupted(failure, redriven))?;
            redriven += answer.messages;
            left = answer.left;
            progress.show(redriven, wanted);
            if answer.messages == 0 {
                break;
            }
        }
        progress.clear();
    }
    let RedriveArguments { group, topic, dry_run, output, .. } = arguments;
    let view = RedriveView { group, topic, redriven, left, dry_run };
    print(output.format, &view, RedriveView::text)
}

/// Where the dead letter with this id stands; none without an id.
async fn place_of(
    cluster: &mut Cluster,
    group: &str,
    id: Option<&str>,
) -> Result<Option<DeadLetterPlace>, Failure> {
    let Some(id) = id else { return Ok(None) };
    let request = ListDeadLettersRequest {
        group: group.to_owned(),
        message_id: id.to_owned(),
        messages_max: 1,
        ..ListDeadLettersRequest::default()
    };
    let found = show::until_some(cluster, request).await?.dead_letters.pop();
    found.and_then(|letter| letter.place).map(Some).ok_or_else(|| show::none(group, id))
}

async fn purge(arguments: PurgeArguments) -> Result<(), Failure> {
    let PurgeArguments { group, topic, id, yes, admin, output } = arguments;
    let mut cluster = Cluster::connect(&admin).await?;
    let only = place_of(&mut cluster, &group, id.as_deref()).await?;
    let request = |messages_max: u32, dry_run: bool| RedriveDeadLettersRequest {
        group: group.clone(),
        topic: topic.clone().unwrap_or_default(),
        messages_max,
        dry_run,
        only: only.clone(),
    };
    let there = cluster.end_dead_letters(request(0, true), Admin::purge_dead_letters).await?.left;
    let mut view = PurgeView { group: group.clone(), purged: 0, left: there };
    // No more than were there at the start.
    while yes && view.purged < there {
        let messages =
            STEP_MESSAGES_MAX.min(u32::try_from(there - view.purged).unwrap_or(u32::MAX));
        let request = request(messages, false);
        let answer = cluster.end_dead_letters(request, Admin::purge_dead_letters).await?;
        view.purged += answer.messages;
        view.left = answer.left;
        if answer.messages == 0 {
            break;
        }
    }
    print(output.format, &view, |PurgeView { group, purged, left }| match yes {
        true => format!("{purged} dead letters of {group} purged, {left} left\n"),
        false => format!("{left} dead letters of {group} would be gone for good; --yes does it\n"),
    })
}

/// How many to ask for at once, and how long to wait between two calls.
fn pace(rate: u32) -> (u32, Duration) {
    let step = (rate / STEPS_PER_SECOND).clamp(1, STEP_MESSAGES_MAX);
    (step, Duration::from_secs(1) * step / rate)
}

/// Says how far it came; what was put back is put back.
fn interrupted(failure: Failure, redriven: u64) -> Failure {
    match failure {
        Failure::Runtime(text) => Failure::Runtime(format!(
            "{text}; {redriven} dead letters were put back before, the same call goes on with the rest"
        )),
        other => other,
    }
}

/// One line on a terminal that is written over; nothing anywhere else.
struct Progress {
    is_shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { is_shown: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, done: u64, of: u64) {
        self.write(&format!("\r{done} of {of} dead letters put back"));
    }

    fn clear(&mut self) {
        self.write("\r\x1b[K");
    }

    fn write(&mut self, text: &str) {
        if self.is_shown {
            let mut stderr = std::io::stderr().lock();
            // Whoever closed the terminal does not miss it.
            let written = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
            self.is_shown = written.is_ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_pauses_make_the_rate() {
        for rate in [1, 3, 10, 1000, 50_000, 1_000_000] {
            let (step, pause) = pace(rate);
            assert!((1..=STEP_MESSAGES_MAX).contains(&step), "{rate}");
            let per_second = f64::from(step) / pause.as_secs_f64();
            assert!((per_second / f64::from(rate) - 1.0).abs() < 0.001, "{rate}: {per_second}");
        }
        assert_eq!(pace(1), (1, Duration::from_secs(1)));
    }
}
