//! The names in a certificate that is made for a cluster: every name under which a client of its Services or brokers may
//! connect. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::broker_cluster::validate::ValidCluster;

/// Names of this machine, for `kubectl port-forward`.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// All of them: of the Services of listeners with and without namespace and domain, of every broker that there may be, what
/// listeners name, and addresses of load balancers.
#[must_use]
pub fn names(
    valid: &ValidCluster,
    cluster_domain: &str,
    assigned: &BTreeSet<String>,
) -> BTreeSet<String> {
    let namespace = &valid.key.namespace;
    let mut names: BTreeSet<String> = LOCAL.map(str::to_owned).into();
    let mut add_service = |host: &str| {
        for end in ["svc".to_owned(), format!("svc.{cluster_domain}")] {
            names.insert(format!("{host}.{namespace}.{end}"));
        }
        names.insert(format!("{host}.{namespace}"));
    };
    // One name for all brokers: their number may change without a new certificate.
    add_service(&format!("*.{}", valid.key.headless_service()));
    for listener in &valid.listeners {
        add_service(&valid.key.listener_service(&listener.name));
    }
    for listener in &valid.listeners {
        names.insert(valid.key.listener_service(&listener.name));
        names.extend(listener.hosts.iter().map(|host| normal(host)));
    }
    names.extend(assigned.iter().map(|host| normal(host)));
    names
}

/// As it is read back from a certificate.
#[must_use]
pub fn normal(host: &str) -> String {
    host.parse::<IpAddr>().map_or_else(|_| host.to_ascii_lowercase(), |ip| ip.to_string())
}
