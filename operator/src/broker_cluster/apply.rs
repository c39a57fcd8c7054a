//! Writes a cluster's objects by server-side apply, in an order that needs no second look: what pods refer to first. An
//! object of the same name that is somebody else's is never touched.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde::Serialize;
use serde_json::json;
use tracing::{info, warn};

use super::build::Objects;
use super::fetch::{Observed, is_left_behind, is_of_earlier, is_owned};
use super::halt::Halt;
use super::outside;
use super::plan::Plan;
use super::restarts;
use super::volumes::{self, Note};
use crate::applied::Standing;
use crate::context::Context;
use crate::error::Error;
use crate::metrics::Drift;
use crate::names::{
    CLUSTER_LABEL, DISK_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL, SHARDS_ANNOTATION,
};
use crate::status_writer::{Kind, describe};
use crate::verdict::Verdict;

/// Field manager of everything that this controller writes.
pub const FIELD_MANAGER: &str = "pinnace.dev/broker-cluster";

/// Applies all of them; answers what Kubernetes refuses of a listener.
///
/// # Errors
/// [`Halt`]: a name that is taken, or an object that cannot be written.
pub async fn apply(
    observed: &Observed,
    objects: Objects,
    context: &Context,
) -> Result<Option<Verdict>, Halt> {
    let wanted: BTreeSet<String> = objects.services.iter().map(|s| s.name_any()).collect();
    // What is not wanted any more is nobody's loss.
    context.applied.retain(&observed.key, &objects.described());
    apply_one(observed, &objects.config_map, context).await?;
    let mut refused = None;
    for service in &objects.services {
        let applied = apply_one(observed, service, context).await;
        refused = refused.or(outside::or_refused(applied)?);
    }
    apply_one(observed, &objects.disruption_budget, context).await?;
    apply_network_policy(observed, &objects, context).await?;
    for (broker, stateful_set) in &objects.stateful_sets {
        let cause = restarts::cause(observed, *broker, stateful_set);
        apply_one(observed, stateful_set, context).await?;
        if let Some(cause) = cause {
            restarts::begin(observed, *broker, &cause, context).await;
        }
    }
    prune_services(observed, &wanted, context).await?;
    Ok(refused)
}

/// Applies the NetworkPolicy; takes it away when the cluster asks for none.
async fn apply_network_policy(
    observed: &Observed,
    objects: &Objects,
    context: &Context,
) -> Result<(), Halt> {
    let name = observed.key.network_policy();
    let failed = |source: kube::Error| Error::Apply {
        what: format!("NetworkPolicy {}/{name}", observed.key.namespace),
        source: Box::new(source),
    };
    if let Some(wanted) = &objects.network_policy {
        return apply_one(observed, wanted, context).await;
    }
    let api: Api<NetworkPolicy> = Api::namespaced(context.client.clone(), &observed.key.namespace);
    let live = api.get_opt(&name).await.map_err(failed)?;
    match live.filter(|live| is_owned(&live.metadata, &observed.cluster)) {
        None => Ok(()),
        Some(live) => {
            let same = Preconditions { uid: live.uid(), ..Preconditions::default() };
            let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
            match api.delete(&name, &params).await {
                Ok(_) => info!(object = %describe(&live), "deleted; the cluster asks for none"),
                Err(kube::Error::Api(error)) if error.code == 404 => {}
                Err(error) => return Err(failed(error).into()),
            }
            Ok(())
        }
    }
}

async fn apply_one<K: Kind + Serialize>(
    observed: &Observed,
    object: &K,
    context: &Context,
) -> Result<(), Halt> {
    let live = live(observed, object, context).await?;
    let what = describe(object);
    let (wanted, seen) = (plain(object), live.as_ref().map(plain));
    let standing = context.applied.standing(&observed.key, &what, &wanted, seen.as_ref());
    if standing == Standing::InPlace {
        return Ok(());
    }
    let answer = write(observed, object, context).await?;
    context.applied.note(&observed.key, &what, wanted, &plain(&answer));
    if live.is_none() {
        info!(object = what, "created");
    }
    tell_drift::<K>(observed, &what, standing, context).await;
    Ok(())
}

/// Applies an object that holds a private key, or goes with one: nothing of it is remembered, compared or told.
pub(super) async fn apply_untold<K: Kind + Serialize>(
    observed: &Observed,
    object: &K,
    context: &Context,
) -> Result<(), Halt> {
    let live = live(observed, object, context).await?;
    write(observed, object, context).await?;
    info!(object = describe(object), is_new = live.is_none(), "applied");
    Ok(())
}

/// The object of this name as it is. One that is somebody else's halts the reconcile.
async fn live<K: Kind>(
    observed: &Observed,
    object: &K,
    context: &Context,
) -> Result<Option<K>, Halt> {
    let what = describe(object);
    let api: Api<K> = Api::namespaced(context.client.clone(), &observed.key.namespace);
    let live = api.get_opt(&object.name_any()).await;
    let live =
        live.map_err(|source| Error::Fetch { what: what.clone(), source: Box::new(source) })?;
    let is_free = |live: &K| {
        is_owned(live.meta(), &observed.cluster) || is_left_behind(live.meta(), &observed.key)
    };
    match live {
        Some(live) if !is_free(&live) => Err(taken(observed, &what, &live).into()),
        live => Ok(live),
    }
}

async fn write<K: Kind + Serialize>(
    observed: &Observed,
    object: &K,
    context: &Context,
) -> Result<K, Error> {
    let api: Api<K> = Api::namespaced(context.client.clone(), &observed.key.namespace);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = api.patch(&object.name_any(), &params, &Patch::Apply(object)).await;
    written.map_err(|source| Error::Apply { what: describe(object), source: Box::new(source) })
}

/// What is to be said of an object that is somebody else's.
fn taken<K: Kind>(observed: &Observed, what: &str, live: &K) -> Verdict {
    if is_of_earlier(live.meta(), &observed.key) {
        let message = format!(
            "waits until {what} is gone: it belongs to an earlier BrokerCluster of this name, and Kubernetes collects it"
        );
        return Verdict::waiting("EarlierClusterGoes", message);
    }
    let message = format!(
        "{what} exists and does not belong to this cluster; delete it or give the cluster another name"
    );
    Verdict::stalled("NameTaken", message)
}

/// An object as it goes over the wire.
fn plain<K: Serialize>(object: &K) -> serde_json::Value {
    serde_json::to_value(object).expect("an object is plain data")
}

/// Tells of what somebody else did to an object, and counts it.
async fn tell_drift<K: Kind>(
    observed: &Observed,
    what: &str,
    standing: Standing,
    context: &Context,
) {
    let (drift, note) = match standing {
        Standing::InPlace | Standing::ToApply => return,
        Standing::Changed(fields) => {
            (Drift::Changed, format!("somebody else changed {what}; it is put back: {fields}"))
        }
        Standing::Gone => (Drift::Gone, format!("somebody else deleted {what}; it is made again")),
    };
    context.metrics.repaired(&K::kind(&()), drift);
    warn!(cluster = %observed.key, "{note}");
    context.warn(observed.cluster.as_ref(), "DriftRepaired", &note).await;
}

/// Notes on the claims of volumes what their brokers found there. Nothing is noted before: a plan may be wrong.
///
/// # Errors
/// [`Error::Apply`].
pub async fn note_volumes(
    observed: &Observed,
    notes: &[Note],
    context: &Context,
) -> Result<(), Error> {
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), &observed.key.namespace);
    for Note { volume, shards, disk } in notes {
        let shards = volumes::text(shards);
        // With the uid, the note of one volume can never land on its successor.
        let patch = json!({"metadata": {
            "uid": volume.uid, "annotations": {SHARDS_ANNOTATION: shards, DISK_ANNOTATION: disk},
        }});
        match api.patch(&volume.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => info!(volume = volume.name, shards, disk, "noted"),
            Err(kube::Error::Api(error)) if error.code == 404 => {}
            Err(source) => {
                let what = format!("the note on PersistentVolumeClaim {}", volume.name);
                return Err(Error::Apply { what, source: Box::new(source) });
            }
        }
    }
    Ok(())
}

/// Asks for larger volumes where they are to grow; answers the claims that may not, with the words of Kubernetes.
///
/// # Errors
/// [`Error::Apply`].
pub async fn grow_volumes(
    observed: &Observed,
    plan: &Plan,
    context: &Context,
) -> Result<Vec<(String, String)>, Error> {
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(context.client.clone(), &observed.key.namespace);
    let mut refused = Vec::new();
    for volume in &plan.growth.to_ask {
        let patch = json!({
            "metadata": {"uid": volume.uid},
            "spec": {"resources": {"requests": {"storage": plan.storage_size}}},
        });
        match api.patch(&volume.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => info!(volume = volume.name, size = %plan.storage_size, "asked to grow"),
            Err(kube::Error::Api(error)) if error.code == 404 => {}
            Err(kube::Error::Api(error)) if matches!(error.code, 400 | 403 | 422) => {
                refused.push((volume.name.clone(), error.message));
            }
            Err(source) => {
                let what = format!("the size of PersistentVolumeClaim {}", volume.name);
                return Err(Error::Apply { what, source: Box::new(source) });
            }
        }
    }
    Ok(refused)
}

/// Deletes Services of listeners that are gone.
async fn prune_services(
    observed: &Observed,
    wanted: &BTreeSet<String>,
    context: &Context,
) -> Result<(), Error> {
    let what = || format!("the Services of {}", observed.key);
    let failed = |source: kube::Error| Error::Apply { what: what(), source: Box::new(source) };
    let api: Api<Service> = Api::namespaced(context.client.clone(), &observed.key.namespace);
    let labels = format!("{MANAGED_BY_LABEL}={MANAGED_BY},{CLUSTER_LABEL}={}", observed.key.name);
    let services = api.list(&ListParams::default().labels(&labels)).await.map_err(failed)?;
    for service in services {
        if wanted.contains(&service.name_any()) || !is_owned(&service.metadata, &observed.cluster) {
            continue;
        }
        let same = Preconditions { uid: service.uid(), ..Preconditions::default() };
        let params = DeleteParams { preconditions: Some(same), ..DeleteParams::default() };
        match api.delete(&service.name_any(), &params).await {
            Ok(_) => info!(object = %describe(&service), "deleted with its listener"),
            Err(kube::Error::Api(error)) if error.code == 404 => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}
