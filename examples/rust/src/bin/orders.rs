//! The events of every order are handled in the order in which they happened (FIFO).
//!
//!     cargo run --bin orders [host:port]
//!
//! Sender and receiver stand in one file here; in a shop they are two programs.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::MessageBuilder;
use rocketmq::{Producer, SimpleConsumer};

const TOPIC: &str = "order-events";
const GROUP: &str = "shipping";
const STEPS: [&str; 4] = ["placed", "paid", "packed", "shipped"];
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

async fn start_shipping(endpoint: &str) -> Result<SimpleConsumer, Box<dyn Error>> {
    let mut option = SimpleConsumerOption::default();
    option.set_topics(vec![TOPIC]);
    option.set_consumer_group(GROUP);
    let mut consumer = SimpleConsumer::new(option, connection(endpoint))?;
    consumer.start().await?;
    Ok(consumer)
}

async fn run(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let shop = start_shop(endpoint).await?;
    let day = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let mut came: BTreeMap<String, Vec<String>> =
        (1..=3).map(|number| (format!("{day}-{number}"), Vec::new())).collect();
    for step in STEPS {
        for order in came.keys() {
            // The last argument is the message group: order is kept within it, and only there.
            let message = MessageBuilder::fifo_message_builder(TOPIC, step.into(), order)
                .set_keys(vec![order])
                .build()?;
            shop.send(message).await?;
        }
    }
    println!("Shop: sent {} events of each of {} orders, in turn.", STEPS.len(), came.len());

    let shipping = start_shipping(endpoint).await?;
    let everything = FilterExpression::new(FilterType::Tag, "*");
    while came.values().any(|steps| steps.len() < STEPS.len()) {
        for event in shipping.receive(TOPIC, &everything).await? {
            let order = event.message_group().unwrap_or_default();
            let step = String::from_utf8_lossy(event.body()).into_owned();
            println!("Shipping: order {order} was {step}.");
            // Orders that are not ours are left from an earlier day.
            if let Some(steps) = came.get_mut(order) {
                steps.push(step);
            }
            // Nobody gets the next event of this order before this.
            shipping.ack(&event).await?;
        }
    }
    shipping.shutdown().await?;
    shop.shutdown().await?;
    for (order, steps) in came {
        if steps != STEPS {
            return Err(format!("The events of order {order} came out of order: {steps:?}").into());
        }
    }
    println!("The events of every order were handled in the order in which they were sent.");
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let default = || std::env::var("PINNACE_ENDPOINT").unwrap_or("127.0.0.1:8081".into());
    let endpoint = std::env::args().nth(1).unwrap_or_else(default);
    match tokio::time::timeout(PATIENCE, run(&endpoint)).await {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => eprintln!("No success with the broker at {endpoint}: {error}"),
        Err(_) => eprintln!("Not every event came within {PATIENCE:?}."),
    }
    ExitCode::FAILURE
}
