//! The admin service of the RocketMQ 5 protocol (section 1.3), for consoles and tools that know it: one file per RPC
//! below this one. It says what this broker holds in that service's words; what cannot be said is refused with a
//! sentence in the status of the answer. Pinnace's own tools use the other admin service, in `admin.rs`.

mod admin_send_message;
mod change_log_level;
mod consumers;
mod delete_subscription;
mod describe_group_accumulation;
mod describe_subscription;
mod describe_topic_status;
mod get_consumer_running_info;
mod get_proxy_runtime_stats;
mod get_topic_route;
mod list_consumer_connection;
mod list_subscription;
mod print_thread_stack_trace;
mod query_message;
mod query_time_span;
mod reset_group_offset;
mod verify_message;

use std::sync::Arc;

use broker_engine::Refusal;
use broker_proto::rocketmq::admin_server::{Admin, AdminServer};
use broker_proto::rocketmq::{self as wire, Resource};
use broker_replication::GroupEntry;
use tonic::{Request, Response, Status, async_trait};

use crate::admission::Admitted;
use crate::context::BrokerContext;
use crate::limits::ADMIN_REQUEST_BYTES_MAX;
use crate::rpc::{answered, answers_with_status};
use crate::status::Failure;

#[derive(Debug)]
struct RocketmqAdminService {
    context: Arc<BrokerContext>,
}

/// The service with its limits, ready for a port.
#[must_use]
pub fn rocketmq_admin_service(context: Arc<BrokerContext>) -> Admitted<AdminServer<impl Admin>> {
    let memory = context.memory.clone();
    let service = AdminServer::new(RocketmqAdminService { context })
        .max_decoding_message_size(ADMIN_REQUEST_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    Admitted::new(service, memory)
}

answers_with_status!(
    DescribeTopicStatusResponse,
    ListSubscriptionResponse,
    DescribeSubscriptionResponse,
    DeleteSubscriptionResponse,
    DescribeGroupAccumulationResponse,
    ListConsumerConnectionResponse,
    ResetGroupOffsetResponse,
    ListMessageResponse,
    PrintThreadStackTraceResponse,
    VerifyMessageResponse,
    AdminSendMessageResponse,
    GetConsumerRunningInfoResponse,
    GetTopicRouteResponse,
    QueryTimeSpanResponse,
);

type Answered<A> = Result<Response<A>, Status>;

/// The group that a request names, which must exist.
///
/// # Errors
/// ILLEGAL_CONSUMER_GROUP or CONSUMER_GROUP_NOT_FOUND.
fn existing_group(
    context: &BrokerContext,
    resource: Option<&Resource>,
) -> Result<Arc<GroupEntry>, Failure> {
    let name = context.group_name(resource)?;
    context.catalog.group(name.as_str()).ok_or_else(|| Refusal::GroupNotFound(name).into())
}

fn resource(name: &str) -> Resource {
    Resource { resource_namespace: String::new(), name: name.to_owned() }
}

/// The wire counts with a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[async_trait]
impl Admin for RocketmqAdminService {
    async fn change_log_level(
        &self,
        request: Request<wire::ChangeLogLevelRequest>,
    ) -> Answered<wire::ChangeLogLevelResponse> {
        Ok(Response::new(change_log_level::change_log_level(&self.context, request.get_ref())))
    }

    async fn describe_topic_status(
        &self,
        request: Request<wire::DescribeTopicStatusRequest>,
    ) -> Answered<wire::DescribeTopicStatusResponse> {
        use describe_topic_status::describe_topic_status as describe;
        Ok(answered(describe(&self.context, request.get_ref())))
    }

    async fn list_subscription(
        &self,
        request: Request<wire::ListSubscriptionRequest>,
    ) -> Answered<wire::ListSubscriptionResponse> {
        use list_subscription::list_subscription as list;
        Ok(answered(list(&self.context, request.get_ref()).await))
    }

    async fn describe_subscription(
        &self,
        request: Request<wire::DescribeSubscriptionRequest>,
    ) -> Answered<wire::DescribeSubscriptionResponse> {
        use describe_subscription::describe_subscription as describe;
        Ok(answered(describe(&self.context, request.get_ref())))
    }

    async fn delete_subscription(
        &self,
        request: Request<wire::DeleteSubscriptionRequest>,
    ) -> Answered<wire::DeleteSubscriptionResponse> {
        use delete_subscription::delete_subscription as delete;
        Ok(answered(delete(&self.context, request.get_ref()).await))
    }

    async fn describe_group_accumulation(
        &self,
        request: Request<wire::DescribeGroupAccumulationRequest>,
    ) -> Answered<wire::DescribeGroupAccumulationResponse> {
        use describe_group_accumulation::describe_group_accumulation as describe;
        Ok(answered(describe(&self.context, request.get_ref()).await))
    }

    async fn list_consumer_connection(
        &self,
        request: Request<wire::ListConsumerConnectionRequest>,
    ) -> Answered<wire::ListConsumerConnectionResponse> {
        use list_consumer_connection::list_consumer_connection as list;
        Ok(answered(list(&self.context, request.get_ref())))
    }

    async fn reset_group_offset(
        &self,
        request: Request<wire::ResetGroupOffsetRequest>,
    ) -> Answered<wire::ResetGroupOffsetResponse> {
        use reset_group_offset::reset_group_offset as reset;
        Ok(answered(reset(&self.context, request.get_ref()).await))
    }

    async fn query_message(
        &self,
        request: Request<wire::ListMessageRequest>,
    ) -> Answered<wire::ListMessageResponse> {
        Ok(answered(query_message::query_message(&self.context, request.into_inner()).await))
    }

    async fn print_thread_stack_trace(
        &self,
        request: Request<wire::PrintThreadStackTraceRequest>,
    ) -> Answered<wire::PrintThreadStackTraceResponse> {
        use print_thread_stack_trace::print_thread_stack_trace as print;
        Ok(answered(print(&self.context, request.get_ref()).await))
    }

    async fn verify_message(
        &self,
        request: Request<wire::VerifyMessageRequest>,
    ) -> Answered<wire::VerifyMessageResponse> {
        Ok(answered(verify_message::verify_message(&self.context, request.into_inner()).await))
    }

    async fn admin_send_message(
        &self,
        request: Request<wire::AdminSendMessageRequest>,
    ) -> Answered<wire::AdminSendMessageResponse> {
        use admin_send_message::admin_send_message as send;
        Ok(answered(send(&self.context, request).await))
    }

    async fn get_consumer_running_info(
        &self,
        request: Request<wire::GetConsumerRunningInfoRequest>,
    ) -> Answered<wire::GetConsumerRunningInfoResponse> {
        use get_consumer_running_info::get_consumer_running_info as get;
        Ok(answered(get(&self.context, request.get_ref()).await))
    }

    async fn get_topic_route(
        &self,
        request: Request<wire::GetTopicRouteRequest>,
    ) -> Answered<wire::GetTopicRouteResponse> {
        Ok(answered(get_topic_route::get_topic_route(&self.context, request.get_ref())))
    }

    async fn query_time_span(
        &self,
        request: Request<wire::QueryTimeSpanRequest>,
    ) -> Answered<wire::QueryTimeSpanResponse> {
        Ok(answered(query_time_span::query_time_span(&self.context, request.get_ref()).await))
    }

    async fn get_proxy_runtime_stats(
        &self,
        _request: Request<wire::GetProxyRuntimeStatsRequest>,
    ) -> Answered<wire::GetProxyRuntimeStatsResponse> {
        let stats = get_proxy_runtime_stats::get_proxy_runtime_stats(&self.context).await;
        Ok(Response::new(stats))
    }
}
