//! What every call is handed: the catalog, the clients, the addresses, and who this broker is.
//! Built once by the process; cheap to share; ends every waiting call when the broker stops.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use broker_model::{GroupName, Topic, TopicName};
use broker_proto::admin::{self, ManifestsStatus};
use broker_proto::rocketmq::{Code, MessageQueue, Resource};
use broker_replication::{Catalog, Memory, ShardHandle, TopicEntry};
use prost::Message as _;
use tokio::sync::{Semaphore, watch};

use crate::clock::{monotonic_ms, now_ms};
use crate::endpoints::{Advertised, EndpointPlan};
use crate::limits::WATCHERS_MAX;
use crate::peers::Peers;
use crate::renewal::{RenewalTiming, Renewals};
use crate::session::Sessions;
use crate::session::questions::Questions;
use crate::status::Failure;
use crate::traffic::Traffic;
use crate::transaction_checks::AskedElsewhere;
use crate::validate;
use crate::watches::Watches;

/// Space of the volume that holds the logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// Free for the broker.
    pub free_bytes: u64,
    /// In all.
    pub total_bytes: u64,
}

/// Reads the space of the volume.
pub type DiskProbe = Box<dyn Fn() -> DiskSpace + Send + Sync>;
/// Keeps the encoded cluster map so that it outlives the process. Called seldom; may block on the disk.
pub type MapKeeper = Box<dyn Fn(&[u8]) -> io::Result<()> + Send + Sync>;

/// Sets how much the process logs; an error says why not.
pub type LevelSetter = Box<dyn Fn(tracing::Level) -> Result<(), String> + Send + Sync>;

/// Who this broker is and what it needs from the process around it.
pub struct BrokerOptions {
    /// Topics, groups and shards.
    pub catalog: Catalog,
    /// Number in the cluster map; 0 for a broker alone.
    pub broker_id: u32,
    /// Made with the data directory; tells a new disk from the old one.
    pub disk_id: String,
    /// Version of the program.
    pub version: String,
    /// Address for clients that name none.
    pub advertised: Advertised,
    /// See [`DiskProbe`].
    pub disk: DiskProbe,
    /// See [`MapKeeper`].
    pub keep_map: MapKeeper,
    /// See [`LevelSetter`].
    pub set_log_level: LevelSetter,
    /// The memory of the process for what clients hand over and do not take away.
    pub memory: Memory,
    /// What [`MapKeeper`] kept last, if anything.
    pub kept_map: Option<Vec<u8>>,
    /// When deliveries of push consumers are prolonged.
    pub timing: RenewalTiming,
}

impl fmt::Debug for BrokerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerOptions").field("broker_id", &self.broker_id).finish_non_exhaustive()
    }
}

/// One queue.
pub(crate) struct QueuePlace<'a> {
    pub(crate) topic: TopicName,
    pub(crate) shard: &'a ShardHandle,
    pub(crate) queue: u32,
}

/// Shared by all calls of the process.
pub struct BrokerContext {
    /// Topics, groups and shards.
    pub catalog: Catalog,
    /// The clients.
    pub sessions: Sessions,
    pub(crate) memory: Memory,
    pub(crate) questions: Questions,
    pub(crate) renewals: Renewals,
    pub(crate) endpoints: EndpointPlan,
    pub(crate) peers: Peers,
    pub(crate) watches: Watches,
    pub(crate) asked_elsewhere: AskedElsewhere,
    pub(crate) broker_id: u32,
    pub(crate) disk_id: String,
    pub(crate) version: String,
    pub(crate) started_ms: u64,
    /// The same by the monotonic clock.
    pub(crate) begun_ms: u64,
    pub(crate) advertised: String,
    pub(crate) disk: DiskProbe,
    pub(crate) keep_map: MapKeeper,
    pub(crate) set_log_level: LevelSetter,
    /// What went in and out.
    pub traffic: Traffic,
    pub(crate) watchers: Semaphore,
    manifests: Mutex<Option<ManifestsStatus>>,
    stopping: watch::Sender<bool>,
    next_shard: AtomicUsize,
}

impl fmt::Debug for BrokerContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerContext").field("broker_id", &self.broker_id).finish_non_exhaustive()
    }
}

impl BrokerContext {
    /// A kept cluster map that cannot be read is left out with a warning: the operator sends it again.
    #[must_use]
    pub fn new(options: BrokerOptions) -> Arc<Self> {
        let endpoints = EndpointPlan::new(&options.advertised);
        if let Some(bytes) = &options.kept_map {
            match admin::ClusterMap::decode(bytes.as_slice()) {
                Ok(map) => {
                    if let Err(error) = endpoints.apply(map) {
                        tracing::warn!(%error, "the kept cluster map is not used");
                    }
                }
                Err(error) => tracing::warn!(%error, "the kept cluster map cannot be read"),
            }
        }
        Arc::new(Self {
            catalog: options.catalog,
            sessions: Sessions::new(options.memory.sessions.clone()),
            memory: options.memory,
            questions: Questions::default(),
            renewals: Renewals::new(options.timing),
            endpoints,
            peers: Peers::default(),
            watches: Watches::default(),
            asked_elsewhere: AskedElsewhere::default(),
            broker_id: options.broker_id,
            disk_id: options.disk_id,
            version: options.version,
            started_ms: now_ms(),
            begun_ms: monotonic_ms(),
            advertised: format!("{}:{}", options.advertised.host, options.advertised.port),
            disk: options.disk,
            keep_map: options.keep_map,
            set_log_level: options.set_log_level,
            traffic: Traffic::default(),
            watchers: Semaphore::new(WATCHERS_MAX),
            manifests: Mutex::new(None),
            stopping: watch::Sender::new(false),
            next_shard: AtomicUsize::new(0),
        })
    }

    /// Takes note of the manifests that the broker follows.
    pub fn set_manifests(&self, status: ManifestsStatus) {
        *self.manifests.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    /// The manifests that the broker follows; none when it follows none.
    #[must_use]
    pub fn manifests(&self) -> Option<ManifestsStatus> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends telemetry and state streams and answers waiting receives, so that connections can close.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Ends when [`BrokerContext::stop`] was called.
    pub(crate) async fn stopped(&self) {
        // An error means that the context is gone, which is as final.
        let mut stopping = self.stopping.subscribe();
        let _ended = stopping.wait_for(|stopping| *stopping).await.map(|_| ());
    }

    /// The topic that a request names. A name that is found needs no check.
    ///
    /// # Errors
    /// ILLEGAL_TOPIC or TOPIC_NOT_FOUND.
    pub(crate) fn topic(&self, resource: Option<&Resource>) -> Result<Arc<TopicEntry>, Failure> {
        let name = resource.map_or("", |r| r.name.as_str());
        if let Some(entry) = self.catalog.topic(name) {
            return Ok(entry);
        }
        validate::topic(resource)?;
        Err(Failure::topic_not_found(name))
    }

    /// The name of a topic that may be gone already.
    ///
    /// # Errors
    /// ILLEGAL_TOPIC.
    pub(crate) fn topic_name(&self, resource: Option<&Resource>) -> Result<TopicName, Failure> {
        let entry = resource.and_then(|r| self.catalog.topic(&r.name));
        entry.map_or_else(|| validate::topic(resource), |entry| Ok(entry.topic.name.clone()))
    }

    /// The consumer group that a request names; it need not exist.
    ///
    /// # Errors
    /// ILLEGAL_CONSUMER_GROUP.
    pub(crate) fn group_name(&self, resource: Option<&Resource>) -> Result<GroupName, Failure> {
        let entry = resource.and_then(|r| self.catalog.group(&r.name));
        entry.map_or_else(|| validate::group(resource), |entry| Ok(entry.group.name.clone()))
    }

    /// The queue that a request names: its topic, shard and number there.
    ///
    /// # Errors
    /// ILLEGAL_TOPIC, TOPIC_NOT_FOUND, or BAD_REQUEST for a shard or queue that is not here.
    pub(crate) fn queue(&self, queue: Option<&MessageQueue>) -> Result<QueuePlace<'_>, Failure> {
        let entry = self.topic(queue.and_then(|queue| queue.topic.as_ref()))?;
        let topic = entry.topic.name.clone();
        let name = queue.and_then(|queue| queue.broker.as_ref()).map_or("", |b| b.name.as_str());
        let shard = self.catalog.shard_by_name(name).ok_or_else(|| {
            let text = format!("broker {name:?} is not here; ask for the route of topic {topic}");
            Failure::new(Code::BadRequest, text)
        })?;
        let queue = u32::try_from(queue.map_or(0, |queue| queue.id)).map_err(|_| {
            Failure::new(Code::BadRequest, "the queue id is negative; name one queue")
        })?;
        Ok(QueuePlace { topic, shard, queue })
    }

    /// The local shards that hold queues of the topic.
    pub(crate) fn local_shards<'a>(
        &'a self,
        topic: &'a Topic,
    ) -> impl Iterator<Item = &'a ShardHandle> + Clone {
        topic
            .placement
            .iter()
            .filter(|placement| placement.queues > 0)
            .filter_map(|placement| self.catalog.shard(placement.shard))
    }

    /// The next turn among the shards of a topic; sends go round.
    pub(crate) fn next_turn(&self) -> usize {
        self.next_shard.fetch_add(1, Ordering::Relaxed)
    }
}
