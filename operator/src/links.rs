//! One connection to every broker of every cluster, and what came over it. Controllers ask for views and note what they
//! pushed; nothing here knows of Kubernetes objects.

pub mod state;
mod watch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use broker_proto::admin::{BrokerStatus, ClusterMap, GroupStatus};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::broker_admin::{BrokerAdmin, BrokerEndpoint, Connect};
use crate::names::ClusterKey;
use crate::signals::Signals;
use state::{BrokerState, Pushed, Thing, Vanished};

/// A broker that is silent for less than this keeps what was last reported of it: a restart is no news.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Empty disks of earlier sessions of a broker that are remembered.
const EMPTY_DISKS_MAX: usize = 8;

/// All connections.
#[derive(Debug)]
pub struct Links {
    connector: Arc<dyn Connect>,
    signals: Signals,
    clusters: Mutex<HashMap<ClusterKey, Cluster>>,
}

#[derive(Debug)]
struct Cluster {
    map: Arc<ClusterMap>,
    brokers: BTreeMap<u32, Link>,
}

#[derive(Debug)]
struct Link {
    endpoint: BrokerEndpoint,
    admin: Arc<dyn BrokerAdmin>,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the watching task and the controllers share.
#[derive(Debug)]
struct Shared(Mutex<Session>);

/// One session with a broker: from one opening of the state stream to the next.
#[derive(Debug)]
struct Session {
    number: u64,
    state: BrokerState,
    silent_since: Option<Instant>,
    error: String,
    /// Disks on which nothing can have been stored, by the last word of the sessions that told of them.
    empty_disks: Vec<String>,
}

impl Shared {
    fn new() -> Self {
        Self(Mutex::new(Session {
            number: 0,
            state: BrokerState::default(),
            silent_since: Some(Instant::now()),
            error: "not connected yet".to_owned(),
            empty_disks: Vec::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }
}

/// Why a broker cannot be worked with now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// For how long.
    pub lasted: Duration,
    /// What the last attempt said.
    pub error: String,
}

/// One broker as a controller sees it.
#[derive(Debug, Clone)]
pub struct BrokerView<T> {
    /// Its number.
    pub broker: u32,
    /// The way to it.
    pub admin: Arc<dyn BrokerAdmin>,
    /// The session that the rest is about.
    pub session: u64,
    /// Nothing but silence; none when its state is known and its cluster map is the newest.
    pub silence: Option<Silence>,
    /// The thing in question, as the broker holds it.
    pub held: Option<T>,
    /// What was pushed for it in this session.
    pub pushed: Option<Pushed>,
}

/// A cluster as a controller sees it.
#[derive(Debug, Clone)]
pub struct ClusterView<T> {
    /// Brokers and shards.
    pub map: Arc<ClusterMap>,
    /// Every broker of it.
    pub brokers: Vec<BrokerView<T>>,
}

/// What one broker says of itself.
#[derive(Debug, Clone)]
pub struct BrokerReport {
    /// Its number.
    pub broker: u32,
    /// The way to it.
    pub admin: Arc<dyn BrokerAdmin>,
    /// None when its state is known.
    pub silence: Option<Silence>,
    /// Version of the cluster map that it holds.
    pub map_version: u64,
    /// Its own words.
    pub status: Option<BrokerStatus>,
    /// Disks of sessions before this one on which nothing can have been stored.
    pub empty_disks: Vec<String>,
}

impl Links {
    /// No connection yet.
    #[must_use]
    pub fn new(connector: Arc<dyn Connect>, signals: Signals) -> Self {
        Self { connector, signals, clusters: Mutex::default() }
    }

    fn clusters(&self) -> MutexGuard<'_, HashMap<ClusterKey, Cluster>> {
        self.clusters.lock().expect("nothing panics while it holds this lock")
    }

    /// Makes the connections of a cluster what its map asks for. Kept ones are not touched. Must run inside the runtime.
    ///
    /// # Errors
    /// The words of the connector for an address that it cannot use.
    pub fn set(&self, key: &ClusterKey, map: ClusterMap) -> Result<(), String> {
        let mut clusters = self.clusters();
        let cluster = clusters.entry(key.clone()).or_insert_with(|| Cluster {
            map: Arc::new(ClusterMap::default()),
            brokers: BTreeMap::new(),
        });
        let wanted: BTreeSet<u32> = map.brokers.iter().map(|b| b.broker_id).collect();
        cluster.brokers.retain(|broker, _| wanted.contains(broker));
        for address in &map.brokers {
            let endpoint = BrokerEndpoint {
                broker: address.broker_id,
                host: address.host.clone(),
                port: u16::try_from(address.admin_port).unwrap_or_default(),
            };
            let kept =
                cluster.brokers.get(&endpoint.broker).is_some_and(|l| l.endpoint == endpoint);
            if !kept {
                let admin = self.connector.connect(&endpoint).map_err(|error| error.to_string())?;
                let link = self.open(key, endpoint, admin);
                cluster.brokers.insert(link.endpoint.broker, link);
            }
        }
        let changed = *cluster.map != map;
        cluster.map = Arc::new(map);
        drop(clusters);
        if changed {
            self.signals.all_of(key);
        }
        Ok(())
    }

    fn open(
        &self,
        key: &ClusterKey,
        endpoint: BrokerEndpoint,
        admin: Arc<dyn BrokerAdmin>,
    ) -> Link {
        let shared = Arc::new(Shared::new());
        let watch = watch::Watch {
            cluster: key.clone(),
            broker: endpoint.broker,
            admin: Arc::clone(&admin),
            shared: Arc::clone(&shared),
            signals: self.signals.clone(),
        };
        let task = tokio::spawn(watch.run());
        Link { endpoint, admin, shared, task }
    }

    /// Closes all connections of a cluster.
    pub fn remove(&self, key: &ClusterKey) {
        let removed = self.clusters().remove(key);
        if removed.is_some() {
            self.signals.all_of(key);
        }
    }

    /// One thing in every broker of a cluster; none when the cluster has no map yet.
    #[must_use]
    pub fn view<T: Thing>(&self, key: &ClusterKey, name: &str) -> Option<ClusterView<T>> {
        let clusters = self.clusters();
        let cluster = clusters.get(key)?;
        let view = |(&broker, link): (&u32, &Link)| {
            let session = link.shared.lock();
            let held = T::held(&session.state);
            BrokerView {
                broker,
                admin: Arc::clone(&link.admin),
                session: session.number,
                silence: session.silence(cluster.map.version),
                held: held.get(name).cloned(),
                pushed: held.pushed(name),
            }
        };
        let brokers = cluster.brokers.iter().map(view).collect();
        Some(ClusterView { map: Arc::clone(&cluster.map), brokers })
    }

    /// Every broker of a cluster about itself.
    #[must_use]
    pub fn reports(&self, key: &ClusterKey) -> Vec<BrokerReport> {
        let clusters = self.clusters();
        let brokers = clusters.get(key).map(|cluster| &cluster.brokers);
        let report = |(&broker, link): (&u32, &Link)| {
            let session = link.shared.lock();
            BrokerReport {
                broker,
                admin: Arc::clone(&link.admin),
                silence: session.silence(0),
                map_version: session.state.map_version,
                status: session.state.broker.clone(),
                empty_disks: session.empty_disks.clone(),
            }
        };
        brokers.into_iter().flatten().map(report).collect()
    }

    /// Brokers of all clusters that are connected, and those that are silent.
    #[must_use]
    pub fn counts(&self) -> (i64, i64) {
        let clusters = self.clusters();
        let links = clusters.values().flat_map(|cluster| cluster.brokers.values());
        links.fold((0, 0), |(connected, silent), link| {
            let is_silent = link.shared.lock().silent_since.is_some();
            if is_silent { (connected, silent + 1) } else { (connected + 1, silent) }
        })
    }

    fn sessions<R>(&self, key: &ClusterKey, mut read: impl FnMut(&BrokerState) -> R) -> Vec<R> {
        let clusters = self.clusters();
        let brokers = clusters.get(key).map(|cluster| &cluster.brokers);
        let read = |(_, link): (&u32, &Link)| read(&link.shared.lock().state);
        brokers.into_iter().flatten().map(read).collect()
    }

    /// Members and lag of a group, one part from each broker that has any.
    #[must_use]
    pub fn group_status(&self, key: &ClusterKey, group: &str) -> Vec<GroupStatus> {
        let parts = self.sessions(key, |state| state.group_status.get(group).cloned());
        parts.into_iter().flatten().collect()
    }

    /// Members and lag of every group, a part from each broker; none until every broker has told of all its groups.
    #[must_use]
    pub fn all_group_status(&self, key: &ClusterKey) -> Option<Vec<GroupStatus>> {
        let told = self.sessions(key, |state| {
            let is_told = |name: &str| state.group_status.contains_key(name);
            let all = state.synced && state.groups.names().all(is_told);
            all.then(|| state.group_status.values().cloned().collect::<Vec<_>>())
        });
        let told: Option<Vec<_>> = told.into_iter().collect();
        told.map(|parts| parts.into_iter().flatten().collect())
    }

    /// Groups that draw from a topic on any broker.
    #[must_use]
    pub fn groups_of(&self, key: &ClusterKey, topic: &str) -> BTreeSet<String> {
        let parts = self
            .sessions(key, |state| state.groups_of(topic).map(str::to_owned).collect::<Vec<_>>());
        parts.into_iter().flatten().collect()
    }

    /// Shards with queues of any of the topics, as brokers hold them.
    #[must_use]
    pub fn shards_of(&self, key: &ClusterKey, topics: &BTreeSet<&str>) -> BTreeSet<String> {
        let of_broker = |state: &BrokerState| {
            let held = topics.iter().filter_map(|topic| state.topics.get(topic));
            let placed = held.flat_map(|topic| topic.placement.iter().filter(|p| p.queues > 0));
            placed.map(|placed| placed.shard.clone()).collect::<Vec<_>>()
        };
        self.sessions(key, of_broker).into_iter().flatten().collect()
    }

    /// Whether any broker holds a topic.
    #[must_use]
    pub fn has_topic(&self, key: &ClusterKey, topic: &str) -> bool {
        self.sessions(key, |state| state.topics.get(topic).is_some()).contains(&true)
    }

    /// Notes that a broker is about to be asked for a thing: it may have it without being able to say so.
    pub fn note_ask<T: Thing>(&self, key: &ClusterKey, broker: u32, name: &str) {
        let clusters = self.clusters();
        let link = clusters.get(key).and_then(|cluster| cluster.brokers.get(&broker));
        let Some(link) = link else { return };
        T::held_mut(&mut link.shared.lock().state).note_ask(name);
    }

    /// Notes that a broker is asked to delete something: its end is no loss.
    pub fn note_delete<T: Thing>(&self, key: &ClusterKey, broker: u32, name: &str) {
        let clusters = self.clusters();
        let link = clusters.get(key).and_then(|cluster| cluster.brokers.get(&broker));
        let Some(link) = link else { return };
        T::held_mut(&mut link.shared.lock().state).note_delete(name);
    }

    /// Notes an answered push, unless the session that it belongs to ended meanwhile. Answers what had vanished before.
    pub fn note_push<T: Thing>(
        &self,
        key: &ClusterKey,
        view: &BrokerView<T>,
        answer: T,
        hash: u64,
    ) -> Option<Vanished> {
        let name = answer.name().to_owned();
        let clusters = self.clusters();
        let link = clusters.get(key).and_then(|cluster| cluster.brokers.get(&view.broker));
        let mut session = link?.shared.lock();
        if session.number != view.session {
            return None;
        }
        let held = T::held_mut(&mut session.state);
        let vanished = held.take_vanished(&name);
        let is_new = held.note_push(answer, hash);
        drop(session);
        drop(clusters);
        if is_new {
            watch::signal(&self.signals, key, T::appearance(name));
        }
        vanished
    }

    /// Notes that a broker holds a version of the cluster map; who waited for that is woken.
    pub fn note_map(&self, key: &ClusterKey, broker: u32, version: u64) {
        let clusters = self.clusters();
        let Some(link) = clusters.get(key).and_then(|cluster| cluster.brokers.get(&broker)) else {
            return;
        };
        let mut session = link.shared.lock();
        session.state.map_version = session.state.map_version.max(version);
        drop(session);
        drop(clusters);
        self.signals.all_of(key);
    }
}

impl Session {
    /// Begins the next one, and keeps of this one whether its disk was empty.
    fn begin(&mut self) {
        self.number += 1;
        let state = std::mem::take(&mut self.state);
        let Some((disk, is_empty)) = state.disk() else {
            if state.topics.names().next().is_some() {
                // It told of topics, and not on which disk they are.
                self.empty_disks.clear();
            }
            return;
        };
        self.empty_disks.retain(|known| known != disk);
        if is_empty {
            self.empty_disks.push(disk.to_owned());
            let too_many = self.empty_disks.len().saturating_sub(EMPTY_DISKS_MAX);
            self.empty_disks.drain(..too_many);
        }
    }

    fn silence(&self, map_version: u64) -> Option<Silence> {
        if let Some(since) = self.silent_since {
            return Some(Silence { lasted: since.elapsed(), error: self.error.clone() });
        }
        let behind = self.state.map_version < map_version;
        behind.then(|| Silence {
            lasted: Duration::ZERO,
            error: format!("waits for version {map_version} of the cluster map"),
        })
    }
}

#[cfg(test)]
mod tests {
    use broker_proto::admin::state_event::Event;
    use broker_proto::admin::{QueuePlacement, ShardStatus, StateEvent, Synced, Topic};

    use super::*;

    /// What a broker with shard-0 tells in one session.
    fn tell(session: &mut Session, disk_id: &str, queues: Option<u32>, is_whole: bool) {
        session.begin();
        let place = |queues| QueuePlacement { shard: "shard-0".to_owned(), queues };
        let topic = queues.map(|queues| {
            let placement = vec![place(queues)];
            Event::Topic(Topic { name: "orders".to_owned(), placement, ..Topic::default() })
        });
        let shards = vec![ShardStatus { name: "shard-0".to_owned(), ..ShardStatus::default() }];
        let disk_id = disk_id.to_owned();
        let broker = Event::Broker(BrokerStatus { disk_id, shards, ..BrokerStatus::default() });
        let rest = [broker, Event::Synced(Synced {})].into_iter().filter(|_| is_whole);
        for event in topic.into_iter().chain(rest) {
            session.state.apply(StateEvent { version: 1, event: Some(event) });
        }
    }

    #[test]
    fn a_disk_is_known_to_be_empty_until_a_later_session_tells_otherwise_or_breaks_off() {
        let shared = Shared::new();
        let mut session = shared.lock();
        tell(&mut session, "a", None, true);
        tell(&mut session, "b", Some(0), true);
        session.begin();
        assert_eq!(session.empty_disks, ["a", "b"]);
        tell(&mut session, "a", Some(4), true);
        session.begin();
        assert_eq!(session.empty_disks, ["b"]);
        // Which disk it was is not known.
        tell(&mut session, "c", Some(4), false);
        session.begin();
        assert!(session.empty_disks.is_empty());
        for disk in 0..20 {
            tell(&mut session, &disk.to_string(), None, true);
        }
        assert!(session.empty_disks.len() <= EMPTY_DISKS_MAX);
    }
}
