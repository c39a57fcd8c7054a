//! Bad input gets a clear code, loses nothing and ends nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use broker_proto::rocketmq::{
    AckMessageEntry, AckMessageRequest, Code, MessageType, QueryRouteRequest,
};
use tests_broker::broker::{Broker, Options, Place};
use tests_broker::client::{message, receive_request, resource, span};
use tests_broker::{Client, get};

use crate::rpcs::code;

/// Every port closes within this time what does not go on.
const CLOSE_MAX: Duration = Duration::from_secs(60);

async fn send_code(client: &mut Client, message: broker_proto::rocketmq::Message) -> Code {
    code(&client.send(vec![message]).await.unwrap().status)
}

async fn start(place: &Place) -> (Broker, Client) {
    let broker = place.start(&Options::default());
    broker.create("orders", "billing").await;
    let client = broker.client("client-1").await;
    (broker, client)
}

#[tokio::test]
async fn bad_sends_are_refused_with_the_code_that_names_the_reason() {
    let place = Place::new();
    let (broker, mut client) = start(&place).await;
    let unknown = message("unknown", "id", b"x");
    assert_eq!(send_code(&mut client, unknown).await, Code::TopicNotFound);
    for illegal in ["no blanks", "no.dots", "TBW102", "", &"x".repeat(200)] {
        let refused = send_code(&mut client, message(illegal, "id", b"x")).await;
        assert_eq!(refused, Code::IllegalTopic, "{illegal:?}");
    }
    let mut fifo = message("orders", "id", b"x");
    let properties = fifo.system_properties.as_mut().unwrap();
    properties.message_type = MessageType::Fifo.into();
    properties.message_group = Some("group".to_owned());
    assert_eq!(send_code(&mut client, fifo).await, Code::MessagePropertyConflictWithType);
    let oversize = message("orders", "id", &vec![b'x'; 4 * 1024 * 1024 + 1]);
    assert_eq!(send_code(&mut client, oversize).await, Code::MessageBodyTooLarge);
    let mut many = message("orders", "id", b"x");
    many.user_properties = (0..200).map(|n| (format!("key-{n}"), "v".to_owned())).collect();
    assert_eq!(send_code(&mut client, many).await, Code::MessagePropertiesTooLarge);
    let nothing = client.send(Vec::new()).await.unwrap();
    assert_ne!(code(&nothing.status), Code::Ok);
    assert_eq!(broker.metric("pinnace_topic_messages", "orders"), 0.0, "nothing was stored");
    assert_eq!(send_code(&mut client, message("orders", "id", b"x")).await, Code::Ok);
}

#[tokio::test]
async fn bad_receives_and_acknowledgements_are_refused() {
    let place = Place::new();
    let (broker, mut client) = start(&place).await;
    let unknown = client.receive("unknown", "billing", 1).await.unwrap();
    assert_eq!(unknown.status.code(), Code::TopicNotFound);
    let illegal = client.receive("orders", "no blanks", 1).await.unwrap();
    assert_eq!(illegal.status.code(), Code::IllegalConsumerGroup);
    let mut request = receive_request("orders", "billing", 1);
    request.invisible_duration = Some(span(Duration::from_secs(1)));
    let short = client.receive_with(request).await.unwrap();
    assert_eq!(short.status.code(), Code::IllegalInvisibleTime);
    for handle in ["", "garbage", "AAAA", &"A".repeat(10_000)] {
        let entry = AckMessageEntry {
            message_id: "id".to_owned(),
            receipt_handle: handle.to_owned(),
            lite_topic: None,
        };
        let request = AckMessageRequest {
            group: Some(resource("billing")),
            topic: Some(resource("orders")),
            entries: vec![entry],
        };
        let answer = client.service.ack_message(request).await.unwrap().into_inner();
        let refused =
            answer.entries.first().map_or_else(|| code(&answer.status), |e| code(&e.status));
        assert_eq!(refused, Code::InvalidReceiptHandle, "{handle:?}");
    }
    let mut nameless = broker.client(" ").await;
    let request = QueryRouteRequest { topic: Some(resource("orders")), endpoints: None };
    let answer = nameless.service.query_route(request).await.unwrap().into_inner();
    assert_eq!(code(&answer.status), Code::ClientIdRequired);
}

/// Writes bytes, and reads until the other side closes.
fn shout(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(CLOSE_MAX)).unwrap();
    // The other side may close before it read everything.
    let _ = stream.write_all(bytes);
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
}

#[tokio::test]
async fn garbage_on_any_port_closes_the_connection_and_nothing_else() {
    let place = Place::new();
    let (broker, mut client) = start(&place).await;
    let noise: Vec<u8> =
        (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let tls_then_noise = [b"\x16\x03\x01\x02\x00\x01", &noise[..]].concat();
    let preface_then_noise = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &noise[..]].concat();
    let pieces = [
        noise,
        vec![0; 100],
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"\x80garbage\r\n\r\n".to_vec(),
        tls_then_noise,
        preface_then_noise,
    ];
    let mut shouting = tokio::task::JoinSet::new();
    for address in [broker.listen, broker.admin, broker.http] {
        for piece in pieces.clone() {
            shouting.spawn_blocking(move || shout(address, &piece));
        }
    }
    while let Some(shouted) = shouting.join_next().await {
        shouted.unwrap();
    }
    for port in ["messaging", "admin"] {
        let label = format!("port=\"{port}\",reason=\"foreign\"");
        assert!(broker.metric("pinnace_connections_dropped_total", &label) >= 4.0, "{port}");
    }
    assert!(get(broker.http, "/readyz").unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(send_code(&mut client, message("orders", "id", b"x")).await, Code::Ok);
    assert!(
        broker.admin().await.get_broker(broker_proto::admin::GetBrokerRequest {}).await.is_ok()
    );
}
