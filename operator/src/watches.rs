//! The watches of our own kinds: a store of every object, and who hears of what comes and goes, also of what went while a
//! watch was interrupted.

mod joined;

use std::fmt;
use std::sync::{Arc, OnceLock};

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, ResourceExt as _};
use operator_api::{BrokerCluster, ConsumerGroup, Topic};

use crate::context::Context;
use crate::names::ClusterKey;
use crate::signals::Scope;
use crate::status_writer::Kind;
use crate::{consumer_group, topic};
use joined::Joined;

/// What kubectl notes of an applied manifest; nobody here reads it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Objects as they come and go.
pub(crate) type Objects<K> = BoxStream<'static, Result<K, watcher::Error>>;

/// A kind of ours, and what its coming and going means.
pub(crate) trait Watched: Kind {
    /// It stands in a whole list, which a watch begins with, and which is the truth whatever was known before.
    fn is_listed(&self, context: &Context);
    /// It is there no more.
    fn is_gone(&self, context: &Context);
}

/// Watches one kind, of all namespaces or of each of some, into a store; `noted` hears of every object as it is told.
pub(crate) fn watch_kind<K: Watched>(
    apis: Vec<Api<K>>,
    hearer: Hearer,
    noted: impl Fn(&K) + Send + 'static,
) -> (Store<K>, Objects<K>) {
    let (store, writer) = reflector::store();
    let mut joined = Joined::new(apis.len());
    let watches = apis.into_iter().enumerate().map(|(source, api)| {
        let events = watch(api, watch::Config::default()).default_backoff();
        events.modify(without_what_nobody_reads).map(move |event| (source, event)).boxed()
    });
    let lists = hearer.clone();
    let known = store.clone();
    let events = stream::select_all(watches).flat_map(move |(source, event)| {
        if let Ok(Event::InitApply(object)) = &event {
            lists.with(|context| object.is_listed(context));
        }
        let told = match event {
            Ok(event) => joined.take(source, event, || known.state()).map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(told)
    });
    // The store is ahead of whoever is woken here.
    let events = reflector::reflector(writer, events).inspect(move |event| match event {
        Ok(Event::InitApply(object) | Event::Apply(object)) => noted(object),
        Ok(Event::Delete(object)) => hearer.with(|context| object.is_gone(context)),
        Ok(Event::Init | Event::InitDone) | Err(_) => {}
    });
    (store, events.touched_objects().boxed())
}

fn without_what_nobody_reads<K: Kind>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    object.meta_mut().annotations.as_mut().map(|annotations| annotations.remove(LAST_APPLIED));
}

/// Late-bound hearers: watches are made before the context that hears them.
#[derive(Clone, Default)]
pub(crate) struct Hearer(Arc<OnceLock<Arc<Context>>>);

impl fmt::Debug for Hearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hearer")
    }
}

impl Hearer {
    /// Hears from now on.
    pub(crate) fn set(&self, context: Arc<Context>) {
        let first = self.0.set(context);
        debug_assert!(first.is_ok(), "the context is set once");
    }

    /// Lets the context hear of something.
    pub(crate) fn with(&self, hear: impl FnOnce(&Context)) {
        if let Some(context) = self.0.get() {
            hear(context);
        }
    }
}

impl Watched for BrokerCluster {
    fn is_listed(&self, context: &Context) {
        context.cluster_status.listed(self);
    }

    fn is_gone(&self, context: &Context) {
        let key =
            ClusterKey { namespace: self.namespace().unwrap_or_default(), name: self.name_any() };
        context.links.remove(&key);
        context.applied.forget(&key);
        context.restarts.forget(&key);
        context.signals.all_of(&key);
        // Another one of the name may have taken its place while nobody watched.
        context.signals.clusters.mark(key);
        context.cluster_status.forget(self);
        context.forget(self);
    }
}

impl Watched for Topic {
    fn is_listed(&self, context: &Context) {
        context.topic_status.listed(self);
    }

    /// Whoever else claimed the name may have it now.
    fn is_gone(&self, context: &Context) {
        let (key, name) = topic::fetch::target(self);
        context.topic_claims.forget(&topic::fetch::claim(self));
        context.signals.topics.mark(Scope::One(key, name));
        context.topic_status.forget(self);
        context.forget(self);
    }
}

impl Watched for ConsumerGroup {
    fn is_listed(&self, context: &Context) {
        context.group_status.listed(self);
    }

    fn is_gone(&self, context: &Context) {
        let (key, name) = consumer_group::fetch::target(self);
        context.group_claims.forget(&topic::fetch::claim(self));
        context.signals.groups.mark(Scope::One(key, name));
        context.group_status.forget(self);
        context.forget(self);
    }
}
