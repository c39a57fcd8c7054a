//! Asking other brokers about FIFO topics that grow: whether their shards have a layout, and whether a group has done there
//! what was sent before it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use broker_proto::admin::ReadLayoutRequest;
use broker_proto::admin::admin_client::AdminClient;
use broker_replication::LayoutQuestion;
use futures::FutureExt;
use tonic::Request;

use crate::context::BrokerContext;
use crate::limits::PASSED_ON_MS_MAX;

/// Brokers that did not answer in this round: they are not waited for again.
type Silent = Mutex<HashSet<u32>>;

/// Tells the shards of this broker what follows from the answers of all shards.
pub(crate) async fn round(context: &BrokerContext) {
    if !context.catalog.has_grown_topics() {
        return;
    }
    let silent = Silent::default();
    let others = |question| ask_others(context, &silent, question).boxed();
    context.catalog.layout_round(&others).await;
}

/// Whether all other brokers say yes; one that cannot be asked does not.
async fn ask_others(context: &BrokerContext, silent: &Silent, question: LayoutQuestion) -> bool {
    let Some(map) = context.endpoints.map() else { return false };
    let others = map.map.brokers.iter().map(|broker| broker.broker_id);
    for broker in others.filter(|broker| *broker != context.broker_id) {
        // What the lock guards is whole at all times.
        if silent.lock().unwrap_or_else(PoisonError::into_inner).contains(&broker) {
            return false;
        }
        let Some(channel) = context.peers.admin(&context.endpoints, broker) else { return false };
        let mut request = Request::new(ReadLayoutRequest {
            topic: question.topic.to_string(),
            queues: question.layout,
            group: question.group.as_ref().map(ToString::to_string).unwrap_or_default(),
        });
        request.set_timeout(Duration::from_millis(PASSED_ON_MS_MAX));
        match AdminClient::new(channel).read_layout(request).await {
            Ok(answer) if answer.get_ref().passed => {}
            Ok(_) => return false,
            Err(_away) => {
                silent.lock().unwrap_or_else(PoisonError::into_inner).insert(broker);
                return false;
            }
        }
    }
    true
}
