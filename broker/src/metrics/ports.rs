//! Numbers of the ports: connections open, accepted and closed too early.

use std::sync::Arc;

use super::family::Family;
use crate::listener::Port;

/// Numbers of all ports, labelled with the port's name.
pub(crate) fn families(ports: &[Arc<Port>]) -> [Family; 3] {
    let mut open = Family::gauge("pinnace_connections_open", "Connections open now");
    let mut accepted =
        Family::counter("pinnace_connections_accepted", "Connections accepted since start");
    let mut dropped =
        Family::counter("pinnace_connections_dropped", "Connections closed early, by reason");
    for port in ports {
        let name = || ("port", port.name.to_owned());
        open.add(vec![name()], port.open() as f64);
        accepted.add(vec![name()], port.counters.accepted.get() as f64);
        for (reason, count) in port.counters.dropped() {
            dropped.add(vec![name(), ("reason", reason.to_owned())], count as f64);
        }
    }
    [open, accepted, dropped]
}
