//! GetTopicRoute: the queues of a topic and where they are, as JSON in the form of the older protocol. A shard is what
//! that form calls a broker; its one address has the number of a master.

use broker_model::{Topic, shard_name};
use broker_proto::rocketmq::{Address, Code, GetTopicRouteRequest, GetTopicRouteResponse};
use serde_json::{Value, json};

use crate::context::BrokerContext;
use crate::status::{self, Failure};

/// Bits of the older protocol's permissions.
const READABLE: u32 = 4;
const WRITABLE: u32 = 2;

pub(super) fn get_topic_route(
    context: &BrokerContext,
    request: &GetTopicRouteRequest,
) -> Result<GetTopicRouteResponse, Failure> {
    let entry = context.topic(request.topic.as_ref())?;
    let endpoints = context.endpoints.for_request(None);
    let map = context.endpoints.map();
    let cluster = map.as_ref().map_or("", |held| held.map.cluster.as_str());
    let (mut queues, mut brokers) = (Vec::new(), Vec::new());
    for placement in entry.topic.placement.iter().filter(|placement| placement.queues > 0) {
        let is_local = context.catalog.shard(placement.shard).is_some();
        let address = endpoints.of(placement.shard, is_local).and_then(|e| e.addresses.first());
        let Some(address) = address else { continue };
        let name = shard_name(placement.shard);
        queues.push(queue_data(&entry.topic, &name, placement.queues));
        brokers.push(broker_data(cluster, &name, address));
    }
    if queues.is_empty() {
        let text = format!("topic {} has no queue on a shard that is known here", entry.topic.name);
        return Err(Failure::new(Code::TopicNotFound, text));
    }
    let route = json!({
        "brokerDatas": brokers,
        "filterServerTable": {},
        "queueDatas": queues,
    });
    Ok(GetTopicRouteResponse { status: Some(status::ok()), topic_route_data: route.to_string() })
}

fn queue_data(topic: &Topic, shard: &str, queues: u32) -> Value {
    let read = if topic.readable { READABLE } else { 0 };
    let write = if topic.writable { WRITABLE } else { 0 };
    json!({
        "brokerName": shard,
        "perm": read | write,
        "readQueueNums": queues,
        "topicSysFlag": 0,
        "writeQueueNums": queues,
    })
}

fn broker_data(cluster: &str, shard: &str, address: &Address) -> Value {
    json!({
        "brokerAddrs": { "0": format!("{}:{}", address.host, address.port) },
        "brokerName": shard,
        "cluster": cluster,
    })
}
