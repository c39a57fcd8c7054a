//! What a client does before and beside messages: route, settings, heartbeat, assignment, farewell.

use broker_proto::rocketmq::telemetry_command::Command;
use broker_proto::rocketmq::{
    ClientType, Code, HeartbeatRequest, NotifyClientTerminationRequest, Publishing,
    QueryAssignmentRequest, QueryRouteRequest, RecoverOrphanedTransactionCommand, Settings, Status,
    Subscription, TelemetryCommand, retry_policy::Strategy, settings::PubSub,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use crate::broker::{TestBroker, access_point, as_client, code, named, start};

pub(crate) struct Link {
    sender: mpsc::Sender<TelemetryCommand>,
    pub(crate) answers: Streaming<TelemetryCommand>,
}

impl Link {
    /// Opens the stream and only then says something, as one official client does.
    pub(crate) async fn open(broker: &mut TestBroker, client_id: &str) -> Self {
        let (sender, receiver) = mpsc::channel(4);
        let request = as_client(client_id, ReceiverStream::new(receiver));
        let answers = broker.client.telemetry(request).await.unwrap().into_inner();
        Self { sender, answers }
    }

    pub(crate) async fn say(&self, settings: Settings) {
        let command = TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        self.sender.send(command).await.unwrap();
    }

    /// Says what is no settings.
    pub(crate) async fn answer(&self, status: Option<Status>, command: Command) {
        self.sender.send(TelemetryCommand { status, command: Some(command) }).await.unwrap();
    }

    /// The question about a transaction that comes next.
    pub(crate) async fn hear_question(&mut self) -> RecoverOrphanedTransactionCommand {
        let asked = self.answers.message().await.unwrap().unwrap().command.unwrap();
        let Command::RecoverOrphanedTransactionCommand(question) = asked else {
            panic!("{asked:?}")
        };
        question
    }

    pub(crate) async fn hear(&mut self) -> Settings {
        let answer = self.answers.message().await.unwrap().unwrap();
        assert_eq!(code(answer.status.as_ref()), Code::Ok);
        match answer.command.unwrap() {
            Command::Settings(settings) => settings,
            other => panic!("not settings: {other:?}"),
        }
    }
}

pub(crate) fn producer() -> Settings {
    Settings {
        client_type: Some(ClientType::Producer.into()),
        pub_sub: Some(PubSub::Publishing(Publishing {
            topics: vec![named("orders").unwrap()],
            ..Publishing::default()
        })),
        ..Settings::default()
    }
}

pub(crate) fn consumer(group: &str) -> Settings {
    Settings {
        client_type: Some(ClientType::PushConsumer.into()),
        pub_sub: Some(PubSub::Subscription(Subscription {
            group: named(group),
            ..Subscription::default()
        })),
        ..Settings::default()
    }
}

async fn heartbeat(broker: &mut TestBroker, client_id: &str) -> Code {
    let request = as_client(client_id, HeartbeatRequest::default());
    code(broker.client.heartbeat(request).await.unwrap().into_inner().status.as_ref())
}

#[tokio::test]
async fn a_route_names_every_queue_and_echoes_the_access_point() {
    let mut broker = start(2).await;
    broker.topic("orders", 3).await;
    let request = QueryRouteRequest { topic: named("orders"), endpoints: Some(access_point()) };
    let route = broker.client.query_route(as_client("c", request)).await.unwrap().into_inner();
    assert_eq!(code(route.status.as_ref()), Code::Ok);
    let queues: Vec<_> = route
        .message_queues
        .iter()
        .map(|q| (q.broker.as_ref().unwrap().name.as_str(), q.id))
        .collect();
    assert_eq!(queues, [("shard-0", 0), ("shard-0", 1), ("shard-1", 0)]);
    for queue in &route.message_queues {
        let endpoints = queue.broker.as_ref().and_then(|b| b.endpoints.clone());
        assert_eq!(endpoints, Some(access_point()));
        assert_eq!((queue.permission, &*queue.accept_message_types), (4, &[1][..]));
    }
}

#[tokio::test]
async fn a_route_that_cannot_be_given_says_why() {
    let mut broker = start(1).await;
    for (topic, expected) in [
        (named("absent"), Code::TopicNotFound),
        (named("bad topic"), Code::IllegalTopic),
        (None, Code::IllegalTopic),
    ] {
        let request = QueryRouteRequest { topic, endpoints: None };
        let route = broker.client.query_route(as_client("c", request)).await.unwrap().into_inner();
        assert_eq!(code(route.status.as_ref()), expected);
    }
    let anonymous = broker.client.query_route(QueryRouteRequest::default()).await.unwrap();
    assert_eq!(code(anonymous.get_ref().status.as_ref()), Code::ClientIdRequired);
}

#[tokio::test]
async fn every_settings_element_is_answered_and_makes_the_client_known() {
    let mut broker = start(1).await;
    assert_eq!(heartbeat(&mut broker, "p").await, Code::UnrecognizedClientType);
    let mut link = Link::open(&mut broker, "p").await;
    for _ in 0..2 {
        link.say(producer()).await;
        let settings = link.hear().await;
        let Some(PubSub::Publishing(publishing)) = settings.pub_sub else { panic!("wrong side") };
        assert_eq!(publishing.max_body_size, 4_194_304);
        let strategy = settings.backoff_policy.and_then(|p| p.strategy);
        assert!(matches!(strategy, Some(Strategy::ExponentialBackoff(_))));
    }
    assert_eq!(heartbeat(&mut broker, "p").await, Code::Ok);
    drop(link.sender);
    assert!(link.answers.message().await.unwrap().is_none(), "a half-closed stream is completed");
    assert_eq!(heartbeat(&mut broker, "p").await, Code::Ok, "the client outlives its stream");
    let farewell = as_client("p", NotifyClientTerminationRequest::default());
    let answer = broker.client.notify_client_termination(farewell).await.unwrap();
    assert_eq!(code(answer.get_ref().status.as_ref()), Code::Ok);
    assert_eq!(heartbeat(&mut broker, "p").await, Code::UnrecognizedClientType);
}

#[tokio::test]
async fn a_changed_group_is_told_to_its_consumers_unasked() {
    use broker_proto::admin::{ApplyGroupRequest, Group, RetryPolicy};
    let mut broker = start(1).await;
    let mut link = Link::open(&mut broker, "c").await;
    link.say(consumer("billing")).await;
    assert_eq!(link.hear().await.backoff_policy.unwrap().max_attempts, 17);
    let retry = Some(RetryPolicy { max_attempts: 4, backoff: None });
    let group = Some(Group { name: "billing".into(), retry, ..Group::default() });
    let request = ApplyGroupRequest { group, ..ApplyGroupRequest::default() };
    broker.admin.apply_group(request).await.unwrap();
    assert_eq!(link.hear().await.backoff_policy.unwrap().max_attempts, 4);
}

#[tokio::test]
async fn illegal_settings_end_the_stream_and_a_missing_client_id_is_said() {
    let mut broker = start(1).await;
    let mut link = Link::open(&mut broker, "c").await;
    link.say(consumer("bad group")).await;
    let error = link.answers.message().await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
    assert!(error.message().contains("bad group"), "{error}");

    let anonymous = Request::new(tokio_stream::pending());
    let mut answers = broker.client.telemetry(anonymous).await.unwrap().into_inner();
    let only = answers.message().await.unwrap().unwrap();
    assert_eq!((code(only.status.as_ref()), only.command), (Code::ClientIdRequired, None));
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_stopping_broker_ends_the_streams() {
    let mut broker = start(1).await;
    let mut link = Link::open(&mut broker, "p").await;
    link.say(producer()).await;
    link.hear().await;
    broker.context.stop();
    assert!(link.answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_group_is_assigned_all_queues_of_each_shard() {
    let mut broker = start(2).await;
    broker.topic("orders", 4).await;
    let mut ask = async |topic| {
        let request = QueryAssignmentRequest {
            topic,
            group: named("billing"),
            endpoints: Some(access_point()),
        };
        broker.client.query_assignment(as_client("c", request)).await.unwrap().into_inner()
    };
    let answer = ask(named("orders")).await;
    assert_eq!(code(answer.status.as_ref()), Code::Ok);
    let queues: Vec<_> = answer
        .assignments
        .iter()
        .map(|a| a.message_queue.as_ref().unwrap())
        .map(|q| (q.broker.as_ref().unwrap().name.as_str(), q.id))
        .collect();
    assert_eq!(queues, [("shard-0", -1), ("shard-1", -1)]);
    assert_eq!(answer, ask(named("orders")).await, "stable between calls");
    assert_eq!(code(ask(named("absent")).await.status.as_ref()), Code::TopicNotFound);
}
