//! The deletion of an object deletes nothing in brokers, unless its policy says so. Only then does the object carry a
//! finalizer. It is let go whenever nothing is left to delete, another object declares the same, or the whole kind is being
//! removed; else it says what it waits for.

use std::sync::Arc;
use std::time::Duration;

use broker_proto::admin::GroupStatus;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use operator_api::BrokerCluster;
use operator_api::condition::merge;
use operator_api::topic::DeletionPolicy;
use serde_json::json;
use tracing::{info, warn};

use crate::broker_admin::{Answer, BrokerAdmin};
use crate::claims::Claims;
use crate::context::{Context, now};
use crate::error::Error;
use crate::events::Happening;
use crate::links::state::Thing;
use crate::links::{BrokerView, ClusterView};
use crate::names::{ClusterKey, FINALIZER};
use crate::ownership::Claim;
use crate::status_writer::{Kind, Reported, StatusWriter, describe};
use crate::topic::fetch::{claim, rivals};
use crate::topic::validate::allows;
use crate::verdict::Verdict;

/// When what a deletion waits for is looked at again.
pub const ASK_AGAIN: Duration = Duration::from_secs(5);

/// A thing that can be deleted from brokers.
pub trait Deletable: Thing {
    /// What people call it, and the verb of the command line.
    const NOUN: &'static str;
    /// Asks one broker.
    fn delete<'a>(
        admin: &'a dyn BrokerAdmin,
        name: &str,
        claim: &Claim,
        instance: &str,
    ) -> Answer<'a, ()>;
}

/// All that decides about a deletion.
#[derive(Debug)]
pub struct Facts<'a, T> {
    /// Name of the thing in its cluster.
    pub name: &'a str,
    /// The object that is being deleted.
    pub claim: &'a Claim,
    /// What it wants to happen.
    pub policy: DeletionPolicy,
    /// Name under which brokers know this operator.
    pub instance: &'a str,
    /// The cluster, unless it is gone or going.
    pub cluster: Option<&'a BrokerCluster>,
    /// Its namespace and name.
    pub key: &'a ClusterKey,
    /// Whether another object that takes over declares the same.
    pub has_successor: bool,
    /// The thing in every broker.
    pub view: Option<&'a ClusterView<T>>,
    /// Who uses the thing, each a sentence; none when a broker has not told yet.
    pub uses: Option<Vec<String>>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Decision<'a, T> {
    /// The object goes and what brokers hold stays.
    LetGo(&'static str),
    /// The object stays until something changes.
    Wait(Wait),
    /// These brokers are asked to delete, then the object goes.
    Destroy(Vec<&'a BrokerView<T>>),
}

/// What a deletion waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// One word for programs.
    pub word: &'static str,
    /// What is missing, for people. Holds nothing that moves by itself.
    pub cause: String,
}

/// Decides. Every broker must be heard before the first one is asked: half a topic helps nobody.
#[must_use]
pub fn decide<'a, T: Deletable>(facts: &Facts<'a, T>) -> Decision<'a, T> {
    let noun = T::NOUN;
    if facts.policy == DeletionPolicy::Retain {
        return Decision::LetGo("its policy is Retain");
    }
    let Some(cluster) = facts.cluster else {
        return Decision::LetGo("its cluster is gone");
    };
    if !allows(facts.key, cluster, &facts.claim.namespace) {
        return Decision::LetGo("its namespace may not change the cluster");
    }
    if facts.has_successor {
        return Decision::LetGo("another object declares the same and takes over");
    }
    let Some(view) = facts.view else {
        let cause = format!("BrokerCluster {} is not set up; see its conditions", facts.key);
        return Decision::Wait(Wait { word: "DeletionWaitsForCluster", cause });
    };
    let silent = view.brokers.iter().filter(|broker| broker.silence.is_some());
    let silent: Vec<String> = silent.map(|broker| broker.broker.to_string()).collect();
    if !silent.is_empty() {
        let brokers = silent.join(", ");
        let cause = format!("no answer from broker {brokers} of BrokerCluster {}", facts.key);
        return Decision::Wait(Wait { word: "DeletionWaitsForBroker", cause });
    }
    let is_mine = |broker: &&BrokerView<T>| {
        let mark = facts.claim.mark(facts.instance);
        broker.held.as_ref().and_then(Thing::owner).is_some_and(|owner| *owner == mark)
    };
    let mine: Vec<_> = view.brokers.iter().filter(is_mine).collect();
    if mine.is_empty() {
        return Decision::LetGo("no broker holds anything of it");
    }
    if facts.policy == DeletionPolicy::DeleteIfUnused {
        let uses = facts.uses.as_ref().map(|uses| uses.join("; "));
        let cause = match uses {
            None => format!("whether {noun} {:?} is used is not known yet", facts.name),
            Some(uses) if !uses.is_empty() => {
                format!("{noun} {:?} is used: {uses}", facts.name)
            }
            Some(_) => return Decision::Destroy(mine),
        };
        return Decision::Wait(Wait { word: "DeletionWaitsForUse", cause });
    }
    Decision::Destroy(mine)
}

/// The verdict on an object whose deletion waits.
fn verdict(noun: &str, wait: &Wait) -> Verdict {
    let message = format!(
        "the deletion waits: {}; to let the object go and keep the {noun}, set spec.deletionPolicy to Retain",
        wait.cause
    );
    Verdict::waiting(wait.word, message)
}

/// Makes the finalizer present or absent.
async fn set_finalizer<K: Kind>(object: &K, wanted: bool, context: &Context) -> Result<(), Error> {
    let mut finalizers = object.finalizers().to_vec();
    if finalizers.iter().any(|name| name == FINALIZER) == wanted {
        return Ok(());
    }
    finalizers.retain(|name| name != FINALIZER);
    if wanted {
        finalizers.push(FINALIZER.to_owned());
    }
    let api: Api<K> =
        Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    // With the version, a list that somebody else changed meanwhile is not overwritten.
    let version = object.resource_version();
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
    let params = PatchParams::default();
    match api.patch(&object.name_any(), &params, &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(error)) if error.code == 404 => Ok(()),
        Err(source) => {
            let what = describe(object);
            Err(Error::Finalizer { what, source: Box::new(source) })
        }
    }
}

/// A kind whose objects declare something that brokers hold.
pub(crate) trait Declaration: Kind {
    /// What they declare.
    type Thing: Deletable;
    /// What is said of them.
    type Status: Reported;

    /// The cluster, and the name of the thing there.
    fn target(&self) -> (ClusterKey, String);
    /// What their deletion does.
    fn policy(&self) -> DeletionPolicy;
    /// What the watch has of their status.
    fn reported(&self) -> Option<&Self::Status>;
    /// Who else declares the same.
    fn claims(context: &Context) -> &Claims;
    /// Who writes their status.
    fn statuses(context: &Context) -> &StatusWriter<Self::Status>;
    /// Who uses the thing, from what brokers say of all groups. Numbers are left out: they move, and would be written to
    /// the API server each time.
    fn uses(name: &str, parts: &[GroupStatus]) -> Vec<String>;
}

/// Adds or removes the finalizer as the policy asks.
///
/// # Errors
/// [`Error::Finalizer`].
pub(crate) async fn keep_finalizer<K: Declaration>(
    object: &K,
    context: &Context,
) -> Result<(), Error> {
    set_finalizer(object, object.policy() != DeletionPolicy::Retain, context).await
}

/// Looks at an object that is being deleted.
///
/// # Errors
/// What is worth another attempt by itself.
pub(crate) async fn delete<K: Declaration>(object: &K, context: &Context) -> Result<Action, Error> {
    let Some(verdict) = release(object, context).await? else {
        return Ok(Action::await_change());
    };
    let statuses = K::statuses(context);
    let before = statuses.before(object, object.reported());
    let generation = object.meta().generation.unwrap_or_default();
    let mut status = before.status.clone();
    *status.observed_generation_mut() = Some(generation);
    let conditions = merge(before.status.conditions(), &verdict.findings(), generation, &now());
    status.conditions_mut().clone_from(&conditions);
    if statuses.write(object, &before, status).await? {
        context.tell(object, before.status.conditions(), &conditions).await;
    }
    Ok(Action::requeue(ASK_AGAIN))
}

/// The cluster, unless it is gone or going.
fn standing_cluster(context: &Context, key: &ClusterKey) -> Option<Arc<BrokerCluster>> {
    context.cluster(key).filter(|cluster| cluster.metadata.deletion_timestamp.is_none())
}

/// Deletes from every broker what the object declared and nobody else declares, then lets the object go. A verdict is what
/// the deletion waits for.
async fn release<K: Declaration>(object: &K, context: &Context) -> Result<Option<Verdict>, Error> {
    if !object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(None);
    }
    let (key, name) = object.target();
    let claim = claim(object);
    let cluster = standing_cluster(context, &key);
    let rivals = rivals(K::claims(context), &key, cluster.as_ref(), &name, &claim);
    let view = context.links.view::<K::Thing>(&key, &name);
    let asks_for_uses = object.policy() == DeletionPolicy::DeleteIfUnused;
    let parts = asks_for_uses.then(|| context.links.all_group_status(&key)).flatten();
    let facts = Facts {
        name: &name,
        claim: &claim,
        policy: object.policy(),
        instance: &context.settings.instance,
        cluster: cluster.as_deref(),
        key: &key,
        has_successor: rivals.iter().any(|rival| rival.takes_over),
        view: view.as_ref(),
        uses: parts.map(|parts| K::uses(&name, &parts)),
    };
    let wait = match decide(&facts) {
        Decision::LetGo(why) => {
            info!(object = %describe(object), why, "let go, nothing is deleted from the brokers");
            let note = format!("nothing is deleted from the brokers: {why}");
            context.events.tell(object, &Happening::normal("KeptInBrokers", note)).await;
            None
        }
        _ if is_kind_going::<K>(context).await? => {
            let note = "nothing is deleted from the brokers: its definition is being removed";
            warn!(object = %describe(object), "{note}");
            context.warn(object, "KeptInBrokers", note).await;
            None
        }
        Decision::Wait(wait) => Some(wait),
        Decision::Destroy(brokers) => destroy(object, &facts, &brokers, context).await,
    };
    if let Some(wait) = &wait {
        if !gives_way(object, context).await? {
            return Ok(Some(verdict(K::Thing::NOUN, wait)));
        }
        tell_what_stays(object, &facts, wait, context).await;
    }
    set_finalizer(object, false, context).await?;
    Ok(None)
}

/// Asks brokers one by one; answers what is left to wait for.
async fn destroy<K: Declaration>(
    object: &K,
    facts: &Facts<'_, K::Thing>,
    brokers: &[&BrokerView<K::Thing>],
    context: &Context,
) -> Option<Wait> {
    let mut asked = Vec::new();
    for broker in brokers {
        let (admin, name) = (broker.admin.as_ref(), facts.name);
        context.links.note_delete::<K::Thing>(facts.key, broker.broker, name);
        match K::Thing::delete(admin, name, facts.claim, facts.instance).await {
            Ok(()) => asked.push(broker.broker.to_string()),
            // The broker knows another owner: it is not this object's to delete any more.
            Err(error) if error.code == tonic::Code::FailedPrecondition => {}
            Err(error) => {
                let number = broker.broker;
                let cause = format!("broker {number} did not delete it: {}", error.message);
                return Some(Wait { word: "DeletionWaitsForBroker", cause });
            }
        }
    }
    let (noun, name) = (K::Thing::NOUN, facts.name);
    info!(name, cluster = %facts.key, noun, "deleted from the brokers");
    let note =
        format!("{noun} {name:?} is deleted with all it held from broker {}", asked.join(", "));
    if !asked.is_empty() {
        context.events.tell(object, &Happening::normal("DeletedFromBrokers", note)).await;
    }
    None
}

/// Whether somebody removes the kind itself: that is no wish to lose what brokers hold.
async fn is_kind_going<K: Kind>(context: &Context) -> Result<bool, Error> {
    let name = format!("{}.{}", K::plural(&()), K::group(&()));
    let definitions: Api<CustomResourceDefinition> = Api::all(context.client.clone());
    let found = definitions.get_metadata_opt(&name).await;
    let found = found.map_err(|source| Error::Fetch { what: name, source: Box::new(source) })?;
    Ok(found.is_none_or(|definition| definition.metadata.deletion_timestamp.is_some()))
}

/// Whether an object that waits goes nevertheless: its whole namespace is being deleted, and it has waited long enough.
async fn gives_way<K: Kind>(object: &K, context: &Context) -> Result<bool, Error> {
    let since = object.meta().deletion_timestamp.as_ref().map(|time| time.0);
    let waited = since.map_or(0, |since| Timestamp::now().as_second() - since.as_second());
    let limit = context.namespace_deletion_wait.as_secs();
    if u64::try_from(waited).is_ok_and(|waited| waited >= limit) {
        let namespace = object.namespace().unwrap_or_default();
        let namespaces: Api<Namespace> = Api::all(context.client.clone());
        let found = namespaces.get_metadata_opt(&namespace).await;
        let what = format!("namespace {namespace}");
        let found = found.map_err(|source| Error::Fetch { what, source: Box::new(source) })?;
        return Ok(found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()));
    }
    Ok(false)
}

/// Tells it where it can still be read: no event can be written into a namespace that is being deleted.
async fn tell_what_stays<K: Declaration>(
    object: &K,
    facts: &Facts<'_, K::Thing>,
    wait: &Wait,
    context: &Context,
) {
    let (noun, name) = (K::Thing::NOUN, facts.name);
    let note = format!(
        "{noun} {name:?} may still be in brokers: its object went with namespace {}, and {}; to delete it: pinnace {noun} \
         delete {name} --force",
        facts.claim.namespace, wait.cause
    );
    warn!(object = %describe(object), "{note}");
    if let Some(cluster) = facts.cluster {
        context.warn(cluster, "LeftInBrokers", &note).await;
    }
}

#[cfg(test)]
mod tests;
