//! A small correct RocketMQ v2 client: route, Settings handshake, heartbeats, send, receive, ack, orderly end.
//! It is what `send`, `receive`, `demo` and `bench` stand on, and behaves as protocol sections 0 and 3 ask of a client.

mod identity;
mod message_id;
mod route;
mod session;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use broker_proto::rocketmq::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, ClientType, Code, Endpoints,
    FilterExpression, FilterType, Message, ReceiveMessageRequest, Resource, SendMessageRequest,
    SendResultEntry, Status, receive_message_response, settings,
};

use self::identity::Identity;
use self::session::{Service, Session, transport_failure};
use super::failure::Failure;

pub(crate) use self::identity::host_name;
pub(crate) use self::message_id::{MessageIds, random};
pub(crate) use self::route::Broker;

/// Deadline of an ordinary call, and the request timeout told to the server.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a send is tried in all when the server's settings do not say.
const SEND_ATTEMPTS_DEFAULT: i32 = 3;
/// The most that a server can make us try.
const SEND_ATTEMPTS_MAX: i32 = 16;
/// First pause before a send is repeated; doubled each time.
const SEND_PAUSE: Duration = Duration::from_millis(50);

/// What the client is there for.
#[derive(Debug, Clone)]
pub(crate) enum Role {
    /// Sends to a topic.
    Producer,
    /// Receives from a topic for a group, and acknowledges by itself.
    SimpleConsumer {
        /// The consumer group.
        group: String,
        /// Which messages it wants.
        filter: FilterExpression,
    },
}

/// A filter by tags, like `paid || shipped`; `*` for all.
pub(crate) fn by_tags(expression: &str) -> FilterExpression {
    FilterExpression { r#type: FilterType::Tag.into(), expression: expression.to_owned() }
}

/// A filter by an SQL92 condition over properties.
pub(crate) fn by_sql(expression: &str) -> FilterExpression {
    FilterExpression { r#type: FilterType::Sql.into(), expression: expression.to_owned() }
}

impl Role {
    fn client_type(&self) -> ClientType {
        match self {
            Self::Producer => ClientType::Producer,
            Self::SimpleConsumer { .. } => ClientType::SimpleConsumer,
        }
    }

    fn group(&self) -> Option<Resource> {
        match self {
            Self::Producer => None,
            Self::SimpleConsumer { group, .. } => Some(resource(group)),
        }
    }
}

/// A received message and the handle to acknowledge it with.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// As delivered.
    pub(crate) message: Message,
    /// Index into [`Client::brokers`] of where it came from and is acknowledged.
    pub(crate) broker: usize,
}

/// What one receive call is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Poll {
    /// Most messages in the answer.
    pub(crate) batch: i32,
    /// How long the messages stay invisible to others.
    pub(crate) invisible: Duration,
    /// How long the server may hold the call.
    pub(crate) wait: Duration,
}

/// A running client of one topic.
#[derive(Debug)]
pub(crate) struct Client {
    identity: Identity,
    role: Role,
    topic: String,
    brokers: Vec<Broker>,
    sessions: BTreeMap<String, Session>,
    turn: AtomicUsize,
}

impl Client {
    /// Asks the access point for the topic's route, then shakes hands with every broker endpoint of it.
    ///
    /// # Errors
    /// Nobody answers at `endpoint`, the topic is unknown, or the broker refuses the settings.
    pub(crate) async fn start(endpoint: &str, topic: &str, role: Role) -> Result<Self, Failure> {
        let identity = Identity::new();
        let channel = super::admin::connect(endpoint, "--endpoint").await?;
        let mut access = session::service(channel, &identity);
        let access_point = route::parse_endpoints(endpoint);
        let brokers = route::query(&mut access, topic, &access_point).await?;
        let mut client = Self {
            identity,
            role,
            topic: topic.to_owned(),
            brokers,
            sessions: BTreeMap::new(),
            turn: AtomicUsize::new(0),
        };
        client.open_sessions(&access_point).await?;
        Ok(client)
    }

    async fn open_sessions(&mut self, access_point: &Endpoints) -> Result<(), Failure> {
        let addresses: Vec<String> = self.brokers.iter().map(|b| b.address.clone()).collect();
        for address in addresses {
            if self.sessions.contains_key(&address) {
                continue;
            }
            let settings = session::settings(&self.role, &self.topic, access_point);
            let heartbeat = session::heartbeat(&self.role);
            let session = Session::open(&address, &self.identity, settings, heartbeat).await?;
            self.sessions.insert(address, session);
        }
        Ok(())
    }

    /// The brokers (shards) of the topic, at least one.
    pub(crate) fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// The id that the server knows this client by.
    pub(crate) fn id(&self) -> &str {
        self.identity.client_id()
    }

    fn send_attempts(&self) -> i32 {
        let settings = self.sessions.values().next().map(Session::settings);
        let policy = settings.and_then(|settings| settings.backoff_policy.as_ref());
        let attempts = policy.map(|policy| policy.max_attempts).filter(|attempts| *attempts > 0);
        attempts.unwrap_or(SEND_ATTEMPTS_DEFAULT).min(SEND_ATTEMPTS_MAX)
    }

    /// Largest body that the server's settings allow.
    pub(crate) fn body_bytes_max(&self) -> Option<usize> {
        let settings = self.sessions.values().next().map(Session::settings)?;
        match settings.pub_sub.as_ref()? {
            settings::PubSub::Publishing(publishing) => {
                usize::try_from(publishing.max_body_size).ok()
            }
            settings::PubSub::Subscription(_) => None,
        }
    }

    fn service(&self, broker: usize) -> Result<Service, Failure> {
        let address = &self.brokers[broker].address;
        let session = self.sessions.get(address).ok_or_else(|| {
            Failure::runtime(format!("there is no connection to {address}; start again"))
        })?;
        Ok(session.service())
    }

    /// Sends messages of this topic in one request, to the next broker in turn; tries again what may pass later.
    ///
    /// # Errors
    /// A refused message, or a broker that did not answer in the tries that its settings allow.
    pub(crate) async fn send(
        &self,
        messages: Vec<Message>,
    ) -> Result<Vec<SendResultEntry>, Failure> {
        let request = SendMessageRequest { messages };
        let mut pause = SEND_PAUSE;
        let mut attempt = 1;
        loop {
            let broker = self.turn.fetch_add(1, Ordering::Relaxed) % self.brokers.len();
            let outcome = self.send_once(broker, request.clone()).await;
            match outcome {
                Err(Trouble::Passing(_)) if attempt < self.send_attempts() => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    attempt += 1;
                }
                Err(trouble) => return Err(trouble.into()),
                Ok(entries) => return Ok(entries),
            }
        }
    }

    async fn send_once(
        &self,
        broker: usize,
        request: SendMessageRequest,
    ) -> Result<Vec<SendResultEntry>, Trouble> {
        let mut service = self.service(broker).map_err(Trouble::Final)?;
        let count = request.messages.len();
        let mut request = tonic::Request::new(request);
        request.set_timeout(REQUEST_TIMEOUT);
        let address = &self.brokers[broker].address;
        let answer = service
            .send_message(request)
            .await
            .map_err(|status| Trouble::Passing(transport_failure(address, &status)))?
            .into_inner();
        let refused =
            answer.entries.iter().filter_map(|entry| entry.status.as_ref()).find(|s| !ok(s));
        if let Some(status) = refused.or_else(|| answer.status.as_ref().filter(|s| !ok(s))) {
            return Err(self.refusal("the broker refused the message", status));
        }
        if answer.entries.len() != count {
            return Err(Trouble::Final(Failure::runtime(format!(
                "{address} answered {} results for {count} messages; is it a RocketMQ 5 broker?",
                answer.entries.len()
            ))));
        }
        Ok(answer.entries)
    }

    /// One receive call on one broker. An empty list when nothing came until the wait ended.
    ///
    /// # Errors
    /// A refusal, or a broken connection (the caller may try again: the session heals by itself).
    pub(crate) async fn receive(
        &self,
        broker: usize,
        poll: Poll,
    ) -> Result<Vec<Received>, Trouble> {
        let place = &self.brokers[broker];
        let Role::SimpleConsumer { group, filter } = &self.role else {
            return Err(Trouble::Final(Failure::runtime("a producer cannot receive")));
        };
        let mut request = tonic::Request::new(ReceiveMessageRequest {
            group: Some(resource(group)),
            message_queue: Some(place.queue.clone()),
            filter_expression: Some(filter.clone()),
            batch_size: poll.batch,
            invisible_duration: Some(proto_duration(poll.invisible)),
            auto_renew: false,
            long_polling_timeout: Some(proto_duration(poll.wait)),
            attempt_id: None,
        });
        request.set_timeout(poll.wait + REQUEST_TIMEOUT);
        let mut service = self.service(broker).map_err(Trouble::Final)?;
        let lost =
            |status: tonic::Status| Trouble::Passing(transport_failure(&place.address, &status));
        let mut stream = service.receive_message(request).await.map_err(lost)?.into_inner();
        let mut messages = Vec::new();
        let mut outcome = None;
        while let Some(element) = stream.message().await.map_err(lost)? {
            match element.content {
                Some(receive_message_response::Content::Status(status)) => outcome = Some(status),
                Some(receive_message_response::Content::Message(message)) => {
                    messages.push(Received { message, broker });
                }
                Some(receive_message_response::Content::DeliveryTimestamp(_)) | None => {}
            }
        }
        match outcome {
            Some(status) if ok(&status) => Ok(messages),
            Some(status) if status.code == i32::from(Code::MessageNotFound) => Ok(messages),
            Some(status) => Err(self.refusal("the broker refused the receive", &status)),
            None => Err(Trouble::Final(Failure::runtime(format!(
                "{} answered a receive without status",
                place.address
            )))),
        }
    }

    /// Acknowledges one message.
    ///
    /// # Errors
    /// The handle expired, or the broker did not answer.
    pub(crate) async fn ack(&self, received: &Received) -> Result<(), Failure> {
        let properties = received.message.system_properties.clone().unwrap_or_default();
        let mut request = tonic::Request::new(AckMessageRequest {
            group: self.role.group(),
            topic: received.message.topic.clone(),
            entries: vec![AckMessageEntry {
                message_id: properties.message_id,
                receipt_handle: properties.receipt_handle.unwrap_or_default(),
                lite_topic: properties.lite_topic,
            }],
        });
        request.set_timeout(REQUEST_TIMEOUT);
        let address = &self.brokers[received.broker].address;
        let answer = self.service(received.broker)?.ack_message(request).await;
        let answer: AckMessageResponse =
            answer.map_err(|status| transport_failure(address, &status))?.into_inner();
        let entry = answer.entries.into_iter().next().and_then(|entry| entry.status);
        match entry.or(answer.status) {
            Some(status) if ok(&status) => Ok(()),
            Some(status) => {
                Err(self.refusal("the broker refused the acknowledgement", &status).into())
            }
            None => Err(Failure::runtime(format!("{address} answered an ack without status"))),
        }
    }

    /// Says goodbye to every broker. Failing to do so harms nobody: the server forgets silent clients by itself.
    pub(crate) async fn stop(self) {
        for session in self.sessions.into_values() {
            session.close(self.role.group()).await;
        }
    }

    fn refusal(&self, what: &str, status: &Status) -> Trouble {
        let failure = route::with_hint(Failure::from_business(what, status), status, &self.topic);
        if passing(status) { Trouble::Passing(failure) } else { Trouble::Final(failure) }
    }
}

/// Why a call did not work.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// May pass: nobody answered, or the broker is busy. The session heals by itself.
    Passing(Failure),
    /// The same call can never work.
    Final(Failure),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Passing(failure) | Trouble::Final(failure) => failure,
        }
    }
}

/// Refusals that may pass: busy, internal or timed-out brokers, and a broker that lost our settings in a restart.
fn passing(status: &Status) -> bool {
    status.code == i32::from(Code::TooManyRequests)
        || status.code == i32::from(Code::UnrecognizedClientType)
        || matches!(status.code, 50_000..=50_002 | 50_400..=50_402)
}

/// Whether a business status says OK.
pub(crate) fn ok(status: &Status) -> bool {
    status.code == i32::from(Code::Ok)
}

/// A resource without namespace.
pub(crate) fn resource(name: &str) -> Resource {
    Resource { resource_namespace: String::new(), name: name.to_owned() }
}

/// The wire form of a duration.
pub(crate) fn proto_duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: duration.subsec_nanos().cast_signed(),
    }
}

/// The wire form of now.
pub(crate) fn proto_now() -> prost_types::Timestamp {
    std::time::SystemTime::now().into()
}
