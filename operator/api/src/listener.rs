//! How clients reach a cluster: a Service for each listener, and the certificate that all of them present. Plain data; the
//! rules stand in `rules::listener`.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::rules::{cel, listener as rules};

/// One way to reach the cluster. Any broker serves any client of it: what concerns others is passed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&rules::LISTENER)))]
pub struct Listener {
    /// Its name; the Service is called CLUSTER-NAME.
    #[schemars(
        length(min = 1, max = 20),
        extend("x-kubernetes-validations" = cel(&rules::LISTENER_NAME))
    )]
    pub name: String,
    /// Kind of Service; ClusterIP when absent.
    #[serde(rename = "type", default)]
    pub type_: ListenerType,
    /// Port of the Service; 8081 when absent.
    #[serde(default = "client_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Port of every node, of NodePort and LoadBalancer; chosen by Kubernetes when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<u16>,
    /// Which load balancer, of LoadBalancer; the Kubernetes cluster's default when absent. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
    /// Networks from which a load balancer takes connections, like `192.0.2.0/24`; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        schema_with = "networks",
        extend("x-kubernetes-list-type" = "atomic")
    )]
    pub load_balancer_source_ranges: Vec<String>,
    /// Whether nodes pass connections on to brokers of other nodes (Cluster), or only to their own, which sees the
    /// addresses of clients (Local). Of NodePort and LoadBalancer; Cluster when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<TrafficPolicy>,
    /// Annotations of the Service, as load balancers and DNS controllers read them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::selector::texts")]
    pub annotations: BTreeMap<String, String>,
    /// DNS names and addresses by which clients reach this listener from outside: of nodes, of a load balancer, of a
    /// route. They stand in the certificate that the operator makes or asks for, and in `status.endpoints`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        schema_with = "hosts",
        extend("x-kubernetes-list-type" = "set")
    )]
    pub hosts: Vec<String>,
}

fn networks(_: &mut SchemaGenerator) -> Schema {
    let rules = cel(&rules::NETWORK);
    json_schema!({
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": 64, "x-kubernetes-validations": rules},
    })
}

fn hosts(_: &mut SchemaGenerator) -> Schema {
    let rules = cel(&rules::HOST);
    json_schema!({
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": 253, "x-kubernetes-validations": rules},
    })
}

fn client_port() -> u16 {
    8081
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            name: "client".to_owned(),
            type_: ListenerType::default(),
            port: client_port(),
            node_port: None,
            load_balancer_class: None,
            load_balancer_source_ranges: Vec::new(),
            external_traffic_policy: None,
            annotations: BTreeMap::new(),
            hosts: Vec::new(),
        }
    }
}

/// Kind of Service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ListenerType {
    /// Inside the Kubernetes cluster.
    #[default]
    ClusterIP,
    /// On a port of every node.
    NodePort,
    /// Behind a load balancer.
    LoadBalancer,
}

impl ListenerType {
    /// The name in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// To which brokers a node passes connections on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TrafficPolicy {
    /// To all.
    Cluster,
    /// To those on the node.
    Local,
}

impl TrafficPolicy {
    /// The name in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        }
    }
}

/// Where the certificate of the brokers comes from; the operator makes one, and the authority that signs it, when neither is
/// given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&rules::TLS)))]
pub struct Tls {
    /// A Secret in the cluster's namespace with `tls.crt` and `tls.key` (type `kubernetes.io/tls`), and `ca.crt` if clients
    /// are to find the authority. Brokers take what changes in it without a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// Who issues it: cert-manager, by a Certificate that the operator makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerReference>,
}

/// An issuer of cert-manager, or of one of its extensions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerReference {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its kind; Issuer when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: Option<String>,
    /// Its API group; cert-manager.io when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub group: Option<String>,
}

/// Where clients connect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Name of the listener.
    #[schemars(length(max = 63))]
    pub listener: String,
    /// host:port.
    #[schemars(length(max = 300))]
    pub address: String,
    /// Whether it is for clients inside of the Kubernetes cluster or outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<EndpointScope>,
    /// The port of every node that leads to the listener, at the endpoint for clients inside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
}

/// For whom an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EndpointScope {
    /// Clients inside of the Kubernetes cluster.
    Inside,
    /// Clients outside.
    Outside,
}

/// The certificate that brokers present.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// The Secret that it is in.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// When it ends, RFC 3339.
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub not_after: String,
    /// The ConfigMap whose key `ca.crt` holds the authority that clients can trust; none when it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub authority: Option<String>,
}
