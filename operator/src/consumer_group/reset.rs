//! Resets of a group's progress: asked of every broker of the cluster, once per id. Brokers remember the last id, so asking
//! again after a failure in between is harmless; the status remembers all ids for good, so that going back to an earlier
//! manifest resets nothing.

use broker_proto::admin::{Group, ResetOffsetsRequest};
use futures::future::join_all;
use operator_api::condition::{Finding, Truth};
use operator_api::consumer_group::{ConsumerGroupSpec, ConsumerGroupStatus, OffsetResetStatus};
use operator_api::limits::OFFSET_RESETS_REMEMBERED_MAX;

use crate::broker_admin::AdminError;
use crate::links::ClusterView;

/// Condition: the declared reset is carried out.
pub const COMPLETE: &str = "OffsetResetComplete";

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

/// Writes a reset that is done into the status, the first time only.
pub(super) fn note(status: &mut ConsumerGroupStatus, outcome: &Outcome, now: &str) {
    let Outcome::Done { id } = outcome else { return };
    if status.resets_done().any(|done| done.id == *id) {
        return;
    }
    let done = OffsetResetStatus { id: id.clone(), completed_at: now.to_owned() };
    let before = status.offset_reset.replace(done);
    status.earlier_offset_resets.extend(before);
}

/// What is said about the declared reset; nothing without one.
pub(super) fn finding(
    spec: &ConsumerGroupSpec,
    status: &ConsumerGroupStatus,
    outcome: &Outcome,
) -> Option<Finding> {
    let id = &spec.offset_reset.as_ref()?.id;
    let done = status.resets_done().find(|done| done.id == *id);
    if let Some(done) = done {
        let is_last = status.offset_reset.as_ref() == Some(done);
        let text = if is_last {
            format!("reset {id:?} is carried out on every broker")
        } else {
            format!(
                "reset {id:?} was carried out at {} and is not carried out again; to reset again, give it an id that was \
                 never used",
                done.completed_at
            )
        };
        return Some(complete(Truth::True, "Completed", text));
    }
    if status.resets_done().count() >= OFFSET_RESETS_REMEMBERED_MAX {
        let text = format!(
            "reset {id:?} is not carried out: {OFFSET_RESETS_REMEMBERED_MAX} resets are remembered, the limit of one \
             ConsumerGroup; use pinnace group reset"
        );
        return Some(complete(Truth::False, "LimitReached", text));
    }
    let (truth, reason, message) = match outcome {
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
    Some(complete(truth, reason, message))
}

fn complete(status: Truth, reason: &'static str, message: String) -> Finding {
    Finding { type_: COMPLETE, status, reason, message }
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
    fn every_id_is_remembered_with_the_time_of_its_first_run() {
        let mut status = ConsumerGroupStatus::default();
        let done = |id: &str| Outcome::Done { id: id.to_owned() };
        for (id, now) in [("one", "t1"), ("two", "t2"), ("one", "t3")] {
            note(&mut status, &done(id), now);
        }
        let remembered: Vec<_> = status
            .resets_done()
            .map(|done| (done.id.as_str(), done.completed_at.as_str()))
            .collect();
        assert_eq!(remembered, [("one", "t1"), ("two", "t2")]);
        let found = finding(&spec(), &status, &Outcome::NotAsked).unwrap();
        assert_eq!((found.status, found.reason), (Truth::True, "Completed"));
        assert!(found.message.contains("at t1 and is not carried out again"), "{}", found.message);
    }

    #[test]
    fn a_reset_that_could_not_be_remembered_is_refused() {
        let mut status = ConsumerGroupStatus::default();
        for number in 0..OFFSET_RESETS_REMEMBERED_MAX {
            note(&mut status, &Outcome::Done { id: format!("reset-{number}") }, "now");
        }
        let found = finding(&spec(), &status, &Outcome::NotAsked).unwrap();
        assert_eq!((found.status, found.reason), (Truth::False, "LimitReached"));
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
