//! `pinnace group reset`: sets the progress of a consumer group to the beginning, the end, a time, or so many messages
//! on or back.

use broker_proto::admin::reset_offsets_request::To;
use broker_proto::admin::{ResetOffsetsRequest, StartFrom};
use clap::Args;
use operator_api::quantity::TimeText;
use serde::Serialize;

use super::group_name;
use crate::cli::admin::AdminArguments;
use crate::cli::cluster::Cluster;
use crate::cli::failure::Failure;
use crate::cli::output::{OutputArguments, print};
use crate::cli::topic::any_name;

/// Arguments of `pinnace group reset`.
#[derive(Debug, Args)]
pub(crate) struct ResetArguments {
    /// Name of the group.
    #[arg(value_parser = group_name)]
    name: String,
    /// Only this topic; may be given more than once [default: all that the group has progress on].
    #[arg(long, value_name = "TOPIC", value_delimiter = ',',
          value_parser = any_name)]
    topic: Vec<String>,
    /// Where to go on: earliest, latest, a time (2026-01-31T08:00:00Z or Unix milliseconds), or +N or -N messages.
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true,
          value_parser = destination)]
    to: Destination,
    /// Name of this reset: it is carried out once, however often it is asked for [default: each time].
    #[arg(long, value_name = "ID",
          value_parser = clap::builder::NonEmptyStringValueParser::new())]
    id: Option<String>,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Where a group goes on, as it was written.
#[derive(Debug, Clone, PartialEq)]
struct Destination {
    text: String,
    to: To,
}

/// What is printed about a reset.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResetView {
    group: String,
    /// Empty for all.
    topics: Vec<String>,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// Runs `pinnace group reset`.
pub(super) async fn run(arguments: ResetArguments) -> Result<(), Failure> {
    let ResetArguments { name, topic, to, id, admin, output } = arguments;
    let request = ResetOffsetsRequest {
        group: name.clone(),
        topics: topic.clone(),
        id: id.clone().unwrap_or_default(),
        to: Some(to.to),
    };
    let topics = Cluster::connect(&admin).await?.reset_offsets(request).await?;
    if topics == 0 {
        let text = format!(
            "nothing was reset: no broker knows a topic of consumer group {name}; it declares no subscription and never \
             received; name the topics (--topic){}",
            if id.is_some() { ", and give the reset another --id" } else { "" }
        );
        return Err(Failure::runtime(text));
    }
    let view = ResetView { group: name, topics: topic, to: to.text, id };
    print(output.format, &view, |view| {
        let topics = if view.topics.is_empty() {
            "all its topics".to_owned()
        } else {
            view.topics.join(", ")
        };
        format!("consumer group {} goes on at {} of {topics}\n", view.group, view.to)
    })
}

fn destination(text: &str) -> Result<Destination, String> {
    let to = match text {
        "earliest" => To::Position(StartFrom::Earliest.into()),
        "latest" => To::Position(StartFrom::Latest.into()),
        // A sign makes a number a shift; without one it is a time.
        _ if text.starts_with(['+', '-']) => {
            let hint = |_| "write a number of messages after the sign, like -100".to_owned();
            To::Shift(text.parse().map_err(hint)?)
        }
        _ if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            let hint = |_| "a Unix time in milliseconds has at most 19 digits".to_owned();
            To::TimeMs(text.parse().map_err(hint)?)
        }
        _ => To::TimeMs(TimeText(text.to_owned()).as_unix_ms().map_err(|_| {
            "use earliest, latest, a time like 2026-01-31T08:00:00Z, Unix milliseconds, +N or -N"
                .to_owned()
        })?),
    };
    Ok(Destination { text: text.to_owned(), to })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_tells_a_shift_from_a_time() {
        let to = |text: &str| destination(text).map(|destination| destination.to);
        assert_eq!(to("earliest"), Ok(To::Position(StartFrom::Earliest.into())));
        assert_eq!(to("latest"), Ok(To::Position(StartFrom::Latest.into())));
        assert_eq!(to("+5"), Ok(To::Shift(5)));
        assert_eq!(to("-5"), Ok(To::Shift(-5)));
        assert_eq!(to("1769846400000"), Ok(To::TimeMs(1_769_846_400_000)));
        assert_eq!(to("2026-01-31T08:00:00Z"), Ok(To::TimeMs(1_769_846_400_000)));
        for wrong in ["", "now", "-", "+x", "2026-01-31", "99999999999999999999"] {
            assert!(to(wrong).is_err(), "{wrong}");
        }
    }
}
