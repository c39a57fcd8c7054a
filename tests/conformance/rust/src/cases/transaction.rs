//! Cases of messages that become visible with a transaction.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rocketmq::model::message::{MessageBuilder, MessageView};
use rocketmq::model::transaction::{Transaction, TransactionResolution};
use rocketmq::Producer;

use crate::clients::{check, Clients, Failure, COLLECT_LIMIT};
use crate::steps::{ask_and_wait, body, check_bodies, Outcome};

const CHECK_AFTER_LEAST: Duration = Duration::from_millis(5500);
const CHECK_AFTER_MOST: Duration = Duration::from_secs(12);

/// Runs the case if it is one of these.
pub async fn run(case: &str, clients: &Clients) -> Option<Outcome> {
    Some(match case {
        "transaction-commit" => commit(clients).await,
        "transaction-invisible" => invisible(clients).await,
        "transaction-rollback" => rollback(clients).await,
        "transaction-check" => checked(clients).await,
        "transaction-check-rollback" => checked_rollback(clients).await,
        "transaction-restart" => restart(clients).await,
        _ => return None,
    })
}

/// What the broker asked about transactions, and the answer to all of it.
#[derive(Clone)]
struct Checker {
    asked: Arc<Mutex<Vec<(Instant, MessageView)>>>,
    answer: fn() -> TransactionResolution,
}

impl Checker {
    fn new(answer: fn() -> TransactionResolution) -> Self {
        Checker { asked: Arc::default(), answer }
    }

    async fn producer(&self, clients: &Clients) -> Result<Producer, Failure> {
        let checker = self.clone();
        let mut producer = clients.transaction_producer(Box::new(move |_, view| {
            checker.asked.lock().expect("no check panics").push((Instant::now(), view));
            (checker.answer)()
        }))?;
        producer.start().await?;
        Ok(producer)
    }

    fn count(&self) -> usize {
        self.asked.lock().expect("no check panics").len()
    }

    /// Waits for the first question, which is about this message; says when it came.
    async fn check_asked(&self, id: &str) -> Result<Instant, Failure> {
        let began = Instant::now();
        while self.count() == 0 {
            let is_in_time = began.elapsed() < COLLECT_LIMIT;
            check(is_in_time, || format!("nobody was asked for {COLLECT_LIMIT:?}"))?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let asked = self.asked.lock().expect("no check panics");
        let (at, view) = &asked[0];
        check_whole(view, id)?;
        Ok(*at)
    }

    async fn check_asked_in_time<T>(&self, half: &Half<T>) -> Outcome {
        let waited = self.check_asked(&half.id).await?.duration_since(half.at);
        let detail = format!("asked after {:.1} s", waited.as_secs_f64());
        let is_in_time = (CHECK_AFTER_LEAST..=CHECK_AFTER_MOST).contains(&waited);
        check(is_in_time, || detail.clone())?;
        Ok(detail)
    }
}

/// A half message with its transaction.
struct Half<T> {
    transaction: T,
    id: String,
    at: Instant,
    /// Answers the broker's questions as long as it is there.
    _producer: Producer,
}

async fn begin(
    clients: &Clients,
    checker: &Checker,
) -> Result<Half<impl Transaction + Send>, Failure> {
    let producer = checker.producer(clients).await?;
    let topic = clients.options.topic.as_str();
    let message = MessageBuilder::transaction_message_builder(topic, b"half".to_vec())
        .set_tag("tag-a")
        .set_properties(HashMap::from([("colour", "blue")]))
        .build()?;
    let transaction = producer.send_transaction_message(message).await?;
    let id = transaction.message_id().to_string();
    Ok(Half { transaction, id, at: Instant::now(), _producer: producer })
}

fn check_whole(view: &MessageView, id: &str) -> Result<(), Failure> {
    check(view.message_id() == id, || format!("message id {}", view.message_id()))?;
    check(view.body() == b"half", || format!("body {}", body(view)))?;
    check(view.tag() == Some("tag-a"), || format!("tag {:?}", view.tag()))?;
    let wanted = HashMap::from([("colour".to_string(), "blue".to_string())]);
    check(*view.properties() == wanted, || format!("properties {:?}", view.properties()))
}

async fn commit(clients: &Clients) -> Outcome {
    let half = begin(clients, &Checker::new(|| TransactionResolution::COMMIT)).await?;
    let consumer = clients.simple().await?;
    half.transaction.commit().await?;
    let committed = Instant::now();
    let views = consumer.collect(1).await?;
    let waited = committed.elapsed();
    check_whole(&views[0], &half.id)?;
    check(waited <= Duration::from_secs(2), || format!("came after {waited:?}"))?;
    Ok(String::new())
}

async fn invisible(clients: &Clients) -> Outcome {
    let half = begin(clients, &Checker::new(|| TransactionResolution::UNKNOWN)).await?;
    let consumer = clients.simple().await?;
    let early = consumer.receive_during(Duration::from_secs(4)).await?;
    check(early.is_empty(), || "came before the commit".to_string())?;
    half.transaction.commit().await?;
    check_whole(&consumer.collect(1).await?[0], &half.id)?;
    Ok(String::new())
}

async fn rollback(clients: &Clients) -> Outcome {
    let checker = Checker::new(|| TransactionResolution::COMMIT);
    let half = begin(clients, &checker).await?;
    half.transaction.rollback().await?;
    let came = clients.simple().await?.receive_during(Duration::from_secs(9)).await?;
    check(came.is_empty(), || "came in spite of the rollback".to_string())?;
    check(checker.count() == 0, || "asked about a finished transaction".to_string())?;
    Ok(String::new())
}

async fn checked(clients: &Clients) -> Outcome {
    let checker = Checker::new(|| TransactionResolution::COMMIT);
    let half = begin(clients, &checker).await?;
    check_whole(&clients.simple().await?.collect(1).await?[0], &half.id)?;
    checker.check_asked_in_time(&half).await
}

async fn checked_rollback(clients: &Clients) -> Outcome {
    let checker = Checker::new(|| TransactionResolution::ROLLBACK);
    let half = begin(clients, &checker).await?;
    let detail = checker.check_asked_in_time(&half).await?;
    let came = clients.simple().await?.receive_during(Duration::from_secs(3)).await?;
    check(came.is_empty(), || "came in spite of the rollback".to_string())?;
    Ok(detail)
}

async fn restart(clients: &Clients) -> Outcome {
    let checker = Checker::new(|| TransactionResolution::COMMIT);
    let half = begin(clients, &checker).await?;
    ask_and_wait("restart", "").await?;
    let _producer = checker.producer(clients).await?;
    let consumer = clients.simple().await?;
    checker.check_asked(&half.id).await?;
    let mut came = consumer.collect(1).await?;
    came.extend(consumer.receive_during(Duration::from_secs(1)).await?);
    check_bodies(&came, &["half"])?;
    check_whole(&came[0], &half.id)?;
    Ok(String::new())
}
