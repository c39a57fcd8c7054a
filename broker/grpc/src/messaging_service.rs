//! The RocketMQ v2 service: one line per RPC, pointing into `rpc/`.
//! RPCs that are legal but not built yet answer NOT_IMPLEMENTED in their status, never a transport error.

use std::sync::Arc;

use broker_proto::rocketmq::messaging_service_server::{
    MessagingService as Service, MessagingServiceServer,
};
use broker_proto::rocketmq::{
    self as wire, PullMessageResponse, TelemetryCommand, pull_message_response::Content,
};
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::context::BrokerContext;
use crate::limits::REQUEST_BYTES_MAX;
use crate::rpc::{
    ack_message, answered, change_invisible_duration, forward_message_to_dead_letter_queue,
    heartbeat, not_served, notify_client_termination, query_assignment, query_route,
    receive_message, send_message, telemetry,
};
use crate::status::Failure;

#[derive(Debug)]
struct MessagingService {
    context: Arc<BrokerContext>,
}

/// The service with its limits, ready for a port.
#[must_use]
pub fn messaging_service(context: Arc<BrokerContext>) -> MessagingServiceServer<impl Service> {
    MessagingServiceServer::new(MessagingService { context })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(usize::MAX)
}

type Answered<A> = Result<Response<A>, Status>;

#[async_trait]
impl Service for MessagingService {
    async fn query_route(
        &self,
        request: Request<wire::QueryRouteRequest>,
    ) -> Answered<wire::QueryRouteResponse> {
        Ok(answered(query_route::query_route(&self.context, &request)))
    }

    async fn heartbeat(
        &self,
        request: Request<wire::HeartbeatRequest>,
    ) -> Answered<wire::HeartbeatResponse> {
        Ok(answered(heartbeat::heartbeat(&self.context, &request)))
    }

    async fn send_message(
        &self,
        request: Request<wire::SendMessageRequest>,
    ) -> Answered<wire::SendMessageResponse> {
        Ok(answered(send_message::send_message(&self.context, request).await))
    }

    async fn query_assignment(
        &self,
        request: Request<wire::QueryAssignmentRequest>,
    ) -> Answered<wire::QueryAssignmentResponse> {
        Ok(answered(query_assignment::query_assignment(&self.context, &request)))
    }

    type ReceiveMessageStream = receive_message::Deliveries;

    async fn receive_message(
        &self,
        request: Request<wire::ReceiveMessageRequest>,
    ) -> Answered<Self::ReceiveMessageStream> {
        let result = receive_message::receive_message(&self.context, request).await;
        Ok(Response::new(result.unwrap_or_else(receive_message::Deliveries::refused)))
    }

    async fn ack_message(
        &self,
        request: Request<wire::AckMessageRequest>,
    ) -> Answered<wire::AckMessageResponse> {
        Ok(answered(ack_message::ack_message(&self.context, request).await))
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<wire::ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answered<wire::ForwardMessageToDeadLetterQueueResponse> {
        use forward_message_to_dead_letter_queue::forward_message_to_dead_letter_queue as forward;
        Ok(answered(forward(&self.context, request).await))
    }

    type PullMessageStream = tokio_stream::Once<Result<PullMessageResponse, Status>>;

    async fn pull_message(
        &self,
        _request: Request<wire::PullMessageRequest>,
    ) -> Answered<Self::PullMessageStream> {
        let status = Failure::not_served("pulling messages").into_status();
        let element = PullMessageResponse { content: Some(Content::Status(status)) };
        Ok(Response::new(tokio_stream::once(Ok(element))))
    }

    async fn update_offset(
        &self,
        _request: Request<wire::UpdateOffsetRequest>,
    ) -> Answered<wire::UpdateOffsetResponse> {
        Ok(not_served("updating offsets"))
    }

    async fn get_offset(
        &self,
        _request: Request<wire::GetOffsetRequest>,
    ) -> Answered<wire::GetOffsetResponse> {
        Ok(not_served("reading offsets"))
    }

    async fn query_offset(
        &self,
        _request: Request<wire::QueryOffsetRequest>,
    ) -> Answered<wire::QueryOffsetResponse> {
        Ok(not_served("querying offsets"))
    }

    async fn end_transaction(
        &self,
        _request: Request<wire::EndTransactionRequest>,
    ) -> Answered<wire::EndTransactionResponse> {
        Ok(not_served("ending transactions"))
    }

    type TelemetryStream = telemetry::TelemetryStream;

    async fn telemetry(
        &self,
        request: Request<Streaming<TelemetryCommand>>,
    ) -> Answered<Self::TelemetryStream> {
        Ok(Response::new(telemetry::telemetry(&self.context, request)))
    }

    async fn notify_client_termination(
        &self,
        request: Request<wire::NotifyClientTerminationRequest>,
    ) -> Answered<wire::NotifyClientTerminationResponse> {
        let result =
            notify_client_termination::notify_client_termination(&self.context, &request).await;
        Ok(answered(result))
    }

    async fn change_invisible_duration(
        &self,
        request: Request<wire::ChangeInvisibleDurationRequest>,
    ) -> Answered<wire::ChangeInvisibleDurationResponse> {
        use change_invisible_duration::change_invisible_duration as change;
        Ok(Response::new(change(&self.context, request).await))
    }

    async fn recall_message(
        &self,
        _request: Request<wire::RecallMessageRequest>,
    ) -> Answered<wire::RecallMessageResponse> {
        Ok(not_served("recalling messages"))
    }

    async fn sync_lite_subscription(
        &self,
        _request: Request<wire::SyncLiteSubscriptionRequest>,
    ) -> Answered<wire::SyncLiteSubscriptionResponse> {
        Ok(not_served("subscribing to light topics"))
    }
}
