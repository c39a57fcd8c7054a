//! A broker as the operator sees it: the admin API over a state in memory, with the refusals that the real one has. Can be
//! stopped, lose its memory, and be told what to report.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use broker_proto::admin::admin_server::{Admin, AdminServer};
use broker_proto::admin::state_event::Event;
use broker_proto::admin::*;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tonic::{Request, Response, Status};

use crate::world::eventually;

/// Changes that a reader may be behind.
const CHANGES_MAX: usize = 16 * 1024;

/// What the broker holds.
#[derive(Debug, Default, Clone)]
pub(crate) struct Memory {
    pub(crate) version: u64,
    pub(crate) map: ClusterMap,
    pub(crate) topics: BTreeMap<String, Topic>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) group_status: BTreeMap<String, GroupStatus>,
    /// Calls of ApplyTopic and ApplyGroup since the broker started.
    pub(crate) applies: u64,
    /// Topics and groups that were deleted.
    pub(crate) deletes: BTreeSet<String>,
    /// Resets asked for, in order.
    pub(crate) resets: Vec<ResetOffsetsRequest>,
    /// Disks that it had before this one.
    pub(crate) disks_lost: u32,
    /// Of the 100 bytes of its disk.
    pub(crate) disk_used_bytes: u64,
    /// When the oldest message of each of its shards was stored.
    pub(crate) oldest_message_ms: u64,
    /// Its disk is full: shards refuse sends.
    pub(crate) refuses_sends: bool,
    /// Refuses topics.
    pub(crate) full: bool,
    /// Answers resets with an error.
    pub(crate) resets_fail: bool,
    /// Refuses resets.
    pub(crate) resets_refused: bool,
}

#[derive(Debug)]
struct Shared {
    id: u32,
    memory: Mutex<Memory>,
    changes: broadcast::Sender<StateEvent>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    fn tell(&self, version: u64, event: Event) {
        // Nobody may be listening.
        let _ = self.changes.send(StateEvent { version, event: Some(event) });
    }

    fn disk_id(&self, memory: &Memory) -> String {
        format!("disk-{}-{}", self.id, memory.disks_lost)
    }

    fn status(&self, memory: &Memory) -> BrokerStatus {
        let mine = memory.map.shards.iter().filter(|shard| shard.leader_broker == self.id);
        let shard = |shard: &Shard| ShardStatus {
            id: shard.id,
            name: shard.name.clone(),
            role: "leader".to_owned(),
            refuses_sends: memory.refuses_sends,
            oldest_message_ms: memory.oldest_message_ms,
            ..ShardStatus::default()
        };
        BrokerStatus {
            broker_id: self.id,
            version: "0.1.0".to_owned(),
            cluster_map_version: memory.map.version,
            shards: mine.map(shard).collect(),
            disk_id: self.disk_id(memory),
            disk_free_bytes: 100_u64.saturating_sub(memory.disk_used_bytes),
            disk_total_bytes: 100,
            ..BrokerStatus::default()
        }
    }
}

/// A broker that can be reached on one address for all of its lives.
#[derive(Debug)]
pub(crate) struct FakeBroker {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    /// One life: ending it ends the listener and every connection.
    life: Option<Runtime>,
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.kill();
    }
}

impl FakeBroker {
    pub(crate) async fn start(id: u32) -> Self {
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let shared = Arc::new(Shared { id, memory: Mutex::default(), changes });
        let mut broker =
            Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), shared, life: None };
        broker.serve().await;
        broker
    }

    /// Begins a life.
    pub(crate) async fn serve(&mut self) {
        let life = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // The life before may not have let go of the port yet.
        let listener = eventually("the port is free", || async {
            std::net::TcpListener::bind(self.address).ok()
        })
        .await;
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        let service = AdminServer::new(Service { shared: Arc::clone(&self.shared) });
        life.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(incoming).await.unwrap();
        });
        self.life = Some(life);
    }

    /// Ends it at once, connections and all.
    pub(crate) fn kill(&mut self) {
        if let Some(life) = self.life.take() {
            life.shutdown_background();
        }
    }

    pub(crate) fn memory(&self) -> Memory {
        self.shared.lock().clone()
    }

    /// A lost disk.
    pub(crate) fn forget(&self) {
        let mut memory = self.shared.lock();
        let disks_lost = memory.disks_lost + 1;
        *memory = Memory { disks_lost, ..Memory::default() };
    }

    /// What somebody else does to the broker.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Memory)) {
        change(&mut self.shared.lock());
    }

    /// What happens to the broker, and its word of it.
    pub(crate) fn change_and_tell(&self, change: impl FnOnce(&mut Memory)) {
        let mut memory = self.shared.lock();
        change(&mut memory);
        let status = self.shared.status(&memory);
        self.shared.tell(memory.version, Event::Broker(status));
    }

    /// Somebody deletes a topic by force.
    pub(crate) fn lose_topic(&self, name: &str) {
        let mut memory = self.shared.lock();
        memory.version += 1;
        memory.topics.remove(name).unwrap();
        self.shared.tell(memory.version, Event::TopicDeleted(name.to_owned()));
    }

    /// Somebody changes a topic.
    pub(crate) fn change_topic(&self, name: &str, change: impl FnOnce(&mut Topic)) {
        let mut memory = self.shared.lock();
        memory.version += 1;
        let version = memory.version;
        let topic = memory.topics.get_mut(name).unwrap();
        change(topic);
        topic.version = version;
        let topic = topic.clone();
        self.shared.tell(version, Event::Topic(topic));
    }

    pub(crate) fn report(&self, status: GroupStatus) {
        let mut memory = self.shared.lock();
        memory.version += 1;
        memory.group_status.insert(status.name.clone(), status.clone());
        self.shared.tell(memory.version, Event::GroupStatus(status));
    }
}

#[derive(Debug)]
struct Service {
    shared: Arc<Shared>,
}

fn check_owner(held: Option<&Owner>, asked: Option<&Owner>, take: bool) -> Result<(), Status> {
    let key = |owner: &Owner| (owner.instance.clone(), owner.namespace.clone(), owner.name.clone());
    match (held, asked) {
        (Some(held), asked) if !take && asked.map(key) != Some(key(held)) => {
            Err(Status::failed_precondition(format!("owned by {}/{}", held.namespace, held.name)))
        }
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl Admin for Service {
    async fn apply_cluster_map(
        &self,
        request: Request<ApplyClusterMapRequest>,
    ) -> Result<Response<ApplyClusterMapResponse>, Status> {
        let map = request.into_inner().map.ok_or_else(|| Status::invalid_argument("no map"))?;
        let mut memory = self.shared.lock();
        if map.version > memory.map.version {
            memory.map = map;
        }
        let status = self.shared.status(&memory);
        self.shared.tell(memory.version, Event::Broker(status));
        Ok(Response::new(ApplyClusterMapResponse { version: memory.map.version }))
    }

    async fn get_cluster_map(
        &self,
        _: Request<GetClusterMapRequest>,
    ) -> Result<Response<GetClusterMapResponse>, Status> {
        let map = Some(self.shared.lock().map.clone());
        Ok(Response::new(GetClusterMapResponse { map }))
    }

    async fn apply_topic(
        &self,
        request: Request<ApplyTopicRequest>,
    ) -> Result<Response<ApplyTopicResponse>, Status> {
        let request = request.into_inner();
        let mut topic = request.topic.ok_or_else(|| Status::invalid_argument("no topic"))?;
        let mut memory = self.shared.lock();
        memory.applies += 1;
        if memory.full {
            return Err(Status::resource_exhausted("the broker holds 1 topics, its limit"));
        }
        let held = memory.topics.get(&topic.name);
        if let Some(held) = held {
            check_owner(held.owner.as_ref(), topic.owner.as_ref(), request.take_ownership)?;
        }
        topic.version = held.map_or(0, |held| held.version);
        let changed = held != Some(&topic);
        if changed {
            memory.version += 1;
            topic.version = memory.version;
            memory.topics.insert(topic.name.clone(), topic.clone());
            self.shared.tell(memory.version, Event::Topic(topic.clone()));
        }
        Ok(Response::new(ApplyTopicResponse { topic: Some(topic), changed }))
    }

    async fn delete_topic(
        &self,
        request: Request<DeleteTopicRequest>,
    ) -> Result<Response<DeleteTopicResponse>, Status> {
        let name = request.into_inner().name;
        let mut memory = self.shared.lock();
        memory.version += 1;
        let existed = memory.topics.remove(&name).is_some();
        memory.deletes.insert(name.clone());
        self.shared.tell(memory.version, Event::TopicDeleted(name));
        Ok(Response::new(DeleteTopicResponse { existed }))
    }

    async fn list_topics(
        &self,
        _: Request<ListTopicsRequest>,
    ) -> Result<Response<ListTopicsResponse>, Status> {
        let topics = self.shared.lock().topics.values().cloned().collect();
        Ok(Response::new(ListTopicsResponse { topics, status: Vec::new() }))
    }

    async fn apply_group(
        &self,
        request: Request<ApplyGroupRequest>,
    ) -> Result<Response<ApplyGroupResponse>, Status> {
        let request = request.into_inner();
        let mut group = request.group.ok_or_else(|| Status::invalid_argument("no group"))?;
        let mut memory = self.shared.lock();
        memory.applies += 1;
        let held = memory.groups.get(&group.name);
        if let Some(held) = held {
            check_owner(held.owner.as_ref(), group.owner.as_ref(), request.take_ownership)?;
        }
        group.version = held.map_or(0, |held| held.version);
        let changed = held != Some(&group);
        if changed {
            memory.version += 1;
            group.version = memory.version;
            memory.groups.insert(group.name.clone(), group.clone());
            self.shared.tell(memory.version, Event::Group(group.clone()));
        }
        Ok(Response::new(ApplyGroupResponse { group: Some(group), changed }))
    }

    async fn delete_group(
        &self,
        request: Request<DeleteGroupRequest>,
    ) -> Result<Response<DeleteGroupResponse>, Status> {
        let name = request.into_inner().name;
        let mut memory = self.shared.lock();
        memory.version += 1;
        let existed = memory.groups.remove(&name).is_some();
        memory.deletes.insert(name.clone());
        self.shared.tell(memory.version, Event::GroupDeleted(name));
        Ok(Response::new(DeleteGroupResponse { existed }))
    }

    async fn list_groups(
        &self,
        _: Request<ListGroupsRequest>,
    ) -> Result<Response<ListGroupsResponse>, Status> {
        let groups = self.shared.lock().groups.values().cloned().collect();
        Ok(Response::new(ListGroupsResponse { groups, status: Vec::new() }))
    }

    async fn reset_offsets(
        &self,
        request: Request<ResetOffsetsRequest>,
    ) -> Result<Response<ResetOffsetsResponse>, Status> {
        let mut memory = self.shared.lock();
        memory.resets.push(request.into_inner());
        if memory.resets_refused {
            return Err(Status::invalid_argument("the time lies ahead"));
        }
        if memory.resets_fail {
            return Err(Status::unavailable("the shard is starting"));
        }
        Ok(Response::new(ResetOffsetsResponse::default()))
    }

    async fn redrive_dead_letters(
        &self,
        _: Request<RedriveDeadLettersRequest>,
    ) -> Result<Response<RedriveDeadLettersResponse>, Status> {
        Err(Status::unimplemented("no operator redrives dead letters"))
    }

    async fn purge_dead_letters(
        &self,
        _: Request<RedriveDeadLettersRequest>,
    ) -> Result<Response<RedriveDeadLettersResponse>, Status> {
        Err(Status::unimplemented("no operator purges dead letters"))
    }

    async fn list_dead_letters(
        &self,
        _: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        Err(Status::unimplemented("no operator looks at dead letters"))
    }

    async fn find_messages(
        &self,
        _: Request<FindMessagesRequest>,
    ) -> Result<Response<FindMessagesResponse>, Status> {
        Err(Status::unimplemented("no operator looks for messages"))
    }

    async fn trace_message(
        &self,
        _: Request<TraceMessageRequest>,
    ) -> Result<Response<TraceMessageResponse>, Status> {
        Err(Status::unimplemented("no operator traces messages"))
    }

    async fn ask_producer(
        &self,
        _: Request<AskProducerRequest>,
    ) -> Result<Response<AskProducerResponse>, Status> {
        Err(Status::unimplemented("no operator asks producers"))
    }

    async fn read_layout(
        &self,
        _: Request<ReadLayoutRequest>,
    ) -> Result<Response<ReadLayoutResponse>, Status> {
        Err(Status::unimplemented("no operator reads layouts"))
    }

    async fn get_broker(
        &self,
        _: Request<GetBrokerRequest>,
    ) -> Result<Response<GetBrokerResponse>, Status> {
        let broker = Some(self.shared.status(&self.shared.lock()));
        Ok(Response::new(GetBrokerResponse { broker }))
    }

    type WatchStateStream = BoxStream<'static, Result<StateEvent, Status>>;

    async fn watch_state(
        &self,
        _: Request<WatchStateRequest>,
    ) -> Result<Response<Self::WatchStateStream>, Status> {
        let memory = self.shared.lock();
        let changes = BroadcastStream::new(self.shared.changes.subscribe());
        let topics = memory.topics.values().cloned().map(Event::Topic);
        let groups = memory.groups.values().cloned().map(Event::Group);
        let status = memory.group_status.values().cloned().map(Event::GroupStatus);
        let broker = std::iter::once(Event::Broker(self.shared.status(&memory)));
        let all = broker.chain(topics).chain(groups).chain(status);
        let all = all.chain(std::iter::once(Event::Synced(Synced {})));
        let version = memory.version;
        let all: Vec<_> = all.map(|event| Ok(StateEvent { version, event: Some(event) })).collect();
        let changes = changes.map(|change| change.map_err(|e| Status::aborted(e.to_string())));
        Ok(Response::new(stream::iter(all).chain(changes).boxed()))
    }
}
