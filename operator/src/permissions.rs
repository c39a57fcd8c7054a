//! The permissions that the operator needs and no more, as the roles that a chart installs. The table here is the truth;
//! `pinnace-operator rbac` prints it.

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

type Rule = (&'static str, &'static [&'static str], &'static [&'static str]);

const READ: &[&str] = &["get", "list", "watch"];
const APPLY: &[&str] = &["get", "list", "watch", "create", "patch"];

/// In every namespace that the operator looks after: API group, resources, verbs.
pub const WORK: [Rule; 15] = [
    ("pinnace.dev", &["brokerclusters", "topics", "consumergroups"], READ),
    // Finalizers of objects whose deletion deletes something in the brokers.
    ("pinnace.dev", &["topics", "consumergroups"], &["patch"]),
    (
        "pinnace.dev",
        &["brokerclusters/status", "topics/status", "consumergroups/status"],
        &["get", "patch"],
    ),
    ("apps", &["statefulsets"], APPLY),
    ("", &["configmaps"], APPLY),
    // Why a broker is not ready stands in its pod.
    ("", &["pods"], READ),
    // Volumes carry the note of the shards that are on them.
    ("", &["persistentvolumeclaims"], &["get", "list", "watch", "patch"]),
    // Services of listeners that are gone are deleted.
    ("", &["services"], &["get", "list", "watch", "create", "patch", "delete"]),
    // Certificates of brokers and their keys. No list and no watch: a Secret is read when its name is known.
    ("", &["secrets"], &["get", "create", "patch"]),
    // For clusters that name an issuer; deleted when they name none any more.
    ("cert-manager.io", &["certificates"], &["get", "create", "patch", "delete"]),
    ("policy", &["poddisruptionbudgets"], APPLY),
    // The one of a cluster that asks for none any more is deleted.
    (
        "networking.k8s.io",
        &["networkpolicies"],
        &["get", "list", "watch", "create", "patch", "delete"],
    ),
    // Whether the whole namespace of an object is being deleted.
    ("", &["namespaces"], &["get"]),
    ("events.k8s.io", &["events"], &["create", "patch"]),
    // Why a pod is not even made stands in events of its StatefulSet; read while one is missing.
    ("", &["events"], &["list", "create", "patch"]),
];

/// For all of the Kubernetes cluster, also when only one namespace is looked after.
pub const DEFINITIONS: [Rule; 1] = [("apiextensions.k8s.io", &["customresourcedefinitions"], READ)];

/// In the operator's own namespace.
pub const LEASES: [Rule; 1] =
    [("coordination.k8s.io", &["leases"], &["get", "create", "update", "patch"])];

fn policy_rules(rules: &[Rule]) -> Option<Vec<PolicyRule>> {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let policy_rule = |&(group, resources, verbs): &Rule| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    };
    Some(rules.iter().map(policy_rule).collect())
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

/// For every namespace that the operator looks after.
#[must_use]
pub fn work() -> ClusterRole {
    let metadata = named("pinnace-operator");
    ClusterRole { metadata, rules: policy_rules(&WORK), ..ClusterRole::default() }
}

/// For all of the Kubernetes cluster.
#[must_use]
pub fn definitions() -> ClusterRole {
    let metadata = named("pinnace-operator-definitions");
    ClusterRole { metadata, rules: policy_rules(&DEFINITIONS), ..ClusterRole::default() }
}

/// For the operator's own namespace.
#[must_use]
pub fn leases() -> Role {
    Role { metadata: named("pinnace-operator-leases"), rules: policy_rules(&LEASES) }
}

/// The roles as YAML documents.
///
/// # Errors
/// None with this table; the YAML writer's otherwise.
pub fn to_yaml() -> Result<String, serde_yaml::Error> {
    let documents = [
        serde_yaml::to_string(&work())?,
        serde_yaml::to_string(&definitions())?,
        serde_yaml::to_string(&leases())?,
    ];
    Ok(documents.join("---\n"))
}
