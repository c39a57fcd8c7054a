//! Messages for later (delay). This client has no call to take one back before its time.
//!
//!     cargo run --bin reminders [host:port]
//!
//! Sender and receiver stand in one file here; in real life they are two programs.

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::MessageBuilder;
use rocketmq::{Producer, SimpleConsumer};

const TOPIC: &str = "reminders";
const GROUP: &str = "calendar";
const PATIENCE: Duration = Duration::from_secs(50);

fn connection(endpoint: &str) -> ClientOption {
    let mut option = ClientOption::default();
    option.set_access_url(endpoint);
    option.set_enable_tls(false);
    // How long a receive waits for messages; brokers refuse less than 5 s.
    option.set_long_polling_timeout(Duration::from_secs(6));
    option
}

async fn start_producer(endpoint: &str) -> Result<Producer, Box<dyn Error>> {
    let mut option = ProducerOption::default();
    option.set_topics(vec![TOPIC]);
    let mut producer = Producer::new(option, connection(endpoint))?;
    producer.start().await?;
    Ok(producer)
}

async fn start_calendar(endpoint: &str) -> Result<SimpleConsumer, Box<dyn Error>> {
    let mut option = SimpleConsumerOption::default();
    option.set_topics(vec![TOPIC]);
    option.set_consumer_group(GROUP);
    let mut consumer = SimpleConsumer::new(option, connection(endpoint))?;
    consumer.start().await?;
    Ok(consumer)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970")
}

async fn run(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let producer = start_producer(endpoint).await?;
    let mut sent = Vec::new();
    for (text, seconds) in [("dentist", 8), ("tea", 4)] {
        // When to deliver it, in whole seconds since 1970: a moment, not a delay.
        let due = now().as_secs() as i64 + seconds;
        let message = MessageBuilder::delay_message_builder(TOPIC, text.into(), due).build()?;
        sent.push(producer.send(message).await?.message_id().to_string());
        println!("Sent the reminder '{text}' for {seconds} s from now.");
    }
    println!("This client has no call to take a reminder back.");

    let calendar = start_calendar(endpoint).await?;
    let everything = FilterExpression::new(FilterType::Tag, "*");
    let mut came = Vec::new();
    while came.len() < sent.len() {
        for message in calendar.receive(TOPIC, &everything).await? {
            let moment = now().as_millis() as i64;
            calendar.ack(&message).await?;
            if !sent.iter().any(|id| id == message.message_id()) {
                continue; // Left from an earlier day.
            }
            let text = String::from_utf8_lossy(message.body()).into_owned();
            let late_ms = moment - message.delivery_timestamp().unwrap_or_default() * 1000;
            println!("Calendar: '{text}', {late_ms} ms after its time.");
            if late_ms < 0 {
                return Err("A reminder came before its time.".into());
            }
            came.push(text);
        }
    }
    calendar.shutdown().await?;
    producer.shutdown().await?;
    if came != ["tea", "dentist"] {
        return Err(format!("Expected 'tea' before 'dentist', but they came as {came:?}.").into());
    }
    println!("The two reminders came at their time.");
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let default = || std::env::var("PINNACE_ENDPOINT").unwrap_or("127.0.0.1:8081".into());
    let endpoint = std::env::args().nth(1).unwrap_or_else(default);
    match tokio::time::timeout(PATIENCE, run(&endpoint)).await {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => eprintln!("No success with the broker at {endpoint}: {error}"),
        Err(_) => eprintln!("Not every reminder came within {PATIENCE:?}."),
    }
    ExitCode::FAILURE
}
