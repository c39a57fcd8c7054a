//! Other brokers of the cluster. A call for a shard that another broker leads is passed on there once: clients choose
//! queues in their own ways, and the server's choice holds (protocol section 3.4); and the route that a client holds may
//! be old. Connections are made when first needed and kept.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use broker_engine::Refusal;
use broker_model::{ShardId, Topic, shard_of_name};
use broker_proto::rocketmq::messaging_service_client::MessagingServiceClient;
use broker_proto::rocketmq::{Endpoints, MessageQueue};
use futures::future::join_all;
use tonic::metadata::{KeyAndValueRef, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response};

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::endpoints::EndpointPlan;
use crate::limits::{PASSED_ON_MS_MAX, PEER_CONNECT_MS_MAX, REQUEST_BYTES_MAX};
use crate::status::Failure;

/// Marks a call that another broker passed on; it is not passed on again.
const PASSED_ON: &str = "x-pinnace-passed-on";
/// What clients say of themselves begins with this.
const CLIENT_HEADERS: &str = "x-mq-";

/// What a receive is for that another broker passed on, or a client's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// As the client asked.
    Poll,
    /// To say when there is something, and hand out nothing.
    Watch,
    /// To hand out what is there now, without waiting.
    Fetch,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Poll => "1",
            Self::Watch => "watch",
            Self::Fetch => "fetch",
        }
    }

    pub(crate) fn of(metadata: &MetadataMap) -> Self {
        let said = metadata.get(PASSED_ON).and_then(|value| value.to_str().ok());
        let known = [Self::Watch, Self::Fetch].into_iter();
        known.into_iter().find(|purpose| said == Some(purpose.as_str())).unwrap_or(Self::Poll)
    }
}

/// A client of another broker.
pub(crate) type Peer = MessagingServiceClient<Channel>;

/// Connections to other brokers, by address.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    channels: Mutex<HashMap<String, Channel>>,
}

/// Whether another broker passed the call on.
pub(crate) fn is_passed_on(metadata: &MetadataMap) -> bool {
    metadata.contains_key(PASSED_ON)
}

impl Peers {
    fn channel(&self, endpoints: &Endpoints) -> Option<Channel> {
        let address = endpoints.addresses.first()?;
        let is_ipv6 = address.host.contains(':');
        let host = if is_ipv6 { format!("[{}]", address.host) } else { address.host.clone() };
        let uri = format!("http://{host}:{}", address.port);
        // What the lock guards is whole at all times.
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&uri) {
            return Some(channel.clone());
        }
        let endpoint = Endpoint::from_shared(uri.clone()).ok()?;
        let channel =
            endpoint.connect_timeout(Duration::from_millis(PEER_CONNECT_MS_MAX)).connect_lazy();
        channels.insert(uri, channel.clone());
        Some(channel)
    }

    /// To the admin API of a broker; none when the map does not know it.
    pub(crate) fn admin(&self, plan: &EndpointPlan, broker_id: u32) -> Option<Channel> {
        self.channel(&plan.map()?.admin_endpoints(broker_id)?)
    }
}

/// Whether another broker is known to lead the shard, and the call may be passed on there.
pub(crate) fn is_elsewhere(context: &BrokerContext, shard: ShardId, caller: &Caller<'_>) -> bool {
    let map = context.endpoints.map().filter(|_| !caller.is_passed_on());
    context.catalog.shard(shard).is_none() && map.is_some_and(|map| map.endpoints(shard).is_some())
}

/// The shard of a queue when it [`is_elsewhere`].
pub(crate) fn queue_elsewhere(
    context: &BrokerContext,
    queue: Option<&MessageQueue>,
    caller: &Caller<'_>,
) -> Option<ShardId> {
    let shard = shard_of_name(&queue?.broker.as_ref()?.name)?;
    is_elsewhere(context, shard, caller).then_some(shard)
}

/// A client of the broker that leads the shard, and the request with the caller's name on it.
///
/// # Errors
/// HA_NOT_AVAILABLE when nobody is known to lead it, or the call was passed on before.
pub(crate) fn pass_on<T>(
    context: &BrokerContext,
    shard: ShardId,
    caller: &Caller<'_>,
    message: T,
) -> Result<(Peer, Request<T>), Failure> {
    let (client, mut request) = pass_on_poll(context, shard, caller, message)?;
    request.set_timeout(limit(caller));
    Ok((client, request))
}

/// As [`pass_on`], for a call that waits at the other broker, for as long as the caller waits.
///
/// # Errors
/// As [`pass_on`].
pub(crate) fn pass_on_poll<T>(
    context: &BrokerContext,
    shard: ShardId,
    caller: &Caller<'_>,
    message: T,
) -> Result<(Peer, Request<T>), Failure> {
    let map = context.endpoints.map().filter(|_| !caller.is_passed_on());
    let channel = map.and_then(|map| context.peers.channel(map.endpoints(shard)?));
    let channel = channel.ok_or(Refusal::Unavailable)?;
    let mut request = passed_on(caller.metadata(), Purpose::Poll, message);
    if let Some(left_ms) = caller.timeout_ms() {
        request.set_timeout(Duration::from_millis(left_ms));
    }
    Ok((client(channel), request))
}

/// As [`pass_on`], for a call of our own on behalf of a client, whose metadata these are: also for one that was passed on
/// before.
///
/// # Errors
/// HA_NOT_AVAILABLE when nobody is known to lead the shard.
pub(crate) fn ask<T>(
    context: &BrokerContext,
    shard: ShardId,
    metadata: &MetadataMap,
    purpose: Purpose,
    message: T,
) -> Result<(Peer, Request<T>), Failure> {
    let map = context.endpoints.map();
    let channel = map.and_then(|map| context.peers.channel(map.endpoints(shard)?));
    let channel = channel.ok_or(Refusal::Unavailable)?;
    Ok((client(channel), passed_on(metadata, purpose, message)))
}

/// The answers of the other brokers of the cluster to a call that is passed on to all of them at one time; none of those
/// that cannot be reached, and none to a call that was passed on before.
pub(crate) async fn answers_of_others<T: Clone, A>(
    context: &BrokerContext,
    caller: &Caller<'_>,
    message: &T,
    call: impl AsyncFn(Peer, Request<T>) -> Result<Response<A>, tonic::Status>,
) -> Vec<A> {
    let map = context.endpoints.map().filter(|_| !caller.is_passed_on());
    let others = map.iter().flat_map(|map| map.others(context.broker_id));
    let channels = others.filter_map(|endpoints| context.peers.channel(&endpoints));
    let calls = channels.map(|channel| {
        let mut request = passed_on(caller.metadata(), Purpose::Poll, message.clone());
        request.set_timeout(limit(caller));
        call(client(channel), request)
    });
    let answers = join_all(calls).await.into_iter();
    answers.filter_map(|answer| answer_of(answer).ok()).collect()
}

/// One shard of each other broker that has queues of the topic. Every broker knows its own queues of a dead-letter topic
/// only, so that any may have some.
pub(crate) fn shards_elsewhere(context: &BrokerContext, topic: &Topic) -> Vec<ShardId> {
    let Some(map) = context.endpoints.map() else { return Vec::new() };
    let all = map.map.shards.iter().map(|shard| ShardId(shard.id));
    let placed = topic.placement.iter().filter(|placed| placed.queues > 0);
    let candidates: Vec<ShardId> = match topic.name.is_dead_letter() {
        true => all.collect(),
        false => placed.map(|placed| placed.shard).collect(),
    };
    let mut brokers: Vec<&Endpoints> = Vec::new();
    let is_first_of_another = |shard: &ShardId| {
        let broker = map.endpoints(*shard).filter(|_| context.catalog.shard(*shard).is_none());
        let Some(broker) = broker.filter(|broker| !brokers.contains(broker)) else { return false };
        brokers.push(broker);
        true
    };
    candidates.into_iter().filter(is_first_of_another).collect()
}

fn client(channel: Channel) -> Peer {
    MessagingServiceClient::new(channel)
        .max_encoding_message_size(REQUEST_BYTES_MAX)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
}

/// How long a call without polling may take at another broker.
fn limit(caller: &Caller<'_>) -> Duration {
    Duration::from_millis(caller.timeout_ms().unwrap_or(PASSED_ON_MS_MAX).min(PASSED_ON_MS_MAX))
}

fn passed_on<T>(metadata: &MetadataMap, purpose: Purpose, message: T) -> Request<T> {
    let mut request = Request::new(message);
    for entry in metadata.iter() {
        if let KeyAndValueRef::Ascii(key, value) = entry
            && key.as_str().starts_with(CLIENT_HEADERS)
        {
            request.metadata_mut().insert(key.clone(), value.clone());
        }
    }
    request.metadata_mut().insert(PASSED_ON, MetadataValue::from_static(purpose.as_str()));
    request
}

/// The answer of the other broker.
///
/// # Errors
/// HA_NOT_AVAILABLE when it cannot be reached; whether it carried out the call is then not known.
pub(crate) fn answer_of<T>(answer: Result<Response<T>, tonic::Status>) -> Result<T, Failure> {
    answer.map(Response::into_inner).map_err(|status| {
        tracing::warn!(%status, "a call was passed on to another broker that does not answer");
        Refusal::Unavailable.into()
    })
}
