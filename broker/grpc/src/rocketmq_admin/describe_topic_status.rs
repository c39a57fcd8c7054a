//! DescribeTopicStatus: what kind of messages a topic takes.

use broker_proto::rocketmq::{DescribeTopicStatusRequest, DescribeTopicStatusResponse};

use crate::context::BrokerContext;
use crate::convert::route::message_type;
use crate::status::{self, Failure};

pub(super) fn describe_topic_status(
    context: &BrokerContext,
    request: &DescribeTopicStatusRequest,
) -> Result<DescribeTopicStatusResponse, Failure> {
    let entry = context.topic(request.topic.as_ref())?;
    Ok(DescribeTopicStatusResponse {
        status: Some(status::ok()),
        topic_message_type: message_type(entry.topic.message_type).into(),
        ..DescribeTopicStatusResponse::default()
    })
}
