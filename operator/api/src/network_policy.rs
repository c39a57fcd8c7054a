//! Who may reach the ports of brokers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::rules;
use crate::selector::LabelSelector;

/// Who may reach the ports of brokers, where the network of the Kubernetes cluster enforces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Whether the operator makes a NetworkPolicy; it does when absent.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Who reaches the port of clients, beside the brokers; everybody when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub clients_from: Vec<NetworkPeer>,
    /// Who reads metrics; everybody when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub metrics_from: Vec<NetworkPeer>,
    /// Who reaches the admin port, on which everything can be changed, beside the operator and the brokers; nobody when
    /// empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub admin_from: Vec<NetworkPeer>,
}

fn yes() -> bool {
    true
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        let (clients_from, metrics_from, admin_from) = (Vec::new(), Vec::new(), Vec::new());
        Self { enabled: true, clients_from, metrics_from, admin_from }
    }
}

/// Who may connect: addresses, or pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::cel(&rules::pod::NETWORK_PEER)))]
pub struct NetworkPeer {
    /// Pods in these namespaces; in the cluster's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// These pods; all of the namespaces when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_selector: Option<LabelSelector>,
    /// Addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
}

/// A range of addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpBlock {
    /// Like `10.0.0.0/8`.
    #[schemars(length(min = 1, max = 64))]
    pub cidr: String,
    /// Ranges inside that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 64)),
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub except: Vec<String>,
}
