//! QueryRoute: the queues of a topic and where they are (protocol section 3.1).
//! Reads the catalog and the cluster map; asks no shard. Of dead-letter topics every broker knows its own shards only, so
//! that the others are asked.

use broker_model::{DEAD_LETTER_PREFIX, Topic, shard_name};
use broker_proto::rocketmq::{
    Code, MessageQueue, Permission, QueryRouteRequest, QueryRouteResponse, Resource,
};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::convert::route::{message_queue, permission};
use crate::endpoints::RequestEndpoints;
use crate::peers;
use crate::status::{self, Failure};

pub(crate) async fn query_route(
    context: &BrokerContext,
    request: Request<QueryRouteRequest>,
) -> Result<QueryRouteResponse, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    let ours = route(context, &request);
    if !is_dead_letter_topic(request.topic.as_ref()) {
        return ours;
    }
    let theirs = peers::answers_of_others(context, &caller, &request, async |mut peer, request| {
        peer.query_route(request).await
    });
    let all = theirs.await.into_iter().chain(ours.clone()).flat_map(|answer| answer.message_queues);
    let mut message_queues: Vec<_> = all.collect();
    if message_queues.is_empty() {
        return ours;
    }
    message_queues.sort_by(place_order);
    Ok(QueryRouteResponse { status: Some(status::ok()), message_queues })
}

/// The topic of dead letters comes into being on each broker with the first dead letter there.
pub(crate) fn is_dead_letter_topic(topic: Option<&Resource>) -> bool {
    topic.is_some_and(|topic| topic.name.starts_with(DEAD_LETTER_PREFIX))
}

/// By shard and queue, so that the same queues are the same list.
pub(crate) fn place_order(one: &MessageQueue, other: &MessageQueue) -> std::cmp::Ordering {
    let place = |queue: &MessageQueue| {
        let name = queue.broker.as_ref().map(|broker| broker.name.clone()).unwrap_or_default();
        (name, queue.id)
    };
    place(one).cmp(&place(other))
}

fn route(
    context: &BrokerContext,
    request: &QueryRouteRequest,
) -> Result<QueryRouteResponse, Failure> {
    let entry = context.topic(request.topic.as_ref())?;
    let resource = request.topic.clone().unwrap_or_default();
    let endpoints = context.endpoints.for_request(request.endpoints.as_ref());
    let message_queues = queues(context, &entry.topic, &resource, &endpoints)?;
    Ok(QueryRouteResponse { status: Some(status::ok()), message_queues })
}

/// Never an empty list: some clients divide by its length.
fn queues(
    context: &BrokerContext,
    topic: &Topic,
    resource: &Resource,
    endpoints: &RequestEndpoints,
) -> Result<Vec<MessageQueue>, Failure> {
    if permission(topic) == Permission::None {
        let text = format!("topic {} can neither be read from nor written to", topic.name);
        return Err(Failure::new(Code::Forbidden, text));
    }
    let mut queues = Vec::with_capacity(topic.queues as usize);
    for placement in &topic.placement {
        let is_local = context.catalog.shard(placement.shard).is_some();
        let Some(address) = endpoints.of(placement.shard, is_local) else { continue };
        let broker_name = shard_name(placement.shard);
        let ids = 0..i32::try_from(placement.queues).unwrap_or(i32::MAX);
        queues.extend(ids.map(|id| message_queue(resource, topic, &broker_name, address, id)));
    }
    if queues.is_empty() {
        let text = format!("topic {} has no queue on a shard that is known here", topic.name);
        return Err(Failure::new(Code::TopicNotFound, text));
    }
    Ok(queues)
}
