//! TLS and plaintext clients on one port.

use std::fs;

use broker_proto::rocketmq::{Code, QueryRouteRequest};
use tests_broker::Client;
use tests_broker::broker::{Options, Place};
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
