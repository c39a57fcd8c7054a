//! Asks producers about transactions that stay open (protocol section 5.2). The answer comes as EndTransaction; without
//! one the shard asks again later, and gives up after a number of questions that were really put.

use broker_engine::{Command, TransactionCheck};
use broker_proto::rocketmq::{
    RecoverOrphanedTransactionCommand, Resource, TelemetryCommand, telemetry_command,
};

use crate::context::BrokerContext;
use crate::convert::message::to_shown;
use crate::status;

/// Puts the question to one producer of the topic. Without one, or when none takes it, nothing happens.
pub(crate) async fn ask_producer(context: &BrokerContext, check: TransactionCheck) {
    let Some(shard) = context.catalog.shard(check.id.shard) else { return };
    let mut producers = context.sessions.all();
    producers.retain(|session| session.is_producer_of(&check.topic));
    if producers.is_empty() {
        return;
    }
    // The producers take turns: the one that began the transaction may be gone.
    let first = context.next_turn() % producers.len();
    producers.rotate_left(first);
    let (head, body) = match shard.read_message(check.source).await {
        Ok(message) => message,
        Err(error) => {
            tracing::error!(topic = %check.topic, %error, "a half message cannot be read");
            return;
        }
    };
    let topic =
        Resource { resource_namespace: String::new(), name: check.topic.as_str().to_owned() };
    let message = to_shown(head, body, check.stored_ms, &topic, &context.advertised);
    let question = RecoverOrphanedTransactionCommand { message, transaction_id: check.id.encode() };
    let command = TelemetryCommand {
        status: Some(status::ok()),
        command: Some(telemetry_command::Command::RecoverOrphanedTransactionCommand(question)),
    };
    if producers.iter().any(|session| session.send(command.clone())) {
        // Without a note the shard would only ask more often than it has to.
        let _noted = shard.submit(Command::NoteTransactionCheck(check.id)).await;
    }
}
