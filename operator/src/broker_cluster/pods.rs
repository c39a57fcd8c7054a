//! What keeps a pod from being ready, in the words of Kubernetes and of the broker. Pure.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::ResourceExt as _;

use crate::context::shorten;
use crate::names::BROKER_LABEL;

/// Name of the container of a broker.
const CONTAINER: &str = "broker";
/// Longest sentence of somebody else that goes into a condition.
const WORDS_BYTES_MAX: usize = 400;
/// What a container waits for in peace.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// What keeps a broker from being ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Number of the broker.
    pub broker: u32,
    /// Why.
    pub message: String,
}

/// What keeps the pod of a broker from being ready; none when it is, or only starts.
#[must_use]
pub fn trouble(pod: &Pod) -> Option<Trouble> {
    let broker = pod.labels().get(BROKER_LABEL)?.parse().ok()?;
    let status = pod.status.as_ref()?;
    let conditions = status.conditions.iter().flatten();
    let is_false =
        |type_: &str| conditions.clone().find(|c| c.type_ == type_ && c.status == "False");
    let message = match is_false("PodScheduled") {
        Some(condition) => {
            let reason = condition.reason.as_deref().unwrap_or("not scheduled");
            said(reason, condition.message.as_deref())
        }
        None => {
            is_false("Ready").or_else(|| is_false("ContainersReady"))?;
            let containers = status.container_statuses.iter().flatten();
            of_container(containers.into_iter().find(|c| c.name == CONTAINER)?)?
        }
    };
    Some(Trouble { broker, message })
}

fn of_container(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref();
    let last = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        return match last {
            // Why it ended says more than that Kubernetes waits before it starts it again.
            Some(last) if reason == "CrashLoopBackOff" => {
                Some(format!("{reason}: {}", ended(last)))
            }
            _ if reason.is_empty() || STARTING.contains(&reason) => last.map(ended),
            _ => Some(said(reason, waiting.message.as_deref())),
        };
    }
    state.and_then(|state| state.terminated.as_ref()).or(last).map(ended)
}

/// How a container ended, with the last line of the broker.
fn ended(terminated: &ContainerStateTerminated) -> String {
    let reason = terminated.reason.as_deref().unwrap_or("ended");
    let how = format!("{reason}, exit code {}", terminated.exit_code);
    let lines = terminated.message.as_deref().unwrap_or_default().lines();
    said(&how, lines.rev().find(|line| !line.trim().is_empty()))
}

pub(super) fn said(reason: &str, words: Option<&str>) -> String {
    match words.map(str::trim).filter(|words| !words.is_empty()) {
        Some(words) => format!("{reason}: {}", shorten(words, WORDS_BYTES_MAX)),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pod of broker 1 with this status.
    fn pod(status: &str) -> Pod {
        let text =
            format!("{{metadata: {{labels: {{pinnace.dev/broker: '1'}}}}, status: {status}}}");
        serde_yaml::from_str(&text).unwrap()
    }

    fn said_of(status: &str) -> Option<String> {
        let trouble = trouble(&pod(status))?;
        assert_eq!(trouble.broker, 1);
        Some(trouble.message)
    }

    fn container(state: &str) -> String {
        format!(
            "{{conditions: [{{type: Ready, status: 'False'}}], containerStatuses: [{{name: broker, image: i, imageID: i, ready: false, restartCount: 3, {state}}}]}}"
        )
    }

    #[test]
    fn a_pod_without_a_node_says_why() {
        let status = "{conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: 0/3 nodes are available}]}";
        assert_eq!(said_of(status).unwrap(), "Unschedulable: 0/3 nodes are available");
    }

    #[test]
    fn an_image_that_is_not_there_is_named() {
        let status = container(
            "state: {waiting: {reason: ErrImagePull, message: 'not found: pinnace:9.9.9'}}",
        );
        assert_eq!(said_of(&status).unwrap(), "ErrImagePull: not found: pinnace:9.9.9");
    }

    #[test]
    fn a_broker_that_ends_again_and_again_is_told_by_its_last_line() {
        let ended = "lastState: {terminated: {exitCode: 2, reason: Error, message: \"starting\\n/data holds messages of shard-1\\n\"}}";
        let status = container(&format!(
            "state: {{waiting: {{reason: CrashLoopBackOff, message: back-off 40s}}}}, {ended}"
        ));
        let told = "CrashLoopBackOff: Error, exit code 2: /data holds messages of shard-1";
        assert_eq!(said_of(&status).unwrap(), told);
    }

    #[test]
    fn a_broker_without_memory_is_told_while_it_starts_again() {
        let status = container(
            "state: {running: {}}, lastState: {terminated: {exitCode: 137, reason: OOMKilled}}",
        );
        assert_eq!(said_of(&status).unwrap(), "OOMKilled, exit code 137");
    }

    #[test]
    fn a_pod_that_starts_or_is_ready_has_no_trouble() {
        let starting = container("state: {waiting: {reason: ContainerCreating}}");
        assert_eq!(said_of(&starting), None);
        let ready = starting.replace("'False'", "'True'");
        assert_eq!(said_of(&ready), None);
        assert_eq!(said_of("{}"), None);
    }
}
