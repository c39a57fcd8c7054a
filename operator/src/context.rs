//! What every controller needs, and the frame around each reconcile: counting, pauses after errors, events.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt as _};
use operator_api::broker_cluster::BrokerClusterStatus;
use operator_api::condition::Condition;
use operator_api::consumer_group::ConsumerGroupStatus;
use operator_api::topic::TopicStatus;
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use tokio::time::Instant;
use tracing::warn;

use crate::applied::Applied;
use crate::broker_cluster::restarts::Restarts;
use crate::claims::Claims;
use crate::error::Error;
use crate::events::{Events, Happening};
use crate::links::Links;
use crate::metrics::Metrics;
use crate::names::ClusterKey;
use crate::news;
use crate::signals::Signals;
use crate::status_writer::{Kind, StatusWriter, describe};

/// Everything is looked at again after this, whatever happens.
pub const RESYNC: Duration = Duration::from_secs(600);
/// First pause after a failed reconcile.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest pause after a failed reconcile.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What does not change while the operator runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name under which brokers know this operator as owner.
    pub instance: String,
    /// Namespace of the operator.
    pub namespace: String,
    /// Image of the brokers, without tag.
    pub broker_image: String,
    /// Version of brokers whose cluster names none.
    pub broker_version: String,
    /// DNS domain of the Kubernetes cluster.
    pub cluster_domain: String,
}

/// What every controller needs.
pub struct Context {
    /// Client of the API server.
    pub client: Client,
    /// What does not change.
    pub settings: Settings,
    /// How long a deletion waits for brokers when its whole namespace is being deleted.
    pub namespace_deletion_wait: Duration,
    /// Connections to brokers.
    pub links: Arc<Links>,
    /// Ways to wake controllers.
    pub signals: Signals,
    /// All clusters.
    pub clusters: Store<BrokerCluster>,
    /// All topics.
    pub topics: Store<Topic>,
    /// All groups.
    pub groups: Store<ConsumerGroup>,
    /// Topics by what they claim.
    pub topic_claims: Arc<Claims>,
    /// Groups by what they claim.
    pub group_claims: Arc<Claims>,
    /// Statuses of clusters.
    pub cluster_status: StatusWriter<BrokerClusterStatus>,
    /// Statuses of topics.
    pub topic_status: StatusWriter<TopicStatus>,
    /// Statuses of groups.
    pub group_status: StatusWriter<ConsumerGroupStatus>,
    /// Counters.
    pub metrics: Metrics,
    /// Events.
    pub events: Events,
    /// What was applied last.
    pub applied: Applied,
    /// Brokers that are being restarted.
    pub restarts: Restarts,
    /// When this process began to work.
    pub started: Instant,
    /// Failed attempts in a row, by uid.
    pub failures: Mutex<HashMap<String, u32>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Now, as conditions write it.
#[must_use]
pub fn now() -> String {
    stamp(Timestamp::now())
}

/// A time, as conditions write it.
#[must_use]
pub fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Context {
    fn failures(&self) -> std::sync::MutexGuard<'_, HashMap<String, u32>> {
        self.failures.lock().expect("nothing panics while it holds this lock")
    }

    /// Counts a finished reconcile and starts its pauses anew when it succeeded.
    pub fn finished<K: Kind>(
        &self,
        controller: &'static str,
        object: &K,
        started: Instant,
        outcome: &Result<Action, Error>,
    ) {
        let word = outcome.as_ref().map_or_else(Error::word, |_| "ok");
        self.metrics.reconciled(controller, word, started.elapsed());
        if outcome.is_ok()
            && let Some(uid) = object.uid()
        {
            self.failures().remove(&uid);
        }
    }

    /// The pause after a failed reconcile: doubles from one to the next.
    pub fn retry<K: Kind>(&self, object: &K, error: &Error) -> Action {
        let uid = object.uid().unwrap_or_default();
        let mut failures = self.failures();
        let count = failures.entry(uid).or_insert(0);
        let pause = RETRY_MIN.saturating_mul(1 << (*count).min(6)).min(RETRY_MAX);
        *count = count.saturating_add(1);
        warn!(object = %describe(object), %error, pause_s = pause.as_secs(), "will try again");
        Action::requeue(pause)
    }

    /// Forgets an object that is gone.
    pub fn forget<K: Kind>(&self, object: &K) {
        if let Some(uid) = object.uid() {
            self.failures().remove(&uid);
        }
    }

    /// Tells people what changed of the conditions of an object.
    pub async fn tell<K: Kind>(&self, object: &K, before: &[Condition], after: &[Condition]) {
        for happening in news::of_conditions(before, after) {
            if let Some(outcome) = happening.reason.strip_prefix("OffsetReset") {
                self.metrics.reset(outcome);
            }
            self.events.tell(object, &happening).await;
        }
    }

    /// Warns people of something that no condition tells.
    pub async fn warn<K: Kind>(&self, object: &K, reason: &str, note: &str) {
        self.events.tell(object, &Happening::warning(reason, note)).await;
    }

    /// The cluster of a key, unless it is gone.
    #[must_use]
    pub fn cluster(&self, key: &ClusterKey) -> Option<Arc<BrokerCluster>> {
        let reference = kube::runtime::reflector::ObjectRef::new(&key.name).within(&key.namespace);
        self.clusters.get(&reference)
    }
}

/// Cuts a text at a character boundary.
#[must_use]
pub fn shorten(text: &str, bytes_max: usize) -> String {
    let end = (0..=bytes_max.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    text[..end.unwrap_or_default()].to_owned()
}
