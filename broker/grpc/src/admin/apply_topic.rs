//! ApplyTopic: creates a topic or makes it what is asked. Idempotent.
//! The catalog decides about owners, versions, placement and differences.

use broker_proto::admin::{ApplyTopicRequest, ApplyTopicResponse};
use broker_replication::ApplyOptions;
use tonic::Status;

use crate::context::BrokerContext;
use crate::convert::admin::{topic_from, topic_to};
use crate::status::admin_failure;

pub(super) async fn apply_topic(
    context: &BrokerContext,
    request: ApplyTopicRequest,
) -> Result<ApplyTopicResponse, Status> {
    let topic =
        request.topic.ok_or_else(|| Status::invalid_argument("the request has no topic"))?;
    let topic = topic_from(topic).map_err(Status::invalid_argument)?;
    let options = ApplyOptions {
        create_only: request.create_only,
        take_ownership: request.take_ownership,
        if_version: request.if_version,
    };
    let (entry, changed) =
        context.catalog.apply_topic(topic, options).await.map_err(admin_failure)?;
    Ok(ApplyTopicResponse { topic: Some(topic_to(&entry)), changed })
}
