//! Names of everything the operator makes, its labels and its ports. One place, so that a StatefulSet and the Service it
//! refers to cannot drift apart.

use std::collections::BTreeMap;
use std::fmt;

/// Port for clients.
pub const CLIENT_PORT: u16 = 8081;
/// Port for probes, metrics and the console.
pub const HTTP_PORT: u16 = 8082;
/// Port of the admin API.
pub const ADMIN_PORT: u16 = 8083;

/// Label: name of the cluster.
pub const CLUSTER_LABEL: &str = "pinnace.dev/cluster";
/// Label: number of the broker.
pub const BROKER_LABEL: &str = "pinnace.dev/broker";
/// Label: who manages the object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY_LABEL`].
pub const MANAGED_BY: &str = "pinnace-operator";
/// Label that every namespace has: its name.
pub const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";
/// Annotation: the shards that a StatefulSet serves, and those that a volume holds.
pub const SHARDS_ANNOTATION: &str = "pinnace.dev/shard-ids";
/// Annotation of a volume: the disk that it was, as its broker calls it.
pub const DISK_ANNOTATION: &str = "pinnace.dev/disk-id";
/// Annotation of a BrokerCluster: ids of new disks that may take the place of lost ones.
pub const ACCEPT_DISKS_ANNOTATION: &str = "pinnace.dev/accept-disks";
/// Annotation: hash of the pod template; tells a change that restarts the broker.
pub const TEMPLATE_ANNOTATION: &str = "pinnace.dev/template-hash";
/// Annotation: the pod template itself as it was applied, for as long as the next one waits.
pub const KEPT_TEMPLATE_ANNOTATION: &str = "pinnace.dev/template";
/// Annotation: hash of what the BrokerCluster said of its pods; tells its changes from those of an operator.
pub const SAID_ANNOTATION: &str = "pinnace.dev/spec-hash";
/// Annotation of a BrokerCluster: hash of the plan whose restarts are approved.
pub const APPROVE_PLAN_ANNOTATION: &str = "pinnace.dev/approve-plan";
/// Finalizer of objects whose deletion deletes something in the brokers.
pub const FINALIZER: &str = "pinnace.dev/cleanup";
/// Key of the cluster map in its ConfigMap.
pub const MAP_KEY: &str = "cluster-map.json";
/// Key of the ids of disks in the same ConfigMap.
pub const DISKS_KEY: &str = "disks.json";

/// Namespace and name of a BrokerCluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ClusterKey {
    /// StatefulSet of one broker.
    #[must_use]
    pub fn stateful_set(&self, broker: u32) -> String {
        format!("{}-broker-{broker}", self.name)
    }

    /// Headless Service that gives pods their DNS names.
    #[must_use]
    pub fn headless_service(&self) -> String {
        format!("{}-brokers", self.name)
    }

    /// Service of one listener.
    #[must_use]
    pub fn listener_service(&self, listener: &str) -> String {
        format!("{}-{listener}", self.name)
    }

    /// ConfigMap that records the cluster map.
    #[must_use]
    pub fn config_map(&self) -> String {
        format!("{}-cluster-map", self.name)
    }

    /// PersistentVolumeClaim of one broker, as its StatefulSet calls it.
    #[must_use]
    pub fn volume(&self, broker: u32) -> String {
        format!("data-{}-0", self.stateful_set(broker))
    }

    /// The broker whose PersistentVolumeClaim has this name.
    #[must_use]
    pub fn broker_of_volume(&self, volume: &str) -> Option<u32> {
        let number = volume.strip_prefix(&format!("data-{}-broker-", self.name))?;
        let broker = number.strip_suffix("-0")?.parse().ok()?;
        (self.volume(broker) == volume).then_some(broker)
    }

    /// Secret with the certificate that the operator makes.
    #[must_use]
    pub fn tls_secret(&self) -> String {
        format!("{}-tls", self.name)
    }

    /// Secret with the authority that the operator makes, and ConfigMap with what clients are to trust.
    #[must_use]
    pub fn authority(&self) -> String {
        format!("{}-ca", self.name)
    }

    /// Secret with the certificate that cert-manager issues.
    #[must_use]
    pub fn issued_tls_secret(&self) -> String {
        format!("{}-issued-tls", self.name)
    }

    /// Certificate by which cert-manager is asked.
    #[must_use]
    pub fn issued_certificate(&self) -> String {
        format!("{}-brokers", self.name)
    }

    /// PodDisruptionBudget of all brokers.
    #[must_use]
    pub fn disruption_budget(&self) -> String {
        format!("{}-brokers", self.name)
    }

    /// NetworkPolicy of all brokers. Earlier charts made one that is called like the disruption budget.
    #[must_use]
    pub fn network_policy(&self) -> String {
        format!("{}-broker-ports", self.name)
    }

    /// DNS name of the pod of one broker.
    #[must_use]
    pub fn broker_host(&self, broker: u32) -> String {
        let pod = format!("{}-0", self.stateful_set(broker));
        format!("{pod}.{}.{}.svc", self.headless_service(), self.namespace)
    }

    /// DNS name of a Service.
    #[must_use]
    pub fn service_host(&self, service: &str) -> String {
        format!("{service}.{}.svc", self.namespace)
    }

    /// Labels that select all pods of the cluster.
    #[must_use]
    pub fn selector(&self) -> BTreeMap<String, String> {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        BTreeMap::from([
            label("app.kubernetes.io/name", "pinnace"),
            label("app.kubernetes.io/component", "broker"),
            label(CLUSTER_LABEL, &self.name),
        ])
    }

    /// Labels of everything that the operator makes for the cluster.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
        labels
    }

    /// Labels that select the pod of one broker.
    #[must_use]
    pub fn broker_selector(&self, broker: u32) -> BTreeMap<String, String> {
        let mut labels = self.selector();
        labels.insert(BROKER_LABEL.to_owned(), broker.to_string());
        labels
    }
}

/// Labels of the operator's pods, as its chart sets them.
#[must_use]
pub fn operator_selector() -> BTreeMap<String, String> {
    BTreeMap::from([("app.kubernetes.io/name".to_owned(), MANAGED_BY.to_owned())])
}

/// Name of a shard; what clients see as broker name.
#[must_use]
pub fn shard_name(id: u32) -> String {
    format!("shard-{id}")
}
