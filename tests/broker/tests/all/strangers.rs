//! What strangers send to keep others out: half requests, silence, floods. Everybody else is served meanwhile.

use std::future::Future;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use broker_proto::admin::{ApplyGroupRequest, GetBrokerRequest, Group, Subscription};
use broker_proto::rocketmq::admin_client::AdminClient as RocketmqAdmin;
use broker_proto::rocketmq::{
    Broker as WireBroker, Code, ListSubscriptionRequest, MessageQueue, PullMessageRequest,
};
use prost::Message as _;
use tests_broker::broker::{Broker, MEMORY_BYTES, Options, Place};
use tests_broker::client::{message, receive_request, resource};
use tests_broker::get;
use tests_broker::raw::{Raw, answered, framed, messaging, send};

/// Pause between two looks at the memory of the broker.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// What a client that reads its answers lets come.
const WINDOW_BYTES: u32 = 1 << 20;

/// What does not fit is refused within this time.
const REFUSED_MAX: Duration = Duration::from_secs(20);
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
            let answer = tokio::time::timeout(REFUSED_MAX, answered(answer)).await;
            let answer = answer.expect("it is refused before the rest comes").unwrap();
            refused += i32::from(answer.code() == Some(Code::TooManyRequests));
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

/// Whether the broker speaks HTTP/2 with whoever begins like this, and the connection.
fn speaks(address: SocketAddr, begin: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(begin);
    let mut frame = [0; 9];
    // The first frame of a server is SETTINGS, type 4.
    let is_spoken = stream.read_exact(&mut frame).is_ok() && frame[3] == 4;
    is_spoken.then_some(stream)
}

fn is_waiting(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[tokio::test]
async fn a_proxy_says_who_comes_and_nobody_else_does() {
    let place = Place::new();
    let behind = Options::default()
        .with("--proxy-protocol", "127.0.0.0/8,::1")
        .with("--connections-per-address", 2);
    let broker = place.start(&behind);
    let header = |client: &str| format!("PROXY TCP4 {client} 10.0.0.1 4711 8081\r\n");
    let begin = |client: &str| [header(client).as_bytes(), PREFACE].concat();
    let come = |client| speaks(broker.listen, &begin(client)).expect("it is let in");
    let [mut first, _second] = [come("203.0.113.1"), come("203.0.113.1")];
    let mut other = come("203.0.113.2");
    let _third = come("203.0.113.1");
    let mut rest = Vec::new();
    // A reset is as good as an end.
    let left = first
        .read_to_end(&mut rest)
        .map_or_else(|error| error.kind(), |_| ErrorKind::UnexpectedEof);
    assert!(!is_waiting(left), "one address has two, and the first one gave way: {left:?}");
    other.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let stays = other.read_to_end(&mut rest).expect_err("another address has its own").kind();
    assert!(is_waiting(stays), "{stays:?}");
    assert!(speaks(broker.listen, PREFACE).is_none(), "a proxy has to say for whom it speaks");
    assert!(
        speaks(broker.admin, &begin("203.0.113.3")).is_none(),
        "no proxy is in front of the admin port"
    );
    assert!(speaks(broker.admin, PREFACE).is_some());
    drop(broker);
    let broker = place.start(&Options::default());
    assert!(speaks(broker.listen, PREFACE).is_some());
    assert!(speaks(broker.listen, &begin("203.0.113.1")).is_none(), "anybody could say so");
}

/// Groups that declare as much as they may: so many subscriptions together.
const SUBSCRIPTIONS: usize = 20_000;
const SUBSCRIPTIONS_PER_GROUP: usize = 100;
/// On a busy machine, with a build without optimisation.
const PROBE_MAX: Duration = Duration::from_secs(2);
/// Lists asked for at one time: all of them together take far longer than a probe may.
const LISTS: usize = 64;
const END_MAX: Duration = Duration::from_secs(15);

async fn declare_subscriptions(broker: &Broker) {
    let mut admin = broker.admin().await;
    for n in 0..SUBSCRIPTIONS / SUBSCRIPTIONS_PER_GROUP {
        let subscriptions = (0..SUBSCRIPTIONS_PER_GROUP)
            .map(|topic| Subscription {
                topic: format!("topic-{topic}"),
                ..Subscription::default()
            })
            .collect();
        let group = Group { name: format!("group-{n}"), subscriptions, ..Group::default() };
        let request = ApplyGroupRequest { group: Some(group), ..ApplyGroupRequest::default() };
        admin.apply_group(request).await.unwrap();
    }
}

#[tokio::test]
async fn an_admin_that_is_busy_holds_up_neither_probes_nor_the_end() {
    let place = Place::new();
    let broker = place.start(&Options::default());
    declare_subscriptions(&broker).await;
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", broker.admin));
    let channel = channel.unwrap().connect().await.unwrap();
    let mut admin = RocketmqAdmin::new(channel.clone()).max_decoding_message_size(64 << 20);
    let list = admin.list_subscription(ListSubscriptionRequest::default()).await.unwrap();
    assert_eq!(list.into_inner().subscription_info.len(), SUBSCRIPTIONS);
    // It has enough to do for a while, and its clients wait for the answers.
    let ask = || {
        let mut admin = RocketmqAdmin::new(channel.clone()).max_decoding_message_size(64 << 20);
        tokio::spawn(
            async move { admin.list_subscription(ListSubscriptionRequest::default()).await },
        )
    };
    let asked: Vec<_> = (0..LISTS).map(|_| ask()).collect();
    let http = broker.http;
    while asked.iter().any(|list| !list.is_finished()) {
        let begun = Instant::now();
        let answer = tokio::task::spawn_blocking(move || get(http, "/healthz")).await.unwrap();
        assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
        let took = begun.elapsed();
        assert!(took < PROBE_MAX, "{took:?} for a probe");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let busy: Vec<_> = (0..LISTS).map(|_| ask()).collect();
    tokio::time::sleep(LOOK_AGAIN).await;
    let told = Instant::now();
    broker.terminate();
    assert!(broker.exit().success());
    assert!(told.elapsed() < END_MAX, "it took {:?}", told.elapsed());
    drop(busy);
}
