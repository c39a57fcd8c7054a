//! Pods that are not there: the controller of StatefulSets tells in events alone why it cannot make one, because a
//! ServiceAccount is missing, a quota is used up or an admission refuses. Read only while a pod is missing.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use tracing::debug;

use super::plan::broker_of;
use super::pods::{Trouble, said};
use crate::context::Context;
use crate::names::{BROKER_LABEL, ClusterKey};

/// Reason of an event: a pod or its claim could not be made.
const FAILED: &str = "FailedCreate";
/// Reason of an event: it could.
const DONE: &str = "SuccessfulCreate";
/// Events of one StatefulSet that are read; repeated ones are one event with a count.
const EVENTS_MAX: u32 = 200;

/// StatefulSets without a pod, by the number of their broker.
#[must_use]
pub fn without_pod<'a>(sets: &'a [StatefulSet], pods: &[Pod]) -> Vec<(u32, &'a StatefulSet)> {
    let broker_of_pod = |pod: &Pod| pod.labels().get(BROKER_LABEL)?.parse().ok();
    let there: BTreeSet<u32> = pods.iter().filter_map(broker_of_pod).collect();
    let numbered = sets.iter().filter_map(|set| Some((broker_of(set)?, set)));
    let mut missing: Vec<_> = numbered.filter(|(broker, _)| !there.contains(broker)).collect();
    missing.sort_by_key(|(broker, _)| *broker);
    missing
}

/// Why the first of these has no pod; none while its controller has only not made it yet. What keeps one from being made mostly
/// keeps the others, and each would be one more question.
pub async fn trouble(
    key: &ClusterKey,
    missing: &[(u32, &StatefulSet)],
    context: &Context,
) -> Option<Trouble> {
    let (broker, set) = missing.first()?;
    let about = format!("involvedObject.kind=StatefulSet,involvedObject.uid={}", set.uid()?);
    let events: Api<Event> = Api::namespaced(context.client.clone(), &key.namespace);
    match events.list(&ListParams::default().fields(&about).limit(EVENTS_MAX)).await {
        Ok(events) => why(&events.items).map(|message| Trouble { broker: *broker, message }),
        // A role of an earlier chart does not allow it, and that the pod is missing is known without.
        Err(error) => {
            debug!(cluster = %key, broker, %error, "cannot read why a pod is missing");
            None
        }
    }
}

/// The words of the newest event, if that is of a failure.
fn why(events: &[Event]) -> Option<String> {
    let reason = |event: &Event| event.reason.clone().unwrap_or_default();
    let told = events.iter().filter(|event| [FAILED, DONE].contains(&reason(event).as_str()));
    // Times are whole seconds: the claim of a pod was made in the second in which the pod itself could not be.
    let newest = told.max_by_key(|event| (seen(event), reason(event) == FAILED))?;
    (reason(newest) == FAILED).then(|| said(FAILED, newest.message.as_deref()))
}

/// When an event happened last.
fn seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let times = [
        event.last_timestamp.as_ref().map(|time| time.0),
        series.map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
    ];
    times.into_iter().flatten().max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(reason: &str, message: &str, second: u32) -> Event {
        let text = format!(
            "{{metadata: {{}}, involvedObject: {{}}, reason: {reason}, message: '{message}', lastTimestamp: '2026-01-01T00:00:{second:02}Z'}}"
        );
        serde_yaml::from_str(&text).unwrap()
    }

    #[test]
    fn the_newest_failure_is_told_unless_something_was_made_since() {
        let failed = |second| event(FAILED, "Create Pod a failed error: no account", second);
        let done = |second| event(DONE, "create Claim data-a success", second);
        let words = "FailedCreate: Create Pod a failed error: no account".to_owned();
        assert_eq!(why(&[failed(5), done(5)]), Some(words.clone()));
        assert_eq!(why(&[done(7), failed(5)]), None);
        assert_eq!(why(&[done(7), event("Other", "", 9), failed(8)]), Some(words));
        assert_eq!(why(&[event("Other", "", 9)]), None);
        assert_eq!(why(&[]), None);
    }

    #[test]
    fn a_stateful_set_without_a_pod_is_found_by_the_number_of_its_broker() {
        let object = |broker: &str| {
            format!(
                "{{metadata: {{labels: {{pinnace.dev/broker: '{broker}'}}}}, spec: {{selector: {{}}, template: {{}}, serviceName: s, containers: []}}}}"
            )
        };
        let sets: Vec<StatefulSet> =
            ["2", "0", "1", "x"].map(|n| serde_yaml::from_str(&object(n)).unwrap()).into();
        let pods: Vec<Pod> = ["1"].map(|n| serde_yaml::from_str(&object(n)).unwrap()).into();
        let missing: Vec<u32> = without_pod(&sets, &pods).into_iter().map(|(n, _)| n).collect();
        assert_eq!(missing, [0, 2]);
    }
}
