//! AdminSendMessage: stores a message as a producer would, for trying things out.

use broker_proto::rocketmq::{
    self as wire, AdminSendMessageRequest, AdminSendMessageResponse, Code, Message, MessageType,
    SendMessageRequest,
};
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::clock::now_ms;
use crate::context::BrokerContext;
use crate::convert::message_id;
use crate::convert::time::timestamp;
use crate::rpc::send_message::send_message;
use crate::status::Failure;

/// Stands in for the client id that producers send.
const CLIENT_ID: &str = "rocketmq-admin";

pub(super) async fn admin_send_message(
    context: &BrokerContext,
    request: Request<AdminSendMessageRequest>,
) -> Result<AdminSendMessageResponse, Failure> {
    let (_, extensions, request) = request.into_parts();
    let mut properties = request.system_properties.unwrap_or_default();
    if properties.message_type() == MessageType::Transaction {
        let text = "a transaction needs a producer that ends it; send from one";
        return Err(Failure::new(Code::NotImplemented, text));
    }
    if properties.message_id.is_empty() {
        properties.message_id = message_id::fresh(now_ms());
    }
    properties.tag = request.tag.or(properties.tag);
    properties.keys.extend(request.key);
    properties.born_timestamp.get_or_insert_with(|| timestamp(now_ms()));
    let message = Message {
        topic: request.topic,
        user_properties: request.user_properties,
        system_properties: Some(properties),
        body: request.body,
    };
    let mut send = Request::new(SendMessageRequest { messages: vec![message] });
    send.metadata_mut().insert("x-mq-client-id", MetadataValue::from_static(CLIENT_ID));
    *send.extensions_mut() = extensions;
    let wire::SendMessageResponse { status, entries } = send_message(context, send).await?;
    let message_id = entries.into_iter().next().map(|entry| entry.message_id).unwrap_or_default();
    Ok(AdminSendMessageResponse { status, message_id })
}
