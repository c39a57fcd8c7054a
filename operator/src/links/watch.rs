//! Follows the state stream of one broker for as long as the broker belongs to its cluster. Every opening is a new
//! session: what was known before is forgotten, so that everything is pushed again to a broker that restarted.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Shared;
use super::state::Change;
use crate::broker_admin::{AdminError, BrokerAdmin};
use crate::names::ClusterKey;
use crate::signals::{Scope, Signals};

/// First pause after a failed or ended stream.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// One broker to follow.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) cluster: ClusterKey,
    pub(super) broker: u32,
    pub(super) admin: Arc<dyn BrokerAdmin>,
    pub(super) shared: Arc<Shared>,
    pub(super) signals: Signals,
}

impl Watch {
    /// Never ends; whoever started it aborts it.
    pub(super) async fn run(self) {
        let mut pause = PAUSE_MIN;
        loop {
            let error = self.follow().await;
            let was_synced = self.end(&error);
            if was_synced {
                warn!(cluster = %self.cluster, broker = self.broker, %error, "connection lost");
                pause = PAUSE_MIN;
            } else {
                debug!(cluster = %self.cluster, broker = self.broker, %error, "no connection yet");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One session: from opening the stream to its end.
    async fn follow(&self) -> AdminError {
        let mut stream = match self.admin.watch_state().await {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        self.shared.lock().begin();
        loop {
            match stream.next().await {
                Some(Ok(event)) => {
                    let changes = {
                        let mut session = self.shared.lock();
                        let changes = session.state.apply(event);
                        if session.state.synced {
                            session.silent_since = None;
                        }
                        changes
                    };
                    for change in changes {
                        if change == Change::Synced {
                            info!(cluster = %self.cluster, broker = self.broker, "connected");
                        }
                        signal(&self.signals, &self.cluster, change);
                    }
                }
                Some(Err(error)) => return error,
                None => {
                    let message = "the broker ended the state stream".to_owned();
                    return AdminError { code: tonic::Code::Unavailable, message };
                }
            }
        }
    }

    /// Ends the session; what was known stays readable until the next one begins.
    fn end(&self, error: &AdminError) -> bool {
        let mut session = self.shared.lock();
        session.error = error.words();
        let was_synced = session.silent_since.is_none();
        session.silent_since.get_or_insert_with(Instant::now);
        drop(session);
        if was_synced {
            self.signals.clusters.mark(self.cluster.clone());
            self.signals.all_of(&self.cluster);
        }
        was_synced
    }
}

/// Wakes whoever looks after what changed.
pub(super) fn signal(signals: &Signals, cluster: &ClusterKey, change: Change) {
    let one = |name| Scope::One(cluster.clone(), name);
    match change {
        Change::Synced => {
            signals.clusters.mark(cluster.clone());
            signals.all_of(cluster);
        }
        Change::Broker => signals.clusters.mark(cluster.clone()),
        Change::Topic(name) => signals.topics.mark(one(name)),
        Change::TopicSet(name) => {
            signals.topics.mark(one(name.clone()));
            signals.groups.mark(Scope::Subscribers(cluster.clone(), name));
        }
        Change::Group(name) => signals.groups.mark(one(name)),
    }
}
