//! A broker in this process: shards, catalog, both services on a loopback port, and a client of each.

use std::path::PathBuf;
use std::sync::Arc;

use broker_grpc::{
    Advertised, BrokerContext, BrokerOptions, DiskSpace, RenewalTiming, admin_service,
    housekeeping, messaging_service, rocketmq_admin_service,
};
use broker_model::ShardId;
use broker_proto::admin::admin_client::AdminClient;
use broker_proto::admin::{ApplyTopicRequest, MessageType, Topic};
use broker_proto::rocketmq::admin_client::AdminClient as RocketmqAdminClient;
use broker_proto::rocketmq::messaging_service_client::MessagingServiceClient;
use broker_proto::rocketmq::receive_message_response::Content;
use broker_proto::rocketmq::{
    Address, AddressScheme, Broker, Code, Endpoints, Message, MessageQueue, ReceiveMessageRequest,
    Resource, SendMessageRequest, SendMessageResponse, Status, SystemProperties,
};
use broker_replication::{Catalog, ShardEvent, ShardOptions, SystemClock, open_shard};
use broker_store::Disk;
use broker_store::limits::SEGMENT_BYTES_USUAL;
use broker_store::simulated_disk::SimulatedDisk;
use prost_types::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Request;
use tonic::transport::{Channel, Server};

#[derive(Clone)]
pub(crate) struct TestBroker {
    pub(crate) client: MessagingServiceClient<Channel>,
    pub(crate) admin: AdminClient<Channel>,
    pub(crate) rocketmq_admin: RocketmqAdminClient<Channel>,
    pub(crate) context: Arc<BrokerContext>,
    pub(crate) port: u16,
}

pub(crate) async fn start(shards: u32) -> TestBroker {
    start_with((0..shards).map(ShardId)).await
}

/// A broker that holds these shards.
pub(crate) async fn start_with(shards: impl Iterator<Item = ShardId>) -> TestBroker {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::default());
    let (says, events) = mpsc::unbounded_channel();
    let mut handles = Vec::new();
    for id in shards {
        let options = ShardOptions {
            id,
            data: PathBuf::from("/data"),
            segment_bytes: SEGMENT_BYTES_USUAL,
            seed: (u64::from(id.0) + 1).into(),
            keys_of_head: broker_grpc::keys_of_head,
            memory: broker_replication::Memory::default(),
        };
        let shard = open_shard(&disk, Arc::new(SystemClock), &options).unwrap();
        handles.push(shard.handle.clone());
        tokio::spawn(shard.run(says.clone()));
    }
    let catalog = Catalog::new(handles, Vec::new(), 1);
    serve(catalog, events).await
}

async fn serve(catalog: Catalog, events: mpsc::UnboundedReceiver<ShardEvent>) -> TestBroker {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let broker_id = catalog.shards().iter().map(|shard| shard.id().0).min().unwrap_or(0);
    let context = BrokerContext::new(BrokerOptions {
        catalog,
        broker_id,
        disk_id: "d15c".into(),
        version: "test".into(),
        advertised: Advertised { host: "127.0.0.1".into(), port },
        disk: Box::new(|| DiskSpace { free_bytes: 50, total_bytes: 100 }),
        keep_map: Box::new(|_| Ok(())),
        set_log_level: Box::new(|level| match level {
            tracing::Level::TRACE => Err("too much for a test".into()),
            _ => Ok(()),
        }),
        memory: broker_replication::Memory::default(),
        kept_map: None,
        timing: RenewalTiming::default(),
    });
    tokio::spawn(housekeeping(Arc::clone(&context), events));
    let server = Server::builder()
        .add_service(messaging_service(Arc::clone(&context)))
        .add_service(admin_service(Arc::clone(&context)))
        .add_service(rocketmq_admin_service(Arc::clone(&context)))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    let channel =
        Channel::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await.unwrap();
    let client = MessagingServiceClient::new(channel.clone());
    let rocketmq_admin = RocketmqAdminClient::new(channel.clone());
    TestBroker { client, admin: AdminClient::new(channel), rocketmq_admin, context, port }
}

impl TestBroker {
    /// A topic whose queues are spread over the shards.
    pub(crate) async fn topic(&mut self, name: &str, queues: u32) {
        self.topic_of(MessageType::Normal, name, queues).await;
    }

    pub(crate) async fn topic_of(&mut self, kind: MessageType, name: &str, queues: u32) {
        let topic = Topic { name: name.into(), r#type: kind.into(), queues, ..Topic::default() };
        let request = ApplyTopicRequest { topic: Some(topic), ..ApplyTopicRequest::default() };
        self.admin.apply_topic(request).await.unwrap();
    }

    pub(crate) async fn send(&mut self, messages: Vec<Message>) -> SendMessageResponse {
        let request = as_client("producer", SendMessageRequest { messages });
        self.client.send_message(request).await.unwrap().into_inner()
    }

    /// The status, the messages, and whether the time of delivery ended the stream.
    pub(crate) async fn receive(
        &mut self,
        request: Request<ReceiveMessageRequest>,
    ) -> (Status, Vec<Message>) {
        let mut stream = self.client.receive_message(request).await.unwrap().into_inner();
        let (mut status, mut messages, mut is_over) = (None, Vec::new(), false);
        while let Some(element) = stream.message().await.unwrap() {
            assert!(!is_over, "nothing follows the time of delivery");
            match element.content.unwrap() {
                Content::Status(first) => {
                    assert!(status.is_none() && messages.is_empty(), "one status, and first");
                    status = Some(first);
                }
                Content::Message(message) => messages.push(message),
                Content::DeliveryTimestamp(_) => is_over = true,
            }
        }
        assert!(is_over, "the time of delivery is the last element");
        (status.unwrap(), messages)
    }
}

pub(crate) fn as_client<T>(client_id: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-mq-client-id", client_id.parse().unwrap());
    request.metadata_mut().insert("x-mq-client-version", "5.1.0".parse().unwrap());
    request
}

pub(crate) fn named(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.into() })
}

pub(crate) fn message(topic: &str, id: &str, body: &str) -> Message {
    let properties = SystemProperties { message_id: id.into(), ..SystemProperties::default() };
    Message {
        topic: named(topic),
        system_properties: Some(properties),
        body: body.to_owned().into(),
        ..Message::default()
    }
}

pub(crate) fn tagged(topic: &str, id: &str, tag: &str) -> Message {
    let mut message = message(topic, id, tag);
    message.system_properties.as_mut().unwrap().tag = Some(tag.into());
    message
}

/// A simple consumer's receive of up to 32 messages for 30 s, at some queue of a shard.
pub(crate) fn receive(topic: &str, group: &str, shard: &str) -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        group: named(group),
        message_queue: Some(MessageQueue {
            topic: named(topic),
            id: 0,
            broker: Some(Broker { name: shard.into(), ..Broker::default() }),
            ..MessageQueue::default()
        }),
        batch_size: 32,
        invisible_duration: seconds(30),
        long_polling_timeout: seconds(5),
        ..ReceiveMessageRequest::default()
    }
}

pub(crate) fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

pub(crate) fn access_point() -> Endpoints {
    Endpoints {
        scheme: AddressScheme::DomainName.into(),
        addresses: vec![Address { host: "mq.example.org".into(), port: 443 }],
    }
}

pub(crate) fn code(status: Option<&Status>) -> Code {
    status.map_or(Code::Unspecified, Status::code)
}

pub(crate) fn bodies(messages: &[Message]) -> Vec<String> {
    let text = |m: &Message| String::from_utf8(m.body.to_vec()).unwrap();
    let mut bodies: Vec<_> = messages.iter().map(text).collect();
    bodies.sort();
    bodies
}

pub(crate) fn handle(message: &Message) -> String {
    message.system_properties.as_ref().unwrap().receipt_handle.clone().unwrap()
}
