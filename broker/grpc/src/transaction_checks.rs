//! Asks producers about transactions that stay open (protocol section 5.2). The answer comes as EndTransaction; without
//! one the shard asks again later, and gives up after a number of questions that were really put. A producer that is connected
//! to another broker only, as one that reaches the cluster through one address, is asked by that broker.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker_engine::{Command, TransactionCheck};
use broker_model::TopicName;
use broker_proto::admin::AskProducerRequest;
use broker_proto::admin::admin_client::AdminClient;
use broker_proto::rocketmq::{
    RecoverOrphanedTransactionCommand, Resource, TelemetryCommand, telemetry_command,
};
use prost::Message as _;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::Request;

use crate::context::BrokerContext;
use crate::convert::message::to_shown;
use crate::limits::{
    ADMIN_REQUEST_BYTES_MAX, ASKED_ELSEWHERE_AGAIN_MS, ASKED_ELSEWHERE_MAX, PASSED_ON_MS_MAX,
};
use crate::session::Session;
use crate::status;

/// Questions that other brokers put.
#[derive(Debug)]
pub(crate) struct AskedElsewhere {
    places: Arc<Semaphore>,
    /// Topics of which no other broker had a producer, and when that was.
    nobody: Mutex<HashMap<TopicName, Instant>>,
}

impl Default for AskedElsewhere {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(ASKED_ELSEWHERE_MAX));
        Self { places, nobody: Mutex::default() }
    }
}

impl AskedElsewhere {
    /// Whether it is worth while to ask other brokers for a producer of the topic.
    fn is_worth_while(&self, topic: &TopicName) -> bool {
        // What the lock guards is whole at all times.
        let mut nobody = self.nobody.lock().unwrap_or_else(PoisonError::into_inner);
        nobody.retain(|_, at| at.elapsed() < Duration::from_millis(ASKED_ELSEWHERE_AGAIN_MS));
        !nobody.contains_key(topic)
    }

    fn note_nobody(&self, topic: TopicName) {
        let mut nobody = self.nobody.lock().unwrap_or_else(PoisonError::into_inner);
        nobody.insert(topic, Instant::now());
    }
}

/// Puts the question to one producer of the topic. Without one, or when none takes it, nothing happens.
pub(crate) async fn ask_producer(context: &Arc<BrokerContext>, check: TransactionCheck) {
    let Some(shard) = context.catalog.shard(check.id.shard).cloned() else { return };
    let TransactionCheck { id, topic, source, stored_ms, .. } = check;
    let producers = producers_of(context, &topic);
    let may_be_elsewhere =
        context.endpoints.has_others() && context.asked_elsewhere.is_worth_while(&topic);
    if producers.is_empty() && !may_be_elsewhere {
        return;
    }
    let (head, body) = match shard.read_message(source).await {
        Ok(message) => message,
        Err(error) => {
            tracing::error!(%topic, %error, "a half message cannot be read");
            return;
        }
    };
    let resource = Resource { resource_namespace: String::new(), name: topic.as_str().to_owned() };
    let message = to_shown(head, body, stored_ms, &resource, &context.advertised);
    let question = RecoverOrphanedTransactionCommand { message, transaction_id: id.encode() };
    // Without a note the shard would only ask more often than it has to.
    if put_to(context, producers, &question) {
        let _noted = shard.submit(Command::NoteTransactionCheck(id)).await;
        return;
    }
    if !may_be_elsewhere {
        return;
    }
    // Whoever asks meanwhile does not wait for other brokers; what finds no place is asked again later.
    let Ok(place) = Arc::clone(&context.asked_elsewhere.places).try_acquire_owned() else { return };
    let context = Arc::clone(context);
    tokio::spawn(async move {
        if ask_others(&context, &topic, &question).await {
            let _noted = shard.submit(Command::NoteTransactionCheck(id)).await;
        } else {
            context.asked_elsewhere.note_nobody(topic);
        }
        drop(place);
    });
}

/// Puts a question to a producer of the topic that is connected here; false when there is none that takes it.
pub(crate) fn put(
    context: &BrokerContext,
    topic: &TopicName,
    question: &RecoverOrphanedTransactionCommand,
) -> bool {
    put_to(context, producers_of(context, topic), question)
}

/// The producers of the topic that are connected here.
fn producers_of(context: &BrokerContext, topic: &TopicName) -> Vec<Arc<Session>> {
    let mut producers = context.sessions.all();
    producers.retain(|session| session.is_producer_of(topic));
    producers
}

/// Puts a question to one of these; false when none takes it.
fn put_to(
    context: &BrokerContext,
    mut producers: Vec<Arc<Session>>,
    question: &RecoverOrphanedTransactionCommand,
) -> bool {
    if producers.is_empty() {
        return false;
    }
    // The producers take turns: the one that began the transaction may be gone.
    let first = context.next_turn() % producers.len();
    producers.rotate_left(first);
    let question = telemetry_command::Command::RecoverOrphanedTransactionCommand(question.clone());
    let command = TelemetryCommand { status: Some(status::ok()), command: Some(question) };
    producers.iter().any(|session| session.send(command.clone()))
}

/// Lets other brokers put the question, one after the other until one has a producer.
async fn ask_others(
    context: &BrokerContext,
    topic: &TopicName,
    question: &RecoverOrphanedTransactionCommand,
) -> bool {
    let Some(map) = context.endpoints.map() else { return false };
    let question = question.encode_to_vec();
    let others = map.map.brokers.iter().map(|broker| broker.broker_id);
    for broker in others.filter(|broker| *broker != context.broker_id) {
        let Some(channel) = context.peers.admin(&context.endpoints, broker) else { continue };
        let topic = topic.as_str().to_owned();
        let mut request = Request::new(AskProducerRequest { topic, question: question.clone() });
        request.set_timeout(Duration::from_millis(PASSED_ON_MS_MAX));
        let mut client =
            AdminClient::new(channel).max_encoding_message_size(ADMIN_REQUEST_BYTES_MAX);
        // One that is away, or of a version that puts no questions of others, has no producer to ask.
        let asked = client.ask_producer(request).await;
        if asked.is_ok_and(|answer| answer.into_inner().asked) {
            return true;
        }
    }
    false
}
