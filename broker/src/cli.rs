//! The command line of the binary `pinnace`: which verbs there are, and what becomes of their outcome.
//! Verbs live in `cli/`, one file each; nothing here knows the wire. Every flag can also be set as an environment
//! variable `PINNACE_<FLAG>`. Exit codes: 0 done, 1 failed while running, 2 wrong input (one line on stderr).

pub(crate) mod admin;
pub(crate) mod client;
mod cluster;
mod data_directory;
mod dead_letter;
pub(crate) mod declared;
pub(crate) mod failure;
pub(crate) mod group;
mod inspect;
pub(crate) mod lag;
pub(crate) mod message;
pub(crate) mod output;
pub(crate) mod receive;
mod repair;
pub(crate) mod send;
pub(crate) mod serve;
mod status;
pub(crate) mod topic;
mod usage;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::failure::Failure;

/// Kubernetes-native messaging on the RocketMQ domain model: the broker, and the tools to work with it.
#[derive(Debug, Parser)]
#[command(name = "pinnace", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a broker.
    Serve(serve::ServeArguments),
    /// Create, list, describe and delete topics.
    #[command(subcommand)]
    Topic(topic::TopicVerb),
    /// Create, list, describe, delete, reset, pause and resume consumer groups.
    #[command(subcommand)]
    Group(group::GroupVerb),
    /// List dead letters, and put them back to where they came from.
    #[command(subcommand)]
    DeadLetter(dead_letter::DeadLetterVerb),
    /// Send messages to a topic.
    Send(send::SendArguments),
    /// Receive messages of a topic for a consumer group, and acknowledge each after printing it.
    Receive(receive::ReceiveArguments),
    /// Find stored messages, and tell what became of one.
    #[command(subcommand)]
    Message(message::MessageVerb),
    /// Show how far consumer groups are behind.
    Lag(lag::LagArguments),
    /// Show a broker: version, shards, disk, and whether its manifests are in force.
    Status(status::StatusArguments),
    /// Look into the log of a data directory, or of a copy of one. Changes nothing.
    Inspect(inspect::InspectArguments),
    /// Make a damaged log writable again; says what is lost, and does nothing without --yes.
    Repair(repair::RepairArguments),
    /// Measure throughput, latency and server CPU per message of a running broker.
    Bench(crate::bench::BenchArguments),
    /// Start a broker with manifests, send orders, consume them and tell what happened.
    Demo(crate::demo::DemoArguments),
}

/// Parses the process's arguments, runs the verb and reports its outcome.
pub(crate) fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage::report(&error),
    };
    match dispatch(arguments.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Serve(arguments) => crate::serve::run(arguments).map_err(Failure::from_error),
        Verb::Topic(verb) => block_on(topic::run(verb)),
        Verb::Group(verb) => block_on(group::run(verb)),
        Verb::DeadLetter(verb) => block_on(dead_letter::run(verb)),
        Verb::Send(arguments) => block_on(send::run(arguments)),
        Verb::Receive(arguments) => block_on(receive::run(arguments)),
        Verb::Message(verb) => block_on(message::run(verb)),
        Verb::Lag(arguments) => block_on(lag::run(arguments)),
        Verb::Status(arguments) => block_on(status::run(arguments)),
        Verb::Inspect(arguments) => inspect::run(&arguments),
        Verb::Repair(arguments) => repair::run(&arguments),
        Verb::Bench(arguments) => crate::bench::run(arguments),
        Verb::Demo(arguments) => block_on(crate::demo::run(arguments)),
    }
}

/// Client verbs need one thread only.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::runtime(format!("cannot start the runtime: {e}")))?
        .block_on(work)
}
