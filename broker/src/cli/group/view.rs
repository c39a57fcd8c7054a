//! What is printed about a consumer group, as a row, as details and as data. Reads admin answers; asks for nothing.

use broker_model::RetryPolicy as DefaultPolicy;
use broker_proto::admin::retry_policy::Backoff;
use broker_proto::admin::{self, Group, GroupStatus, RetryPolicy};
use serde::Serialize;

use crate::cli::declared::View;
use crate::cli::lag::{self, TopicLagView};
use crate::cli::output::{columns, duration, fields};
use crate::cli::topic::{milliseconds, or_dash, owner_text};

/// What is printed about a group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupView {
    pub(super) name: String,
    pub(super) model: &'static str,
    pub(super) order: &'static str,
    pub(super) max_attempts: u32,
    backoff: String,
    dead_letter: &'static str,
    /// False while the group is paused.
    pub(super) consume: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    lite_topic: String,
    subscriptions: Vec<SubscriptionView>,
    members: Vec<MemberView>,
    assignments: Vec<AssignmentView>,
    lag: Vec<TopicLagView>,
    owner: String,
    auto_created: bool,
    version: u64,
}

/// A declared subscription, or one of a member.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SubscriptionView {
    topic: String,
    filter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_from: Option<&'static str>,
}

/// A running consumer of the group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberView {
    client_id: String,
    client_type: String,
    language: String,
    version: String,
    remote_address: String,
    last_heartbeat_ms: u64,
    subscriptions: Vec<SubscriptionView>,
}

/// What one member draws from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AssignmentView {
    client_id: String,
    topic: String,
    shard: String,
    queue_ids: Vec<u32>,
    shared: bool,
    inflight: u64,
}

impl GroupView {
    pub(super) fn new(group: Group, status: GroupStatus) -> Self {
        let retry = group.retry.clone().unwrap_or_default();
        Self {
            model: model_name(&group),
            order: order_name(&group),
            max_attempts: attempts(&group),
            backoff: backoff_text(&retry),
            dead_letter: dead_letter_name(&group),
            consume: group.consume.unwrap_or(true),
            lite_topic: group.lite_topic,
            subscriptions: group.subscriptions.into_iter().map(subscription).collect(),
            members: status.members.into_iter().map(member).collect(),
            assignments: status.assignments.into_iter().map(assignment).collect(),
            lag: status.topics.into_iter().map(TopicLagView::from).collect(),
            owner: owner_text(group.owner.as_ref()),
            auto_created: group.auto_created,
            version: group.version,
            name: group.name,
        }
    }
}

impl View for GroupView {
    const HEADER: &'static [&'static str] =
        &["NAME", "MODEL", "ORDER", "ATTEMPTS", "MEMBERS", "LAG", "OWNER"];

    fn row(&self) -> Vec<String> {
        let lag: u64 = self.lag.iter().map(|topic| topic.lag_messages).sum();
        vec![
            self.name.clone(),
            self.model.to_owned(),
            self.order.to_owned(),
            self.max_attempts.to_string(),
            self.members.len().to_string(),
            lag.to_string(),
            if self.auto_created { "first use".to_owned() } else { self.owner.clone() },
        ]
    }

    fn details(&self) -> String {
        let subscriptions: Vec<_> =
            self.subscriptions.iter().map(|s| format!("{} ({})", s.topic, s.filter)).collect();
        let mut text = fields(&[
            ("Name", self.name.clone()),
            ("Model", self.model.to_owned()),
            ("Order", self.order.to_owned()),
            ("Max attempts", self.max_attempts.to_string()),
            ("Backoff", self.backoff.clone()),
            ("Dead letters", self.dead_letter.to_owned()),
            ("Paused", (!self.consume).to_string()),
            ("Lite topic", or_dash(self.lite_topic.clone())),
            ("Subscriptions", or_dash(subscriptions.join(", "))),
            ("Owner", self.owner.clone()),
            ("Made by first use", self.auto_created.to_string()),
            ("Version", self.version.to_string()),
        ]);
        text.push_str("\nMembers\n");
        let header = ["CLIENT", "TYPE", "LANGUAGE", "VERSION", "ADDRESS"];
        text.push_str(&columns(&header, self.members.iter().map(member_row).collect()));
        text.push_str("\nAssignments\n");
        let header = ["CLIENT", "TOPIC", "SHARD", "QUEUES", "IN FLIGHT"];
        text.push_str(&columns(&header, self.assignments.iter().map(assignment_row).collect()));
        text.push_str("\nLag\n");
        let rows = self.lag.iter().map(|lag| lag.row(&self.name)).collect();
        text.push_str(&columns(&lag::HEADER, rows));
        text
    }
}

pub(super) fn model_name(group: &Group) -> &'static str {
    match group.model() {
        admin::Model::Broadcasting => "broadcasting",
        admin::Model::Clustering | admin::Model::Unspecified => "clustering",
    }
}

pub(super) fn order_name(group: &Group) -> &'static str {
    match group.order() {
        admin::Order::Ordered => "fifo",
        admin::Order::Concurrent | admin::Order::Unspecified => "concurrent",
    }
}

pub(super) fn dead_letter_name(group: &Group) -> &'static str {
    match group.dead_letter() {
        admin::DeadLetterPolicy::Discard => "discard",
        admin::DeadLetterPolicy::Store | admin::DeadLetterPolicy::Unspecified => "store",
    }
}

pub(super) fn attempts(group: &Group) -> u32 {
    let asked = group.retry.as_ref().map_or(0, |retry| retry.max_attempts);
    if asked == 0 { DefaultPolicy::default().max_attempts } else { asked }
}

fn backoff_text(retry: &RetryPolicy) -> String {
    match &retry.backoff {
        Some(Backoff::Exponential(backoff)) => {
            let initial = backoff.initial.as_ref().map_or(0, milliseconds);
            let max = backoff.max.as_ref().map_or(0, milliseconds);
            let (initial, max) = (duration(initial), duration(max));
            format!("exponential from {initial} to {max}, times {}", backoff.multiplier)
        }
        Some(Backoff::Customized(backoff)) => {
            let pauses: Vec<_> = backoff.next.iter().map(|d| duration(milliseconds(d))).collect();
            pauses.join(" ")
        }
        None => "default".to_owned(),
    }
}

fn subscription(subscription: admin::Subscription) -> SubscriptionView {
    let filter = match subscription.filter_type() {
        admin::FilterType::Sql92 => format!("SQL {}", subscription.expression),
        _ if subscription.expression.is_empty() => "*".to_owned(),
        _ => subscription.expression.clone(),
    };
    let start_from = match subscription.start_from() {
        admin::StartFrom::Earliest => Some("earliest"),
        admin::StartFrom::Latest => Some("latest"),
        // Only a declaration says so, not a member.
        admin::StartFrom::Unspecified => None,
    };
    SubscriptionView { topic: subscription.topic, filter, start_from }
}

fn member(member: admin::Member) -> MemberView {
    MemberView {
        client_id: member.client_id,
        client_type: member.client_type,
        language: member.language,
        version: member.version,
        remote_address: member.remote_address,
        last_heartbeat_ms: member.last_heartbeat_ms,
        subscriptions: member.subscriptions.into_iter().map(subscription).collect(),
    }
}

fn assignment(assignment: admin::Assignment) -> AssignmentView {
    AssignmentView {
        client_id: assignment.client_id,
        topic: assignment.topic,
        shard: assignment.shard,
        queue_ids: assignment.queue_ids,
        shared: assignment.shared,
        inflight: assignment.inflight,
    }
}

fn member_row(member: &MemberView) -> Vec<String> {
    let cells = [&member.client_id, &member.client_type, &member.language, &member.version];
    let mut row: Vec<_> = cells.into_iter().cloned().collect();
    row.push(member.remote_address.clone());
    row
}

fn assignment_row(assignment: &AssignmentView) -> Vec<String> {
    let ids: Vec<_> = assignment.queue_ids.iter().map(u32::to_string).collect();
    let queues = if assignment.shared { "shared".to_owned() } else { ids.join(",") };
    vec![
        assignment.client_id.clone(),
        assignment.topic.clone(),
        assignment.shard.clone(),
        queues,
        assignment.inflight.to_string(),
    ]
}
