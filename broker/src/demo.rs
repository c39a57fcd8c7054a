//! `pinnace demo`: a broker with the manifests of an example, twenty orders sent, all of them billed, and the story of it.
//! On a terminal the broker stays up afterwards until Ctrl-C; elsewhere the exit code tells whether a message was lost
//! (or late).

mod broker_process;

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use broker_proto::rocketmq::{Encoding, Message, MessageType, SystemProperties};
use bytes::Bytes;
use clap::Args;
use tokio::time::Instant;

use self::broker_process::BrokerProcess;
use crate::cli::admin::{Admin, AdminArguments};
use crate::cli::client::{
    Client, MessageIds, Poll, Received, Role, by_tags, host_name, proto_now, resource,
};
use crate::cli::failure::Failure;
use crate::cli::output::{columns, emit};

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const ORDERS: usize = 20;
/// An order that takes longer from its send to its bill is late.
const LATE: Duration = Duration::from_secs(2);
/// An order that did not come in this time is lost.
const LOST: Duration = Duration::from_secs(20);
const POLL: Poll =
    Poll { batch: 32, invisible: Duration::from_secs(30), wait: Duration::from_secs(5) };

/// Arguments of `pinnace demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Directory with a Topic named orders and a ConsumerGroup named billing.
    #[arg(long, value_name = "DIR", default_value = "examples/orders")]
    manifests: PathBuf,
    /// Directory for the broker's data, kept afterwards [default: a new one, removed afterwards].
    #[arg(long, value_name = "DIR", env = "PINNACE_DATA")]
    data: Option<PathBuf>,
}

/// Runs `pinnace demo`.
pub(crate) async fn run(arguments: DemoArguments) -> Result<(), Failure> {
    let begin = Instant::now();
    let broker = BrokerProcess::start(&arguments.manifests, arguments.data.as_deref()).await?;
    let told = tokio::select! {
        told = tell(&broker, begin.elapsed()) => told,
        stopped = broker_process::until_asked_to_stop() => {
            stopped.and_then(|()| Err(Failure::runtime("the demo was interrupted")))
        }
    };
    let outcome = match told {
        Ok(()) if std::io::stdout().is_terminal() => stay(&broker).await,
        outcome => outcome,
    };
    let stopped = broker.stop().await;
    outcome.and(stopped)
}

async fn tell(broker: &BrokerProcess, start: Duration) -> Result<(), Failure> {
    emit(&format!(
        "A broker is up after {} ms: clients at {}, admin at {}, http at {}.\n",
        start.as_millis(),
        broker.endpoint,
        broker.admin,
        broker.http
    ))?;
    let admin = AdminArguments { admin: broker.admin.to_string(), broker: None };
    let mut admin = Admin::connect(&admin).await?;
    declared(&mut admin).await?;

    let endpoint = broker.endpoint.to_string();
    let role = Role::SimpleConsumer { group: GROUP.to_owned(), filter: by_tags("*") };
    let consumer = Client::start(&endpoint, TOPIC, role).await?;
    let producer = Client::start(&endpoint, TOPIC, Role::Producer).await?;
    let (sent, billed) = tokio::join!(send_orders(&producer), bill_orders(&consumer));
    producer.stop().await;
    consumer.stop().await;
    let (sent, billed) = (sent?, billed?);
    emit(&format!(
        "\nShop sent {} orders to topic {TOPIC}; group {GROUP} took them:\n\n",
        sent.len()
    ))?;
    emit(&table(&sent, &billed))?;
    judge(&sent, &billed)?;
    let left = lag(&mut admin).await?;
    emit(&format!("\nEvery order was billed exactly once. Left for {GROUP}: {left} messages.\n"))?;
    if left == 0 {
        return Ok(());
    }
    Err(Failure::runtime(format!("{left} messages still count as unbilled; see 'pinnace lag'")))
}

/// Tells what the manifests made.
async fn declared(admin: &mut Admin) -> Result<(), Failure> {
    let missing = |what: &str, name: &str| {
        Failure::runtime(format!("the manifests declare no {what} {name}; the demo needs it"))
    };
    let (topic, _) = admin.topics(&[TOPIC]).await?.pop().ok_or_else(|| missing("Topic", TOPIC))?;
    let (group, _) =
        admin.groups(&[GROUP]).await?.pop().ok_or_else(|| missing("ConsumerGroup", GROUP))?;
    emit(&format!(
        "The manifests made topic {} ({} queues) and consumer group {}.\n",
        topic.name, topic.queues, group.name
    ))
}

/// An order as it was sent.
#[derive(Debug)]
struct Order {
    key: String,
    text: String,
    begin: Instant,
}

/// An order as it was received.
#[derive(Debug)]
struct Bill {
    at: Instant,
    queue: i32,
    attempt: i32,
}

type Sent = BTreeMap<String, Order>;
type Billed = HashMap<String, Vec<Bill>>;

async fn send_orders(producer: &Client) -> Result<Sent, Failure> {
    let goods = ["tea", "coffee", "sugar", "rum", "rope"];
    let mut ids = MessageIds::new();
    let mut sent = Sent::new();
    for (number, item) in goods.iter().cycle().take(ORDERS).enumerate() {
        let key = format!("order-{}", 1001 + number);
        let text =
            format!(r#"{{"order":{},"item":"{item}","count":{}}}"#, 1001 + number, number % 4 + 1);
        let id = ids.next();
        let message = Message {
            topic: Some(resource(TOPIC)),
            user_properties: HashMap::from([("shop".to_owned(), "harbour".to_owned())]),
            system_properties: Some(SystemProperties {
                tag: Some("placed".to_owned()),
                keys: vec![key.clone()],
                message_id: id.clone(),
                body_encoding: Encoding::Identity.into(),
                message_type: MessageType::Normal.into(),
                born_timestamp: Some(proto_now()),
                born_host: host_name(),
                ..SystemProperties::default()
            }),
            body: Bytes::from(text.clone()),
        };
        let begin = Instant::now();
        producer.send(vec![message]).await?;
        sent.insert(id, Order { key, text, begin });
    }
    Ok(sent)
}

/// Receives until all orders came or the time is over; with several shards, one poll each at a time.
async fn bill_orders(consumer: &Client) -> Result<Billed, Failure> {
    let mut billed = Billed::new();
    let deadline = Instant::now() + LOST;
    let poll = |broker: usize| async move { (broker, consumer.receive(broker, POLL).await) };
    let mut polls: futures::stream::FuturesUnordered<_> =
        (0..consumer.brokers().len()).map(poll).collect();
    while billed.len() < ORDERS && Instant::now() < deadline {
        let Some((broker, received)) = futures::StreamExt::next(&mut polls).await else { break };
        for received in received? {
            bill(consumer, &received, &mut billed).await?;
        }
        polls.push(poll(broker));
    }
    Ok(billed)
}

async fn bill(consumer: &Client, received: &Received, billed: &mut Billed) -> Result<(), Failure> {
    let at = Instant::now();
    consumer.ack(received).await?;
    let properties = received.message.system_properties.clone().unwrap_or_default();
    let attempt = properties.delivery_attempt.unwrap_or_default();
    let bill = Bill { at, queue: properties.queue_id, attempt };
    billed.entry(properties.message_id).or_default().push(bill);
    Ok(())
}

fn table(sent: &Sent, billed: &Billed) -> String {
    let rows = sent.iter().map(|(id, order)| {
        let bill = billed.get(id).and_then(|bills| bills.first());
        let took = |bill: &Bill| {
            format!("{:.1} ms", bill.at.duration_since(order.begin).as_secs_f64() * 1000.0)
        };
        vec![
            order.key.clone(),
            order.text.clone(),
            bill.map_or_else(|| "-".to_owned(), |bill| bill.queue.to_string()),
            bill.map_or_else(|| "-".to_owned(), |bill| bill.attempt.to_string()),
            bill.map_or_else(|| "lost".to_owned(), took),
        ]
    });
    columns(&["KEY", "BODY", "QUEUE", "ATTEMPT", "SENT TO BILLED"], rows.collect())
}

/// Lost, late and repeated orders are failures.
fn judge(sent: &Sent, billed: &Billed) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for (id, order) in sent {
        match billed.get(id).map(Vec::as_slice) {
            None | Some([]) => wrong.push(format!("{} was lost", order.key)),
            Some([bill]) if bill.at.duration_since(order.begin) > LATE => {
                wrong.push(format!("{} was late", order.key));
            }
            Some([_]) => {}
            Some(bills) => wrong.push(format!("{} was billed {} times", order.key, bills.len())),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::runtime(format!("the demo failed: {}", wrong.join(", "))))
}

async fn lag(admin: &mut Admin) -> Result<u64, Failure> {
    let groups = admin.groups(&[GROUP]).await?;
    let topics = groups.into_iter().flat_map(|(_, status)| status.topics);
    Ok(topics.filter(|lag| lag.topic == TOPIC).map(|lag| lag.lag_messages).sum())
}

/// Leaves the broker up for the user's own clients until Ctrl-C or the broker's end.
async fn stay(broker: &BrokerProcess) -> Result<(), Failure> {
    let (endpoint, admin) = (broker.endpoint, broker.admin);
    let pinnace = std::env::args().next().unwrap_or_else(|| "pinnace".to_owned());
    emit(&format!(
        "\nThe broker stays up. Point a RocketMQ 5 client at {endpoint}, or try in another terminal:\n\n  \
         {pinnace} send {TOPIC} --body hello --endpoint {endpoint}\n  \
         {pinnace} receive {TOPIC} --group {GROUP} --count 1 --endpoint {endpoint}\n  \
         {pinnace} lag --admin {admin}\n\nCtrl-C ends it.\n"
    ))?;
    broker_process::until_asked_to_stop().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_late_and_repeated_orders_are_failures() {
        let begin = Instant::now();
        let order = |key: &str| Order { key: key.to_owned(), text: String::new(), begin };
        let bill = |after| Bill { at: begin + after, queue: 0, attempt: 1 };
        let soon = Duration::from_millis(3);
        let sent = Sent::from([("a".to_owned(), order("order-1"))]);
        let judged = |bills: Vec<Bill>| {
            judge(&sent, &Billed::from([("a".to_owned(), bills)])).map_err(|f| f.to_string())
        };
        assert_eq!(judged(vec![bill(soon)]), Ok(()));
        assert!(judged(vec![]).unwrap_err().contains("order-1 was lost"));
        assert!(judged(vec![bill(LATE * 2)]).unwrap_err().contains("order-1 was late"));
        assert!(judged(vec![bill(soon), bill(soon)]).unwrap_err().contains("2 times"));
    }
}
