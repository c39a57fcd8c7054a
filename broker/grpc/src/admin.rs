//! Pinnace's admin API: one file per RPC below this one. Failures are gRPC codes here (admin.proto), not business codes.
//! The operator, the command line and the console are clients of this one service.

mod apply_cluster_map;
mod apply_group;
mod apply_topic;
mod ask_producer;
mod broker_status;
mod delete_group;
mod delete_topic;
mod find_messages;
mod group_status;
mod list_dead_letters;
mod list_groups;
mod list_topics;
mod other_broker;
mod read_layout;
mod redrive_dead_letters;
mod reset_offsets;
mod trace_message;
mod watch_state;

use std::sync::Arc;

use broker_proto::admin::admin_server::{Admin, AdminServer};
use broker_proto::admin::{
    ApplyClusterMapRequest, ApplyClusterMapResponse, ApplyGroupRequest, ApplyGroupResponse,
    ApplyTopicRequest, ApplyTopicResponse, AskProducerRequest, AskProducerResponse,
    DeleteGroupRequest, DeleteGroupResponse, DeleteTopicRequest, DeleteTopicResponse,
    FindMessagesRequest, FindMessagesResponse, GetBrokerRequest, GetBrokerResponse,
    GetClusterMapRequest, GetClusterMapResponse, ListDeadLettersRequest, ListDeadLettersResponse,
    ListGroupsRequest, ListGroupsResponse, ListTopicsRequest, ListTopicsResponse,
    ReadLayoutRequest, ReadLayoutResponse, RedriveDeadLettersRequest, RedriveDeadLettersResponse,
    ResetOffsetsRequest, ResetOffsetsResponse, TraceMessageRequest, TraceMessageResponse,
    WatchStateRequest,
};
use tonic::{Request, Response, Status, async_trait};

pub use self::other_broker::{FOR_BROKER, OrOtherBroker};
use self::redrive_dead_letters::{Fate, redrive_dead_letters};
use crate::admission::Admitted;
use crate::context::BrokerContext;
use crate::limits::ADMIN_REQUEST_BYTES_MAX;

#[derive(Debug)]
struct AdminService {
    context: Arc<BrokerContext>,
}

/// The service with its limits, ready for a port.
#[must_use]
pub fn admin_service(
    context: Arc<BrokerContext>,
) -> Admitted<OrOtherBroker<AdminServer<impl Admin>>> {
    let memory = context.memory.clone();
    let service = AdminServer::new(AdminService { context: Arc::clone(&context) })
        .max_decoding_message_size(ADMIN_REQUEST_BYTES_MAX)
        .max_encoding_message_size(usize::MAX);
    Admitted::new(OrOtherBroker::new(service, context), memory)
}

type Answered<A> = Result<Response<A>, Status>;

#[async_trait]
impl Admin for AdminService {
    async fn apply_cluster_map(
        &self,
        request: Request<ApplyClusterMapRequest>,
    ) -> Answered<ApplyClusterMapResponse> {
        apply_cluster_map::apply_cluster_map(&self.context, request.into_inner()).map(Response::new)
    }

    async fn get_cluster_map(
        &self,
        _request: Request<GetClusterMapRequest>,
    ) -> Answered<GetClusterMapResponse> {
        let map = self.context.endpoints.map().map(|held| held.map.clone());
        Ok(Response::new(GetClusterMapResponse { map }))
    }

    async fn apply_topic(
        &self,
        request: Request<ApplyTopicRequest>,
    ) -> Answered<ApplyTopicResponse> {
        apply_topic::apply_topic(&self.context, request.into_inner()).await.map(Response::new)
    }

    async fn delete_topic(
        &self,
        request: Request<DeleteTopicRequest>,
    ) -> Answered<DeleteTopicResponse> {
        delete_topic::delete_topic(&self.context, request.into_inner()).await.map(Response::new)
    }

    async fn list_topics(
        &self,
        request: Request<ListTopicsRequest>,
    ) -> Answered<ListTopicsResponse> {
        list_topics::list_topics(&self.context, &request.into_inner()).await.map(Response::new)
    }

    async fn apply_group(
        &self,
        request: Request<ApplyGroupRequest>,
    ) -> Answered<ApplyGroupResponse> {
        apply_group::apply_group(&self.context, request.into_inner()).await.map(Response::new)
    }

    async fn delete_group(
        &self,
        request: Request<DeleteGroupRequest>,
    ) -> Answered<DeleteGroupResponse> {
        delete_group::delete_group(&self.context, request.into_inner()).await.map(Response::new)
    }

    async fn list_groups(
        &self,
        request: Request<ListGroupsRequest>,
    ) -> Answered<ListGroupsResponse> {
        list_groups::list_groups(&self.context, &request.into_inner()).await.map(Response::new)
    }

    async fn reset_offsets(
        &self,
        request: Request<ResetOffsetsRequest>,
    ) -> Answered<ResetOffsetsResponse> {
        reset_offsets::reset_offsets(&self.context, request.into_inner()).await.map(Response::new)
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<RedriveDeadLettersRequest>,
    ) -> Answered<RedriveDeadLettersResponse> {
        let request = request.into_inner();
        let answer = redrive_dead_letters(&self.context, request, Fate::PutBack).await;
        answer.map(Response::new)
    }

    async fn purge_dead_letters(
        &self,
        request: Request<RedriveDeadLettersRequest>,
    ) -> Answered<RedriveDeadLettersResponse> {
        let request = request.into_inner();
        let answer = redrive_dead_letters(&self.context, request, Fate::Purged).await;
        answer.map(Response::new)
    }

    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Answered<ListDeadLettersResponse> {
        let request = request.into_inner();
        list_dead_letters::list_dead_letters(&self.context, request).await.map(Response::new)
    }

    async fn find_messages(
        &self,
        request: Request<FindMessagesRequest>,
    ) -> Answered<FindMessagesResponse> {
        find_messages::find_messages(&self.context, request.into_inner()).await.map(Response::new)
    }

    async fn trace_message(
        &self,
        request: Request<TraceMessageRequest>,
    ) -> Answered<TraceMessageResponse> {
        trace_message::trace_message(&self.context, request.get_ref()).await.map(Response::new)
    }

    async fn ask_producer(
        &self,
        request: Request<AskProducerRequest>,
    ) -> Answered<AskProducerResponse> {
        ask_producer::ask_producer(&self.context, request.get_ref()).map(Response::new)
    }

    async fn read_layout(
        &self,
        request: Request<ReadLayoutRequest>,
    ) -> Answered<ReadLayoutResponse> {
        read_layout::read_layout(&self.context, request.into_inner()).await.map(Response::new)
    }

    async fn get_broker(&self, _request: Request<GetBrokerRequest>) -> Answered<GetBrokerResponse> {
        // Shards tell their oldest messages with these; one that cannot says in its status why.
        let _numbers = self.context.catalog.topic_numbers().await;
        let broker = Some(broker_status::broker_status(&self.context));
        Ok(Response::new(GetBrokerResponse { broker }))
    }

    type WatchStateStream = watch_state::StateStream;

    async fn watch_state(
        &self,
        _request: Request<WatchStateRequest>,
    ) -> Answered<Self::WatchStateStream> {
        watch_state::watch_state(&self.context).map(Response::new)
    }
}
