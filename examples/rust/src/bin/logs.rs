//! The broker filters by tag and by SQL: consumers get the lines that they want, and no others.
//!
//!     cargo run --bin logs [host:port]
//!
//! Sender and receivers stand in one file here; in real life each is a program of its own.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::MessageBuilder;
use rocketmq::{Producer, SimpleConsumer};

const TOPIC: &str = "logs";
/// Level, service, duration in ms, text.
const LINES: [(&str, &str, u32, &str); 6] = [
    ("info", "checkout", 12, "cart opened"),
    ("error", "checkout", 40, "card refused"),
    ("info", "checkout", 900, "card accepted"),
    ("fatal", "search", 5, "index is gone"),
    ("info", "search", 800, "index is back"),
    ("error", "checkout", 700, "bank does not answer"),
];
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

async fn start_listener(endpoint: &str, group: &str) -> Result<SimpleConsumer, Box<dyn Error>> {
    let mut option = SimpleConsumerOption::default();
    option.set_topics(vec![TOPIC]);
    option.set_consumer_group(group);
    let mut consumer = SimpleConsumer::new(option, connection(endpoint))?;
    consumer.start().await?;
    Ok(consumer)
}

/// Receives what the filter lets through, until a receive comes back empty after 6 s.
async fn listen(
    endpoint: &str,
    group: &str,
    filter: FilterExpression,
    expected: &[&str],
) -> Result<(), Box<dyn Error>> {
    let consumer = start_listener(endpoint, group).await?;
    let mut missing: HashSet<&str> = expected.iter().copied().collect();
    loop {
        // This client names the filter with every receive.
        let messages = consumer.receive(TOPIC, &filter).await?;
        if messages.is_empty() && missing.is_empty() {
            break;
        }
        for message in messages {
            let text = String::from_utf8_lossy(message.body());
            println!("{group}: {text}.");
            if !expected.contains(&text.as_ref()) {
                return Err(format!("{group} got a line that its filter does not name.").into());
            }
            missing.remove(text.as_ref());
            consumer.ack(&message).await?;
        }
    }
    Ok(consumer.shutdown().await?)
}

async fn run(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let producer = start_producer(endpoint).await?;
    for (level, service, duration_ms, text) in LINES {
        // Properties are text; SQL compares them as numbers where the other side is a number.
        let properties = HashMap::from([
            ("service", service.to_string()),
            ("duration_ms", duration_ms.to_string()),
        ]);
        let message = MessageBuilder::builder()
            .set_topic(TOPIC)
            .set_tag(level)
            .set_properties(properties)
            .set_body(text.into())
            .build()?;
        producer.send(message).await?;
    }
    println!("Sent {} lines.", LINES.len());

    let alerts = FilterExpression::new(FilterType::Tag, "error || fatal");
    let slow = FilterExpression::new(FilterType::Sql, "service = 'checkout' AND duration_ms > 500");
    tokio::try_join!(
        listen(
            endpoint,
            "alerts",
            alerts,
            &["card refused", "index is gone", "bank does not answer"],
        ),
        listen(endpoint, "slow-requests", slow, &["card accepted", "bank does not answer"]),
    )?;
    producer.shutdown().await?;
    println!("Each group got the lines that its filter names, and no others.");
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let default = || std::env::var("PINNACE_ENDPOINT").unwrap_or("127.0.0.1:8081".into());
    let endpoint = std::env::args().nth(1).unwrap_or_else(default);
    match tokio::time::timeout(PATIENCE, run(&endpoint)).await {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => eprintln!("No success with the broker at {endpoint}: {error}"),
        Err(_) => eprintln!("Not every line came within {PATIENCE:?}."),
    }
    ExitCode::FAILURE
}
