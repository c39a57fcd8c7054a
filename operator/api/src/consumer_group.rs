//! The kind `ConsumerGroup`: the identity under which consumers share logic and load. Spec and status as plain data; its
//! rules stand in `rules`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::limits::{OFFSET_RESET_ID_BYTES_MAX, OFFSET_RESETS_REMEMBERED_MAX};
use crate::quantity::{DurationText, TimeText};
use crate::rules;
use crate::topic::{AdoptionPolicy, ClusterRef, DeletionPolicy};

/// What a ConsumerGroup asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "custom-resources", derive(kube::CustomResource))]
#[cfg_attr(
    feature = "custom-resources",
    kube(
        group = "pinnace.dev",
        version = "v1alpha1",
        kind = "ConsumerGroup",
        namespaced,
        shortname = "pgroup",
        category = "pinnace",
        status = "ConsumerGroupStatus",
        derive = "PartialEq",
        doc = "The identity under which consumers share logic and load: retry policy, progress, members.",
        selectable = ".spec.clusterRef.name",
        printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
        printcolumn(name = "Model", type_ = "string", json_path = ".status.model"),
        printcolumn(name = "Order", type_ = "string", json_path = ".status.order"),
        printcolumn(name = "Members", type_ = "integer", json_path = ".status.members.count"),
        printcolumn(name = "Lag", type_ = "string", json_path = ".status.display.lag"),
        printcolumn(name = "Behind", type_ = "string", json_path = ".status.display.behind"),
        printcolumn(name = "Dead", type_ = "integer", json_path = ".status.totals.deadLetters"),
        printcolumn(
            name = "Ready",
            type_ = "string",
            json_path = ".status.conditions[?(@.type=='Ready')].status"
        ),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        printcolumn(
            name = "Status",
            type_ = "string",
            json_path = ".status.conditions[?(@.type=='Ready')].reason",
            priority = 1
        ),
        printcolumn(
            name = "Group-Name",
            type_ = "string",
            json_path = ".status.groupName",
            priority = 1
        )
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::cel(&rules::GROUP_SPEC)))]
pub struct ConsumerGroupSpec {
    /// The BrokerCluster that serves the group. Cannot be changed.
    #[serde(default)]
    pub cluster_ref: ClusterRef,
    /// The group's name in the cluster; the object's own name when absent. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 120),
        extend("x-kubernetes-validations" = rules::cel(&rules::GROUP_NAME))
    )]
    pub group_name: Option<String>,
    /// Point-to-point sharing, or every consumer gets every message. Cannot be changed. When absent it is what the group
    /// has; Clustering for a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// Whether message groups are consumed in order. When absent it is what the group has; Concurrent for a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// What the group is meant to draw from; clients decide when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["topic"])
    )]
    pub subscriptions: Vec<Subscription>,
    /// Attempts and pauses of redelivery; the broker's defaults when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What becomes of messages whose deliveries are used up; they are stored when absent.
    #[serde(default)]
    pub dead_letter: DeadLetter,
    /// The LITE topic whose lite topics the group's consumers subscribe to; none for other groups. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 127),
        extend("x-kubernetes-validations" = rules::cel(&rules::SUBSCRIPTION_TOPIC))
    )]
    pub lite_topic: Option<String>,
    /// False pauses the group: nothing is delivered to it, its progress stays. It consumes when absent.
    #[serde(default = "yes")]
    pub consume: bool,
    /// Sets the group's progress, once for each id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_reset: Option<OffsetReset>,
    /// What happens in the cluster when this object is deleted; Retain when absent.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
    /// What happens when the cluster already has a group of this name that this object did not make; IfIdentical when
    /// absent.
    #[serde(default)]
    pub adoption_policy: AdoptionPolicy,
}

fn yes() -> bool {
    true
}

impl Default for ConsumerGroupSpec {
    fn default() -> Self {
        Self {
            cluster_ref: ClusterRef::default(),
            group_name: None,
            model: None,
            order: None,
            subscriptions: Vec::new(),
            retry: None,
            dead_letter: DeadLetter::default(),
            lite_topic: None,
            consume: true,
            offset_reset: None,
            deletion_policy: DeletionPolicy::default(),
            adoption_policy: AdoptionPolicy::default(),
        }
    }
}

impl ConsumerGroupSpec {
    /// The group's name in the cluster.
    #[must_use]
    pub fn group_name<'a>(&'a self, object_name: &'a str) -> &'a str {
        self.group_name.as_deref().unwrap_or(object_name)
    }
}

/// Who of the group gets a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Model {
    /// Each message goes to one consumer of the group.
    #[default]
    Clustering,
    /// Each message goes to every consumer of the group.
    Broadcasting,
}

/// Whether message groups are consumed in order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Order {
    /// No order.
    #[default]
    Concurrent,
    /// In order per message group, one at a time.
    Fifo,
}

/// One declared subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// The topic's name in the cluster.
    #[schemars(
        length(min = 1, max = 127),
        extend("x-kubernetes-validations" = rules::cel(&rules::SUBSCRIPTION_TOPIC))
    )]
    pub topic: String,
    /// Which messages; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Where the group begins when it never received from the topic before; Earliest when absent.
    #[serde(default)]
    pub start_from: StartFrom,
}

/// An end of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StartFrom {
    /// The oldest message kept.
    #[default]
    Earliest,
    /// Behind the newest message.
    Latest,
}

/// What becomes of messages whose deliveries are used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Whether they are kept; Store when absent.
    #[serde(default)]
    pub policy: DeadLetterPolicy,
}

/// Whether messages whose deliveries are used up are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeadLetterPolicy {
    /// They go to the topic `%DLQ%` and the group's name.
    #[default]
    Store,
    /// They are done for the group.
    Discard,
}

/// New progress of a group, set once for each id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::cel(&rules::OFFSET_RESET)))]
pub struct OffsetReset {
    /// Names the reset. To reset again, give another id.
    #[schemars(length(min = 1, max = OFFSET_RESET_ID_BYTES_MAX))]
    pub id: String,
    /// Where the group goes on.
    pub to: OffsetResetTo,
    /// The topics; all that the group has progress on when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        inner(length(min = 1, max = 255), pattern("^[a-zA-Z0-9_%|-]+$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub topics: Vec<String>,
}

/// Where a group goes on: exactly one of the three.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::cel(&rules::OFFSET_RESET_TO)))]
pub struct OffsetResetTo {
    /// At an end of every queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<StartFrom>,
    /// At the first message stored then or later, like `2026-01-31T08:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeText>,
    /// So many messages on in every queue, or back when negative.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shift: Option<i64>,
}

/// Which messages of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// The language of the expression; Tag when absent.
    #[serde(rename = "type", default)]
    pub type_: FilterType,
    /// Tags separated by `||`, or `*` for all; or an SQL92 condition.
    #[schemars(length(min = 1, max = 1024))]
    pub expression: String,
}

/// The language of a filter expression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FilterType {
    /// Tags separated by `||`.
    #[default]
    Tag,
    /// A condition over properties.
    Sql92,
}

/// Attempts and pauses of redelivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Deliveries in all before the message is a dead letter; the broker's default (17) when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_attempts: Option<u32>,
    /// The pause before the next delivery; the broker's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

/// The pause before the next delivery: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::cel(&rules::BACKOFF)))]
pub struct Backoff {
    /// Growing pauses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponential: Option<ExponentialBackoff>,
    /// The n-th pause after the n-th delivery; the last one for all further deliveries.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub list: Option<Vec<DurationText>>,
}

/// `min(initial * multiplier^(delivery - 1), max)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::cel(&rules::EXPONENTIAL)))]
pub struct ExponentialBackoff {
    /// First pause.
    pub initial: DurationText,
    /// Longest pause.
    pub max: DurationText,
    /// Growth per delivery, a whole number; 2 when absent.
    #[serde(default = "multiplier_default")]
    #[schemars(range(min = 1, max = 100))]
    pub multiplier: u32,
}

fn multiplier_default() -> u32 {
    2
}

/// What is known of a ConsumerGroup. Lag is refreshed every few seconds at most, and rounded: live numbers come from the
/// brokers (`pinnace lag`, metrics).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerGroupStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The group's name in the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub group_name: Option<String>,
    /// Point-to-point sharing, or every consumer gets every message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
    /// Whether message groups are consumed in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Running consumers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members: Option<Members>,
    /// Which member draws from which queues, the first 256 by client and topic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub assignments: Vec<Assignment>,
    /// Progress per topic, the first 100 by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub topics: Vec<TopicLag>,
    /// Progress over all topics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub totals: Option<Totals>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<GroupDisplay>,
    /// The last reset of progress that every broker carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset_reset: Option<OffsetResetStatus>,
    /// The resets before that one, oldest first. None of them is carried out again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = OFFSET_RESETS_REMEMBERED_MAX))]
    pub earlier_offset_resets: Vec<OffsetResetStatus>,
    /// Ready, Reconciling, Stalled, Active, CaughtUp, SubscriptionsConsistent, OffsetResetComplete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
}

impl ConsumerGroupStatus {
    /// The resets that every broker carried out, oldest first.
    pub fn resets_done(&self) -> impl Iterator<Item = &OffsetResetStatus> {
        self.earlier_offset_resets.iter().chain(&self.offset_reset)
    }
}

/// A reset of progress that every broker carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OffsetResetStatus {
    /// Its id; it is not carried out again.
    #[schemars(length(max = OFFSET_RESET_ID_BYTES_MAX))]
    pub id: String,
    /// When the last broker had carried it out, RFC 3339.
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub completed_at: String,
}

/// Running consumers of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Members {
    /// How many, all of them.
    pub count: u32,
    /// The first 64 by client id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub clients: Vec<Member>,
}

/// One running consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The client's own id.
    #[schemars(length(max = 1024))]
    pub client_id: String,
    /// What kind of consumer it is, like PUSH_CONSUMER.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub client_type: String,
    /// Its programming language.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub language: String,
    /// Version of its client library.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub version: String,
    /// Where it connects from, ip:port.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub remote_address: String,
}

/// What one member draws from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The member.
    #[schemars(length(max = 1024))]
    pub client_id: String,
    /// The topic.
    #[schemars(length(max = 255))]
    pub topic: String,
    /// The shard that holds the queues.
    #[schemars(length(max = 63))]
    pub shard: String,
    /// Queue numbers as ranges, like `0-3,7`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub queues: String,
    /// Other members draw from the same queues, message by message.
    #[serde(default)]
    pub shared: bool,
}

/// Progress of a group on one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicLag {
    /// The topic.
    #[schemars(length(max = 255))]
    pub topic: String,
    /// Messages not yet acknowledged; exact below 100, else two leading digits.
    pub lag: i64,
    /// Age of the oldest of them in seconds, rounded down to a readable step.
    pub lag_seconds: i64,
    /// Messages in the hands of consumers, rounded as lag.
    pub inflight: i64,
    /// Messages that went to the group's dead-letter topic; they stand in the row of that topic.
    pub dead_letters: i64,
}

/// Progress of a group over all topics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Sum over all topics.
    pub lag: i64,
    /// The largest over all topics.
    pub lag_seconds: i64,
    /// Sum over all topics.
    pub dead_letters: i64,
}

/// Progress for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupDisplay {
    /// Like `1.2k`.
    #[schemars(length(max = 32))]
    pub lag: String,
    /// Like `42s`.
    #[schemars(length(max = 32))]
    pub behind: String,
}
