//! `pinnace group create|list|describe|delete`, over the admin API.

use broker_model::limits::ATTEMPTS_MAX;
use broker_model::{GroupName, RetryPolicy as DefaultPolicy};
use broker_proto::admin::retry_policy::Backoff;
use broker_proto::admin::{self, Group, GroupStatus, RetryPolicy};
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::admin::{Admin, AdminArguments, owner};
use super::failure::Failure;
use super::lag::TopicLagView;
use super::output::{OutputArguments, columns, duration, emit, fields, print};
use super::topic::{any_name, milliseconds, or_dash, owner_text};

/// The verbs on consumer groups.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupVerb {
    /// Create a consumer group; does nothing when it exists with the same settings.
    Create(CreateArguments),
    /// List consumer groups.
    List(ListArguments),
    /// Show one consumer group with its members, assignments and lag.
    Describe(DescribeArguments),
    /// Delete a consumer group and its progress.
    Delete(DeleteArguments),
}

/// Whether a group consumes message groups in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Order {
    /// No order.
    Concurrent,
    /// In order per message group.
    Fifo,
}

/// Who gets a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Model {
    /// One consumer of the group.
    Clustering,
    /// Every live consumer of the group.
    Broadcasting,
}

/// Arguments of `pinnace group create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Name of the group.
    #[arg(value_parser = group_name)]
    name: String,
    /// Order of consumption [default: concurrent].
    #[arg(long, value_enum, env = "PINNACE_ORDER")]
    order: Option<Order>,
    /// Who gets a message: one consumer or all [default: clustering].
    #[arg(long, value_enum, env = "PINNACE_MODEL")]
    model: Option<Model>,
    /// Deliveries of a message in all before it goes to the dead-letter topic [default: 17].
    #[arg(long, value_name = "N", env = "PINNACE_MAX_ATTEMPTS",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(ATTEMPTS_MAX)))]
    max_attempts: Option<u32>,
    /// The LITE topic that the group is bound to.
    #[arg(long, value_name = "TOPIC", env = "PINNACE_LITE_TOPIC", value_parser = any_name)]
    lite_topic: Option<String>,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Arguments of `pinnace group list`.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Arguments of `pinnace group describe`.
#[derive(Debug, Args)]
pub(crate) struct DescribeArguments {
    /// Name of the group.
    #[arg(value_parser = group_name)]
    name: String,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Arguments of `pinnace group delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArguments {
    /// Name of the group.
    #[arg(value_parser = group_name)]
    name: String,
    /// Delete even what a manifest or a custom resource declared.
    #[arg(long, env = "PINNACE_FORCE")]
    force: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// What is printed about a group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct GroupView {
    name: String,
    model: &'static str,
    order: &'static str,
    max_attempts: u32,
    backoff: String,
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
    fn new(group: Group, status: GroupStatus) -> Self {
        let retry = group.retry.clone().unwrap_or_default();
        Self {
            model: model_name(&group),
            order: order_name(&group),
            max_attempts: attempts(&group),
            backoff: backoff_text(&retry),
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
        text.push_str(&columns(&super::lag::HEADER, rows));
        text
    }
}

/// Runs a verb on groups.
pub(crate) async fn run(verb: GroupVerb) -> Result<(), Failure> {
    match verb {
        GroupVerb::Create(arguments) => create(arguments).await,
        GroupVerb::List(arguments) => {
            let groups = Admin::connect(&arguments.admin).await?.groups(&[]).await?;
            let views: Vec<_> = groups.into_iter().map(|(g, s)| GroupView::new(g, s)).collect();
            print(arguments.output.format, &views, |views| {
                let header = ["NAME", "MODEL", "ORDER", "ATTEMPTS", "MEMBERS", "LAG", "OWNER"];
                columns(&header, views.iter().map(GroupView::row).collect())
            })
        }
        GroupVerb::Describe(arguments) => {
            let mut admin = Admin::connect(&arguments.admin).await?;
            let (group, status) = admin
                .groups(&[&arguments.name])
                .await?
                .pop()
                .ok_or_else(|| none(&arguments.name))?;
            print(arguments.output.format, &GroupView::new(group, status), GroupView::details)
        }
        GroupVerb::Delete(arguments) => {
            let mut admin = Admin::connect(&arguments.admin).await?;
            match admin.delete_group(&arguments.name, arguments.force).await? {
                true => emit(&format!("consumer group {} deleted\n", arguments.name)),
                false => Err(none(&arguments.name)),
            }
        }
    }
}

async fn create(arguments: CreateArguments) -> Result<(), Failure> {
    let mut admin = Admin::connect(&arguments.admin).await?;
    if let Some((group, status)) = admin.groups(&[&arguments.name]).await?.pop() {
        let differences = differences(&arguments, &group);
        if !differences.is_empty() {
            return Err(Failure::runtime(format!(
                "consumer group {} exists with other settings: {}; delete it first, or leave these flags out",
                arguments.name,
                differences.join(", ")
            )));
        }
        return created(&arguments, group, status, "exists already with these settings");
    }
    let group = wanted(&arguments);
    let answer = admin.create_group(group.clone()).await?;
    created(&arguments, answer.group.unwrap_or(group), GroupStatus::default(), "created")
}

fn wanted(arguments: &CreateArguments) -> Group {
    let order = match arguments.order.unwrap_or(Order::Concurrent) {
        Order::Concurrent => admin::Order::Concurrent,
        Order::Fifo => admin::Order::Ordered,
    };
    let model = match arguments.model.unwrap_or(Model::Clustering) {
        Model::Clustering => admin::Model::Clustering,
        Model::Broadcasting => admin::Model::Broadcasting,
    };
    // Without a backoff of its own the group gets the broker's default one.
    let retry =
        arguments.max_attempts.map(|max_attempts| RetryPolicy { max_attempts, backoff: None });
    Group {
        name: arguments.name.clone(),
        model: model.into(),
        order: order.into(),
        retry,
        lite_topic: arguments.lite_topic.clone().unwrap_or_default(),
        owner: Some(owner()),
        ..Group::default()
    }
}

fn created(
    arguments: &CreateArguments,
    group: Group,
    status: GroupStatus,
    what: &str,
) -> Result<(), Failure> {
    print(arguments.output.format, &GroupView::new(group, status), |view| {
        format!(
            "consumer group {} {what}: {}, {}, {} attempts\n",
            view.name, view.model, view.order, view.max_attempts
        )
    })
}

/// Only flags that were given are compared: `create NAME` alone accepts any group of that name.
fn differences(arguments: &CreateArguments, held: &Group) -> Vec<String> {
    let mut differences = Vec::new();
    let asked = wanted(arguments);
    if arguments.order.is_some() && order_name(&asked) != order_name(held) {
        let (held, asked) = (order_name(held), order_name(&asked));
        differences.push(format!("its order is {held}, not {asked}"));
    }
    if arguments.model.is_some() && model_name(&asked) != model_name(held) {
        let (held, asked) = (model_name(held), model_name(&asked));
        differences.push(format!("its model is {held}, not {asked}"));
    }
    if arguments.max_attempts.is_some() && attempts(&asked) != attempts(held) {
        let (held, asked) = (attempts(held), attempts(&asked));
        differences.push(format!("it allows {held} attempts, not {asked}"));
    }
    if arguments.lite_topic.is_some() && asked.lite_topic != held.lite_topic {
        let held = or_dash(held.lite_topic.clone());
        differences.push(format!("its lite topic is {held}, not {}", asked.lite_topic));
    }
    differences
}

fn none(name: &str) -> Failure {
    Failure::runtime(format!(
        "there is no consumer group {name}; 'pinnace group list' shows those that exist"
    ))
}

/// Parses the name of a consumer group.
pub(crate) fn group_name(text: &str) -> Result<String, String> {
    GroupName::parse(text).map(|name| name.to_string()).map_err(|error| error.to_string())
}

fn model_name(group: &Group) -> &'static str {
    match group.model() {
        admin::Model::Broadcasting => "broadcasting",
        admin::Model::Clustering | admin::Model::Unspecified => "clustering",
    }
}

fn order_name(group: &Group) -> &'static str {
    match group.order() {
        admin::Order::Ordered => "fifo",
        admin::Order::Concurrent | admin::Order::Unspecified => "concurrent",
    }
}

fn attempts(group: &Group) -> u32 {
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
    SubscriptionView { topic: subscription.topic, filter }
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
