//! `pinnace dead-letter list|redrive`: which groups have messages that they could not consume, and the way back for them.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use broker_model::{GroupName, TopicName};
use broker_proto::admin::{Group, GroupStatus, RedriveDeadLettersRequest};
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::admin::{Admin, AdminArguments};
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
    /// Put dead letters of a group back to where they came from; the group gets them again, each once.
    Redrive(RedriveArguments),
}

/// Arguments of `pinnace dead-letter redrive`.
#[derive(Debug, Args)]
pub(crate) struct RedriveArguments {
    /// The group whose dead letters they are.
    #[arg(value_parser = group_name)]
    group: String,
    /// Only those that came from this topic.
    #[arg(long, value_name = "TOPIC", env = "PINNACE_TOPIC", value_parser = any_name)]
    topic: Option<String>,
    /// At most this many [default: all that are there at the start].
    #[arg(long, value_name = "N", env = "PINNACE_MAX",
          value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// At most this many in a second.
    #[arg(long, value_name = "N", env = "PINNACE_RATE", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Only say how many there are.
    #[arg(long, env = "PINNACE_DRY_RUN")]
    dry_run: bool,
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
        DeadLetterVerb::Redrive(arguments) => redrive(arguments).await,
    }
}

async fn list(arguments: ListArguments) -> Result<(), Failure> {
    let groups = Admin::connect(&arguments.admin).await?.groups(&[]).await?;
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
    let mut admin = Admin::connect(&arguments.admin).await?;
    let request = |messages_max: u32, dry_run: bool| RedriveDeadLettersRequest {
        group: arguments.group.clone(),
        topic: arguments.topic.clone().unwrap_or_default(),
        messages_max,
        dry_run,
    };
    let mut left = admin.redrive_dead_letters(request(0, true)).await?.left;
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
            let answer = admin.redrive_dead_letters(request(messages, false)).await;
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
