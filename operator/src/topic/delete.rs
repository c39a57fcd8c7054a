//! What happens when a topic's object is deleted: nothing, unless its policy says so. Only then does it carry a
//! finalizer, and it is let go whenever there is nothing left to delete it from.

use std::sync::Arc;

use broker_proto::admin::{DeleteTopicRequest, Topic as WireTopic};
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::controller::Action;
use operator_api::Topic;
use operator_api::topic::DeletionPolicy;
use serde_json::json;
use tracing::info;

use super::fetch::{claim, target};
use crate::broker_admin::{Answer, BrokerAdmin};
use crate::context::Context;
use crate::error::Error;
use crate::links::state::Thing;
use crate::names::{ClusterKey, FINALIZER};
use crate::ownership::Claim;
use crate::status_writer::{Kind, describe};

/// When brokers that did not answer are asked again.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// A thing that can be deleted from brokers.
pub(crate) trait Deletable: Thing {
    /// Asks one broker.
    fn delete<'a>(
        admin: &'a dyn BrokerAdmin,
        name: &str,
        claim: &Claim,
        instance: &str,
    ) -> Answer<'a, ()>;
}

impl Deletable for WireTopic {
    fn delete<'a>(
        admin: &'a dyn BrokerAdmin,
        name: &str,
        claim: &Claim,
        instance: &str,
    ) -> Answer<'a, ()> {
        let owner = Some(claim.mark(instance));
        admin.delete_topic(DeleteTopicRequest { name: name.to_owned(), owner, force: false })
    }
}

/// Adds or removes the finalizer as the policy asks.
pub(super) async fn keep_finalizer(topic: &Arc<Topic>, context: &Context) -> Result<(), Error> {
    let wanted = topic.spec.deletion_policy == DeletionPolicy::Delete;
    set_finalizer(topic.as_ref(), wanted, context).await
}

/// Makes the finalizer present or absent.
pub(crate) async fn set_finalizer<K: Kind>(
    object: &K,
    wanted: bool,
    context: &Context,
) -> Result<(), Error> {
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

/// The object is being deleted.
pub(super) async fn delete(topic: &Arc<Topic>, context: &Context) -> Result<Action, Error> {
    let (key, name) = target(topic);
    let destroys = topic.spec.deletion_policy == DeletionPolicy::Delete;
    delete_thing::<WireTopic, _>(topic.as_ref(), destroys, &key, &name, context).await
}

/// Deletes from every broker what the object declared and nobody else declares, then lets the object go.
pub(crate) async fn delete_thing<T: Deletable, K: Kind>(
    object: &K,
    destroys: bool,
    key: &ClusterKey,
    name: &str,
    context: &Context,
) -> Result<Action, Error> {
    if !object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Action::await_change());
    }
    let cluster = context.cluster(key);
    let cluster_stays = cluster.is_some_and(|c| c.metadata.deletion_timestamp.is_none());
    if destroys && cluster_stays {
        let Some(view) = context.links.view::<T>(key, name) else {
            return Ok(Action::requeue(ASK_AGAIN));
        };
        let claim = claim(object);
        for broker in &view.brokers {
            if broker.silence.is_some() {
                return Ok(Action::requeue(ASK_AGAIN));
            }
            let mark = claim.mark(&context.settings.instance);
            let is_mine = |held: &T| {
                held.owner().is_some_and(|owner| {
                    (&owner.instance, &owner.namespace, &owner.name)
                        == (&mark.instance, &mark.namespace, &mark.name)
                })
            };
            if !broker.held.as_ref().is_some_and(is_mine) {
                continue;
            }
            let admin = broker.admin.as_ref();
            match T::delete(admin, name, &claim, &context.settings.instance).await {
                Ok(()) => {}
                // The broker knows another owner: it is not this object's to delete any more.
                Err(error) if error.code == tonic::Code::FailedPrecondition => {}
                Err(_) => return Ok(Action::requeue(ASK_AGAIN)),
            }
        }
        info!(object = %describe(object), "deleted from the brokers");
    }
    set_finalizer(object, false, context).await?;
    Ok(Action::await_change())
}
