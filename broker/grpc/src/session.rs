//! The clients this broker knows: last settings, telemetry stream, last sign of life, address (protocol section 0).
//! A broken stream is not the death of a client; silence for 120 s or its own farewell is.

pub(crate) mod questions;
pub(crate) mod settings;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use broker_model::limits::{CLIENT_EXPIRY_MS, CLIENTS_MAX};
use broker_model::{GroupName, TopicName};
use broker_proto::rocketmq::settings::PubSub;
use broker_proto::rocketmq::{Code, Settings, TelemetryCommand};
use broker_replication::Memory;
use broker_replication::memory::{Part, Share};
use tokio::sync::{mpsc, watch};

use crate::limits::{PRODUCED_TOPICS_MAX, SESSION_BYTES};
use crate::status::Failure;

/// Where commands for one client go.
pub(crate) type TelemetrySender = mpsc::Sender<Result<TelemetryCommand, tonic::Status>>;

const LOCK: &str = "nothing panics while it holds a session";

/// One client instance.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client_id: Arc<str>,
    /// By the monotonic clock, like all times here.
    last_seen_ms: AtomicU64,
    state: Mutex<State>,
    lite: watch::Sender<Option<LiteSubscription>>,
    _share: Share,
}

#[derive(Debug, Default)]
struct State {
    settings: Option<Arc<Settings>>,
    remote: Option<SocketAddr>,
    telemetry: Option<TelemetrySender>,
    /// The memory that the settings take.
    settings_share: Option<Share>,
    /// The memory that the names of lite topics take.
    lite_share: Option<Share>,
    /// Topics it sent transactions to.
    produces: BTreeSet<TopicName>,
}

/// What a lite consumer is subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LiteSubscription {
    pub(crate) group: GroupName,
    pub(crate) topic: TopicName,
    pub(crate) names: Arc<BTreeSet<String>>,
}

impl Session {
    /// The settings as the client sent them last; none before the first.
    pub(crate) fn settings(&self) -> Option<Arc<Settings>> {
        self.state.lock().expect(LOCK).settings.clone()
    }

    /// `share` is the memory that they take.
    pub(crate) fn put_settings(&self, settings: Arc<Settings>, share: Share) {
        let mut state = self.state.lock().expect(LOCK);
        state.settings = Some(settings);
        state.settings_share = Some(share);
    }

    /// Takes note that the client sends transactions to a topic.
    pub(crate) fn note_producer_of(&self, topic: &TopicName) {
        let mut state = self.state.lock().expect(LOCK);
        if state.produces.len() < PRODUCED_TOPICS_MAX && !state.produces.contains(topic) {
            state.produces.insert(topic.clone());
        }
    }

    /// Whether the client sends to a topic: it says so in its settings, or did it.
    pub(crate) fn is_producer_of(&self, topic: &TopicName) -> bool {
        let state = self.state.lock().expect(LOCK);
        let announced = state.settings.as_ref().is_some_and(|settings| {
            matches!(&settings.pub_sub, Some(PubSub::Publishing(publishing))
                if publishing.topics.iter().any(|announced| announced.name == topic.as_str()))
        });
        announced || state.produces.contains(topic)
    }

    /// What the client is subscribed to as a lite consumer.
    pub(crate) fn lite(&self) -> Option<LiteSubscription> {
        self.lite.borrow().clone()
    }

    /// Polls that wait with another subscription begin anew. `share` is the memory that the names take.
    pub(crate) fn put_lite(&self, subscription: LiteSubscription, share: Share) {
        self.state.lock().expect(LOCK).lite_share = Some(share);
        self.lite.send_if_modified(|known| {
            let is_new = known.as_ref() != Some(&subscription);
            *known = Some(subscription);
            is_new
        });
    }

    /// Hears of every change of what the client is subscribed to as a lite consumer.
    pub(crate) fn lite_changes(&self) -> watch::Receiver<Option<LiteSubscription>> {
        self.lite.subscribe()
    }

    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.state.lock().expect(LOCK).remote
    }

    pub(crate) fn last_seen_ms(&self) -> u64 {
        self.last_seen_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn is_alive(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.last_seen_ms()) < CLIENT_EXPIRY_MS
    }

    /// Makes this stream the one that commands go to; the latest wins.
    pub(crate) fn attach(&self, sender: TelemetrySender) {
        self.state.lock().expect(LOCK).telemetry = Some(sender);
    }

    /// Forgets the stream unless a later one took its place.
    pub(crate) fn detach(&self, sender: &TelemetrySender) {
        let mut state = self.state.lock().expect(LOCK);
        if state.telemetry.as_ref().is_some_and(|held| held.same_channel(sender)) {
            state.telemetry = None;
        }
    }

    /// Sends a command if the client has a stream with room for it.
    pub(crate) fn send(&self, command: TelemetryCommand) -> bool {
        let sender = self.state.lock().expect(LOCK).telemetry.clone();
        sender.is_some_and(|sender| sender.try_send(Ok(command)).is_ok())
    }
}

/// All clients of this broker.
#[derive(Debug)]
pub struct Sessions {
    clients: RwLock<HashMap<Arc<str>, Arc<Session>>>,
    memory: Part,
}

impl Default for Sessions {
    fn default() -> Self {
        Self::new(Memory::default().sessions)
    }
}

impl Sessions {
    /// None yet; what is remembered of them is counted in `memory`.
    #[must_use]
    pub fn new(memory: Part) -> Self {
        Self { clients: RwLock::default(), memory }
    }

    /// Memory to remember something of a client.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when there is none.
    pub(crate) fn share(&self, bytes: usize) -> Result<Share, Failure> {
        self.memory.take(bytes).ok_or_else(|| {
            let mib = self.memory.max() / (1024 * 1024);
            let text = format!("{mib} MiB are remembered of clients, all that the memory of this broker allows; try another one");
            Failure::new(Code::TooManyRequests, text)
        })
    }

    pub(crate) fn get(&self, client_id: &str) -> Option<Arc<Session>> {
        self.clients.read().expect(LOCK).get(client_id).cloned()
    }

    /// The client, known from now on, with a sign of life.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS when the broker knows as many clients as it may.
    pub(crate) fn touch(
        &self,
        client_id: &str,
        remote: Option<SocketAddr>,
        now_ms: u64,
    ) -> Result<Arc<Session>, Failure> {
        if let Some(session) = self.get(client_id) {
            session.last_seen_ms.fetch_max(now_ms, Ordering::Relaxed);
            if remote.is_some() {
                session.state.lock().expect(LOCK).remote = remote;
            }
            return Ok(session);
        }
        let mut clients = self.clients.write().expect(LOCK);
        if clients.len() >= CLIENTS_MAX && !clients.contains_key(client_id) {
            let text =
                format!("the broker knows {CLIENTS_MAX} clients already; try another broker");
            return Err(Failure::new(Code::TooManyRequests, text));
        }
        let id: Arc<str> = client_id.into();
        let share = self.share(SESSION_BYTES + id.len())?;
        let fresh = || {
            Arc::new(Session {
                _share: share,
                client_id: Arc::clone(&id),
                last_seen_ms: AtomicU64::new(now_ms),
                state: Mutex::new(State { remote, ..State::default() }),
                lite: watch::Sender::new(None),
            })
        };
        Ok(Arc::clone(clients.entry(Arc::clone(&id)).or_insert_with(fresh)))
    }

    /// Forgets a client; whether it was known.
    pub(crate) fn remove(&self, client_id: &str) -> bool {
        self.clients.write().expect(LOCK).remove(client_id).is_some()
    }

    /// Whether the client gave a sign of life at this time or later.
    pub(crate) fn was_seen_since(&self, client_id: &str, since_ms: u64) -> bool {
        self.get(client_id).is_some_and(|session| session.last_seen_ms() >= since_ms)
    }

    /// Forgets the clients that were silent for too long and names them.
    pub(crate) fn expire(&self, now_ms: u64) -> Vec<Arc<str>> {
        let mut clients = self.clients.write().expect(LOCK);
        let gone: Vec<_> =
            clients.values().filter(|s| !s.is_alive(now_ms)).map(|s| s.client_id.clone()).collect();
        for client_id in &gone {
            clients.remove(client_id);
        }
        gone
    }

    /// Everyone, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Session>> {
        self.clients.read().expect(LOCK).values().cloned().collect()
    }

    /// How many clients are known.
    #[must_use]
    pub fn count(&self) -> usize {
        self.clients.read().expect(LOCK).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_lives_until_it_was_silent_for_two_minutes() {
        let sessions = Sessions::default();
        sessions.touch("a", None, 1_000).unwrap();
        sessions.touch("b", None, 50_000).unwrap();
        assert!(sessions.expire(120_999).is_empty());
        assert_eq!(sessions.expire(121_000), ["a".into()]);
        assert!(sessions.get("a").is_none() && sessions.was_seen_since("b", 50_000));
        sessions.touch("b", None, 160_000).unwrap();
        assert!(sessions.expire(200_000).is_empty(), "a sign of life counts from then on");
        assert!(sessions.remove("b") && !sessions.remove("b"));
    }

    #[tokio::test]
    async fn the_latest_telemetry_stream_wins_and_an_older_one_cannot_take_it_away() {
        let sessions = Sessions::default();
        let session = sessions.touch("a", None, 0).unwrap();
        assert!(!session.send(TelemetryCommand::default()), "no stream yet");
        let (first, _first_stream) = mpsc::channel(1);
        let (second, mut second_stream) = mpsc::channel(1);
        session.attach(first.clone());
        session.attach(second.clone());
        session.detach(&first);
        assert!(session.send(TelemetryCommand::default()));
        assert!(second_stream.recv().await.is_some());
        assert!(session.send(TelemetryCommand::default()));
        assert!(!session.send(TelemetryCommand::default()), "a full stream takes no more");
        session.detach(&second);
        assert!(!session.send(TelemetryCommand::default()));
    }

    #[test]
    fn settings_outlive_a_new_sign_of_life() {
        let sessions = Sessions::default();
        let session = sessions.touch("a", None, 0).unwrap();
        assert!(session.settings().is_none());
        session.put_settings(Arc::new(Settings::default()), sessions.share(1).unwrap());
        let remote = Some("10.0.0.1:5000".parse().unwrap());
        let again = sessions.touch("a", remote, 10).unwrap();
        assert!(again.settings().is_some() && again.remote() == remote);
        assert_eq!(sessions.count(), 1);
    }
}
