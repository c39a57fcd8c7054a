//! Services: the headless one that gives pods their DNS names, and one for each listener.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use operator_api::broker_cluster::Listener;

use super::{metadata, some_list, some_map};
use crate::broker_cluster::validate::ValidCluster;
use crate::names::{ADMIN_PORT, CLIENT_PORT};

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: port.into(),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

pub(super) fn headless(valid: &ValidCluster) -> Service {
    Service {
        metadata: metadata(valid, valid.key.headless_service(), valid.key.labels()),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(valid.key.selector()),
            ports: Some(vec![port("client", CLIENT_PORT), port("admin", ADMIN_PORT)]),
            // The operator connects before a broker is ready: readiness may wait for what it brings.
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

pub(super) fn listener(valid: &ValidCluster, listener: &Listener) -> Service {
    let name = valid.key.listener_service(&listener.name);
    let mut client = port("client", listener.port);
    client.app_protocol = Some("kubernetes.io/h2c".to_owned());
    client.node_port = listener.node_port.map(i32::from);
    let mut metadata = metadata(valid, name, valid.key.labels());
    metadata.annotations = some_map(listener.annotations.clone());
    let policy = listener.external_traffic_policy;
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(listener.type_.as_str().to_owned()),
            selector: Some(valid.key.selector()),
            ports: Some(vec![client]),
            load_balancer_class: listener.load_balancer_class.clone(),
            load_balancer_source_ranges: some_list(listener.load_balancer_source_ranges.clone()),
            external_traffic_policy: policy.map(|policy| policy.as_str().to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
