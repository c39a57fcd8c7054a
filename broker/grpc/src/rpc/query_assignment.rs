//! QueryAssignment: what a push consumer draws from (protocol section 3.10). Every consumer of a group gets everything:
//! one entry with id -1 per shard for a group without order, one per queue for a FIFO group.

use broker_engine::Refusal;
use broker_model::{Order, Topic, shard_name};
use broker_proto::rocketmq::{
    Assignment, Code, QueryAssignmentRequest, QueryAssignmentResponse, Resource,
};
use tonic::Request;

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::convert::route::message_queue;
use crate::endpoints::RequestEndpoints;
use crate::peers;
use crate::rpc::query_route::{is_dead_letter_topic, place_order};
use crate::status::{self, Failure};

/// The id that stands for all queues of a shard.
const ALL_QUEUES: i32 = -1;

pub(crate) async fn query_assignment(
    context: &BrokerContext,
    request: Request<QueryAssignmentRequest>,
) -> Result<QueryAssignmentResponse, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    let ours = assignment(context, &request);
    if !is_dead_letter_topic(request.topic.as_ref()) {
        return ours;
    }
    // As of its route, every broker knows a part.
    let theirs = peers::answers_of_others(context, &caller, &request, async |mut peer, request| {
        peer.query_assignment(request).await
    });
    let all = theirs.await.into_iter().chain(ours.clone()).flat_map(|answer| answer.assignments);
    let mut queues: Vec<_> = all.filter_map(|assignment| assignment.message_queue).collect();
    if queues.is_empty() {
        return ours;
    }
    queues.sort_by(place_order);
    let assignments =
        queues.into_iter().map(|queue| Assignment { message_queue: Some(queue) }).collect();
    Ok(QueryAssignmentResponse { status: Some(status::ok()), assignments })
}

fn assignment(
    context: &BrokerContext,
    request: &QueryAssignmentRequest,
) -> Result<QueryAssignmentResponse, Failure> {
    let entry = context.topic(request.topic.as_ref())?;
    let group = context.group_name(request.group.as_ref())?;
    let resource = request.topic.clone().unwrap_or_default();
    let topic = &entry.topic;
    if !topic.readable {
        return Err(Refusal::NotReadable(topic.name.clone()).into());
    }
    let is_fifo =
        context.catalog.group(group.as_str()).is_some_and(|g| g.group.order == Order::Fifo);
    let endpoints = context.endpoints.for_request(request.endpoints.as_ref());
    let assignments = assignments(context, topic, &resource, &endpoints, is_fifo);
    if assignments.is_empty() {
        let text = format!("topic {} has no readable queue", topic.name);
        return Err(Failure::new(Code::Forbidden, text));
    }
    Ok(QueryAssignmentResponse { status: Some(status::ok()), assignments })
}

/// The same list as long as the topic stays the same: clients restart their loops on any difference.
fn assignments(
    context: &BrokerContext,
    topic: &Topic,
    resource: &Resource,
    endpoints: &RequestEndpoints,
    is_fifo: bool,
) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    for placement in topic.placement.iter().filter(|p| p.queues > 0) {
        let is_local = context.catalog.shard(placement.shard).is_some();
        let Some(address) = endpoints.of(placement.shard, is_local) else { continue };
        let broker_name = shard_name(placement.shard);
        let count = i32::try_from(placement.queues).unwrap_or(i32::MAX);
        let ids = if is_fifo { 0..count } else { ALL_QUEUES..ALL_QUEUES + 1 };
        assignments.extend(ids.map(|id| {
            let mut queue = message_queue(resource, topic, &broker_name, address, id);
            queue.accept_message_types.clear();
            Assignment { message_queue: Some(queue) }
        }));
    }
    assignments
}
