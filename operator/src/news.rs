//! What of a change of conditions people are told of. Pure. Only what changed is told, so that a reconcile that finds
//! everything as it was is silent.

use operator_api::condition::{Condition, READY, STALLED, Truth};

use crate::broker_cluster::status::DISK_REPLACED;
use crate::broker_cluster::storage::HEALTHY;
use crate::consumer_group::reset::COMPLETE;
use crate::events::Happening;

/// A reset that has one of these reasons goes on by itself soon.
const RESET_UNDER_WAY: [&str; 2] = ["Pending", "BrokerNotAnswering"];

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// What is told when these conditions follow those.
#[must_use]
pub fn of_conditions(before: &[Condition], after: &[Condition]) -> Vec<Happening> {
    let told = [ready(before, after), reset(before, after), room(before, after)];
    told.into_iter().chain([accepted(before, after)]).flatten().collect()
}

fn ready(before: &[Condition], after: &[Condition]) -> Option<Happening> {
    let now = find(after, READY)?;
    if find(before, READY).is_some_and(|before| before.reason == now.reason) {
        return None;
    }
    let is_warning = find(after, STALLED).is_some() || now.status == Truth::Unknown;
    Some(Happening { is_warning, reason: now.reason.clone(), note: now.message.clone() })
}

/// A reset that is done, or that does not go on by itself. Another reset that is done says so in other words.
fn reset(before: &[Condition], after: &[Condition]) -> Option<Happening> {
    let now = find(after, COMPLETE)?;
    let is_done = now.status == Truth::True;
    let is_known = find(before, COMPLETE).is_some_and(|before| {
        before.reason == now.reason && (!is_done || before.message == now.message)
    });
    if is_known || RESET_UNDER_WAY.contains(&now.reason.as_str()) {
        return None;
    }
    let reason = format!("OffsetReset{}", now.reason);
    Some(Happening { is_warning: !is_done, reason, note: now.message.clone() })
}

/// A volume that fills up, and volumes that have room again.
fn room(before: &[Condition], after: &[Condition]) -> Option<Happening> {
    let now = find(after, HEALTHY)?;
    let has_room = now.status == Truth::True;
    match find(before, HEALTHY) {
        None if has_room => return None,
        Some(before) if before.reason == now.reason => return None,
        _ => {}
    }
    let reason = format!("Storage{}", now.reason);
    Some(Happening { is_warning: !has_room, reason, note: now.message.clone() })
}

/// The loss of a disk that somebody accepted.
fn accepted(before: &[Condition], after: &[Condition]) -> Option<Happening> {
    let before = find(before, DISK_REPLACED)?;
    // While a cluster cannot be looked at, only what is said of readiness is known.
    let is_over = find(after, DISK_REPLACED).is_none() && find(after, STALLED).is_none();
    let (what, _) = before.message.split_once(", and").unwrap_or((&before.message, ""));
    let note =
        format!("the new disk is accepted, and what was on the lost one is given up: {what}");
    is_over.then(|| Happening::normal("DiskAccepted", note))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(type_: &str, status: Truth, reason: &str, message: &str) -> Condition {
        Condition {
            type_: type_.to_owned(),
            status,
            observed_generation: 1,
            last_transition_time: String::new(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        }
    }

    /// Reasons of what is told, with a mark at warnings.
    fn told(before: &[Condition], after: &[Condition]) -> Vec<String> {
        let happenings = of_conditions(before, after).into_iter();
        happenings.map(|h| format!("{}{}", h.reason, if h.is_warning { "!" } else { "" })).collect()
    }

    #[test]
    fn readiness_is_told_when_its_reason_changes() {
        let ready = |reason, message| [condition(READY, Truth::False, reason, message)];
        assert_eq!(told(&[], &ready("Rolling", "a")), ["Rolling"]);
        assert!(told(&ready("Rolling", "a"), &ready("Rolling", "b")).is_empty());
        let stalled = condition(STALLED, Truth::True, "NameTaken", "");
        let mut after = ready("NameTaken", "").to_vec();
        after.push(stalled);
        assert_eq!(told(&ready("Rolling", "a"), &after), ["NameTaken!"]);
    }

    #[test]
    fn every_reset_that_is_done_or_refused_is_told_once() {
        let reset = |status, reason, message| [condition(COMPLETE, status, reason, message)];
        let pending = reset(Truth::False, "Pending", "a waits");
        let done = reset(Truth::True, "Completed", "a is done");
        assert!(told(&[], &pending).is_empty());
        assert_eq!(told(&pending, &done), ["OffsetResetCompleted"]);
        assert!(told(&done, &done).is_empty());
        assert_eq!(told(&done, &reset(Truth::True, "Completed", "b")), ["OffsetResetCompleted"]);
        let refused = |message| reset(Truth::False, "RefusedByBroker", message);
        assert_eq!(told(&pending, &refused("a")), ["OffsetResetRefusedByBroker!"]);
        assert!(told(&refused("a"), &refused("other words")).is_empty());
    }

    #[test]
    fn volumes_are_told_of_when_they_fill_up_and_when_they_have_room_again() {
        let room = [condition(HEALTHY, Truth::True, "HasRoom", "")];
        let full = [condition(HEALTHY, Truth::False, "SendsRefused", "")];
        assert!(told(&[], &room).is_empty());
        assert_eq!(told(&room, &full), ["StorageSendsRefused!"]);
        assert_eq!(told(&full, &room), ["StorageHasRoom"]);
        assert_eq!(told(&[], &full), ["StorageSendsRefused!"]);
    }

    #[test]
    fn a_loss_that_is_accepted_is_told_and_one_that_cannot_be_seen_is_not_taken_for_that() {
        let message = "broker 1 runs on disk b, and the messages of shard-1 were on disk a";
        let lost = [condition(DISK_REPLACED, Truth::True, "DiskReplaced", message)];
        let told_now = of_conditions(&lost, &[condition(READY, Truth::True, "Serving", "")]);
        assert_eq!(told_now[1].reason, "DiskAccepted");
        assert!(told_now[1].note.ends_with("broker 1 runs on disk b"), "{told_now:?}");
        let stalled = [condition(STALLED, Truth::True, "InvalidSpec", "")];
        assert!(told(&lost, &stalled).is_empty());
    }
}
