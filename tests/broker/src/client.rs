//! A bare client of the protocol: it sends exactly what a test asks for and hides nothing of the answer.

use std::net::SocketAddr;
use std::time::Duration;

use broker_proto::rocketmq::messaging_service_client::MessagingServiceClient;
use broker_proto::rocketmq::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, FilterExpression, FilterType, Message,
    MessageQueue, MessageType, ReceiveMessageRequest, Resource, SendMessageRequest,
    SendMessageResponse, Status, SystemProperties, receive_message_response::Content,
};
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response};

/// What the official clients put into every request's metadata (protocol section 4.1).
#[derive(Debug, Clone)]
pub struct Headers {
    client_id: String,
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        let metadata = request.metadata_mut();
        let client_id = MetadataValue::try_from(self.client_id.as_str())
            .map_err(|_| tonic::Status::invalid_argument("client id"))?;
        metadata.insert("x-mq-client-id", client_id);
        metadata.insert("x-mq-language", MetadataValue::from_static("RUST"));
        metadata.insert("x-mq-client-version", MetadataValue::from_static("5.0.0"));
        metadata.insert("x-mq-protocol", MetadataValue::from_static("GRPC_V2"));
        Ok(request)
    }
}

/// One client.
#[derive(Debug, Clone)]
pub struct Client {
    /// All calls of the protocol.
    pub service: MessagingServiceClient<InterceptedService<Channel, Headers>>,
}

/// The answer to a receive.
#[derive(Debug)]
pub struct Received {
    /// Comes first.
    pub status: Status,
    /// Then come these.
    pub messages: Vec<Message>,
}

/// A resource without namespace.
#[must_use]
pub fn resource(name: &str) -> Resource {
    Resource { resource_namespace: String::new(), name: name.to_owned() }
}

/// A NORMAL message.
#[must_use]
pub fn message(topic: &str, id: &str, body: &[u8]) -> Message {
    let properties = SystemProperties {
        message_id: id.to_owned(),
        message_type: MessageType::Normal.into(),
        body_encoding: broker_proto::rocketmq::Encoding::Identity.into(),
        ..SystemProperties::default()
    };
    Message {
        topic: Some(resource(topic)),
        system_properties: Some(properties),
        body: body.to_vec().into(),
        ..Message::default()
    }
}

/// The protobuf form of a time span.
#[must_use]
pub fn span(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

impl Client {
    /// Connects in plaintext.
    ///
    /// # Errors
    /// When the port does not answer.
    pub async fn connect(address: SocketAddr, id: &str) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        Ok(Self::over(endpoint.connect().await?, id))
    }

    /// Uses a connection that is there.
    #[must_use]
    pub fn over(channel: Channel, id: &str) -> Self {
        let headers = Headers { client_id: id.to_owned() };
        Self { service: MessagingServiceClient::with_interceptor(channel, headers) }
    }

    /// Sends messages in one request.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn send(
        &mut self,
        messages: Vec<Message>,
    ) -> Result<SendMessageResponse, tonic::Status> {
        let answer = self.service.send_message(SendMessageRequest { messages }).await;
        answer.map(Response::into_inner)
    }

    /// Receives with tag filter `*`.
    ///
    /// # Errors
    /// Those of the transport, or an answer without a status.
    pub async fn receive(
        &mut self,
        topic: &str,
        group: &str,
        batch_size: i32,
    ) -> Result<Received, tonic::Status> {
        self.receive_with(receive_request(topic, group, batch_size)).await
    }

    /// Receives as asked.
    ///
    /// # Errors
    /// Those of the transport, or an answer without a status.
    pub async fn receive_with(
        &mut self,
        request: ReceiveMessageRequest,
    ) -> Result<Received, tonic::Status> {
        let mut request = Request::new(request);
        request.set_timeout(Duration::from_secs(30));
        let mut elements = self.service.receive_message(request).await?.into_inner();
        let mut received = None;
        while let Some(element) = elements.message().await? {
            match (element.content, &mut received) {
                (Some(Content::Status(status)), None) => {
                    received = Some(Received { status, messages: Vec::new() });
                }
                (Some(Content::Message(message)), Some(Received { messages, .. })) => {
                    messages.push(message);
                }
                (Some(Content::DeliveryTimestamp(_)), Some(_)) => {}
                (content, _) => {
                    return Err(tonic::Status::internal(format!("out of order: {content:?}")));
                }
            }
        }
        received.ok_or_else(|| tonic::Status::internal("no status in the answer"))
    }

    /// Acknowledges messages of one topic.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn acknowledge(
        &mut self,
        topic: &str,
        group: &str,
        messages: &[Message],
    ) -> Result<AckMessageResponse, tonic::Status> {
        let entry = |message: &Message| AckMessageEntry {
            message_id: message_id(message).to_owned(),
            receipt_handle: receipt_handle(message).to_owned(),
            lite_topic: None,
        };
        let request = AckMessageRequest {
            group: Some(resource(group)),
            topic: Some(resource(topic)),
            entries: messages.iter().map(entry).collect(),
        };
        self.service.ack_message(request).await.map(Response::into_inner)
    }
}

/// A receive of any queue: ten seconds invisible, five seconds of waiting.
#[must_use]
pub fn receive_request(topic: &str, group: &str, batch_size: i32) -> ReceiveMessageRequest {
    let queue = MessageQueue { topic: Some(resource(topic)), ..MessageQueue::default() };
    let everything =
        FilterExpression { r#type: FilterType::Tag.into(), expression: "*".to_owned() };
    ReceiveMessageRequest {
        group: Some(resource(group)),
        message_queue: Some(queue),
        filter_expression: Some(everything),
        batch_size,
        invisible_duration: Some(span(Duration::from_secs(10))),
        long_polling_timeout: Some(span(Duration::from_secs(5))),
        ..ReceiveMessageRequest::default()
    }
}

/// The id that the producer gave.
#[must_use]
pub fn message_id(message: &Message) -> &str {
    message.system_properties.as_ref().map_or("", |properties| &properties.message_id)
}

/// Names this delivery.
#[must_use]
pub fn receipt_handle(message: &Message) -> &str {
    let properties = message.system_properties.as_ref();
    properties.and_then(|properties| properties.receipt_handle.as_deref()).unwrap_or_default()
}

/// 1 for the first delivery.
#[must_use]
pub fn attempt(message: &Message) -> i32 {
    let properties = message.system_properties.as_ref();
    properties.and_then(|properties| properties.delivery_attempt).unwrap_or_default()
}
