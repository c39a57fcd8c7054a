//! From what was observed to a group that can be planned, or the reason why not. Pure.

use broker_proto::admin::Owner;
use operator_api::rules;

use super::fetch::Observed;
use crate::topic::fetch::claim;
use crate::topic::validate::{cluster, marks, own};
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
    Ok(ValidGroup { owner: claim.mark(instance), take_ownership: granted.take_over })
}
