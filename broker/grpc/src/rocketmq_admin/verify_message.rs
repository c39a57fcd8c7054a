//! VerifyMessage: gives a stored message to the listener of one push consumer, outside of its deliveries; the status of
//! the answer is what the listener made of it.

use broker_proto::rocketmq::telemetry_command::Command;
use broker_proto::rocketmq::{
    Code, VerifyMessageCommand, VerifyMessageRequest, VerifyMessageResponse,
};

use super::consumers::consumer;
use super::existing_group;
use super::query_message::message;
use crate::context::BrokerContext;
use crate::lookup::{self, By, Find};
use crate::status::Failure;

pub(super) async fn verify_message(
    context: &BrokerContext,
    request: VerifyMessageRequest,
) -> Result<VerifyMessageResponse, Failure> {
    let entry = existing_group(context, request.group.as_ref())?;
    let consumer = consumer(context, &entry.group.name, &request.client_id)?;
    let topic = context.topic(request.topic.as_ref())?;
    let resource = request.topic.unwrap_or_default();
    let find = Find {
        topic: topic.topic.name.clone(),
        times: 0..=u64::MAX,
        by: By::Id(request.message_id.clone()),
        messages_max: 1,
        cursor: None,
    };
    let found = lookup::find(context, &find).await?.all.into_iter().next();
    let Some(mut message) = found.and_then(|located| message(context, located, &resource)) else {
        let text = format!("topic {} has no message {:?}", topic.topic.name, request.message_id);
        return Err(Failure::new(Code::MessageNotFound, text));
    };
    if let Some(properties) = message.system_properties.as_mut() {
        // Never 0: some clients compute their pause from it and fail.
        properties.delivery_attempt = Some(1);
    }
    let message = Some(message);
    let question = |nonce| Command::VerifyMessageCommand(VerifyMessageCommand { nonce, message });
    let answer = context.questions.ask(&consumer.session, question).await?;
    let status = answer.status.unwrap_or_else(|| {
        let text = "the client answered without saying what its listener made of the message";
        Failure::new(Code::InternalError, text).into_status()
    });
    Ok(VerifyMessageResponse { status: Some(status) })
}
