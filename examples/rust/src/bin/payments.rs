//! A payment is announced if, and only if, it was made (transaction messages).
//!
//!     cargo run --bin payments [host:port]
//!
//! Sender and receiver stand in one file here; in a shop they are two programs.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::{MessageBuilder, MessageView};
use rocketmq::model::transaction::{Transaction, TransactionResolution};
use rocketmq::{Producer, SimpleConsumer};

const TOPIC: &str = "payments";
const GROUP: &str = "ledger";
const PATIENCE: Duration = Duration::from_secs(50);

/// Which cards were charged; a real shop keeps this in its database.
type Charged = Arc<Mutex<HashMap<String, bool>>>;

fn connection(endpoint: &str) -> ClientOption {
    let mut option = ClientOption::default();
    option.set_access_url(endpoint);
    option.set_enable_tls(false);
    // How long a receive waits for messages; brokers refuse less than 5 s.
    option.set_long_polling_timeout(Duration::from_secs(6));
    option
}

/// The broker asks what became of a payment that was neither committed nor rolled back.
fn check(charged: &Charged, message: &MessageView) -> TransactionResolution {
    let payment = message.keys().first().cloned().unwrap_or_default();
    let known = charged.lock().unwrap().get(&payment).copied();
    println!("Till: the broker asks about {payment}; charged: {known:?}.");
    match known {
        Some(true) => TransactionResolution::COMMIT,
        Some(false) => TransactionResolution::ROLLBACK,
        None => TransactionResolution::UNKNOWN, // Still at it, ask again.
    }
}

async fn start_till(endpoint: &str, charged: &Charged) -> Result<Producer, Box<dyn Error>> {
    let mut option = ProducerOption::default();
    option.set_topics(vec![TOPIC]);
    let charged = Arc::clone(charged);
    let checker = Box::new(move |_transaction_id, message| check(&charged, &message));
    let mut producer = Producer::new_transaction_producer(option, connection(endpoint), checker)?;
    producer.start().await?;
    Ok(producer)
}

async fn start_ledger(endpoint: &str) -> Result<SimpleConsumer, Box<dyn Error>> {
    let mut option = SimpleConsumerOption::default();
    option.set_topics(vec![TOPIC]);
    option.set_consumer_group(GROUP);
    let mut consumer = SimpleConsumer::new(option, connection(endpoint))?;
    consumer.start().await?;
    Ok(consumer)
}

/// Sends the half message, which nobody sees yet.
async fn begin(
    till: &Producer,
    payment: &str,
    amount: &str,
) -> Result<impl Transaction, Box<dyn Error>> {
    let message = MessageBuilder::transaction_message_builder(TOPIC, amount.into())
        .set_keys(vec![payment])
        .build()?;
    Ok(till.send_transaction_message(message).await?)
}

async fn run(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let charged = Charged::default();
    let decide = |payment: &str, is_charged| {
        charged.lock().unwrap().insert(payment.to_string(), is_charged);
    };
    let till = start_till(endpoint, &charged).await?;
    let day = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let [good, refused, forgotten] = [1, 2, 3].map(|number| format!("payment-{day}-{number}"));

    // First the half message, then the work it tells of, then the decision.
    let transaction = begin(&till, &good, "20 EUR").await?;
    decide(&good, true);
    transaction.commit().await?;
    println!("Till: {good} was charged and committed.");

    let transaction = begin(&till, &refused, "5000 EUR").await?;
    decide(&refused, false);
    transaction.rollback().await?;
    println!("Till: {refused} was refused by the bank and rolled back.");

    begin(&till, &forgotten, "7 EUR").await?;
    decide(&forgotten, true);
    println!("Till: {forgotten} was charged, and then we forgot to commit it.");

    // The broker asks about it some 6 s after it was sent.
    let ledger = start_ledger(endpoint).await?;
    let everything = FilterExpression::new(FilterType::Tag, "*");
    let mut booked = HashSet::new();
    loop {
        let messages = ledger.receive(TOPIC, &everything).await?;
        // The receive waited for 6 s in vain: nothing more comes.
        if messages.is_empty() && booked.contains(&good) && booked.contains(&forgotten) {
            break;
        }
        for message in messages {
            let payment = message.keys().first().cloned().unwrap_or_default();
            println!("Ledger: booked {payment} of {}.", String::from_utf8_lossy(message.body()));
            ledger.ack(&message).await?;
            booked.insert(payment);
        }
    }
    ledger.shutdown().await?;
    till.shutdown().await?;
    if booked.contains(&refused) {
        return Err("A payment that was rolled back reached the ledger.".into());
    }
    println!("The ledger has the two payments that were made, and not the one that was refused.");
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let default = || std::env::var("PINNACE_ENDPOINT").unwrap_or("127.0.0.1:8081".into());
    let endpoint = std::env::args().nth(1).unwrap_or_else(default);
    match tokio::time::timeout(PATIENCE, run(&endpoint)).await {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => eprintln!("No success with the broker at {endpoint}: {error}"),
        Err(_) => eprintln!("Not every payment reached the ledger within {PATIENCE:?}."),
    }
    ExitCode::FAILURE
}
