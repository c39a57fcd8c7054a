//! When the brokers of a `BrokerCluster` restart, and what its status says of restarts that are to come. Plain data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When brokers restart for a change of their pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdatePolicy {
    /// `Automatic`: at once, also for a new operator. `OnApproval`: only when the annotation `pinnace.dev/approve-plan` names the plan of
    /// the status. `Paused`: not at all. When absent: at once for a change of this spec; what comes of a new operator, like
    /// another version of brokers, waits for approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<UpdateStrategy>,
}

/// When brokers restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateStrategy {
    /// One after the other as soon as something asks for it.
    Automatic,
    /// One after the other once the plan is approved.
    OnApproval,
    /// Not at all.
    Paused,
}

/// The restarts that are to come; absent when there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateStatus {
    /// Hash of what the pods of all brokers are to be; it stays the same until all are, and an approval names it.
    #[schemars(length(max = 64))]
    pub plan: String,
    /// The brokers that are to restart, in this order.
    #[schemars(length(max = 64))]
    pub brokers: Vec<BrokerUpdate>,
}

/// One broker that is to restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerUpdate {
    /// Its number.
    pub broker: u32,
    /// Who asks for it.
    #[schemars(length(max = 2))]
    pub because: Vec<UpdateCause>,
    /// What it waits for.
    pub waits_for: UpdateGate,
    /// What will be otherwise in its pod, like `image: pinnace:0.1.0 -> pinnace:0.2.0`.
    #[schemars(length(max = 16), inner(length(max = 512)))]
    pub changes: Vec<String>,
}

/// Who asks for a restart.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum UpdateCause {
    /// The spec of the BrokerCluster.
    Spec,
    /// An operator that makes other pods of the same spec, like its default version.
    Operator,
}

/// What a restart waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateGate {
    /// The annotation that names the plan.
    Approval,
    /// Another strategy than `Paused`.
    Unpause,
    /// The brokers before it, and every broker that does not say that it serves its shards.
    Turn,
}
