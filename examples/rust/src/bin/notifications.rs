//! Every group gets every event; in a broadcasting group, every consumer does (publish-subscribe).
//!
//!     cargo run --bin notifications [host:port]
//!
//! Sender and receivers stand in one file here; in a shop each is a program of its own.

use std::collections::HashSet;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::MessageBuilder;
use rocketmq::{Producer, SimpleConsumer};

const TOPIC: &str = "notifications";
const PATIENCE: Duration = Duration::from_secs(50);

fn connection(endpoint: &str) -> ClientOption {
    let mut option = ClientOption::default();
    option.set_access_url(endpoint);
    option.set_enable_tls(false);
    // How long a receive waits for messages; brokers refuse less than 5 s.
    option.set_long_polling_timeout(Duration::from_secs(6));
    option
}

async fn start_shop(endpoint: &str) -> Result<Producer, Box<dyn Error>> {
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

fn everything() -> FilterExpression {
    FilterExpression::new(FilterType::Tag, "*")
}

/// Receives until all these events came.
async fn hear(
    name: &str,
    consumer: SimpleConsumer,
    events: &[String],
) -> Result<(), Box<dyn Error>> {
    let mut missing: HashSet<String> = events.iter().cloned().collect();
    while !missing.is_empty() {
        for message in consumer.receive(TOPIC, &everything()).await? {
            let event = String::from_utf8_lossy(message.body()).into_owned();
            println!("{name}: heard that {event}.");
            missing.remove(&event);
            consumer.ack(&message).await?;
        }
    }
    Ok(consumer.shutdown().await?)
}

async fn run(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let email = start_listener(endpoint, "email").await?;
    let sms = start_listener(endpoint, "sms").await?;
    let audit = start_listener(endpoint, "audit").await?;
    // The two web servers are consumers of the same group: it is its manifest that makes it a
    // broadcasting group, nothing in the program says so.
    let web_server_1 = start_listener(endpoint, "web-cache").await?;
    let web_server_2 = start_listener(endpoint, "web-cache").await?;
    // A consumer of a broadcasting group gets what is sent after it came. This client's start
    // does not wait for the broker to know the consumer; its first receive does.
    println!("The web servers are at work: a first receive, and nothing to be received.");
    let all = everything();
    let (first, second) =
        tokio::join!(web_server_1.receive(TOPIC, &all), web_server_2.receive(TOPIC, &all));
    if !(first?.is_empty() && second?.is_empty()) {
        return Err("A web server heard of something before it was sent.".into());
    }

    let shop = start_shop(endpoint).await?;
    let order = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let events = ["placed", "paid", "shipped"].map(|step| format!("order {order} was {step}"));
    for event in &events {
        let message = MessageBuilder::builder()
            .set_topic(TOPIC)
            .set_body(event.clone().into_bytes())
            .build()?;
        shop.send(message).await?;
        println!("Shop: {event}.");
    }
    tokio::try_join!(
        hear("email", email, &events),
        hear("sms", sms, &events),
        hear("audit", audit, &events),
        hear("web server 1", web_server_1, &events),
        hear("web server 2", web_server_2, &events),
    )?;
    shop.shutdown().await?;
    println!("Each of the three groups and both web servers heard of every event.");
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let default = || std::env::var("PINNACE_ENDPOINT").unwrap_or("127.0.0.1:8081".into());
    let endpoint = std::env::args().nth(1).unwrap_or_else(default);
    match tokio::time::timeout(PATIENCE, run(&endpoint)).await {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => eprintln!("No success with the broker at {endpoint}: {error}"),
        Err(_) => eprintln!("Not everybody heard of everything within {PATIENCE:?}."),
    }
    ExitCode::FAILURE
}
