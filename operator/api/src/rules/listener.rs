//! Rules of listeners and of the certificate, as CEL and in Rust. What only another object shows (a port of nodes that is
//! taken, a Secret that is missing) is told of by the operator.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Rule;
use super::checks::{Findings, is_label};
use crate::broker_cluster::BrokerClusterSpec;
use crate::limits::{
    LISTENER_HOSTS_MAX, LISTENER_NAME_BYTES_MAX, LISTENER_SOURCE_RANGES_MAX, LISTENERS_MAX,
    OBJECT_NAME_BYTES_MAX,
};
use crate::listener::{Listener, ListenerType};

/// Rules of a listener. The last one looks at the change.
pub const LISTENER: [Rule; 4] = [
    Rule {
        cel: "!has(self.nodePort) || (has(self.type) && self.type != 'ClusterIP')",
        message: "nodePort is for listeners of type NodePort and LoadBalancer; leave it out, or set the type",
    },
    Rule {
        cel: "!has(self.externalTrafficPolicy) || (has(self.type) && self.type != 'ClusterIP')",
        message: "externalTrafficPolicy is for listeners of type NodePort and LoadBalancer; leave it out, or set the type",
    },
    Rule {
        cel: "(!has(self.loadBalancerClass) && (!has(self.loadBalancerSourceRanges) || \
              self.loadBalancerSourceRanges.size() == 0)) || (has(self.type) && self.type == 'LoadBalancer')",
        message: "loadBalancerClass and loadBalancerSourceRanges are for listeners of type LoadBalancer; leave them out, or set \
                  the type",
    },
    Rule {
        cel: "!has(self.type) || self.type != 'LoadBalancer' || !has(oldSelf.type) || oldSelf.type != 'LoadBalancer' || \
              (has(self.loadBalancerClass) == has(oldSelf.loadBalancerClass) && \
              (!has(self.loadBalancerClass) || self.loadBalancerClass == oldSelf.loadBalancerClass))",
        message: "loadBalancerClass cannot be changed, because the load balancer would stay; remove the listener, or add one \
                  of another name",
    },
];

/// Rules of a listener's name.
pub const LISTENER_NAME: [Rule; 2] = [
    Rule {
        cel: "self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        message: "a listener name has lower-case letters, digits and '-', and starts with a letter",
    },
    Rule {
        cel: "self != 'brokers'",
        message: "the listener name 'brokers' is taken; choose another",
    },
];

/// Rules of all listeners of a cluster.
pub const LISTENERS: [Rule; 1] = [Rule {
    cel: "self.all(one, !has(one.nodePort) || self.exists_one(other, has(other.nodePort) && \
          other.nodePort == one.nodePort))",
    message: "two listeners have the same nodePort; give each its own, or leave them to Kubernetes",
}];

/// Rules of a name or address of a listener.
pub const HOST: [Rule; 1] = [Rule {
    cel: "isIP(self) || self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
    message: "hosts are DNS names in lower-case letters like mq.example.com, or IP addresses, without a port",
}];

/// Rules of a network.
pub const NETWORK: [Rule; 1] = [Rule {
    cel: "isCIDR(self)",
    message: "a network is written like 192.0.2.0/24 or 2001:db8::/32",
}];

/// Rules of where the certificate comes from.
pub const TLS: [Rule; 1] = [Rule {
    cel: "!has(self.secretName) || !has(self.issuerRef)",
    message: "tls names a secretName or an issuerRef, not both; with neither the operator makes a certificate",
}];

/// Over the whole object: the Secrets that the operator makes are not to be given to it.
pub const TLS_SECRET: Rule = Rule {
    cel: "!has(self.spec.tls) || !has(self.spec.tls.secretName) || \
          !(self.spec.tls.secretName in [self.metadata.name + '-tls', self.metadata.name + '-ca', \
          self.metadata.name + '-issued-tls'])",
    message: "tls.secretName names a Secret that the operator makes by itself; leave it out for that, or use another name",
};

/// What is wrong with listeners and certificate.
pub(super) fn check(findings: &mut Findings, object_name: &str, spec: &BrokerClusterSpec) {
    findings.count(spec.listeners.len(), LISTENERS_MAX, "spec.listeners");
    let mut names = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for (index, listener) in spec.listeners.iter().enumerate() {
        let field = format!("spec.listeners[{index}]");
        check_listener(findings, listener, &field);
        if !names.insert(&listener.name) {
            findings.add(&field, format!("Duplicate value: listener {:?}", listener.name));
        }
        let is_free = listener.node_port.is_none_or(|port| ports.insert(port));
        findings.rule(is_free, "spec.listeners", LISTENERS[0]);
    }
    let Some(tls) = &spec.tls else { return };
    findings.rule(tls.secret_name.is_none() || tls.issuer_ref.is_none(), "spec.tls", TLS[0]);
    if let Some(secret) = &tls.secret_name {
        findings.length(secret, OBJECT_NAME_BYTES_MAX, "spec.tls.secretName");
        let own = ["tls", "ca", "issued-tls"].map(|word| format!("{object_name}-{word}"));
        findings.rule(!own.contains(secret), "spec.tls.secretName", TLS_SECRET);
    }
    if let Some(issuer) = &tls.issuer_ref {
        findings.length(&issuer.name, OBJECT_NAME_BYTES_MAX, "spec.tls.issuerRef.name");
    }
}

fn check_listener(findings: &mut Findings, listener: &Listener, field: &str) {
    let name = format!("{field}.name");
    findings.length(&listener.name, LISTENER_NAME_BYTES_MAX, &name);
    findings.rule(is_label(&listener.name), &name, LISTENER_NAME[0]);
    findings.rule(listener.name != "brokers", &name, LISTENER_NAME[1]);
    let has_nodes = listener.type_ != ListenerType::ClusterIP;
    findings.rule(has_nodes || listener.node_port.is_none(), field, LISTENER[0]);
    findings.rule(has_nodes || listener.external_traffic_policy.is_none(), field, LISTENER[1]);
    let ranges = &listener.load_balancer_source_ranges;
    let of_balancer = listener.load_balancer_class.is_some() || !ranges.is_empty();
    let is_balancer = listener.type_ == ListenerType::LoadBalancer;
    findings.rule(is_balancer || !of_balancer, field, LISTENER[2]);
    findings.count(ranges.len(), LISTENER_SOURCE_RANGES_MAX, field);
    for range in ranges {
        findings.rule(is_network(range), &format!("{field}.loadBalancerSourceRanges"), NETWORK[0]);
    }
    findings.count(listener.hosts.len(), LISTENER_HOSTS_MAX, &format!("{field}.hosts"));
    for host in &listener.hosts {
        findings.rule(is_host(host), &format!("{field}.hosts"), HOST[0]);
    }
}

/// What is wrong with a change of listeners.
pub(super) fn change(findings: &mut Findings, old: &[Listener], new: &[Listener]) {
    for listener in new.iter().filter(|listener| listener.type_ == ListenerType::LoadBalancer) {
        let before = old.iter().find(|before| before.name == listener.name);
        let same = before.is_none_or(|before| {
            before.type_ != ListenerType::LoadBalancer
                || before.load_balancer_class == listener.load_balancer_class
        });
        findings.rule(same, "spec.listeners", LISTENER[3]);
    }
}

fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn is_host(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.chars().all(legal)
    };
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(is_part))
}
