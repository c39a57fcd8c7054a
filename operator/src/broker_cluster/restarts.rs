//! Brokers that are restarted because their pods are to be different: why, and when each is back. Only for what people are
//! told: a process that starts has nothing to tell of restarts before it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt as _;
use tokio::time::Instant;

use super::fetch::Observed;
use super::rollout::is_ready;
use crate::applied;
use crate::context::Context;
use crate::events::Happening;
use crate::names::{BROKER_LABEL, ClusterKey, TEMPLATE_ANNOTATION};

/// When each broker that is not back yet was taken down.
#[derive(Debug, Default)]
pub struct Restarts(Mutex<HashMap<ClusterKey, BTreeMap<u32, Instant>>>);

impl Restarts {
    fn lock(&self) -> MutexGuard<'_, HashMap<ClusterKey, BTreeMap<u32, Instant>>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }

    fn begin(&self, cluster: &ClusterKey, broker: u32) {
        self.lock().entry(cluster.clone()).or_default().insert(broker, Instant::now());
    }

    /// Takes out those that are back, with how long they took.
    fn take_back(
        &self,
        cluster: &ClusterKey,
        is_back: impl Fn(u32) -> bool,
    ) -> Vec<(u32, Duration)> {
        let mut all = self.lock();
        let Some(brokers) = all.get_mut(cluster) else { return Vec::new() };
        let back = brokers.iter().filter(|(broker, _)| is_back(**broker));
        let back: Vec<_> = back.map(|(broker, since)| (*broker, since.elapsed())).collect();
        brokers.retain(|broker, _| !is_back(*broker));
        back
    }

    /// Forgets a cluster that is gone.
    pub fn forget(&self, cluster: &ClusterKey) {
        self.lock().remove(cluster);
    }
}

fn of_broker(observed: &Observed, broker: u32) -> Option<&StatefulSet> {
    let number = broker.to_string();
    observed.stateful_sets.iter().find(|set| set.labels().get(BROKER_LABEL) == Some(&number))
}

/// Why applying this restarts the broker; none when it does not.
#[must_use]
pub fn cause(observed: &Observed, broker: u32, wanted: &StatefulSet) -> Option<String> {
    let live = of_broker(observed, broker)?;
    let hash = |set: &StatefulSet| set.annotations().get(TEMPLATE_ANNOTATION).cloned();
    if hash(live) == hash(wanted) {
        return None;
    }
    let template = |set: &StatefulSet| {
        serde_json::to_value(&set.spec.template).expect("a template is plain data")
    };
    let fields = applied::told(&template(live), &template(wanted));
    Some(if fields.is_empty() { "something is taken away".to_owned() } else { fields })
}

/// Tells that a broker is taken down.
pub(super) async fn begin(observed: &Observed, broker: u32, cause: &str, context: &Context) {
    context.restarts.begin(&observed.key, broker);
    context.metrics.restarted();
    let note = format!("broker {broker} restarts, because its pod is to be different: {cause}");
    let happening = Happening::normal("BrokerRestarts", note);
    context.events.tell(observed.cluster.as_ref(), &happening).await;
}

/// Tells of brokers that are back.
pub(super) async fn tell_back(observed: &Observed, context: &Context) {
    let is_back = |broker: u32| {
        let serves = observed.reported.get(&broker).is_some_and(|found| !found.failed);
        serves && of_broker(observed, broker).is_some_and(is_ready)
    };
    for (broker, took) in context.restarts.take_back(&observed.key, is_back) {
        let seconds = took.as_secs();
        let note =
            format!("broker {broker} serves its shards again, {seconds} s after it was taken down");
        let happening = Happening::normal("BrokerBack", note);
        context.events.tell(observed.cluster.as_ref(), &happening).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_back_once() {
        let restarts = Restarts::default();
        let cluster = ClusterKey { namespace: "shop".to_owned(), name: "default".to_owned() };
        restarts.begin(&cluster, 0);
        restarts.begin(&cluster, 1);
        let back = restarts.take_back(&cluster, |broker| broker == 1);
        assert_eq!(back.iter().map(|(broker, _)| *broker).collect::<Vec<_>>(), [1]);
        assert!(restarts.take_back(&cluster, |broker| broker == 1).is_empty());
        restarts.forget(&cluster);
        assert!(restarts.take_back(&cluster, |_| true).is_empty());
    }
}
