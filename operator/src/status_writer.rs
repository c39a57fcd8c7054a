//! Writes statuses, and only when they differ. Remembers what was written last, because the watch may still show what
//! was before; but only for a while, and never against a whole list: an API server that was restored from a backup knows
//! less than was written, and what it lost is written again.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt as _};
use operator_api::broker_cluster::BrokerClusterStatus;
use operator_api::condition::Condition;
use operator_api::consumer_group::ConsumerGroupStatus;
use operator_api::topic::TopicStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;

use crate::error::Error;
use crate::metrics::Metrics;

/// A watch shows a write within this time.
const WATCH_DELAY_MAX: Duration = Duration::from_secs(60);

/// Writes the statuses of one kind.
#[derive(Debug)]
pub struct StatusWriter<S> {
    client: ShownClient,
    controller: &'static str,
    field_manager: String,
    metrics: Metrics,
    written: Mutex<HashMap<String, Written<S>>>,
}

/// A client that can be shown in debug texts.
struct ShownClient(Client);

impl fmt::Debug for ShownClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

#[derive(Debug, Clone)]
struct Written<S> {
    resource_version: u64,
    at: Instant,
    status: S,
}

/// The newest status that is known of an object.
#[derive(Debug, Clone)]
pub struct Before<S> {
    /// The status.
    pub status: S,
    /// When this process wrote it, if it did.
    pub written_at: Option<Instant>,
}

/// A status that says its conditions.
pub trait Reported: Serialize + Clone + PartialEq + Default + fmt::Debug {
    /// What is said.
    fn conditions(&self) -> &[Condition];
    /// What is said.
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
    /// The generation that it is about.
    fn observed_generation_mut(&mut self) -> &mut Option<i64>;
}

macro_rules! reported {
    ($($status:ty),*) => {$(
        impl Reported for $status {
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }
            fn conditions_mut(&mut self) -> &mut Vec<Condition> {
                &mut self.conditions
            }
            fn observed_generation_mut(&mut self) -> &mut Option<i64> {
                &mut self.observed_generation
            }
        }
    )*};
}

reported!(BrokerClusterStatus, TopicStatus, ConsumerGroupStatus);

/// Kinds whose status this module can write.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + DeserializeOwned
    + fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + fmt::Debug
        + Send
        + Sync
        + 'static
{
}

/// Kind, namespace and name, for messages.
pub fn describe<K: Kind>(object: &K) -> String {
    let namespace = object.namespace().unwrap_or_default();
    format!("{} {namespace}/{}", K::kind(&()), object.name_any())
}

fn version_of(object: &impl kube::ResourceExt) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// The newest of what was written and what the watch has.
fn newest<S: Reported>(mine: Option<Written<S>>, version: u64, status: Option<&S>) -> Before<S> {
    let mut told = status.cloned().unwrap_or_default();
    let Some(mine) = mine else { return Before { status: told, written_at: None } };
    let written_at = Some(mine.at);
    if mine.resource_version > version && mine.at.elapsed() < WATCH_DELAY_MAX {
        return Before { status: mine.status, written_at };
    }
    // Server-side apply leaves conditions of others alone, so that they would be missed in vain each time.
    let is_mine = |told: &Condition| mine.status.conditions().iter().any(|c| c.type_ == told.type_);
    told.conditions_mut().retain(is_mine);
    Before { status: told, written_at }
}

/// Whether two statuses say the same. Conditions of others may have changed the order of ours.
fn is_same<S: Reported>(one: &S, other: &S) -> bool {
    let ordered = |status: &S| {
        let mut status = status.clone();
        status.conditions_mut().sort_by(|a, b| a.type_.cmp(&b.type_));
        status
    };
    one == other || ordered(one) == ordered(other)
}

impl<S: Reported> StatusWriter<S> {
    /// A writer for one controller.
    pub fn new(client: Client, controller: &'static str, metrics: Metrics) -> Self {
        let field_manager = format!("pinnace.dev/{controller}-status");
        let written = Mutex::default();
        Self { client: ShownClient(client), controller, field_manager, metrics, written }
    }

    fn written(&self) -> std::sync::MutexGuard<'_, HashMap<String, Written<S>>> {
        self.written.lock().expect("nothing panics while it holds this lock")
    }

    /// The newest status known of an object: the watch's, or what was written after that. Without the conditions that
    /// somebody else added, once it is known which ones those are.
    pub fn before<K: Kind>(&self, object: &K, status: Option<&S>) -> Before<S> {
        let written = self.written();
        let mine = object.uid().and_then(|uid| written.get(&uid).cloned());
        newest(mine, version_of(object), status)
    }

    /// Hears of an object in a whole list.
    pub fn listed<K: Kind>(&self, object: &K) {
        let mut written = self.written();
        let Some(uid) = object.uid() else { return };
        if written.get(&uid).is_some_and(|mine| mine.resource_version > version_of(object)) {
            written.remove(&uid);
        }
    }

    /// Writes a status that differs from what is known; answers whether it did.
    ///
    /// # Errors
    /// [`Error::Status`]. An object that is gone is no error.
    pub async fn write<K: Kind>(
        &self,
        object: &K,
        before: &Before<S>,
        status: S,
    ) -> Result<bool, Error> {
        if is_same(&before.status, &status) {
            return Ok(false);
        }
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<K> = Api::namespaced(self.client.0.clone(), &namespace);
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            // With the uid, the status of an object can never land on its successor of the same name.
            "metadata": {"name": object.name_any(), "namespace": namespace, "uid": object.uid()},
            "status": status,
        });
        let params = PatchParams::apply(&self.field_manager).force();
        match api.patch_status(&object.name_any(), &params, &Patch::Apply(body)).await {
            Ok(answer) => {
                self.metrics.status_written(self.controller);
                let resource_version = version_of(&answer);
                let written = Written { resource_version, at: Instant::now(), status };
                if let Some(uid) = object.uid() {
                    self.written().insert(uid, written);
                }
                Ok(true)
            }
            Err(kube::Error::Api(error)) if error.code == 404 => Ok(false),
            Err(source) => {
                let what = describe(object);
                Err(Error::Status { what, source: Box::new(source) })
            }
        }
    }

    /// Forgets an object that is gone.
    pub fn forget<K: Kind>(&self, object: &K) {
        if let Some(uid) = object.uid() {
            self.written().remove(&uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use operator_api::condition::Truth;

    use super::*;

    fn status(types: &[&str]) -> TopicStatus {
        let condition = |type_: &&str| Condition {
            type_: (*type_).to_owned(),
            status: Truth::True,
            observed_generation: 1,
            last_transition_time: String::new(),
            reason: "Because".to_owned(),
            message: String::new(),
        };
        let conditions = types.iter().map(condition).collect();
        TopicStatus { conditions, ..TopicStatus::default() }
    }

    fn written(ago: Duration, types: &[&str]) -> Option<Written<TopicStatus>> {
        let at = Instant::now().checked_sub(ago).unwrap();
        Some(Written { resource_version: 10, at, status: status(types) })
    }

    #[test]
    fn conditions_of_somebody_else_are_no_difference() {
        let told = status(&["Foreign", "Ready"]);
        let before = newest(written(Duration::from_secs(1), &["Ready"]), 11, Some(&told));
        assert_eq!(before.status, status(&["Ready"]));
        let told = status(&["Stalled", "Foreign", "Ready"]);
        let before = newest(written(Duration::ZERO, &["Ready", "Stalled"]), 11, Some(&told));
        assert!(is_same(&before.status, &status(&["Ready", "Stalled"])));
        assert!(!is_same(&before.status, &status(&["Ready"])));
    }

    #[test]
    fn what_was_written_counts_until_the_watch_must_have_shown_it() {
        let told = status(&[]);
        let soon = newest(written(Duration::from_secs(1), &["Ready"]), 9, Some(&told));
        assert_eq!(soon.status, status(&["Ready"]));
        let restored = newest(written(WATCH_DELAY_MAX, &["Ready"]), 9, Some(&told));
        assert_eq!(restored.status, status(&[]));
    }
}
