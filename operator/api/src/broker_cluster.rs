//! The kind `BrokerCluster`: brokers, their shards and what they run on. Spec and status as plain data; its rules stand
//! in `rules`. What a later release serves (security, update windows) has no field here yet.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
pub use crate::listener::{
    CertificateStatus, Endpoint, EndpointScope, IssuerReference, Listener, ListenerType, Tls,
    TrafficPolicy,
};
use crate::network_policy::NetworkPolicy;
use crate::pod::Pod;
use crate::quantity::{ResourceText, SizeText};
use crate::rules;
use crate::topic::Retention;
use crate::update::{UpdatePolicy, UpdateStatus};

/// What a BrokerCluster asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "custom-resources", derive(kube::CustomResource))]
#[cfg_attr(
    feature = "custom-resources",
    kube(
        group = "pinnace.dev",
        version = "v1alpha1",
        kind = "BrokerCluster",
        namespaced,
        shortname = "pbc",
        category = "pinnace",
        status = "BrokerClusterStatus",
        derive = "PartialEq",
        doc = "Brokers that store and deliver messages: one StatefulSet with one volume each.",
        scale(
            spec_replicas_path = ".spec.brokers",
            status_replicas_path = ".status.replicas",
            label_selector_path = ".status.selector"
        ),
        printcolumn(
            name = "Ready",
            type_ = "string",
            json_path = ".status.conditions[?(@.type=='Ready')].status"
        ),
        printcolumn(
            name = "Status",
            type_ = "string",
            json_path = ".status.conditions[?(@.type=='Ready')].reason"
        ),
        printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
        printcolumn(name = "Brokers", type_ = "string", json_path = ".status.display.brokers"),
        printcolumn(name = "Shards", type_ = "string", json_path = ".status.display.shards"),
        printcolumn(name = "Updated", type_ = "string", json_path = ".status.display.updated"),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        printcolumn(
            name = "Endpoint",
            type_ = "string",
            json_path = ".status.endpoints[0].address",
            priority = 1
        )
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::cel(&rules::CLUSTER_SPEC)))]
pub struct BrokerClusterSpec {
    /// Number of brokers; one StatefulSet of one pod each. Can only grow for now. When absent it is what the cluster has;
    /// 1 for a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub brokers: Option<u32>,
    /// To how many brokers the cluster may be scaled, 3 when absent. No broker can be taken away again yet: this keeps a
    /// wrong `kubectl scale` or autoscaler from going where no way leads back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub max_brokers: Option<u32>,
    /// Number of shards in all: the units of storage, ownership and parallel work. Can only grow. When absent it is what
    /// the cluster has, and one more with each new broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub shards: Option<u32>,
    /// Copies of each shard. This release serves 1, which is meant when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5))]
    pub replication: Option<u32>,
    /// Version of the brokers, like `0.1.0`; the operator's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$"))]
    pub version: Option<String>,
    /// Another image than the operator's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Processor and memory of each broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The volume of each broker.
    #[serde(default)]
    pub storage: Storage,
    /// How clients reach the cluster; one inside the Kubernetes cluster, named `client`, when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["name"],
            "x-kubernetes-validations" = rules::cel(&rules::listener::LISTENERS)
        )
    )]
    pub listeners: Vec<Listener>,
    /// Where the certificate of the brokers comes from, for all listeners. When absent the operator makes one, and the
    /// authority that signs it: `ca.crt` in the ConfigMap CLUSTER-ca.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Retention of topics that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// From which namespaces Topics and ConsumerGroups may name this cluster.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,
    /// Where and how pods run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// Who may reach the ports of brokers. When absent: clients and metrics everybody, the admin port the operator and the
    /// brokers of the cluster only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,
    /// When brokers restart for a change of their pods. When absent: for changes of this spec, not for a new operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdatePolicy>,
}

/// An image other than the operator's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Registry and name without tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub repository: Option<String>,
    /// Tag; the version when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9_][A-Za-z0-9._-]*$"))]
    pub tag: Option<String>,
    /// Digest, like `sha256:...`; wins over the tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<String>,
    /// When the image is pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// Secrets of the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub pull_secrets: Vec<String>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// Processor and memory, as in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, ResourceText>,
    /// What is not exceeded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, ResourceText>,
}

/// The volume of each broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::cel(&rules::STORAGE)))]
pub struct Storage {
    /// Size of the volume. Can only grow, where the StorageClass allows it. When absent it is what the cluster's volumes have; 10Gi for a new
    /// cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<SizeText>,
    /// StorageClass; the Kubernetes cluster's default when absent. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// What happens to the volumes when the cluster is deleted; Retain when absent.
    #[serde(default)]
    pub deletion: VolumeDeletion,
}

/// What happens to the volumes when the cluster is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VolumeDeletion {
    /// They stay.
    #[default]
    Retain,
    /// They are deleted with all messages.
    Delete,
}

/// From which namespaces the cluster may be named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedNamespaces {
    /// The cluster's own, or every one; the own when absent.
    #[serde(default)]
    pub from: NamespacesFrom,
}

/// Namespaces that may name the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The cluster's own.
    #[default]
    Same,
    /// Every one.
    All,
}

/// What is known of a BrokerCluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerClusterStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Brokers that exist, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Label selector of the pods, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
    /// Version that the brokers are to run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub version: Option<String>,
    /// Brokers wanted and ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brokers: Option<BrokerCounts>,
    /// Shards and who leads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub shards: Vec<ShardStatus>,
    /// Where clients connect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub endpoints: Vec<Endpoint>,
    /// The certificate that brokers present.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateStatus>,
    /// Size of each broker's volume, as asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_size: Option<SizeText>,
    /// Version of the cluster map that the brokers are to hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map_version: Option<u64>,
    /// The restarts that are to come, why, and what they wait for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateStatus>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<ClusterDisplay>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}

/// Brokers wanted and ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerCounts {
    /// Asked for.
    pub desired: u32,
    /// Pod ready and connected to the operator.
    pub ready: u32,
}

/// One shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShardStatus {
    /// Its number, unique in the cluster.
    pub id: u32,
    /// Its name; what clients see as broker name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Number of the broker that leads it.
    pub leader: u32,
    /// Numbers of the brokers that hold a copy.
    #[schemars(length(max = 5))]
    pub replicas: Vec<u32>,
    /// `Leading`, `Failed` or `Unknown`.
    pub state: ShardState,
}

/// State of a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ShardState {
    /// Serves.
    Leading,
    /// Stopped by an error that its broker reports.
    Failed,
    /// Nothing heard from it.
    #[default]
    Unknown,
}

/// Counts for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDisplay {
    /// Like `2/3`.
    #[schemars(length(max = 32))]
    pub brokers: String,
    /// Like `4/4`.
    #[schemars(length(max = 32))]
    pub shards: String,
    /// Brokers that run what they are to run, like `1/3`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub updated: String,
}
