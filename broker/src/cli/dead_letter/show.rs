//! `pinnace dead-letter show`: the dead letters of a group with their messages, and how each of them died.

use broker_proto::admin::dead_letter::Cause;
use broker_proto::admin::{DeadLetter, ListDeadLettersRequest, ListDeadLettersResponse};
use clap::Args;
use serde::Serialize;

use crate::cli::admin::AdminArguments;
use crate::cli::cluster::Cluster;
use crate::cli::failure::Failure;
use crate::cli::group::group_name;
use crate::cli::message::{MessageView, rfc3339};
use crate::cli::output::{OutputArguments, columns, fields, print};
use crate::cli::topic::any_name;

/// Arguments of `pinnace dead-letter show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// The group whose dead letters they are.
    #[arg(value_parser = group_name)]
    group: String,
    /// Only those that came from this topic.
    #[arg(long, value_name = "TOPIC", value_parser = any_name)]
    topic: Option<String>,
    /// Only those with this message id, in full.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Show at most this many, the oldest.
    #[arg(long, value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    max: u32,
    /// Go on where an answer ended that says so.
    #[arg(long, value_name = "CURSOR", default_value = "", hide_default_value = true)]
    cursor: String,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// What is printed about a dead letter.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetterView {
    died: String,
    reason: &'static str,
    /// Deliveries that it had; absent when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    message: MessageView,
}

/// Dead letters, and where to go on.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownView {
    dead_letters: Vec<DeadLetterView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

impl From<DeadLetter> for DeadLetterView {
    fn from(letter: DeadLetter) -> Self {
        let reason = match letter.cause() {
            Cause::AttemptsUsedUp => "attempts used up",
            Cause::GivenUp => "given up by a consumer",
            Cause::Unspecified => "not known",
        };
        Self {
            died: rfc3339(letter.died_ms),
            reason,
            attempts: Some(letter.attempts).filter(|attempts| *attempts > 0),
            message: MessageView::new(letter.message.unwrap_or_default(), true),
        }
    }
}

impl DeadLetterView {
    fn attempts(&self) -> String {
        self.attempts.map_or_else(|| "-".to_owned(), |attempts| attempts.to_string())
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.died.clone(),
            self.message.id().to_owned(),
            self.message.topic().to_owned(),
            self.attempts(),
            self.reason.to_owned(),
            self.message.body_in_a_table(),
        ]
    }

    fn details(&self) -> String {
        let died = fields(&[
            ("Died", self.died.clone()),
            ("Reason", self.reason.to_owned()),
            ("Attempts", self.attempts()),
        ]);
        died + &self.message.details_with_body()
    }
}

/// Runs `pinnace dead-letter show`.
pub(super) async fn run(arguments: ShowArguments) -> Result<(), Failure> {
    let mut cluster = Cluster::connect(&arguments.admin).await?;
    let is_one = arguments.id.is_some();
    let request = ListDeadLettersRequest {
        group: arguments.group.clone(),
        topic: arguments.topic.clone().unwrap_or_default(),
        message_id: arguments.id.clone().unwrap_or_default(),
        messages_max: arguments.max,
        cursor: arguments.cursor.clone(),
    };
    let answer = until_some(&mut cluster, request).await?;
    let view = ShownView {
        dead_letters: answer.dead_letters.into_iter().map(DeadLetterView::from).collect(),
        cursor: Some(answer.cursor).filter(|cursor| !cursor.is_empty()),
    };
    if let (Some(id), true) = (&arguments.id, view.dead_letters.is_empty()) {
        return Err(none(&arguments.group, id));
    }
    print(arguments.output.format, &view, |view| {
        if is_one {
            let details: Vec<_> = view.dead_letters.iter().map(DeadLetterView::details).collect();
            return details.join("\n");
        }
        let header = ["DIED", "MESSAGE ID", "TOPIC", "ATTEMPTS", "REASON", "BODY"];
        let table = columns(&header, view.dead_letters.iter().map(DeadLetterView::row).collect());
        let more = view.cursor.as_ref();
        table + &more.map_or_else(String::new, |at| format!("there may be more: --cursor {at}\n"))
    })
}

/// The next dead letters; an answer with none goes on where the broker stopped looking.
pub(super) async fn until_some(
    cluster: &mut Cluster,
    mut request: ListDeadLettersRequest,
) -> Result<ListDeadLettersResponse, Failure> {
    loop {
        let answer = cluster.list_dead_letters(request.clone()).await?;
        if !answer.dead_letters.is_empty() || answer.cursor.is_empty() {
            return Ok(answer);
        }
        request.cursor = answer.cursor;
    }
}

pub(super) fn none(group: &str, id: &str) -> Failure {
    Failure::runtime(format!(
        "{group} has no dead letter {id} here; 'pinnace dead-letter show {group}' shows those that it has"
    ))
}
