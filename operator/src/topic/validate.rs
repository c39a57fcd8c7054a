//! From what was observed to a topic that can be planned, or the reason why not. Pure.

use std::sync::Arc;

use broker_proto::admin::{self, MessageType as WireType, Owner};
use operator_api::broker_cluster::NamespacesFrom;
use operator_api::topic::{AdoptionPolicy, MessageType};
use operator_api::{BrokerCluster, rules};

use super::difference::differences;
use super::fetch::{Observed, claim};
use super::plan::wire_topic;
use crate::difference::Differences;
use crate::links::ClusterView;
use crate::links::state::Thing;
use crate::names::ClusterKey;
use crate::ownership::{self, Claim, Granted, Standing, standing};
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

/// The type as manifests call it.
#[must_use]
pub fn spec_type(wire: WireType) -> Option<MessageType> {
    match wire {
        WireType::Normal => Some(MessageType::Normal),
        WireType::Fifo => Some(MessageType::Fifo),
        WireType::Delay => Some(MessageType::Delay),
        WireType::Transaction => Some(MessageType::Transaction),
        WireType::Priority => Some(MessageType::Priority),
        WireType::Lite => Some(MessageType::Lite),
        _ => None,
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
    if !allows(key, cluster, namespace) {
        let message = format!(
            "BrokerCluster {key} does not allow namespace {namespace}; ask whoever looks after it (its \
             spec.allowedNamespaces says who may name it), or create another object in a namespace that it allows"
        );
        return Err(Verdict::stalled("NamespaceNotAllowed", message));
    }
    Ok(Arc::clone(cluster))
}

/// Whether objects of a namespace may name a cluster.
#[must_use]
pub fn allows(key: &ClusterKey, cluster: &BrokerCluster, namespace: &str) -> bool {
    key.namespace == namespace || cluster.spec.allowed_namespaces.from == NamespacesFrom::All
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
        } else if another.is_visible {
            "delete one of the two or give this one another name"
        } else {
            "give this one another name, or ask whoever looks after the cluster"
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
    let owner = claim.mark(instance);
    let retention = spec.retention.as_ref().or(cluster.spec.retention.as_ref());
    let wanted = wire_topic(observed, retention, Vec::new(), &owner);
    let held = observed.view.iter().flat_map(|view| &view.brokers);
    let held = held.filter_map(|broker| broker.held.as_ref());
    let differ = |held: &admin::Topic| differences(held, &wanted);
    adopt(&what, held, &claim, instance, policy, differ)?;
    keep_type(observed)?;
    Ok(ValidTopic { cluster, owner, take_ownership: granted.take_over })
}

fn keep_type(observed: &Observed) -> Result<(), Verdict> {
    let Some(wanted) = observed.topic.spec.message_type else { return Ok(()) };
    let wanted = wire_type(wanted);
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

/// Whether what brokers hold, after the name was granted, may become this object's.
///
/// # Errors
/// The verdict that says what differs, or that nothing may be taken over.
pub fn adopt<'a, T: Thing>(
    what: &str,
    held: impl Iterator<Item = &'a T>,
    claim: &Claim,
    instance: &str,
    policy: AdoptionPolicy,
    differences: impl Fn(&T) -> Differences,
) -> Result<(), Verdict> {
    for held in held {
        let standing = standing(claim, held.owner(), instance);
        let declared = match standing {
            Standing::Mine => continue,
            Standing::Predecessor => "by an object of this namespace that is gone",
            Standing::Elsewhere => "by an object of another namespace that is gone",
            Standing::Foreign => "outside this Kubernetes cluster",
            Standing::Nobody => "by nobody",
        };
        if policy == AdoptionPolicy::Never {
            let message = format!(
                "{what} exists already, declared {declared}, and spec.adoptionPolicy is Never; give this one another \
                 name, or set spec.adoptionPolicy to IfIdentical or Adopt"
            );
            return Err(Verdict::stalled("ExistsAlready", message));
        }
        // A successor of the same namespace may change what its predecessor declared.
        let is_free = standing == Standing::Predecessor || policy == AdoptionPolicy::Adopt;
        if !is_free && let Some(differences) = differences(held).told() {
            let message = format!(
                "{what} exists already, declared {declared}, and differs: {differences}; declare what it has, or set \
                 spec.adoptionPolicy to Adopt to change it"
            );
            return Err(Verdict::stalled("ExistsDifferent", message));
        }
    }
    Ok(())
}
