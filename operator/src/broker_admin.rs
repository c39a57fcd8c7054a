//! The port to a broker's admin API, and its client. Nothing here decides; every call has a time limit, and a broken
//! connection is found by keep-alive rather than by the next call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use broker_proto::admin::admin_client::AdminClient;
use broker_proto::admin::{
    ApplyClusterMapRequest, ApplyGroupRequest, ApplyTopicRequest, ClusterMap, DeleteGroupRequest,
    DeleteTopicRequest, Group, ResetOffsetsRequest, StateEvent, Topic, WatchStateRequest,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Time limit of one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit of opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between signs of life on an idle connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// A broker that does not answer a sign of life for this long is gone.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest message of the state stream.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where the admin API of a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerEndpoint {
    /// Number of the broker.
    pub broker: u32,
    /// DNS name or address.
    pub host: String,
    /// Admin port.
    pub port: u16,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code:?})")]
pub struct AdminError {
    /// The status code.
    pub code: Code,
    /// The broker's words.
    pub message: String,
}

impl AdminError {
    /// The broker understood and will refuse again: a person has to change something.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.code,
            Code::InvalidArgument
                | Code::AlreadyExists
                | Code::FailedPrecondition
                | Code::ResourceExhausted
                | Code::Unimplemented
        )
    }

    /// The broker's words; the code where it has none.
    #[must_use]
    pub fn words(&self) -> String {
        if self.message.is_empty() { format!("{:?}", self.code) } else { self.message.clone() }
    }
}

impl From<Status> for AdminError {
    fn from(status: Status) -> Self {
        Self { code: status.code(), message: status.message().to_owned() }
    }
}

/// An answer of the admin API.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, AdminError>>;
/// The changes of a broker.
pub type StateStream = BoxStream<'static, Result<StateEvent, AdminError>>;

/// What the operator asks of one broker.
pub trait BrokerAdmin: Send + Sync + fmt::Debug {
    /// Gives it the cluster map; answers the version that it holds now.
    fn apply_cluster_map(&self, map: ClusterMap) -> Answer<'_, u64>;
    /// Creates or changes a topic; answers it as it is.
    fn apply_topic(&self, request: ApplyTopicRequest) -> Answer<'_, Topic>;
    /// Deletes a topic; no error when there is none.
    fn delete_topic(&self, request: DeleteTopicRequest) -> Answer<'_, ()>;
    /// Creates or changes a group; answers it as it is.
    fn apply_group(&self, request: ApplyGroupRequest) -> Answer<'_, Group>;
    /// Deletes a group; no error when there is none.
    fn delete_group(&self, request: DeleteGroupRequest) -> Answer<'_, ()>;
    /// Sets the progress of a group on the broker's shards; the same id again changes nothing.
    fn reset_offsets(&self, request: ResetOffsetsRequest) -> Answer<'_, ()>;
    /// Everything that is, then every change.
    fn watch_state(&self) -> Answer<'_, StateStream>;
}

/// Makes connections to brokers.
pub trait Connect: Send + Sync + fmt::Debug {
    /// A connection, opened on first use and again after each break.
    fn connect(&self, endpoint: &BrokerEndpoint) -> Result<Arc<dyn BrokerAdmin>, AdminError>;
}

/// Connections over gRPC.
#[derive(Debug, Default)]
pub struct GrpcConnector;

impl Connect for GrpcConnector {
    fn connect(&self, endpoint: &BrokerEndpoint) -> Result<Arc<dyn BrokerAdmin>, AdminError> {
        let address = format!("http://{}:{}", endpoint.host, endpoint.port);
        let illegal = |error: tonic::transport::Error| AdminError {
            code: Code::InvalidArgument,
            message: format!("{address} is no legal address: {error}"),
        };
        let channel = Endpoint::from_shared(address.clone())
            .map_err(illegal)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_lazy();
        let client = AdminClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Arc::new(GrpcBrokerAdmin { client }))
    }
}

/// One broker over gRPC.
#[derive(Debug)]
struct GrpcBrokerAdmin {
    client: AdminClient<Channel>,
}

/// Waits for an answer, but not for ever.
async fn within<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>> + Send,
) -> Result<T, AdminError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(AdminError {
            code: Code::DeadlineExceeded,
            message: format!("no answer within {} s", CALL_TIMEOUT.as_secs()),
        }),
    }
}

fn without(what: &'static str) -> AdminError {
    AdminError { code: Code::Internal, message: format!("the broker's answer has no {what}") }
}

impl BrokerAdmin for GrpcBrokerAdmin {
    fn apply_cluster_map(&self, map: ClusterMap) -> Answer<'_, u64> {
        let mut client = self.client.clone();
        let request = ApplyClusterMapRequest { map: Some(map) };
        async move { Ok(within(client.apply_cluster_map(request)).await?.version) }.boxed()
    }

    fn apply_topic(&self, request: ApplyTopicRequest) -> Answer<'_, Topic> {
        let mut client = self.client.clone();
        async move {
            within(client.apply_topic(request)).await?.topic.ok_or_else(|| without("topic"))
        }
        .boxed()
    }

    fn delete_topic(&self, request: DeleteTopicRequest) -> Answer<'_, ()> {
        let mut client = self.client.clone();
        async move { within(client.delete_topic(request)).await.map(|_| ()) }.boxed()
    }

    fn apply_group(&self, request: ApplyGroupRequest) -> Answer<'_, Group> {
        let mut client = self.client.clone();
        async move {
            within(client.apply_group(request)).await?.group.ok_or_else(|| without("group"))
        }
        .boxed()
    }

    fn delete_group(&self, request: DeleteGroupRequest) -> Answer<'_, ()> {
        let mut client = self.client.clone();
        async move { within(client.delete_group(request)).await.map(|_| ()) }.boxed()
    }

    fn reset_offsets(&self, request: ResetOffsetsRequest) -> Answer<'_, ()> {
        let mut client = self.client.clone();
        async move { within(client.reset_offsets(request)).await.map(|_| ()) }.boxed()
    }

    fn watch_state(&self) -> Answer<'_, StateStream> {
        let mut client = self.client.clone();
        async move {
            let stream = within(client.watch_state(WatchStateRequest::default())).await?;
            Ok(stream.map_err(AdminError::from).boxed())
        }
        .boxed()
    }
}
