//! The NetworkPolicy: who may reach the ports of brokers.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use operator_api::network_policy::NetworkPeer;

use super::{as_kubernetes, metadata};
use crate::broker_cluster::validate::ValidCluster;
use crate::names::{ADMIN_PORT, CLIENT_PORT, HTTP_PORT, NAMESPACE_LABEL, operator_selector};

/// None when the spec asks for none.
pub(super) fn brokers(valid: &ValidCluster) -> Option<NetworkPolicy> {
    let asked = valid.spec.network_policy.clone().unwrap_or_default();
    if !asked.enabled {
        return None;
    }
    let brokers =
        NetworkPolicyPeer { pod_selector: Some(brokers_of(valid)), ..NetworkPolicyPeer::default() };
    let operator = NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some(
                [(NAMESPACE_LABEL.to_owned(), valid.operator_namespace.clone())].into(),
            ),
            ..LabelSelector::default()
        }),
        pod_selector: Some(LabelSelector {
            match_labels: Some(operator_selector()),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    };
    let clients = peers(&asked.clients_from).map(|mut peers| {
        // Brokers pass calls of clients on to each other.
        peers.push(brokers.clone());
        peers
    });
    let mut admins = vec![operator, brokers];
    admins.extend(peers(&asked.admin_from).unwrap_or_default());
    Some(NetworkPolicy {
        metadata: metadata(valid, valid.key.network_policy(), valid.key.labels()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(brokers_of(valid)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                open(CLIENT_PORT, clients),
                open(HTTP_PORT, peers(&asked.metrics_from)),
                open(ADMIN_PORT, Some(admins)),
            ]),
            egress: None,
        }),
    })
}

fn brokers_of(valid: &ValidCluster) -> LabelSelector {
    LabelSelector { match_labels: Some(valid.key.selector()), ..LabelSelector::default() }
}

/// None when nobody is named: then everybody may.
fn peers(asked: &[NetworkPeer]) -> Option<Vec<NetworkPolicyPeer>> {
    let peers: Vec<_> = asked.iter().map(as_kubernetes).collect();
    if peers.is_empty() { None } else { Some(peers) }
}

fn open(port: u16, from: Option<Vec<NetworkPolicyPeer>>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from,
        ports: Some(vec![NetworkPolicyPort {
            port: Some(IntOrString::Int(port.into())),
            protocol: Some("TCP".to_owned()),
            ..NetworkPolicyPort::default()
        }]),
    }
}
