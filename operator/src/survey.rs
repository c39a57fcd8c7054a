//! What the watches hold, counted for the metrics page: objects by state, deletions that wait, connections.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::reflector::Store;
use operator_api::condition::{Condition, READY, STALLED, Truth};
use operator_api::{BrokerCluster, ConsumerGroup, Topic};

use crate::context::Context;
use crate::metrics::{Objects, Survey};
use crate::status_writer::Kind;

/// Reasons of one kind that are told apart; there are fewer, but a status can be written by anybody.
const REASONS_MAX: usize = 64;
/// What stands for all others.
const OTHER: &str = "Other";

/// Counts.
#[must_use]
pub fn survey(context: &Context) -> Survey {
    let mut survey = Survey { links: context.links.counts(), ..Survey::default() };
    count(&context.clusters, &mut survey, "BrokerCluster", |cluster: &BrokerCluster| {
        cluster.status.as_ref().map_or(&[], |status| &status.conditions)
    });
    count(&context.topics, &mut survey, "Topic", |topic: &Topic| {
        topic.status.as_ref().map_or(&[], |status| &status.conditions)
    });
    count(&context.groups, &mut survey, "ConsumerGroup", |group: &ConsumerGroup| {
        group.status.as_ref().map_or(&[], |status| &status.conditions)
    });
    survey
}

fn count<K: Kind>(
    store: &Store<K>,
    survey: &mut Survey,
    kind: &'static str,
    conditions: impl Fn(&K) -> &[Condition],
) {
    let now = Timestamp::now().as_second();
    let mut objects: BTreeMap<(&'static str, String), i64> = BTreeMap::new();
    let (mut waiting, mut oldest_seconds) = (0, 0);
    for object in store.state() {
        let (state, reason) = state(conditions(&object));
        let is_known =
            objects.len() < REASONS_MAX || objects.contains_key(&(state, reason.clone()));
        let reason = if is_known { reason } else { OTHER.to_owned() };
        *objects.entry((state, reason)).or_default() += 1;
        if let Some(since) = &object.meta().deletion_timestamp
            && !object.finalizers().is_empty()
        {
            waiting += 1;
            oldest_seconds = oldest_seconds.max(now.saturating_sub(since.0.as_second()));
        }
    }
    let counted = objects.into_iter();
    let counted = counted.map(|((state, reason), count)| (Objects { kind, state, reason }, count));
    survey.objects.extend(counted);
    survey.deletions.push((kind, waiting, oldest_seconds));
}

/// In one word how an object is, and why.
fn state(conditions: &[Condition]) -> (&'static str, String) {
    let find = |type_: &str| conditions.iter().find(|condition| condition.type_ == type_);
    let Some(ready) = find(READY) else { return ("new", "NotLookedAt".to_owned()) };
    let is_stalled = find(STALLED).is_some_and(|stalled| stalled.status == Truth::True);
    let state = match ready.status {
        _ if is_stalled => "stalled",
        Truth::True => "ready",
        Truth::False => "reconciling",
        Truth::Unknown => "unknown",
    };
    (state, ready.reason.clone())
}
