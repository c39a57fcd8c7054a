//! The connection of the admin verbs to one broker's admin API; `cluster.rs` has all brokers of a cluster.

use std::time::Duration;

use broker_grpc::admin::FOR_BROKER;
use broker_proto::admin::admin_client::AdminClient;
use broker_proto::admin::{
    ApplyGroupRequest, ApplyGroupResponse, ApplyTopicRequest, ApplyTopicResponse, BrokerStatus,
    ClusterMap, DeleteGroupRequest, DeleteTopicRequest, FindMessagesRequest, FindMessagesResponse,
    GetBrokerRequest, GetClusterMapRequest, Group, GroupStatus, ListDeadLettersRequest,
    ListDeadLettersResponse, ListGroupsRequest, ListTopicsRequest, Owner,
    RedriveDeadLettersRequest, RedriveDeadLettersResponse, ResetOffsetsRequest, Topic, TopicStatus,
    TraceMessageRequest, TraceMessageResponse,
};
use clap::Args;
use tonic::transport::{Channel, Endpoint};

use super::failure::{Failure, innermost};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A search reads the log, which takes its time when the log is long.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(300);
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The flags that all admin verbs share.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdminArguments {
    /// Address of the broker's admin API.
    #[arg(long, value_name = "HOST:PORT", env = "PINNACE_ADMIN", default_value = "127.0.0.1:8083")]
    pub(crate) admin: String,
    /// Ask only this broker of a cluster, reached through the one at --admin [default: all brokers].
    #[arg(long, value_name = "ID")]
    pub(crate) broker: Option<u32>,
}

/// The mark that the command line leaves on what it declares.
pub(crate) fn owner() -> Owner {
    Owner { instance: "cli".to_owned(), ..Owner::default() }
}

/// Opens a channel to `address` (`HOST:PORT`, or with `http://` before it).
///
/// # Errors
/// Wrong input when the address is none, a failure while running when nobody answers there.
pub(crate) async fn connect(address: &str, flag: &str) -> Result<Channel, Failure> {
    let endpoint = endpoint(address, flag)?;
    endpoint.connect().await.map_err(|error| {
        Failure::runtime(format!(
            "cannot reach a broker at {address}: {}; start one with 'pinnace serve' or give {flag} HOST:PORT",
            innermost(&error)
        ))
    })
}

fn endpoint(address: &str, flag: &str) -> Result<Endpoint, Failure> {
    let bare = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    super::serve::host_and_port(bare)
        .map_err(|hint| Failure::input(format!("{address:?} is no address for {flag}: {hint}")))?;
    let endpoint = Endpoint::from_shared(format!("http://{bare}")).map_err(|error| {
        Failure::input(format!("{address:?} is no address for {flag}: {error}"))
    })?;
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true))
}

/// The admin API of one broker.
#[derive(Debug)]
pub(crate) struct Admin {
    address: String,
    client: AdminClient<Channel>,
    /// The broker that is meant; none = the one that is reached.
    pub(super) broker: Option<u32>,
}

impl Admin {
    /// Connects to the broker that the arguments name: the one at the address, unless they say which.
    pub(crate) async fn connect(arguments: &AdminArguments) -> Result<Self, Failure> {
        let channel = connect(&arguments.admin, "--admin").await?;
        let client = AdminClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { address: arguments.admin.clone(), client, broker: arguments.broker })
    }

    /// Another broker of the cluster, over the same connection.
    pub(super) fn other(&self, broker: u32) -> Self {
        Self { address: self.address.clone(), client: self.client.clone(), broker: Some(broker) }
    }

    fn failure(&self, status: &tonic::Status) -> Failure {
        let failure = Failure::from_admin(&self.address, status);
        match (failure, self.broker) {
            (Failure::Runtime(text), Some(id)) => Failure::Runtime(format!("broker {id}: {text}")),
            (failure, _) => failure,
        }
    }

    fn timed<T>(&self, message: T) -> tonic::Request<T> {
        self.request(message, REQUEST_TIMEOUT)
    }

    fn request<T>(&self, message: T, timeout: Duration) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(timeout);
        if let Some(id) = self.broker {
            request.metadata_mut().insert(FOR_BROKER, id.into());
        }
        request
    }

    /// The map of the cluster; none when the broker belongs to no cluster.
    pub(super) async fn cluster_map(&mut self) -> Result<Option<ClusterMap>, Failure> {
        let request = self.timed(GetClusterMapRequest {});
        let answer = self.client.get_cluster_map(request).await;
        answer.map(|answer| answer.into_inner().map).map_err(|status| self.failure(&status))
    }

    /// Stored messages, oldest first.
    pub(crate) async fn find_messages(
        &mut self,
        request: FindMessagesRequest,
    ) -> Result<FindMessagesResponse, Failure> {
        let request = self.request(request, SEARCH_TIMEOUT);
        let answer = self.client.find_messages(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// What became of a message.
    pub(crate) async fn trace_message(
        &mut self,
        request: TraceMessageRequest,
    ) -> Result<TraceMessageResponse, Failure> {
        let request = self.request(request, SEARCH_TIMEOUT);
        let answer = self.client.trace_message(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// Topics by name with their numbers; all when `names` is empty.
    pub(crate) async fn topics(
        &mut self,
        names: &[&str],
    ) -> Result<Vec<(Topic, Option<TopicStatus>)>, Failure> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let request = self.timed(ListTopicsRequest { names });
        let answer = match self.client.list_topics(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(Vec::new()),
            Err(status) => return Err(self.failure(&status)),
        };
        let mut status = answer.status;
        let mut take = |name: &str| {
            let found = status.iter().position(|s| s.name == name)?;
            Some(status.swap_remove(found))
        };
        let mut topics: Vec<_> = answer.topics.into_iter().map(|t| (take(&t.name), t)).collect();
        topics.sort_by(|(_, left), (_, right)| left.name.cmp(&right.name));
        Ok(topics.into_iter().map(|(status, topic)| (topic, status)).collect())
    }

    /// Groups by name with their members and lag; all when `names` is empty.
    pub(crate) async fn groups(
        &mut self,
        names: &[&str],
    ) -> Result<Vec<(Group, GroupStatus)>, Failure> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let request = self.timed(ListGroupsRequest { names });
        let answer = match self.client.list_groups(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == tonic::Code::NotFound => return Ok(Vec::new()),
            Err(status) => return Err(self.failure(&status)),
        };
        let mut status = answer.status;
        let mut take = |name: &str| match status.iter().position(|s| s.name == name) {
            Some(found) => status.swap_remove(found),
            None => GroupStatus { name: name.to_owned(), ..GroupStatus::default() },
        };
        let mut groups: Vec<_> = answer.groups.into_iter().map(|g| (take(&g.name), g)).collect();
        groups.sort_by(|(_, left), (_, right)| left.name.cmp(&right.name));
        Ok(groups.into_iter().map(|(status, group)| (group, status)).collect())
    }

    /// The broker itself.
    pub(crate) async fn broker(&mut self) -> Result<BrokerStatus, Failure> {
        let request = self.timed(GetBrokerRequest {});
        let answer = self.client.get_broker(request).await;
        let answer = answer.map_err(|status| self.failure(&status))?;
        Ok(answer.into_inner().broker.unwrap_or_default())
    }

    /// Creates a topic; refuses to change one that differs.
    pub(crate) async fn create_topic(
        &mut self,
        topic: Topic,
    ) -> Result<ApplyTopicResponse, Failure> {
        let request = ApplyTopicRequest {
            topic: Some(topic),
            create_only: true,
            take_ownership: false,
            if_version: None,
        };
        let request = self.timed(request);
        let answer = self.client.apply_topic(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// Creates a group; refuses to change one that differs.
    pub(crate) async fn create_group(
        &mut self,
        group: Group,
    ) -> Result<ApplyGroupResponse, Failure> {
        let request = ApplyGroupRequest {
            group: Some(group),
            create_only: true,
            take_ownership: false,
            if_version: None,
        };
        let request = self.timed(request);
        let answer = self.client.apply_group(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// Changes a group that was read before; refuses when somebody else changed it since.
    pub(crate) async fn change_group(&mut self, group: Group) -> Result<Group, Failure> {
        let request = ApplyGroupRequest {
            if_version: Some(group.version),
            group: Some(Group { owner: Some(owner()), ..group.clone() }),
            create_only: false,
            take_ownership: false,
        };
        let request = self.timed(request);
        let answer = self.client.apply_group(request).await;
        let answer = answer.map_err(|status| self.failure(&status))?;
        Ok(answer.into_inner().group.unwrap_or(group))
    }

    /// Sets the progress of a group.
    pub(crate) async fn reset_offsets(
        &mut self,
        request: ResetOffsetsRequest,
    ) -> Result<u32, Failure> {
        let request = self.timed(request);
        let answer = self.client.reset_offsets(request).await;
        answer.map(|done| done.into_inner().topics).map_err(|status| self.failure(&status))
    }

    /// Puts dead letters back, or only counts them.
    pub(crate) async fn redrive_dead_letters(
        &mut self,
        request: RedriveDeadLettersRequest,
    ) -> Result<RedriveDeadLettersResponse, Failure> {
        let request = self.timed(request);
        let answer = self.client.redrive_dead_letters(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// Takes dead letters away, or only counts them.
    pub(crate) async fn purge_dead_letters(
        &mut self,
        request: RedriveDeadLettersRequest,
    ) -> Result<RedriveDeadLettersResponse, Failure> {
        let request = self.timed(request);
        let answer = self.client.purge_dead_letters(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// Some dead letters with their messages.
    pub(crate) async fn list_dead_letters(
        &mut self,
        request: ListDeadLettersRequest,
    ) -> Result<ListDeadLettersResponse, Failure> {
        let request = self.timed(request);
        let answer = self.client.list_dead_letters(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failure(&status))
    }

    /// Deletes a topic; false when there was none.
    pub(crate) async fn delete_topic(&mut self, name: &str, force: bool) -> Result<bool, Failure> {
        let request = DeleteTopicRequest { name: name.to_owned(), owner: Some(owner()), force };
        let request = self.timed(request);
        match self.client.delete_topic(request).await {
            Ok(answer) => Ok(answer.into_inner().existed),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(false),
            Err(status) => Err(self.failure(&status)),
        }
    }

    /// Deletes a group; false when there was none.
    pub(crate) async fn delete_group(&mut self, name: &str, force: bool) -> Result<bool, Failure> {
        let request = DeleteGroupRequest { name: name.to_owned(), owner: Some(owner()), force };
        let request = self.timed(request);
        match self.client.delete_group(request).await {
            Ok(answer) => Ok(answer.into_inner().existed),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(false),
            Err(status) => Err(self.failure(&status)),
        }
    }
}
