//! Asking other brokers about FIFO topics that grow: whether their shards have a layout, and whether a group has done there
//! what was sent before it.

use std::time::Duration;

use broker_proto::admin::ReadLayoutRequest;
use broker_proto::admin::admin_client::AdminClient;
use broker_replication::LayoutQuestion;
use futures::FutureExt;
use tonic::Request;

use crate::context::BrokerContext;
use crate::limits::PASSED_ON_MS_MAX;

/// Tells the shards of this broker what follows from the answers of all shards.
pub(crate) async fn round(context: &BrokerContext) {
    if !context.catalog.has_grown_topics() {
        return;
    }
    let others = |question| ask_others(context, question).boxed();
    if let Err(error) = context.catalog.layout_round(&others).await {
        tracing::debug!(%error, "groups that wait behind a topic that grew are looked for again");
    }
}

/// Whether all other brokers say yes; one that cannot be asked does not.
async fn ask_others(context: &BrokerContext, question: LayoutQuestion) -> bool {
    let Some(map) = context.endpoints.map() else { return false };
    let others = map.map.brokers.iter().map(|broker| broker.broker_id);
    for broker in others.filter(|broker| *broker != context.broker_id) {
        let Some(channel) = context.peers.admin(&context.endpoints, broker) else { return false };
        let mut request = Request::new(ReadLayoutRequest {
            topic: question.topic.to_string(),
            queues: question.layout,
            group: question.group.as_ref().map(ToString::to_string).unwrap_or_default(),
        });
        request.set_timeout(Duration::from_millis(PASSED_ON_MS_MAX));
        let answer = AdminClient::new(channel).read_layout(request).await;
        if !answer.is_ok_and(|answer| answer.into_inner().passed) {
            return false;
        }
    }
    true
}
