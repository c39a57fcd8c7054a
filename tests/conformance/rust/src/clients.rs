//! The official Rust client's producers and consumers for one case, and what the cases
//! need of them. What a case means stands in `cases`.

use std::fmt;
use std::time::{Duration, Instant};

use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::error::ClientError;
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::{MessageBuilder, MessageView};
use rocketmq::model::transaction::TransactionChecker;
use rocketmq::{Producer, SimpleConsumer};

/// This client's RPC deadline is its polling time. A server waits for 5 s at least, and up to 1.5 s before the deadline: with
/// this one an answer has the longest time to arrive.
pub const AWAIT: Duration = Duration::from_millis(6_500);
pub const INVISIBLE: Duration = Duration::from_secs(10);
pub const COLLECT_LIMIT: Duration = Duration::from_secs(30);
/// Longer than any case, so that nothing collected comes back by itself.
pub const COLLECT_INVISIBLE: Duration = Duration::from_secs(120);

/// Why a case failed, in one line.
#[derive(Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.0.split_whitespace().collect();
        formatter.write_str(&words.join(" "))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        // Not its debug form: that ends with a stack backtrace.
        Failure(error.to_string())
    }
}

pub fn check(condition: bool, text: impl FnOnce() -> String) -> Result<(), Failure> {
    if condition {
        Ok(())
    } else {
        Err(Failure(text()))
    }
}

pub struct Options {
    pub endpoint: String,
    pub topic: String,
    pub group: String,
    pub second_group: String,
    pub unknown_topic: String,
    pub large_body_bytes: usize,
}

pub struct Clients {
    pub options: Options,
}

/// A started simple consumer of one topic; this client names topic and filter at each receive.
pub struct Consumer {
    consumer: SimpleConsumer,
    topic: String,
    filter: FilterExpression,
}

impl Consumer {
    pub async fn receive(&self, invisible: Duration) -> Result<Vec<MessageView>, Failure> {
        self.receive_up_to(16, invisible).await
    }

    async fn receive_up_to(
        &self,
        count: i32,
        invisible: Duration,
    ) -> Result<Vec<MessageView>, Failure> {
        Ok(self.consumer.receive_with(&self.topic, &self.filter, count, invisible).await?)
    }

    /// A single message, which is not acknowledged.
    pub async fn receive_one(&self, invisible: Duration) -> Result<MessageView, Failure> {
        let began = Instant::now();
        while began.elapsed() < COLLECT_LIMIT {
            if let Some(view) = self.receive_up_to(1, invisible).await?.pop() {
                return Ok(view);
            }
        }
        Err(Failure(format!("no message within {COLLECT_LIMIT:?}")))
    }

    pub async fn ack(&self, view: &MessageView) -> Result<(), Failure> {
        Ok(self.consumer.ack(view).await?)
    }

    /// Receives until `count` messages came, and acknowledges them when asked.
    pub async fn receive_until(
        &self,
        count: usize,
        invisible: Duration,
        acknowledge: bool,
    ) -> Result<Vec<MessageView>, Failure> {
        let mut views = Vec::new();
        let began = Instant::now();
        while views.len() < count && began.elapsed() < COLLECT_LIMIT {
            for view in self.receive(invisible).await? {
                if acknowledge {
                    self.ack(&view).await?;
                }
                views.push(view);
            }
        }
        check(views.len() >= count, || {
            format!("{} of {count} messages came within {COLLECT_LIMIT:?}", views.len())
        })?;
        Ok(views)
    }

    pub async fn collect(&self, count: usize) -> Result<Vec<MessageView>, Failure> {
        self.receive_until(count, COLLECT_INVISIBLE, true).await
    }

    /// Everything that comes within the given time.
    pub async fn receive_during(&self, limit: Duration) -> Result<Vec<MessageView>, Failure> {
        let mut views = Vec::new();
        let began = Instant::now();
        while began.elapsed() < limit {
            views.extend(self.receive(COLLECT_INVISIBLE).await?);
        }
        Ok(views)
    }

    pub async fn shutdown(self) -> Result<(), Failure> {
        Ok(self.consumer.shutdown().await?)
    }
}

impl Clients {
    pub fn new(options: Options) -> Self {
        Clients { options }
    }

    fn connection(&self, long_polling_timeout: Duration) -> ClientOption {
        let mut option = ClientOption::default();
        option.set_access_url(self.options.endpoint.clone());
        option.set_enable_tls(false);
        option.set_long_polling_timeout(long_polling_timeout);
        option
    }

    pub async fn producer(&self) -> Result<Producer, Failure> {
        self.producer_of(&self.options.topic).await
    }

    pub async fn producer_of(&self, topic: &str) -> Result<Producer, Failure> {
        let mut option = ProducerOption::default();
        option.set_topics(vec![topic]);
        let mut producer = Producer::new(option, self.connection(AWAIT))?;
        producer.start().await?;
        Ok(producer)
    }

    /// For transactions; it is not started yet.
    pub fn transaction_producer(
        &self,
        checker: Box<TransactionChecker>,
    ) -> Result<Producer, Failure> {
        let mut option = ProducerOption::default();
        option.set_topics(vec![self.options.topic.as_str()]);
        Ok(Producer::new_transaction_producer(option, self.connection(AWAIT), checker)?)
    }

    pub async fn simple(&self) -> Result<Consumer, Failure> {
        self.simple_of(&self.options.group, &self.options.topic, "*", AWAIT).await
    }

    pub async fn simple_of(
        &self,
        group: &str,
        topic: &str,
        tags: &str,
        long_polling_timeout: Duration,
    ) -> Result<Consumer, Failure> {
        let filter = FilterExpression::new(FilterType::Tag, tags);
        self.start_simple(group, topic, filter, long_polling_timeout).await
    }

    pub async fn sql_simple(&self, group: &str, expression: &str) -> Result<Consumer, Failure> {
        let filter = FilterExpression::new(FilterType::Sql, expression);
        self.start_simple(group, &self.options.topic, filter, AWAIT).await
    }

    async fn start_simple(
        &self,
        group: &str,
        topic: &str,
        filter: FilterExpression,
        long_polling_timeout: Duration,
    ) -> Result<Consumer, Failure> {
        let mut option = SimpleConsumerOption::default();
        option.set_topics(vec![topic]);
        option.set_consumer_group(group);
        let mut consumer = SimpleConsumer::new(option, self.connection(long_polling_timeout))?;
        consumer.start().await?;
        Ok(Consumer { consumer, topic: topic.to_string(), filter })
    }

    pub fn message(&self, body: impl Into<Vec<u8>>) -> MessageBuilder {
        MessageBuilder::builder().set_topic(&self.options.topic).set_body(body.into())
    }

    /// Sends one message and answers its id.
    pub async fn send(
        &self,
        producer: &Producer,
        message: MessageBuilder,
    ) -> Result<String, Failure> {
        let receipt = producer.send(message.build()?).await?;
        Ok(receipt.message_id().to_string())
    }

    pub async fn send_all(
        &self,
        producer: &Producer,
        count: usize,
    ) -> Result<Vec<String>, Failure> {
        let mut ids = Vec::new();
        for n in 0..count {
            ids.push(self.send(producer, self.message(format!("message-{n}"))).await?);
        }
        Ok(ids)
    }
}
