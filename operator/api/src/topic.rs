//! The kind `Topic`: a named container of messages of one type, made of queues. Spec and status as plain data; its rules
//! stand in `rules`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::limits::MESSAGE_BYTES_MAX;
use crate::quantity::{DurationText, SizeText};
use crate::rules;

/// What a Topic asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "custom-resources", derive(kube::CustomResource))]
#[cfg_attr(
    feature = "custom-resources",
    kube(
        group = "pinnace.dev",
        version = "v1alpha1",
        kind = "Topic",
        namespaced,
        shortname = "ptopic",
        category = "pinnace",
        status = "TopicStatus",
        derive = "PartialEq",
        doc = "A named container of messages of one type, made of queues that brokers hold.",
        selectable = ".spec.clusterRef.name",
        printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
        printcolumn(name = "Type", type_ = "string", json_path = ".status.messageType"),
        printcolumn(name = "Queues", type_ = "integer", json_path = ".status.queues"),
        printcolumn(name = "Retention", type_ = "string", json_path = ".spec.retention.time"),
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
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        printcolumn(
            name = "Topic-Name",
            type_ = "string",
            json_path = ".status.topicName",
            priority = 1
        ),
        printcolumn(
            name = "Deletion",
            type_ = "string",
            json_path = ".spec.deletionPolicy",
            priority = 1
        )
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::cel(&rules::TOPIC_SPEC)))]
pub struct TopicSpec {
    /// The BrokerCluster that holds the topic. Cannot be changed.
    #[serde(default)]
    pub cluster_ref: ClusterRef,
    /// The topic's name in the cluster; the object's own name when absent. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 127),
        extend("x-kubernetes-validations" = rules::cel(&rules::TOPIC_NAME))
    )]
    pub topic_name: Option<String>,
    /// The one type of its messages. Cannot be changed once the topic exists in the cluster. When absent it is what the
    /// topic has; NORMAL for a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_type: Option<MessageType>,
    /// Number of queues in all, over all brokers. Can only grow: in a FIFO topic, what is sent since then waits until a group
    /// has done what was sent before. When absent it is what the topic has; 8 for a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub queues: Option<u32>,
    /// How the topic follows shards that come later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<PlacementPolicy>,
    /// How long and how much is kept; the cluster's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Largest message body in bytes; the protocol's limit of 4 MiB when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MESSAGE_BYTES_MAX))]
    pub max_message_bytes: Option<u32>,
    /// LITE topics only: a lite topic that nobody used for so long is deleted; the broker's default (24h) when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lite_expiry: Option<DurationText>,
    /// Who may use the topic at all; everything when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// What happens in the cluster when this object is deleted; Retain when absent.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// What happens when the cluster already has a topic of this name that this object did not make; IfIdentical when
    /// absent.
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,
}

impl TopicSpec {
    /// The topic's name in the cluster.
    #[must_use]
    pub fn topic_name<'a>(&'a self, object_name: &'a str) -> &'a str {
        self.topic_name.as_deref().unwrap_or(object_name)
    }
}

/// Names a BrokerCluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::cel(&rules::CLUSTER_REF)))]
pub struct ClusterRef {
    /// Name of the BrokerCluster.
    #[serde(default = "cluster_default")]
    #[schemars(length(min = 1, max = 40))]
    pub name: String,
    /// Its namespace, when it is another one; the cluster must allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

fn cluster_default() -> String {
    "default".to_owned()
}

impl Default for ClusterRef {
    fn default() -> Self {
        Self { name: cluster_default(), namespace: None }
    }
}

/// How the topic follows shards that come later. Keep, also when absent: its queues stay where they are, and only queues
/// that are added go to new shards. Spread: it gets queues on new shards, so that every shard holds as many as the fullest
/// one, or one less; `queues` is the least number then. Spread is for messageType NORMAL, DELAY and TRANSACTION.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlacementPolicy {
    /// Its queues stay where they are.
    #[default]
    Keep,
    /// It gets queues on every shard.
    Spread,
}

/// The one type of a topic's messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MessageType {
    /// No order, no delay.
    #[default]
    Normal,
    /// In order per message group.
    Fifo,
    /// Visible at a delivery timestamp.
    Delay,
    /// Visible after commit.
    Transaction,
    /// With a priority level.
    Priority,
    /// Addressed to a lite topic inside the topic.
    Lite,
}

impl MessageType {
    /// Whether messages may go to queues that come later without losing an order.
    #[must_use]
    pub fn may_spread(self) -> bool {
        matches!(self, Self::Normal | Self::Fifo | Self::Delay | Self::Transaction)
    }

    /// The name in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Fifo => "FIFO",
            Self::Delay => "DELAY",
            Self::Transaction => "TRANSACTION",
            Self::Priority => "PRIORITY",
            Self::Lite => "LITE",
        }
    }
}

/// How long and how much is kept. What crosses either bound goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::cel(&rules::RETENTION)))]
pub struct Retention {
    /// Oldest age kept, like `72h`; at least one minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<DurationText>,
    /// Most bytes kept, like `100Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<SizeText>,
}

/// Freezes a topic from its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// May be received from.
    #[serde(default = "yes")]
    pub read: bool,
    /// May be sent to.
    #[serde(default = "yes")]
    pub write: bool,
}

fn yes() -> bool {
    true
}

/// What happens in the cluster when the object is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Nothing: messages and progress stay.
    #[default]
    Retain,
    /// It is deleted with all it holds.
    Delete,
    /// It is deleted once nobody uses it: no group has a running consumer on it or messages of it to get; of a group, no
    /// consumer runs, and neither messages to get nor dead letters are left.
    DeleteIfUnused,
}

/// What happens when the cluster already has one of this name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AdoptionPolicy {
    /// Take it over when nobody declares it any more and it is the same; else say what differs and touch nothing.
    #[default]
    IfIdentical,
    /// Take it over, whoever declared it.
    Adopt,
    /// Never take over what this object did not make.
    Never,
}

/// What is known of a Topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The topic's name in the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub topic_name: Option<String>,
    /// The one type of its messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_type: Option<MessageType>,
    /// Queues that exist, over all shards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queues: Option<u32>,
    /// Where the queues are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub placement: Vec<QueuePlacement>,
    /// Consumer groups that draw from it, the first 64 by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 255)))]
    pub groups: Vec<String>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}

/// The queues of a topic on one shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueuePlacement {
    /// Name of the shard; what clients see as broker name.
    #[schemars(length(max = 63))]
    pub shard: String,
    /// Number of the broker that leads the shard.
    pub broker: u32,
    /// How many queues; their numbers count from 0 in each shard.
    pub queues: u32,
}
