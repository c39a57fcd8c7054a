//! `pinnace group create|list|describe|delete|reset|pause|resume`, over the admin API.

mod reset;
mod view;

use broker_model::GroupName;
use broker_model::limits::ATTEMPTS_MAX;
use broker_proto::admin::{self, Group, GroupStatus, RetryPolicy};
use clap::{Args, Subcommand, ValueEnum};

use self::view::{GroupView, attempts, dead_letter_name, model_name, order_name};
use super::admin::{AdminArguments, owner};
use super::cluster::Cluster;
use super::declared::{Kind, ListArguments, print_list, print_one};
use super::failure::Failure;
use super::output::{OutputArguments, print};
use super::topic::{any_name, or_dash};

const KIND: Kind = Kind { noun: "consumer group", verb: "group" };

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
    /// Set the progress of a consumer group; its consumers go on from there.
    Reset(reset::ResetArguments),
    /// Stop delivering to a consumer group; its progress stays.
    Pause(PauseArguments),
    /// Deliver to a paused consumer group again.
    Resume(PauseArguments),
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

/// What becomes of a message whose deliveries are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DeadLetter {
    /// It goes to the topic %DLQ%GROUP.
    Store,
    /// It is dropped.
    Discard,
}

/// Arguments of `pinnace group create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Name of the group.
    #[arg(value_parser = group_name)]
    name: String,
    /// Order of consumption [default: concurrent].
    #[arg(long, value_enum)]
    order: Option<Order>,
    /// Who gets a message: one consumer or all [default: clustering].
    #[arg(long, value_enum)]
    model: Option<Model>,
    /// Deliveries of a message in all before it is a dead letter [default: 17].
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=i64::from(ATTEMPTS_MAX)))]
    max_attempts: Option<u32>,
    /// The LITE topic that the group is bound to.
    #[arg(long, value_name = "TOPIC", value_parser = any_name)]
    lite_topic: Option<String>,
    /// What becomes of a message whose deliveries are used up [default: store].
    #[arg(long, value_enum)]
    dead_letter: Option<DeadLetter>,
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
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// Arguments of `pinnace group pause` and `resume`.
#[derive(Debug, Args)]
pub(crate) struct PauseArguments {
    /// Name of the group.
    #[arg(value_parser = group_name)]
    name: String,
    #[command(flatten)]
    admin: AdminArguments,
    #[command(flatten)]
    output: OutputArguments,
}

/// Runs a verb on groups.
pub(crate) async fn run(verb: GroupVerb) -> Result<(), Failure> {
    match verb {
        GroupVerb::Create(arguments) => create(arguments).await,
        GroupVerb::List(arguments) => {
            let groups = Cluster::connect(&arguments.admin).await?.groups(&[]).await?;
            let views: Vec<_> = groups.into_iter().map(|(g, s)| GroupView::new(g, s)).collect();
            print_list(arguments.output.format, &views)
        }
        GroupVerb::Describe(arguments) => {
            let mut cluster = Cluster::connect(&arguments.admin).await?;
            let (group, status) = one(&mut cluster, &arguments.name).await?;
            print_one(arguments.output.format, &GroupView::new(group, status))
        }
        GroupVerb::Delete(arguments) => {
            let mut cluster = Cluster::connect(&arguments.admin).await?;
            let existed = cluster.delete_group(&arguments.name, arguments.force).await?;
            KIND.deleted(&arguments.name, existed)
        }
        GroupVerb::Reset(arguments) => reset::run(arguments).await,
        GroupVerb::Pause(arguments) => consume(arguments, false).await,
        GroupVerb::Resume(arguments) => consume(arguments, true).await,
    }
}

async fn one(cluster: &mut Cluster, name: &str) -> Result<(Group, GroupStatus), Failure> {
    cluster.groups(&[name]).await?.pop().ok_or_else(|| KIND.none(name))
}

async fn consume(arguments: PauseArguments, wanted: bool) -> Result<(), Failure> {
    let mut cluster = Cluster::connect(&arguments.admin).await?;
    one(&mut cluster, &arguments.name).await?;
    cluster.consume(&arguments.name, wanted).await?;
    let (group, status) = one(&mut cluster, &arguments.name).await?;
    print(arguments.output.format, &GroupView::new(group, status), |view| {
        let what = if view.consume { "is delivered to" } else { "is paused" };
        format!("consumer group {} {what}\n", view.name)
    })
}

async fn create(arguments: CreateArguments) -> Result<(), Failure> {
    let mut cluster = Cluster::connect(&arguments.admin).await?;
    if let Some((group, status)) = cluster.groups(&[&arguments.name]).await?.pop() {
        KIND.same(&arguments.name, &differences(&arguments, &group))?;
        return created(&arguments, group, status, "exists already with these settings");
    }
    let group = wanted(&arguments);
    let group = cluster.create_group(group).await?;
    created(&arguments, group, GroupStatus::default(), "created")
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
    let dead_letter = match arguments.dead_letter.unwrap_or(DeadLetter::Store) {
        DeadLetter::Store => admin::DeadLetterPolicy::Store,
        DeadLetter::Discard => admin::DeadLetterPolicy::Discard,
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
        dead_letter: dead_letter.into(),
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
    if arguments.dead_letter.is_some() && dead_letter_name(&asked) != dead_letter_name(held) {
        let (held, asked) = (dead_letter_name(held), dead_letter_name(&asked));
        differences.push(format!("its dead-letter policy is {held}, not {asked}"));
    }
    differences
}

/// Parses the name of a consumer group.
pub(crate) fn group_name(text: &str) -> Result<String, String> {
    GroupName::parse(text).map(|name| name.to_string()).map_err(|error| error.to_string())
}
