//! QueryRoute: the queues of a topic and where they are (protocol section 3.1).
//! Reads the catalog and the cluster map; asks no shard.

use broker_model::{Topic, shard_name};
use broker_proto::rocketmq::{
    Code, MessageQueue, Permission, QueryRouteRequest, QueryRouteResponse, Resource,
};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::convert::route::{message_queue, permission};
use crate::endpoints::RequestEndpoints;
use crate::status::{self, Failure};

pub(crate) fn query_route(
    context: &BrokerContext,
    request: &Request<QueryRouteRequest>,
) -> Result<QueryRouteResponse, Failure> {
    Caller::of_request(request)?;
    let request = request.get_ref();
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
