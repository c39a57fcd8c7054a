//! Addresses that are told for listeners, as Kubernetes has assigned them or not.

use serde_json::{Value, json};

use super::*;
use crate::broker_cluster::build::tests::valid;

fn service(name: &str, spec: Value, ingress: Value) -> Service {
    let status = json!({"loadBalancer": {"ingress": ingress}});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec, "status": status}))
        .unwrap()
}

fn told(valid: &ValidCluster, services: &[Service]) -> Vec<String> {
    let text = |endpoint: Endpoint| {
        let port = endpoint.node_port.map_or_else(String::new, |port| format!(" {port}"));
        format!("{} {} {:?}{port}", endpoint.listener, endpoint.address, endpoint.scope.unwrap())
    };
    endpoints(valid, services).into_iter().map(text).collect()
}

const SPEC: &str = "
  listeners:
  - {name: client, hosts: [mq.example.com]}
  - {name: nodes, type: NodePort, port: 9081, hosts: [node-1.example.com]}
  - {name: out, type: LoadBalancer, hosts: [out.example.com]}
";

#[test]
fn nothing_is_told_that_kubernetes_has_not_assigned() {
    let valid = valid(SPEC);
    let inside = [
        "client default-client.shop.svc:8081 Inside",
        "nodes default-nodes.shop.svc:9081 Inside",
        "out default-out.shop.svc:8081 Inside",
        "out out.example.com:8081 Outside",
    ];
    assert_eq!(told(&valid, &[]), inside);
    assert_eq!(pending(&valid, &[]), Some(vec!["out".to_owned()]));
    // What is left of a listener that was of another type says nothing of this one.
    let before = service("default-out", json!({"type": "NodePort"}), json!([{"ip": "192.0.2.1"}]));
    assert_eq!(told(&valid, &[before]), inside);
}

#[test]
fn assigned_ports_and_addresses_are_told() {
    let valid = valid(SPEC);
    let spec =
        |type_: &str, port: u16| json!({"type": type_, "ports": [{"port": 1, "nodePort": port}]});
    let ingress = json!([{"ip": "2001:db8::1"}, {"hostname": "lb.example.net"}, {}]);
    let services = [
        service("default-nodes", spec("NodePort", 30_081), json!(null)),
        service("default-out", spec("LoadBalancer", 30_082), ingress),
    ];
    assert_eq!(
        told(&valid, &services),
        [
            "client default-client.shop.svc:8081 Inside",
            "nodes default-nodes.shop.svc:9081 Inside 30081",
            "nodes node-1.example.com:30081 Outside",
            "out default-out.shop.svc:8081 Inside 30082",
            "out out.example.com:8081 Outside",
            "out [2001:db8::1]:8081 Outside",
            "out lb.example.net:8081 Outside",
        ]
    );
    assert_eq!(pending(&valid, &services), Some(Vec::new()));
}

#[test]
fn without_a_load_balancer_nothing_is_pending() {
    assert_eq!(pending(&valid("{}"), &[]), None);
}
