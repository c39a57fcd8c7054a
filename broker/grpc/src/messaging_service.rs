//! The RocketMQ v2 service: one line per RPC, pointing into `rpc/`.
//! What cannot be done is said in the status of the answer, never by a transport error.

use std::sync::Arc;

use broker_proto::rocketmq::messaging_service_server::{
    MessagingService as Service, MessagingServiceServer,
};
use broker_proto::rocketmq::{self as wire, TelemetryCommand};
use futures::future::Either;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::admission::Admitted;
use crate::context::BrokerContext;
use crate::limits::REQUEST_BYTES_MAX;
use crate::rpc::{
    ack_message, answered, change_invisible_duration, end_transaction,
    forward_message_to_dead_letter_queue, get_offset, heartbeat, notify_client_termination,
    pull_message, query_assignment, query_offset, query_route, recall_message, receive_message,
    send_message, sync_lite_subscription, telemetry, update_offset,
};

#[derive(Debug)]
struct MessagingService {
    context: Arc<BrokerContext>,
}

/// The service with its limits, ready for a port.
#[must_use]
pub fn messaging_service(
    context: Arc<BrokerContext>,
) -> Admitted<MessagingServiceServer<impl Service>> {
    let memory = context.memory.clone();
    let service = MessagingServiceServer::new(MessagingService { context })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    Admitted::new(service, memory)
}

type Answered<A> = Result<Response<A>, Status>;

#[async_trait]
impl Service for MessagingService {
    async fn query_route(
        &self,
        request: Request<wire::QueryRouteRequest>,
    ) -> Answered<wire::QueryRouteResponse> {
        Ok(answered(query_route::query_route(&self.context, request).await))
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
        Ok(answered(query_assignment::query_assignment(&self.context, request).await))
    }

    type ReceiveMessageStream = receive_message::Answer;

    async fn receive_message(
        &self,
        request: Request<wire::ReceiveMessageRequest>,
    ) -> Answered<Self::ReceiveMessageStream> {
        let result = receive_message::receive_message(&self.context, request).await;
        let refused = |failure| Either::Left(receive_message::Deliveries::refused(failure));
        Ok(Response::new(result.unwrap_or_else(refused)))
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

    type PullMessageStream = pull_message::Pulled;

    async fn pull_message(
        &self,
        request: Request<wire::PullMessageRequest>,
    ) -> Answered<Self::PullMessageStream> {
        Ok(Response::new(pull_message::pull_message(&self.context, request).await))
    }

    async fn update_offset(
        &self,
        request: Request<wire::UpdateOffsetRequest>,
    ) -> Answered<wire::UpdateOffsetResponse> {
        Ok(answered(update_offset::update_offset(&self.context, request).await))
    }

    async fn get_offset(
        &self,
        request: Request<wire::GetOffsetRequest>,
    ) -> Answered<wire::GetOffsetResponse> {
        Ok(answered(get_offset::get_offset(&self.context, request).await))
    }

    async fn query_offset(
        &self,
        request: Request<wire::QueryOffsetRequest>,
    ) -> Answered<wire::QueryOffsetResponse> {
        Ok(answered(query_offset::query_offset(&self.context, request).await))
    }

    async fn end_transaction(
        &self,
        request: Request<wire::EndTransactionRequest>,
    ) -> Answered<wire::EndTransactionResponse> {
        Ok(answered(end_transaction::end_transaction(&self.context, request).await))
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
        request: Request<wire::RecallMessageRequest>,
    ) -> Answered<wire::RecallMessageResponse> {
        Ok(answered(recall_message::recall_message(&self.context, request).await))
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<wire::SyncLiteSubscriptionRequest>,
    ) -> Answered<wire::SyncLiteSubscriptionResponse> {
        let answer = sync_lite_subscription::sync_lite_subscription(&self.context, request).await;
        Ok(answered(answer))
    }
}
