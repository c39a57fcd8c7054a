//! Every RPC does its work against a real process.

use std::collections::BTreeSet;
use std::time::Duration;

use broker_proto::rocketmq::{
    self as wire, ChangeInvisibleDurationRequest, ClientType, Code, Endpoints,
    ForwardMessageToDeadLetterQueueRequest, HeartbeatRequest, MessageQueue, MessageType,
    NotifyClientTerminationRequest, Permission, QueryAssignmentRequest, QueryRouteRequest,
    Settings, Status, Subscription, SubscriptionEntry, TelemetryCommand, settings::PubSub,
    telemetry_command::Command,
};
use tests_broker::broker::{Broker, Options, Place};
use tests_broker::client::{
    Client, attempt, message, message_id, receipt_handle, receive_request, resource, span,
};

pub(crate) fn code(status: &Option<Status>) -> Code {
    status.as_ref().map_or(Code::Unspecified, Status::code)
}

async fn start(place: &Place) -> (Broker, Client) {
    let broker = place.start(&Options::shards(2));
    broker.create("orders", "billing").await;
    let client = broker.client("client-1").await;
    (broker, client)
}

async fn send_one(client: &mut Client, id: &str) {
    let answer = client.send(vec![message("orders", id, id.as_bytes())]).await.unwrap();
    assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
}

#[tokio::test]
async fn a_route_names_every_queue_with_its_shard_and_permission() {
    let place = Place::new();
    let (broker, mut client) = start(&place).await;
    let access_point = Endpoints {
        scheme: wire::AddressScheme::IPv4.into(),
        addresses: vec![wire::Address {
            host: broker.listen.ip().to_string(),
            port: broker.listen.port().into(),
        }],
    };
    let request = QueryRouteRequest {
        topic: Some(resource("orders")),
        endpoints: Some(access_point.clone()),
    };
    let route = client.service.query_route(request).await.unwrap().into_inner();
    assert_eq!(code(&route.status), Code::Ok);
    assert_eq!(route.message_queues.len(), 4);
    let name = |queue: &MessageQueue| queue.broker.as_ref().unwrap().name.clone();
    let shards: BTreeSet<String> = route.message_queues.iter().map(name).collect();
    assert_eq!(shards, BTreeSet::from(["shard-0".to_owned(), "shard-1".to_owned()]));
    for queue in &route.message_queues {
        assert_eq!(queue.permission(), Permission::ReadWrite);
        assert_eq!(queue.accept_message_types, [i32::from(MessageType::Normal)]);
        let shard = queue.broker.as_ref().unwrap();
        assert_eq!((shard.id, shard.endpoints.as_ref()), (0, Some(&access_point)));
    }
    let request = QueryAssignmentRequest {
        topic: Some(resource("orders")),
        group: Some(resource("billing")),
        endpoints: Some(access_point),
    };
    let answer = client.service.query_assignment(request).await.unwrap().into_inner();
    assert_eq!(code(&answer.status), Code::Ok);
    assert!(!answer.assignments.is_empty());
}

#[tokio::test]
async fn settings_are_answered_and_heartbeats_taken() {
    let place = Place::new();
    let (_broker, mut client) = start(&place).await;
    let entry = SubscriptionEntry { topic: Some(resource("orders")), expression: None };
    let wanted = Settings {
        client_type: Some(ClientType::SimpleConsumer.into()),
        request_timeout: Some(span(Duration::from_secs(3))),
        pub_sub: Some(PubSub::Subscription(Subscription {
            group: Some(resource("billing")),
            subscriptions: vec![entry],
            ..Subscription::default()
        })),
        ..Settings::default()
    };
    let (commands, outbound) = tokio::sync::mpsc::channel(1);
    let command = Command::Settings(wanted);
    commands.send(TelemetryCommand { status: None, command: Some(command) }).await.unwrap();
    let outbound = tokio_stream::wrappers::ReceiverStream::new(outbound);
    let mut inbound = client.service.telemetry(outbound).await.unwrap().into_inner();
    let answer = inbound.message().await.unwrap().unwrap();
    assert_eq!(code(&answer.status), Code::Ok);
    let Some(Command::Settings(agreed)) = answer.command else { panic!("{answer:?}") };
    let Some(PubSub::Subscription(subscription)) = agreed.pub_sub else { panic!("{agreed:?}") };
    assert!(subscription.long_polling_timeout.is_some());
    assert!(agreed.backoff_policy.is_some_and(|policy| policy.strategy.is_some()));

    let group = Some(resource("billing"));
    let beat =
        HeartbeatRequest { group: group.clone(), client_type: ClientType::SimpleConsumer.into() };
    let answer = client.service.heartbeat(beat).await.unwrap().into_inner();
    assert_eq!(code(&answer.status), Code::Ok);
    let last = NotifyClientTerminationRequest { group };
    let answer = client.service.notify_client_termination(last).await.unwrap().into_inner();
    assert_eq!(code(&answer.status), Code::Ok);
}

#[tokio::test]
async fn a_batch_is_stored_in_one_piece_and_each_message_is_handed_out_once() {
    let place = Place::new();
    let (broker, mut client) = start(&place).await;
    let ids: BTreeSet<String> = (0..32).map(|number| format!("id-{number:02}")).collect();
    let batch = ids.iter().map(|id| message("orders", id, id.as_bytes())).collect();
    let answer = client.send(batch).await.unwrap();
    assert_eq!(code(&answer.status), Code::Ok);
    let entries: Vec<_> = answer.entries.iter().map(|entry| entry.message_id.clone()).collect();
    assert_eq!(entries, ids.iter().cloned().collect::<Vec<_>>(), "in the order of the request");
    let mut seen = BTreeSet::new();
    while seen.len() < ids.len() {
        let received = client.receive("orders", "billing", 10).await.unwrap();
        assert_eq!(received.status.code(), Code::Ok);
        for message in &received.messages {
            assert_eq!(message.body, message_id(message).as_bytes());
            assert_eq!(attempt(message), 1);
            assert!(seen.insert(message_id(message).to_owned()), "twice: {message:?}");
        }
        let acked = client.acknowledge("orders", "billing", &received.messages).await.unwrap();
        assert_eq!(code(&acked.status), Code::Ok);
        assert_eq!(acked.entries.len(), received.messages.len());
    }
    assert_eq!(seen, ids);
    assert_eq!(broker.metric("rocketmq_consumer_lag_messages", "billing"), 0.0);
    assert_eq!(broker.metric("rocketmq_messages_in_total", "topic=\"orders\""), 32.0);
    assert_eq!(broker.metric("rocketmq_messages_out_total", "billing"), 32.0);
}

#[tokio::test]
async fn a_tag_filter_lets_only_its_tags_through() {
    let place = Place::new();
    let (_broker, mut client) = start(&place).await;
    for tag in ["paid", "open", "paid"] {
        let mut tagged = message("orders", tag, b"x");
        tagged.system_properties.as_mut().unwrap().tag = Some(tag.to_owned());
        client.send(vec![tagged]).await.unwrap();
    }
    let mut seen = 0;
    while seen < 2 {
        let mut request = receive_request("orders", "billing", 10);
        request.filter_expression.as_mut().unwrap().expression = "paid || other".to_owned();
        let received = client.receive_with(request).await.unwrap();
        assert_eq!(received.status.code(), Code::Ok);
        assert!(received.messages.iter().all(|message| message_id(message) == "paid"));
        seen += received.messages.len();
    }
    assert_eq!(seen, 2);
}

#[tokio::test]
async fn a_message_given_back_comes_again_with_the_next_attempt() {
    let place = Place::new();
    let (_broker, mut client) = start(&place).await;
    send_one(&mut client, "once-more").await;
    let first = client.receive("orders", "billing", 1).await.unwrap().messages.remove(0);
    let request = ChangeInvisibleDurationRequest {
        group: Some(resource("billing")),
        topic: Some(resource("orders")),
        receipt_handle: receipt_handle(&first).to_owned(),
        invisible_duration: Some(span(Duration::ZERO)),
        message_id: message_id(&first).to_owned(),
        ..ChangeInvisibleDurationRequest::default()
    };
    let answer = client.service.change_invisible_duration(request).await.unwrap().into_inner();
    assert_eq!(code(&answer.status), Code::Ok, "{answer:?}");
    let second = client.receive("orders", "billing", 1).await.unwrap().messages.remove(0);
    assert_eq!((message_id(&second), attempt(&second)), ("once-more", 2));
    let stale = client.acknowledge("orders", "billing", &[first]).await.unwrap();
    assert_eq!(code(&stale.entries[0].status), Code::InvalidReceiptHandle);
    let valid = client.acknowledge("orders", "billing", &[second]).await.unwrap();
    assert_eq!(code(&valid.entries[0].status), Code::Ok);
}

#[tokio::test]
async fn a_hopeless_message_goes_to_the_dead_letters_of_its_group() {
    let place = Place::new();
    let (_broker, mut client) = start(&place).await;
    send_one(&mut client, "hopeless").await;
    let received = client.receive("orders", "billing", 1).await.unwrap().messages.remove(0);
    let request = ForwardMessageToDeadLetterQueueRequest {
        group: Some(resource("billing")),
        topic: Some(resource("orders")),
        receipt_handle: receipt_handle(&received).to_owned(),
        message_id: message_id(&received).to_owned(),
        delivery_attempt: 1,
        max_delivery_attempts: 1,
        lite_topic: None,
    };
    let answer = client.service.forward_message_to_dead_letter_queue(request).await;
    assert_eq!(code(&answer.unwrap().into_inner().status), Code::Ok);
    let dead = client.receive("%DLQ%billing", "undertaker", 1).await.unwrap();
    assert_eq!(dead.status.code(), Code::Ok, "{:?}", dead.status);
    assert_eq!(
        (message_id(&dead.messages[0]), &dead.messages[0].body[..]),
        ("hopeless", &b"hopeless"[..])
    );
}
