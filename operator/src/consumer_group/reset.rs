//! Resets of a group's progress: asked of every broker of the cluster, once per id. Brokers remember the id, so asking
//! again after a failure in between is harmless; the status remembers it for good.

use broker_proto::admin::{Group, ResetOffsetsRequest};
use futures::future::join_all;
use operator_api::condition::{Finding, Truth};
use operator_api::consumer_group::{ConsumerGroupStatus, OffsetResetStatus};

use super::fetch::Observed;
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
    observed: &Observed,
    status: &ConsumerGroupStatus,
    outcome: &Outcome,
) -> Option<Finding> {
    let id = &observed.group.spec.offset_reset.as_ref()?.id;
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
