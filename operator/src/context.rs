//! What every controller needs, and the frame around each reconcile: counting, pauses after errors, events.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder};
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt as _};
use operator_api::broker_cluster::BrokerClusterStatus;
use operator_api::condition::{Condition, READY, STALLED, Truth};
use operator_api::consumer_group::ConsumerGroupStatus;
use operator_api::topic::TopicStatus;
use operator_api::{BrokerCluster, ConsumerGroup, Topic};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::claims::Claims;
use crate::error::Error;
use crate::links::Links;
use crate::metrics::Metrics;
use crate::names::ClusterKey;
use crate::signals::Signals;
use crate::status_writer::{Kind, StatusWriter, describe};

/// Everything is looked at again after this, whatever happens.
pub const RESYNC: Duration = Duration::from_secs(600);
/// First pause after a failed reconcile.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest pause after a failed reconcile.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Longest note of an event that Kubernetes takes.
const EVENT_NOTE_BYTES_MAX: usize = 1000;

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
    pub recorder: Recorder,
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
    k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
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

    /// Tells people when the reason of readiness changed.
    pub async fn tell<K: Kind>(&self, object: &K, before: &[Condition], after: &[Condition]) {
        let ready = |list: &[Condition]| list.iter().find(|c| c.type_ == READY).cloned();
        let (before, Some(after_ready)) = (ready(before), ready(after)) else { return };
        if before.as_ref().is_some_and(|b| b.reason == after_ready.reason) {
            return;
        }
        let stalled = after.iter().any(|c| c.type_ == STALLED);
        let is_warning = stalled || after_ready.status == Truth::Unknown;
        let type_ = if is_warning { EventType::Warning } else { EventType::Normal };
        self.publish(object, type_, after_ready.reason, &after_ready.message).await;
    }

    /// Warns people of something that no condition tells.
    pub async fn warn<K: Kind>(&self, object: &K, reason: &str, note: &str) {
        self.publish(object, EventType::Warning, reason.to_owned(), note).await;
    }

    async fn publish<K: Kind>(&self, object: &K, type_: EventType, reason: String, note: &str) {
        let note = Some(shorten(note, EVENT_NOTE_BYTES_MAX));
        let action = "Reconcile".to_owned();
        let event = Event { type_, reason, note, action, secondary: None };
        // An event that cannot be written is no reason to stop; the condition says the same.
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            debug!(object = %describe(object), %error, "cannot write an event");
        }
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
