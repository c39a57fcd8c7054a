//! From what was observed to a group that can be planned, or the reason why not. Pure.

use broker_proto::admin::{self, Owner};
use operator_api::rules;

use super::difference::{differences, model};
use super::fetch::Observed;
use super::plan::wire_group;
use crate::topic::fetch::claim;
use crate::topic::validate::{adopt, cluster, marks, own};
use crate::verdict::Verdict;

/// A group that can be planned.
#[derive(Debug, Clone)]
pub struct ValidGroup {
    /// The mark that it gets.
    pub owner: Owner,
    /// A mark of somebody who is gone, or replaced, is overwritten.
    pub take_ownership: bool,
}

/// Checks the object, its cluster and who owns the name.
///
/// # Errors
/// The verdict that says what to change.
pub fn validate(observed: &Observed, instance: &str) -> Result<ValidGroup, Verdict> {
    let group = observed.group.as_ref();
    let claim = claim(group);
    if let Some(violation) = rules::check_consumer_group(&claim.name, &group.spec).first() {
        let message = format!("{}: {}", violation.field, violation.message);
        return Err(Verdict::stalled("InvalidSpec", message));
    }
    cluster(&observed.cluster_key, observed.cluster.as_ref(), &claim.namespace)?;
    let marks = marks(observed.view.as_ref());
    let what = format!("consumer group {:?}", observed.name);
    let policy = group.spec.adoption_policy;
    let granted = own(&what, &claim, &observed.rivals, &marks, instance, policy)?;
    let owner = claim.mark(instance);
    let wanted = wire_group(observed, &owner);
    let held = observed.view.iter().flat_map(|view| &view.brokers);
    // A group made by its first use was declared by nobody: there is nothing to be identical with.
    let held = held.filter_map(|broker| broker.held.as_ref()).filter(|held| !held.auto_created);
    let differ = |held: &admin::Group| differences(held, &wanted);
    adopt(&what, held, &claim, instance, policy, differ)?;
    keep_model(observed, &wanted)?;
    Ok(ValidGroup { owner, take_ownership: granted.take_over })
}

/// The model stays while there is progress, which each model keeps in another way.
fn keep_model(observed: &Observed, wanted: &admin::Group) -> Result<(), Verdict> {
    let Some(view) = &observed.view else { return Ok(()) };
    let mut held = view.brokers.iter().filter_map(|broker| broker.held.as_ref());
    let Some(held) = held.find(|held| model(held) != model(wanted)) else { return Ok(()) };
    if let Some(silent) = view.brokers.iter().find(|broker| broker.silence.is_some()) {
        let message = format!(
            "broker {} does not answer; whether the group has progress there decides about its new model",
            silent.broker
        );
        return Err(Verdict::waiting("ClusterNotReady", message));
    }
    if !observed.parts.iter().any(has_progress) {
        return Ok(());
    }
    let message = format!(
        "consumer group {:?} has the model {} and progress in the cluster, which {} would keep differently; set \
         spec.model back, give the group another name, or delete it with its progress: pinnace group delete {} \
         --force",
        observed.name,
        model(held),
        model(wanted),
        observed.name
    );
    Err(Verdict::stalled("ImmutableChange", message))
}

fn has_progress(part: &admin::GroupStatus) -> bool {
    let is_row = |lag: &admin::TopicLag| !lag.never_polled || lag.dead_letters > 0;
    !part.members.is_empty() || part.topics.iter().any(is_row)
}
