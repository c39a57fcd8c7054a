//! Other brokers of the cluster. A call for a shard that another broker leads is passed on there once: clients choose
//! queues in their own ways, and the server's choice holds (protocol section 3.4); and the route that a client holds may
//! be old. Connections are made when first needed and kept.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use broker_engine::Refusal;
use broker_model::{ShardId, shard_of_name};
use broker_proto::rocketmq::messaging_service_client::MessagingServiceClient;
use broker_proto::rocketmq::{Endpoints, MessageQueue};
use tonic::metadata::{KeyAndValueRef, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response};

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::limits::{PASSED_ON_MS_MAX, PEER_CONNECT_MS_MAX, REQUEST_BYTES_MAX};
use crate::status::Failure;

/// Marks a call that another broker passed on; it is not passed on again.
const PASSED_ON: &str = "x-pinnace-passed-on";
/// What clients say of themselves begins with this.
const CLIENT_HEADERS: &str = "x-mq-";

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
) -> Result<(MessagingServiceClient<Channel>, Request<T>), Failure> {
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
) -> Result<(MessagingServiceClient<Channel>, Request<T>), Failure> {
    let map = context.endpoints.map().filter(|_| !caller.is_passed_on());
    let channel = map.and_then(|map| context.peers.channel(map.endpoints(shard)?));
    let channel = channel.ok_or(Refusal::Unavailable)?;
    Ok((client(channel), passed_on(caller, message)))
}

/// A client of every other broker of the cluster, and the request for it with the caller's name on it; nobody for a call
/// that was passed on before.
pub(crate) fn pass_on_to_all<T: Clone>(
    context: &BrokerContext,
    caller: &Caller<'_>,
    message: &T,
) -> Vec<(MessagingServiceClient<Channel>, Request<T>)> {
    let map = context.endpoints.map().filter(|_| !caller.is_passed_on());
    let others = map.iter().flat_map(|map| map.others(context.broker_id));
    let channels = others.filter_map(|endpoints| context.peers.channel(&endpoints));
    let passed_on = |channel| {
        let mut request = passed_on(caller, message.clone());
        request.set_timeout(limit(caller));
        (client(channel), request)
    };
    channels.map(passed_on).collect()
}

fn client(channel: Channel) -> MessagingServiceClient<Channel> {
    MessagingServiceClient::new(channel)
        .max_encoding_message_size(REQUEST_BYTES_MAX)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
}

/// How long a call without polling may take at another broker.
fn limit(caller: &Caller<'_>) -> Duration {
    Duration::from_millis(caller.timeout_ms().unwrap_or(PASSED_ON_MS_MAX).min(PASSED_ON_MS_MAX))
}

fn passed_on<T>(caller: &Caller<'_>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    for entry in caller.metadata().iter() {
        if let KeyAndValueRef::Ascii(key, value) = entry
            && key.as_str().starts_with(CLIENT_HEADERS)
        {
            request.metadata_mut().insert(key.clone(), value.clone());
        }
    }
    request.metadata_mut().insert(PASSED_ON, MetadataValue::from_static("1"));
    if let Some(left_ms) = caller.timeout_ms() {
        request.set_timeout(Duration::from_millis(left_ms));
    }
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
