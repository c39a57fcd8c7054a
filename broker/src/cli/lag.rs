//! `pinnace lag [GROUP]`: how far consumer groups are behind, per topic.

use broker_proto::admin::TopicLag;
use clap::Args;
use serde::Serialize;

use super::admin::AdminArguments;
use super::cluster::Cluster;
use super::failure::Failure;
use super::group::group_name;
use super::output::{OutputArguments, columns, duration, print};
use super::topic::or_dash;

/// The columns of the lag table.
pub(super) const HEADER: [&str; 8] =
    ["GROUP", "TOPIC", "LAG", "READY", "IN FLIGHT", "OLDEST", "DEAD LETTERS", "NOTE"];

/// Arguments of `pinnace lag`.
#[derive(Debug, Args)]
pub(crate) struct LagArguments {
    /// Only this group.
    #[arg(value_parser = group_name)]
    group: Option<String>,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// The lag of a group on one topic.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TopicLagView {
    pub(super) topic: String,
    /// Not yet acknowledged, in flight included.
    pub(super) lag_messages: u64,
    ready_messages: u64,
    inflight_messages: u64,
    lag_ms: u64,
    pub(super) dead_letters: u64,
    /// No consumer of the group was ever here.
    never_polled: bool,
    /// What passes the declared filter of a long backlog was estimated.
    estimated: bool,
}

impl From<TopicLag> for TopicLagView {
    fn from(lag: TopicLag) -> Self {
        Self {
            topic: lag.topic,
            lag_messages: lag.lag_messages,
            ready_messages: lag.ready_messages,
            inflight_messages: lag.inflight_messages,
            lag_ms: lag.lag_ms,
            dead_letters: lag.dead_letters,
            never_polled: lag.never_polled,
            estimated: lag.estimated,
        }
    }
}

impl TopicLagView {
    /// A row under [`HEADER`].
    pub(super) fn row(&self, group: &str) -> Vec<String> {
        vec![
            group.to_owned(),
            self.topic.clone(),
            self.lag_messages.to_string(),
            self.ready_messages.to_string(),
            self.inflight_messages.to_string(),
            if self.lag_messages == 0 { "-".to_owned() } else { duration(self.lag_ms) },
            self.dead_letters.to_string(),
            self.note(),
        ]
    }

    fn note(&self) -> String {
        let notes = [(self.never_polled, "never polled"), (self.estimated, "estimate")];
        let notes = notes.into_iter().filter(|(applies, _)| *applies).map(|(_, note)| note);
        or_dash(notes.collect::<Vec<_>>().join(", "))
    }
}

/// The lag of one group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupLagView {
    group: String,
    members: usize,
    topics: Vec<TopicLagView>,
}

/// Runs `pinnace lag`.
pub(crate) async fn run(arguments: LagArguments) -> Result<(), Failure> {
    let names: Vec<&str> = arguments.group.iter().map(String::as_str).collect();
    let groups = Cluster::connect(&arguments.admin).await?.groups(&names).await?;
    if let (Some(name), true) = (&arguments.group, groups.is_empty()) {
        return Err(Failure::runtime(format!(
            "there is no consumer group {name}; 'pinnace group list' shows those that exist"
        )));
    }
    let views: Vec<_> = groups
        .into_iter()
        .map(|(group, status)| GroupLagView {
            group: group.name,
            members: status.members.len(),
            topics: status.topics.into_iter().map(TopicLagView::from).collect(),
        })
        .collect();
    print(arguments.output.format, &views, |views| {
        let rows = views.iter().flat_map(|view| {
            let none = view.topics.is_empty().then(|| {
                let mut row = vec!["-".to_owned(); HEADER.len()];
                row[0].clone_from(&view.group);
                row
            });
            view.topics.iter().map(|lag| lag.row(&view.group)).chain(none)
        });
        columns(&HEADER, rows.collect())
    })
}
