//! From what was observed to a topic that can be planned, or the reason why not. Pure.

use std::sync::Arc;

use broker_proto::admin::{MessageType as WireType, Owner};
use operator_api::broker_cluster::NamespacesFrom;
use operator_api::topic::{AdoptionPolicy, MessageType};
use operator_api::{BrokerCluster, rules};

use super::fetch::{Observed, claim};
use crate::links::ClusterView;
use crate::links::state::Thing;
use crate::names::ClusterKey;
use crate::ownership::{self, Claim, Granted};
use crate::verdict::Verdict;

/// A topic that can be planned.
#[derive(Debug, Clone)]
pub struct ValidTopic {
    /// Its cluster.
    pub cluster: Arc<BrokerCluster>,
    /// The mark that it gets.
    pub owner: Owner,
    /// A mark of somebody who is gone, or replaced, is overwritten.
    pub take_ownership: bool,
}

/// The type as brokers call it.
#[must_use]
pub fn wire_type(message_type: MessageType) -> WireType {
    match message_type {
        MessageType::Normal => WireType::Normal,
        MessageType::Fifo => WireType::Fifo,
        MessageType::Delay => WireType::Delay,
        MessageType::Transaction => WireType::Transaction,
        MessageType::Priority => WireType::Priority,
        MessageType::Lite => WireType::Lite,
    }
}

/// The cluster that an object names, if it may name it.
///
/// # Errors
/// The verdict that says what is missing.
pub fn cluster(
    key: &ClusterKey,
    found: Option<&Arc<BrokerCluster>>,
    namespace: &str,
) -> Result<Arc<BrokerCluster>, Verdict> {
    let Some(cluster) = found else {
        let message = format!(
            "there is no BrokerCluster {key}; create it or correct spec.clusterRef (it cannot be changed: create \
             another object)"
        );
        return Err(Verdict::waiting("ClusterNotFound", message));
    };
    let allowed =
        key.namespace == namespace || cluster.spec.allowed_namespaces.from == NamespacesFrom::All;
    if !allowed {
        let message = format!(
            "BrokerCluster {key} does not allow namespace {namespace}; set its spec.allowedNamespaces.from to All"
        );
        return Err(Verdict::stalled("NamespaceNotAllowed", message));
    }
    Ok(Arc::clone(cluster))
}

/// The marks that brokers hold, each once.
#[must_use]
pub fn marks<T: Thing>(view: Option<&ClusterView<T>>) -> Vec<Owner> {
    let mut marks: Vec<Owner> = Vec::new();
    for broker in view.iter().flat_map(|view| &view.brokers) {
        let mark = broker.held.as_ref().and_then(Thing::owner);
        if let Some(mark) = mark
            && !mark.instance.is_empty()
            && !marks.contains(mark)
        {
            marks.push(mark.clone());
        }
    }
    marks
}

/// Asks for the name.
///
/// # Errors
/// The verdict that names who has it.
pub fn own(
    what: &str,
    claim: &Claim,
    rivals: &[Claim],
    marks: &[Owner],
    instance: &str,
    policy: AdoptionPolicy,
) -> Result<Granted, Verdict> {
    ownership::decide(claim, rivals, marks, instance, policy).map_err(|another| {
        let hint = if another.adoptable {
            "set spec.adoptionPolicy to Adopt to take it over"
        } else {
            "delete one of the two or give this one another name"
        };
        let message = format!("{what} is declared by {}; {hint}", another.owner);
        Verdict::stalled("OwnedByAnother", message)
    })
}

/// Checks the object, its cluster, who owns the name, and that the type stays.
///
/// # Errors
/// The verdict that says what to change.
pub fn validate(observed: &Observed, instance: &str) -> Result<ValidTopic, Verdict> {
    let topic = observed.topic.as_ref();
    let spec = &topic.spec;
    let claim = claim(topic);
    if let Some(violation) = rules::check_topic(&claim.name, spec).first() {
        let message = format!("{}: {}", violation.field, violation.message);
        return Err(Verdict::stalled("InvalidSpec", message));
    }
    let cluster = cluster(&observed.cluster_key, observed.cluster.as_ref(), &claim.namespace)?;
    let marks = marks(observed.view.as_ref());
    let what = format!("topic {:?}", observed.name);
    let policy = spec.adoption_policy;
    let granted = own(&what, &claim, &observed.rivals, &marks, instance, policy)?;
    keep_type(observed)?;
    keep_queues(observed)?;
    let owner = claim.mark(instance);
    Ok(ValidTopic { cluster, owner, take_ownership: granted.take_over })
}

fn keep_type(observed: &Observed) -> Result<(), Verdict> {
    let wanted = wire_type(observed.topic.spec.message_type);
    let brokers = observed.view.iter().flat_map(|view| &view.brokers);
    for held in brokers.filter_map(|broker| broker.held.as_ref()) {
        if held.r#type() != wanted {
            let message = format!(
                "topic {:?} has the type {} in the cluster and cannot become {}; set spec.messageType back, or create \
                 a topic of another name",
                observed.name,
                held.r#type().as_str_name(),
                wanted.as_str_name()
            );
            return Err(Verdict::stalled("ImmutableChange", message));
        }
    }
    Ok(())
}

/// A topic that nobody declared is taken over only when it is the same.
fn keep_queues(observed: &Observed) -> Result<(), Verdict> {
    let spec = &observed.topic.spec;
    if spec.adoption_policy == AdoptionPolicy::Adopt {
        return Ok(());
    }
    let brokers = observed.view.iter().flat_map(|view| &view.brokers);
    let unowned = |held: &&broker_proto::admin::Topic| {
        held.owner.as_ref().is_none_or(|owner| owner.instance.is_empty())
    };
    let differs = brokers
        .filter_map(|broker| broker.held.as_ref())
        .filter(unowned)
        .find(|held| held.queues != spec.queues);
    match differs {
        None => Ok(()),
        Some(held) => {
            let message = format!(
                "topic {:?} exists already with {} queues, declared by nobody; ask for as many, or set \
                 spec.adoptionPolicy to Adopt",
                observed.name, held.queues
            );
            Err(Verdict::stalled("ExistsDifferent", message))
        }
    }
}
