//! A port under good clients, silent ones, foreign ones and too many.

use std::convert::Infallible;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use super::tls::{CertificateSource, Tls};
use super::*;

/// The preface and an empty SETTINGS frame.
const HTTP2_HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

struct TestPort {
    address: SocketAddr,
    port: Arc<Port>,
}

/// No call ends by itself.
async fn start(connections_max: usize) -> TestPort {
    start_with(connections_max, |_request| std::future::pending()).await
}

async fn start_with<A>(
    connections_max: usize,
    answer: impl Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
) -> TestPort
where
    A: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let names = vec!["localhost".to_owned()];
    let tls = Arc::new(Tls::new(CertificateSource::SelfMade(names)).unwrap());
    let admission = Admission { connections_max, ..Admission::default() };
    let port = Port::new("test", admission, CancellationToken::new());
    let socket = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = socket.local_addr().unwrap();
    let shared = Arc::clone(&port);
    tokio::spawn(accept(socket, Arc::clone(&port), move |accepted| {
        let service = tower::service_fn(answer.clone());
        let connection = grpc::serve(accepted, Arc::clone(&shared), Arc::clone(&tls), service);
        tokio::spawn(shared.connections.track_future(connection));
    }));
    TestPort { address, port }
}

async fn connect(test: &TestPort) -> TcpStream {
    TcpStream::connect(test.address).await.unwrap()
}

/// The type of the next frame of the server; 4 is SETTINGS.
async fn next_frame_type(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> u8 {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
    stream.read_exact(&mut payload).await.unwrap();
    head[3]
}

async fn is_closed_by_the_server(mut stream: TcpStream) -> bool {
    let mut rest = Vec::new();
    // A reset is as good as an end.
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    ended.is_ok()
}

fn trusting_everybody(host: &str) -> (TlsConnector, rustls_pki_types::ServerName<'static>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustAll))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = rustls_pki_types::ServerName::try_from(host.to_owned()).unwrap();
    (TlsConnector::from(Arc::new(config)), name)
}

/// As most official clients do.
#[derive(Debug)]
struct TrustAll;

impl rustls::client::danger::ServerCertVerifier for TrustAll {
    fn verify_server_cert(
        &self,
        _certificate: &rustls_pki_types::CertificateDer<'_>,
        _chain: &[rustls_pki_types::CertificateDer<'_>],
        _name: &rustls_pki_types::ServerName<'_>,
        _ocsp: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &rustls_pki_types::CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &rustls_pki_types::CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[tokio::test]
async fn plaintext_and_tls_clients_are_served_on_one_port() {
    let test = start(10).await;
    let mut plain = connect(&test).await;
    plain.write_all(HTTP2_HELLO).await.unwrap();
    assert_eq!(next_frame_type(&mut plain).await, 4);

    let (connector, name) = trusting_everybody("localhost");
    let mut encrypted = connector.connect(name, connect(&test).await).await.unwrap();
    assert_eq!(encrypted.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    encrypted.write_all(HTTP2_HELLO).await.unwrap();
    assert_eq!(next_frame_type(&mut encrypted).await, 4);
    assert_eq!(test.port.counters.accepted.get(), 2);
    assert_eq!(test.port.open(), 2);
}

#[tokio::test]
async fn foreign_bytes_close_the_connection_and_are_counted() {
    let test = start(10).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64], b"\x16\x03\x01\x00\x05hello"] {
        let mut stream = connect(&test).await;
        stream.write_all(bytes).await.unwrap();
        assert!(is_closed_by_the_server(stream).await);
    }
    assert_eq!(test.port.counters.foreign.get(), 2);
    assert_eq!(test.port.counters.tls_failed.get(), 1);
    let mut after = connect(&test).await;
    after.write_all(HTTP2_HELLO).await.unwrap();
    assert_eq!(next_frame_type(&mut after).await, 4);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_and_one_that_stops_halfway_are_dropped() {
    let test = start(10).await;
    assert!(is_closed_by_the_server(connect(&test).await).await);
    assert_eq!(test.port.counters.silent.get(), 1);
    let mut half = connect(&test).await;
    half.write_all(b"PRI * HT").await.unwrap();
    assert!(is_closed_by_the_server(half).await);
    assert_eq!(test.port.counters.silent.get(), 2);
}

/// HEADERS of `POST http:/`, which end both the headers and the request.
const CALL: &[u8] = b"\0\0\x03\x01\x05\0\0\0\x01\x83\x86\x84";

async fn connect_and_call(test: &TestPort) -> TcpStream {
    let mut stream = connect(test).await;
    stream.write_all(&[HTTP2_HELLO, CALL].concat()).await.unwrap();
    assert_eq!(next_frame_type(&mut stream).await, 4);
    stream
}

#[tokio::test]
async fn connections_with_calls_keep_their_places_until_they_end() {
    let test = start(1).await;
    let first = connect_and_call(&test).await;
    assert!(is_closed_by_the_server(connect(&test).await).await);
    assert_eq!(test.port.counters.over_source_limit.get(), 1);
    drop(first);
    let freed = async {
        while test.port.open() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), freed).await.unwrap();
    connect_and_call(&test).await;
}

#[tokio::test]
async fn silent_connections_hold_no_place_that_another_needs() {
    let test = start(4).await;
    let silent = connect(&test).await;
    let mut idle = connect(&test).await;
    idle.write_all(HTTP2_HELLO).await.unwrap();
    assert_eq!(next_frame_type(&mut idle).await, 4);
    // One address may have half of the places.
    let _calls = (connect_and_call(&test).await, connect_and_call(&test).await);
    assert!(is_closed_by_the_server(silent).await && is_closed_by_the_server(idle).await);
    assert_eq!(test.port.counters.gave_way.get(), 2);
    assert_eq!(test.port.open(), 2);
}

#[tokio::test]
async fn a_flood_of_frames_without_a_request_ends_its_connection_alone() {
    let test = start(10).await;
    let mut other = connect_and_call(&test).await;
    let mut flooding = connect(&test).await;
    flooding.write_all(HTTP2_HELLO).await.unwrap();
    let settings = b"\0\0\0\x04\0\0\0\0\0".repeat(2_000);
    // It may be closed before all of it is written.
    let _ = flooding.write_all(&settings).await;
    assert!(is_closed_by_the_server(flooding).await);
    assert_eq!((test.port.counters.flood.get(), test.port.counters.broken.get()), (1, 0));
    // Frame type 6 is PING: its answer.
    other.write_all(b"\0\0\x08\x06\0\0\0\0\0pingpong").await.unwrap();
    while next_frame_type(&mut other).await != 6 {}
}

/// Time is paused: what passes is what somebody waited for on purpose.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_is_cut() {
    let test = start_with(10, |_request| async {
        Ok::<_, Infallible>(Response::new(Body::new("an answer".to_owned())))
    });
    let test = test.await;
    let mut stream = connect(&test).await;
    // SETTINGS with an initial window (4) of 0 bytes.
    let no_window = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\0\0\0";
    let hello = [&HTTP2_HELLO[..24], no_window, CALL].concat();
    stream.write_all(&hello).await.unwrap();
    let asked = tokio::time::Instant::now();
    let answering = async {
        // It is alive and answers pings, but takes nothing.
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                break;
            }
            let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            stream.read_exact(&mut payload).await.unwrap();
            if head[3] == 6 && head[4] == 0 {
                let ack = [b"\0\0\x08\x06\x01\0\0\0\0", &payload[..]].concat();
                stream.write_all(&ack).await.unwrap();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(120), answering).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_secs(40), "cut after {:?}", asked.elapsed());
    assert_eq!(test.port.counters.unread.get(), 1);
}

#[tokio::test]
async fn stopping_sends_clients_away_and_accepts_no_more() {
    let test = start(10).await;
    let mut stream = connect(&test).await;
    stream.write_all(HTTP2_HELLO).await.unwrap();
    assert_eq!(next_frame_type(&mut stream).await, 4);
    test.port.stop.cancel();
    // Frame type 7 is GOAWAY; the acknowledgement of our settings may come before it.
    while next_frame_type(&mut stream).await != 7 {}
    drop(stream);
    test.port.connections.close();
    tokio::time::timeout(Duration::from_secs(10), test.port.connections.wait()).await.unwrap();
    assert!(TcpStream::connect(test.address).await.is_err());
}

/// Time is paused: what passes is what somebody waited for on purpose.
#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_long_for_clients_that_say_nothing_more() {
    let test = start(10).await;
    let silent = connect(&test).await;
    let mut frozen = connect(&test).await;
    frozen.write_all(HTTP2_HELLO).await.unwrap();
    assert_eq!(next_frame_type(&mut frozen).await, 4);
    assert_eq!(test.port.open(), 2);
    let told = tokio::time::Instant::now();
    test.port.stop.cancel();
    test.port.connections.close();
    test.port.connections.wait().await;
    // For a call that is open, `crate::shutdown` sets the limit.
    assert!(told.elapsed() < Duration::from_secs(4), "waited for {:?}", told.elapsed());
    drop((silent, frozen));
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let test = start(1).await;
    let text = bind(test.address).await.unwrap_err().to_string();
    assert!(text.contains(&test.address.to_string()) && text.contains("another port"), "{text}");
}
