//! What strangers send to keep others out: half requests, silence, floods. Everybody else is served meanwhile.

use std::future::Future;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use broker_proto::admin::GetBrokerRequest;
use broker_proto::rocketmq::{Broker as WireBroker, Code, MessageQueue, PullMessageRequest};
use prost::Message as _;
use tests_broker::broker::{Broker, MEMORY_BYTES, Options, Place};
use tests_broker::client::{message, receive_request, resource};
use tests_broker::get;
use tests_broker::raw::{Raw, answered, framed, messaging, send};

/// Pause between two looks at the memory of the broker.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// What a client that reads its answers lets come.
const WINDOW_BYTES: u32 = 1 << 20;

/// More than a port for probes or for the admin has places.
const CONNECTIONS: usize = 300;
const HALF_A_REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: broker\r\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn connections(address: SocketAddr, bytes: &[u8]) -> Vec<TcpStream> {
    let connect = |_| {
        let mut stream = TcpStream::connect(address).unwrap();
        // It may be closed already, in favour of a later one.
        let _ = stream.write_all(bytes);
        stream
    };
    (0..CONNECTIONS).map(connect).collect()
}

#[tokio::test]
async fn probes_are_answered_while_half_sent_requests_take_every_place() {
    let place = Place::new();
    let broker = place.start(&Options::default());
    let held = connections(broker.http, HALF_A_REQUEST);
    for path in ["/healthz", "/readyz", "/metrics"] {
        for _ in 0..10 {
            let answer = get(broker.http, path).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer:?}");
        }
    }
    drop(held);
    broker.terminate();
    assert!(broker.exit().success());
}

#[tokio::test]
async fn the_admin_port_answers_while_silent_connections_take_every_place() {
    let place = Place::new();
    let broker = place.start(&Options::default());
    let held = connections(broker.admin, PREFACE);
    for _ in 0..10 {
        broker.admin().await.get_broker(GetBrokerRequest {}).await.unwrap();
    }
    drop(held);
}

/// Resident memory of a debug build may grow by so much while it refuses something, its allocator's habits included.
const GROWTH_BYTES_MAX: u64 = 96 << 20;

/// Runs `hostile`, and says by how much the memory of the broker grew at most.
async fn growth<T>(broker: &Broker, hostile: impl Future<Output = T>) -> (T, u64) {
    let before = broker.resident_bytes().unwrap();
    let mut largest = before;
    tokio::pin!(hostile);
    loop {
        tokio::select! {
            done = &mut hostile => {
                largest = largest.max(broker.resident_bytes().unwrap());
                return (done, largest - before);
            }
            () = tokio::time::sleep(LOOK_AGAIN) => {
                largest = largest.max(broker.resident_bytes().unwrap());
            }
        }
    }
}

#[tokio::test]
async fn a_request_of_empty_messages_is_refused_before_they_take_memory() {
    let place = Place::new();
    let broker = place.start(&Options::default());
    let mut raw = Raw::connect(broker.listen, WINDOW_BYTES).await.unwrap();
    // Field 1, a message without bytes; a kilobyte each once it is decoded.
    let messages = [0x0a, 0].repeat(1_300_000);
    let path = messaging("SendMessage");
    for (id, code) in [(Some("client"), Code::PayloadTooLarge), (None, Code::ClientIdRequired)] {
        let send = raw.call(&path, id, &messages);
        let (answered, grown) = growth(&broker, send).await;
        assert_eq!(answered.unwrap().code(), Some(code));
        assert!(grown < GROWTH_BYTES_MAX, "{code:?}: {grown} bytes more");
    }
    let entries = [0x1a, 0].repeat(300_000);
    let answered = raw.call(&messaging("AckMessage"), Some("client"), &entries).await.unwrap();
    assert_eq!(answered.code(), Some(Code::PayloadTooLarge));
}

#[tokio::test]
async fn only_sends_may_be_large() {
    let place = Place::new();
    let broker = place.start(&Options::default());
    let mut raw = Raw::connect(broker.listen, WINDOW_BYTES).await.unwrap();
    // An unknown field of 2 MB.
    let large = [&[0xfa, 0x07, 0x80, 0x89, 0x7a][..], &[7; 2_000_000]].concat();
    for rpc in ["Heartbeat", "ReceiveMessage", "AckMessage", "QueryRoute", "SyncLiteSubscription"] {
        let answered = raw.call(&messaging(rpc), Some("client"), &large).await.unwrap();
        assert_eq!(answered.code(), Some(Code::PayloadTooLarge), "{rpc}");
    }
    let answered = raw.call(&messaging("SendMessage"), Some("client"), &large).await.unwrap();
    assert_eq!(answered.code(), Some(Code::MessageCorrupted), "decoded: it has no message");
    let mut admin = Raw::connect(broker.admin, WINDOW_BYTES).await.unwrap();
    let answered = admin.call("/pinnace.admin.v1.Admin/GetBroker", None, &large).await.unwrap();
    assert_eq!(answered.grpc_status, Some(tonic::Code::InvalidArgument as i32));
}

#[tokio::test]
async fn requests_that_do_not_end_take_their_part_of_the_memory_and_no_more() {
    let place = Place::new();
    // A part of 32 MiB is for requests, and one in eight of it for small ones.
    let options = Options::default().environment(MEMORY_BYTES, 256 << 20);
    let broker = place.start(&options);
    broker.create("orders", "billing").await;
    let mut raw = Raw::connect(broker.listen, WINDOW_BYTES).await.unwrap();
    let begin = framed(&vec![7; 39 << 20]).slice(..38 << 20);
    let hostile = async {
        let mut refused = 0;
        let mut held = Vec::new();
        for _ in 0..20 {
            let (answer, mut body) =
                raw.begin(&messaging("SendMessage"), Some("stranger")).await.unwrap();
            let begin = begin.clone();
            // It blocks when nobody reads it.
            held.push(tokio::spawn(
                async move { send(&mut body, begin, false).await.map(|()| body) },
            ));
            refused +=
                i32::from(answered(answer).await.unwrap().code() == Some(Code::TooManyRequests));
        }
        refused
    };
    let (refused, grown) = growth(&broker, hostile).await;
    assert_eq!(refused, 20, "none of them fits");
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes more");
    let mut client = broker.client("client").await;
    let sent = client.send(vec![message("orders", "id", b"x")]).await.unwrap();
    assert_eq!(sent.status.unwrap().code(), Code::Ok, "there is memory for others");
}

#[tokio::test]
async fn answers_that_nobody_reads_take_their_part_of_the_memory_and_no_more() {
    let place = Place::new();
    let options = Options::default().environment(MEMORY_BYTES, 256 << 20);
    let broker = place.start(&options);
    broker.create("orders", "billing").await;
    let mut client = broker.client("client").await;
    let body = vec![7; 4 << 20];
    for n in 0..16 {
        let sent = client.send(vec![message("orders", &format!("id-{n}"), &body)]).await.unwrap();
        assert_eq!(sent.status.unwrap().code(), Code::Ok);
    }
    let mut raw = Raw::connect(broker.listen, 0).await.unwrap();
    let pull = PullMessageRequest {
        group: Some(resource("billing")),
        message_queue: Some(MessageQueue {
            topic: Some(resource("orders")),
            broker: Some(WireBroker { name: "shard-0".to_owned(), ..WireBroker::default() }),
            ..MessageQueue::default()
        }),
        batch_size: 32,
        ..PullMessageRequest::default()
    };
    let pull = framed(&pull.encode_to_vec());
    let hostile = async {
        let mut unread = Vec::new();
        for _ in 0..100 {
            let (answer, mut body) =
                raw.begin(&messaging("PullMessage"), Some("stranger")).await.unwrap();
            send(&mut body, pull.clone(), true).await.unwrap();
            // Its headers tell that it is there; what follows has no window.
            unread.push(answer.await.unwrap());
        }
        unread
    };
    let (unread, grown) = growth(&broker, hostile).await;
    assert_eq!(unread.len(), 100);
    assert!(grown < 2 * GROWTH_BYTES_MAX, "{grown} bytes more");
    let acknowledged = client.send(vec![message("orders", "last", b"x")]).await.unwrap();
    assert_eq!(acknowledged.status.unwrap().code(), Code::Ok, "others are served");
}

#[tokio::test]
async fn names_and_ids_that_are_too_long_or_too_many_are_refused() {
    let place = Place::new();
    let broker = place.start(&Options::default());
    broker.create("orders", "billing").await;
    let mut client = broker.client("client").await;
    let mut receive = receive_request("orders", "billing", 1);
    receive.attempt_id = Some("a".repeat(300));
    let refused = client.receive_with(receive).await.unwrap();
    assert_eq!(refused.status.code(), Code::BadRequest);
    let mut raw = Raw::connect(broker.listen, WINDOW_BYTES).await.unwrap();
    let names = b"\x22\x03abc".repeat(10_000);
    let sync = [&b"\x08\x01"[..], &names].concat();
    let answered =
        raw.call(&messaging("SyncLiteSubscription"), Some("client"), &sync).await.unwrap();
    assert_eq!(answered.code(), Some(Code::LiteSubscriptionQuotaExceeded));
}
