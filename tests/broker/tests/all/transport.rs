//! TLS and plaintext clients on one port, and certificates that change while the broker runs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use broker_proto::rocketmq::{Code, QueryRouteRequest};
use tests_broker::Client;
use tests_broker::broker::{Broker, Options, Place};
use tests_broker::client::resource;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::rpcs::code;

async fn route_code(client: &mut Client) -> Code {
    let request = QueryRouteRequest { topic: Some(resource("orders")), endpoints: None };
    code(&client.service.query_route(request).await.unwrap().into_inner().status)
}

#[tokio::test]
async fn tls_and_plaintext_clients_share_a_port() {
    let place = Place::new();
    let made = rcgen::generate_simple_self_signed(["broker.example".to_owned()]).unwrap();
    let (chain, key) = (place.path("tls.crt"), place.path("tls.key"));
    fs::write(&chain, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let options = Options::default()
        .with("--tls-certificate", chain.display())
        .with("--tls-key", key.display());
    let broker = place.start(&options);
    broker.create("orders", "billing").await;

    let mut plain = broker.client("plain").await;
    assert_eq!(route_code(&mut plain).await, Code::Ok);

    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(made.cert.pem()))
        .domain_name("broker.example");
    let endpoint = Endpoint::from_shared(format!("https://{}", broker.listen)).unwrap();
    let channel = endpoint.tls_config(tls.clone()).unwrap().connect().await.unwrap();
    let mut encrypted = Client::over(channel, "encrypted");
    assert_eq!(route_code(&mut encrypted).await, Code::Ok);

    let wrong_name = tls.domain_name("other.example");
    let endpoint = Endpoint::from_shared(format!("https://{}", broker.listen)).unwrap();
    assert!(endpoint.tls_config(wrong_name).unwrap().connect().await.is_err());
    assert_eq!(route_code(&mut plain).await, Code::Ok);
}

/// New files are looked at every few seconds; what was not noticed by then fails its test.
const NOTICED_MAX: Duration = Duration::from_secs(30);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Puts files into a folder as Kubernetes does with those of a Secret: all of them change at one moment.
fn put(folder: &Path, version: &str, chain: &str, key: &str) {
    let files = folder.join(version);
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("tls.crt"), chain).unwrap();
    fs::write(files.join("tls.key"), key).unwrap();
    let next = folder.join("..next");
    symlink(version, &next).unwrap();
    fs::rename(next, folder.join("..data")).unwrap();
}

/// Whether a client that trusts this certificate alone gets through.
async fn is_served(broker: &Broker, trusted: &str) -> bool {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(trusted))
        .domain_name("broker.example");
    let endpoint = Endpoint::from_shared(format!("https://{}", broker.listen)).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await.is_ok()
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_a_broken_one_for_none() {
    let place = Place::new();
    let folder = place.path("tls");
    let made = || rcgen::generate_simple_self_signed(["broker.example".to_owned()]).unwrap();
    let (first, second) = (made(), made());
    put(&folder, "..1", &first.cert.pem(), &first.signing_key.serialize_pem());
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
    }
    let options = Options::default()
        .with("--tls-certificate", folder.join("tls.crt").display())
        .with("--tls-key", folder.join("tls.key").display());
    let broker = place.start(&options);
    broker.create("orders", "billing").await;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(first.cert.pem()))
        .domain_name("broker.example");
    let endpoint = Endpoint::from_shared(format!("https://{}", broker.listen)).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut connected = Client::over(channel, "connected");
    assert_eq!(route_code(&mut connected).await, Code::Ok);
    assert!(!is_served(&broker, &second.cert.pem()).await);

    put(&folder, "..2", &second.cert.pem(), &second.signing_key.serialize_pem());
    let begun = Instant::now();
    while !is_served(&broker, &second.cert.pem()).await {
        assert!(begun.elapsed() < NOTICED_MAX, "never noticed; {}", broker.logged());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    assert!(!is_served(&broker, &first.cert.pem()).await);
    assert_eq!(route_code(&mut connected).await, Code::Ok, "what is connected stays");

    // A key of another certificate.
    put(&folder, "..3", &first.cert.pem(), &second.signing_key.serialize_pem());
    let told = || broker.logged().matches("the new TLS certificate is not used").count();
    let begun = Instant::now();
    while told() == 0 {
        assert!(is_served(&broker, &second.cert.pem()).await);
        assert!(begun.elapsed() < NOTICED_MAX, "never told; {}", broker.logged());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    put(&folder, "..4", &first.cert.pem(), &first.signing_key.serialize_pem());
    let begun = Instant::now();
    while !is_served(&broker, &first.cert.pem()).await {
        assert!(begun.elapsed() < NOTICED_MAX, "never noticed; {}", broker.logged());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    assert_eq!(told(), 1, "{}", broker.logged());
    for key in [&first, &second].map(|made| made.signing_key.serialize_pem()) {
        assert!(!broker.logged().contains(&key[40..60]), "no key in the log");
    }
}
