//! TraceMessage: what became of a message since it was stored, from the logs of all shards.

use broker_proto::admin::{TraceMessageRequest, TraceMessageResponse};
use tonic::Status;

use super::find_messages::existing_topic;
use crate::context::BrokerContext;
use crate::convert::stored_message::message_trace;
use crate::lookup;
use crate::status::admin_refusal;

pub(super) async fn trace_message(
    context: &BrokerContext,
    request: &TraceMessageRequest,
) -> Result<TraceMessageResponse, Status> {
    let topic = existing_topic(context, &request.topic)?;
    if request.message_id.is_empty() {
        return Err(Status::invalid_argument("the message id is empty; name one"));
    }
    let answer = lookup::trace(context, &topic, &request.message_id).await;
    let answer = answer.map_err(|refusal| admin_refusal(&refusal))?;
    let traces = answer.all.into_iter();
    let traces = traces.map(|located| message_trace(located.found, &topic, located.shard.name()));
    Ok(TraceMessageResponse {
        traces: traces.collect(),
        complete: answer.is_complete,
        until_ms: answer.until_ms,
    })
}
