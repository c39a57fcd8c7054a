//! Resets of a group's progress: asked of every broker of the cluster, once per id. Brokers remember the id, so asking
//! again after a failure in between is harmless; the status remembers it for good.

use broker_proto::admin::{Group, ResetOffsetsRequest};
use futures::future::join_all;
use operator_api::condition::{Finding, Truth};
use operator_api::consumer_group::{ConsumerGroupSpec, ConsumerGroupStatus, OffsetResetStatus};

use crate::broker_admin::AdminError;
use crate::links::ClusterView;

/// Condition: the declared reset is carried out.
const COMPLETE: &str = "OffsetResetComplete";

/// What came of a reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was to be done, or nobody could be asked yet.
    NotAsked,
    /// Every broker has carried it out.
    Done {
        /// Its id.
        id: String,
    },
    /// A broker did not.
    Failed {
        /// Its number.
        broker: u32,
        /// Its words.
        error: AdminError,
    },
}

/// Asks every broker.
pub async fn carry_out(view: &ClusterView<Group>, request: &ResetOffsetsRequest) -> Outcome {
    let calls = view.brokers.iter().map(|broker| broker.admin.reset_offsets(request.clone()));
    let answers = join_all(calls).await;
    let failed = answers.into_iter().zip(&view.brokers).find_map(|(answer, broker)| {
        answer.err().map(|error| Outcome::Failed { broker: broker.broker, error })
    });
    failed.unwrap_or_else(|| Outcome::Done { id: request.id.clone() })
}

impl Outcome {
    /// Whether time alone may help.
    pub(super) fn is_worth_another_try(&self) -> bool {
        matches!(self, Self::Failed { error, .. } if !error.is_refusal())
    }
}

/// Writes a reset that is done into the status.
pub(super) fn note(status: &mut ConsumerGroupStatus, outcome: &Outcome, now: &str) {
    if let Outcome::Done { id } = outcome {
        let completed_at = now.to_owned();
        status.offset_reset = Some(OffsetResetStatus { id: id.clone(), completed_at });
    }
}

/// What is said about the declared reset; nothing without one.
pub(super) fn finding(
    spec: &ConsumerGroupSpec,
    status: &ConsumerGroupStatus,
    outcome: &Outcome,
) -> Option<Finding> {
    let id = &spec.offset_reset.as_ref()?.id;
    let is_done = status.offset_reset.as_ref().is_some_and(|done| done.id == *id);
    let (truth, reason, message) = match outcome {
        _ if is_done => {
            (Truth::True, "Completed", format!("reset {id:?} is carried out on every broker"))
        }
        Outcome::Failed { broker, error } if error.code == tonic::Code::NotFound => {
            let text = format!(
                "reset {id:?}: broker {broker} says: {}; it is tried again until that exists",
                error.message
            );
            (Truth::False, "NotFound", text)
        }
        Outcome::Failed { broker, error } if error.is_refusal() => {
            let text = format!(
                "broker {broker} refuses reset {id:?}: {}; give a correct reset another id",
                error.message
            );
            (Truth::False, "RefusedByBroker", text)
        }
        Outcome::Failed { broker, error } => {
            let text = format!(
                "reset {id:?}: broker {broker} did not answer ({}); it is asked again",
                error.message
            );
            (Truth::False, "BrokerNotAnswering", text)
        }
        Outcome::NotAsked | Outcome::Done { .. } => {
            let text = format!("reset {id:?} waits until every broker holds the group");
            (Truth::False, "Pending", text)
        }
    };
    Some(Finding { type_: COMPLETE, status: truth, reason, message })
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn spec() -> ConsumerGroupSpec {
        serde_yaml::from_str("{offsetReset: {id: one, to: {position: Latest}}}").unwrap()
    }

    fn failed(code: Code) -> Outcome {
        let error = AdminError { code, message: "its words".to_owned() };
        Outcome::Failed { broker: 7, error }
    }

    #[test]
    fn a_reset_that_is_done_stays_done_and_another_id_does_not() {
        let mut status = ConsumerGroupStatus::default();
        note(&mut status, &Outcome::Done { id: "one".to_owned() }, "now");
        let said = |spec: &ConsumerGroupSpec, outcome: &Outcome| {
            finding(spec, &status, outcome).map(|found| (found.status, found.reason))
        };
        assert_eq!(said(&spec(), &Outcome::NotAsked), Some((Truth::True, "Completed")));
        let mut next = spec();
        next.offset_reset.as_mut().unwrap().id = "two".to_owned();
        assert_eq!(said(&next, &Outcome::NotAsked), Some((Truth::False, "Pending")));
        next.offset_reset = None;
        assert_eq!(said(&next, &Outcome::NotAsked), None);
        assert_eq!(status.offset_reset.unwrap().completed_at, "now");
    }

    #[test]
    fn a_failure_names_the_broker_and_is_tried_again_unless_it_is_refused() {
        for (code, reason, again) in [
            (Code::Unavailable, "BrokerNotAnswering", true),
            (Code::NotFound, "NotFound", true),
            (Code::InvalidArgument, "RefusedByBroker", false),
        ] {
            let mut status = ConsumerGroupStatus::default();
            let outcome = failed(code);
            note(&mut status, &outcome, "now");
            let found = finding(&spec(), &status, &outcome).unwrap();
            assert_eq!((found.status, found.reason), (Truth::False, reason));
            assert!(found.message.contains("broker 7"), "{}", found.message);
            assert!(found.message.contains("its words"), "{}", found.message);
            assert_eq!(outcome.is_worth_another_try(), again, "{reason}");
        }
    }
}
