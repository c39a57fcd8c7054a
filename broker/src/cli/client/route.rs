//! Where the queues of a topic are: QueryRoute and what a client makes of its answer (protocol section 3.1).

use std::net::{Ipv4Addr, Ipv6Addr};

use broker_proto::rocketmq::{
    Address, AddressScheme, Code, Endpoints, MessageQueue, QueryRouteRequest, Status,
};

use super::session::{Service, transport_failure};
use super::{REQUEST_TIMEOUT, ok, resource};
use crate::cli::failure::Failure;

/// A broker of the route: on the wire, a shard.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    /// Its name.
    pub(crate) name: String,
    /// `HOST:PORT` of its first address.
    pub(crate) address: String,
    /// One of its queues, as receive calls name it.
    pub(crate) queue: MessageQueue,
    /// How many queues of the topic it holds.
    pub(crate) queues: usize,
}

/// Asks for the route. The answer names every broker (id 0) once, at least one.
pub(super) async fn query(
    access: &mut Service,
    topic: &str,
    access_point: &Endpoints,
) -> Result<Vec<Broker>, Failure> {
    let mut request = tonic::Request::new(QueryRouteRequest {
        topic: Some(resource(topic)),
        endpoints: Some(access_point.clone()),
    });
    request.set_timeout(REQUEST_TIMEOUT);
    let place = address_of(access_point).unwrap_or_default();
    let answer = access
        .query_route(request)
        .await
        .map_err(|status| transport_failure(&place, &status))?
        .into_inner();
    match answer.status {
        Some(status) if ok(&status) => brokers(answer.message_queues, topic),
        Some(status) => {
            let failure = Failure::from_business(&format!("no route to topic {topic}"), &status);
            Err(with_hint(failure, &status, topic))
        }
        None => Err(Failure::runtime(format!(
            "{place} answered a route without status; is it a RocketMQ 5 broker?"
        ))),
    }
}

/// Says what to do about an unknown topic.
pub(super) fn with_hint(failure: Failure, status: &Status, topic: &str) -> Failure {
    if status.code == i32::from(Code::TopicNotFound) {
        return Failure::runtime(format!(
            "there is no topic {topic} (TOPIC_NOT_FOUND); create it with 'pinnace topic create {topic}'"
        ));
    }
    failure
}

fn brokers(queues: Vec<MessageQueue>, topic: &str) -> Result<Vec<Broker>, Failure> {
    let mut brokers: Vec<Broker> = Vec::new();
    for queue in queues {
        let Some(broker) = queue.broker.as_ref().filter(|broker| broker.id == 0) else { continue };
        if let Some(known) = brokers.iter_mut().find(|known| known.name == broker.name) {
            known.queues += 1;
            continue;
        }
        let address = broker.endpoints.as_ref().and_then(address_of).ok_or_else(|| {
            Failure::runtime(format!(
                "the route of topic {topic} names no address for {}",
                broker.name
            ))
        })?;
        brokers.push(Broker { name: broker.name.clone(), address, queue, queues: 1 });
    }
    if brokers.is_empty() {
        return Err(Failure::runtime(format!("the route of topic {topic} holds no queue")));
    }
    Ok(brokers)
}

/// `HOST:PORT` of the first address.
fn address_of(endpoints: &Endpoints) -> Option<String> {
    let first = endpoints.addresses.first()?;
    if endpoints.scheme() == AddressScheme::IPv6 && !first.host.starts_with('[') {
        return Some(format!("[{}]:{}", first.host, first.port));
    }
    Some(format!("{}:{}", first.host, first.port))
}

/// The wire form of `HOST:PORT`; the text was checked when the connection was opened.
pub(super) fn parse_endpoints(text: &str) -> Endpoints {
    let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let (host, port) = bare.rsplit_once(':').unwrap_or((bare, "8081"));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let scheme = if host.parse::<Ipv4Addr>().is_ok() {
        AddressScheme::IPv4
    } else if host.parse::<Ipv6Addr>().is_ok() {
        AddressScheme::IPv6
    } else {
        AddressScheme::DomainName
    };
    let address = Address { host: host.to_owned(), port: port.parse().unwrap_or_default() };
    Endpoints { scheme: scheme.into(), addresses: vec![address] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_keep_their_scheme_and_come_back_as_an_address() {
        let cases = [
            ("127.0.0.1:8081", AddressScheme::IPv4),
            ("[::1]:8081", AddressScheme::IPv6),
            ("broker-0.pinnace:8081", AddressScheme::DomainName),
        ];
        for (text, scheme) in cases {
            let endpoints = parse_endpoints(text);
            assert_eq!(endpoints.scheme(), scheme);
            assert_eq!(address_of(&endpoints).as_deref(), Some(text));
        }
        assert_eq!(address_of(&parse_endpoints("http://a:1/")).as_deref(), Some("a:1"));
    }
}
