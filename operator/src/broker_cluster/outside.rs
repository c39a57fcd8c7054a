//! How clients reach the cluster: addresses of listeners as Kubernetes assigned them, and the certificate. What is wrong here
//! is told of and holds StatefulSets back where brokers could not start; everything else goes on.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use operator_api::broker_cluster::{Endpoint, EndpointScope, Listener, ListenerType};
use operator_api::condition::{Finding, Truth};
use operator_api::limits::LISTENER_INGRESS_MAX;

use super::build::Objects;
use super::certificate::{self, Certificate};
use super::fetch::{Observed, is_owned};
use super::halt::{self, Halt};
use super::validate::ValidCluster;
use crate::context::Context;
use crate::error::Error;
use crate::names::{CLUSTER_LABEL, MANAGED_BY, MANAGED_BY_LABEL};
use crate::verdict::Verdict;

/// Condition: load balancers have addresses. Only there when a listener asks for one.
const ADDRESSES: &str = "AddressesAssigned";

/// What was found and done.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outside {
    /// Where clients connect.
    pub endpoints: Vec<Endpoint>,
    /// Listeners whose load balancer has no address.
    pub pending: Option<Vec<String>>,
    /// The certificate.
    pub certificate: Certificate,
    /// What Kubernetes refuses of a listener.
    pub refused: Option<Verdict>,
}

impl Outside {
    /// Objects without StatefulSets that could not start.
    #[must_use]
    pub fn hold(&self, mut objects: Objects) -> Objects {
        if self.certificate.trouble.is_some() {
            objects.stateful_sets.clear();
        }
        objects
    }

    /// What keeps the cluster from being as asked.
    #[must_use]
    pub fn trouble(&self) -> Option<&Verdict> {
        self.certificate.trouble.as_ref().or(self.refused.as_ref())
    }

    /// When to look again.
    #[must_use]
    pub fn again_after(&self) -> Option<Duration> {
        self.certificate.again_after
    }

    /// The conditions.
    pub fn findings(&self) -> impl Iterator<Item = Finding> {
        let pending = self.pending.as_ref().map(|pending| {
            let (status, reason, message) = if pending.is_empty() {
                let message = "every load balancer has an address".to_owned();
                (Truth::True, "Assigned", message)
            } else {
                let message = format!(
                    "no address is assigned yet to the load balancer of listener {}; a controller of load balancers has to do \
                     that, and clients inside are served meanwhile",
                    pending.join(", ")
                );
                (Truth::False, "LoadBalancerPending", message)
            };
            Finding { type_: ADDRESSES, status, reason, message }
        });
        self.certificate.finding.clone().into_iter().chain(pending)
    }
}

/// Looks at Services and sees to the certificate.
///
/// # Errors
/// What is worth another attempt by itself.
pub async fn settle(
    observed: &Observed,
    valid: &ValidCluster,
    context: &Context,
) -> Result<Outside, Error> {
    let labels = format!("{MANAGED_BY_LABEL}={MANAGED_BY},{CLUSTER_LABEL}={}", valid.key.name);
    let api: Api<Service> = Api::namespaced(context.client.clone(), &valid.key.namespace);
    let services = api.list(&ListParams::default().labels(&labels)).await;
    let mut services = services
        .map_err(|source| Error::Fetch {
            what: format!("the Services of {}", valid.key),
            source: Box::new(source),
        })?
        .items;
    services.retain(|service| is_owned(&service.metadata, &observed.cluster));
    let assigned: BTreeSet<String> = services.iter().flat_map(ingress).collect();
    let certificate = certificate::settle(observed, valid, &assigned, context).await?;
    Ok(Outside {
        endpoints: endpoints(valid, &services),
        pending: pending(valid, &services),
        certificate,
        refused: None,
    })
}

/// Addresses of the load balancer of a Service.
fn ingress(service: &Service) -> Vec<String> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    let address = |one: &k8s_openapi::api::core::v1::LoadBalancerIngress| {
        one.ip.clone().or_else(|| one.hostname.clone()).filter(|address| !address.is_empty())
    };
    ingress.filter_map(address).take(LISTENER_INGRESS_MAX).collect()
}

fn service_of<'a>(
    valid: &ValidCluster,
    listener: &Listener,
    services: &'a [Service],
) -> Option<&'a Service> {
    let name = valid.key.listener_service(&listener.name);
    services.iter().find(|service| {
        let type_ = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
        service.name_any() == name && type_ == Some(listener.type_.as_str())
    })
}

/// Where clients connect: of each listener the address inside first, then those outside that are known.
#[must_use]
pub fn endpoints(valid: &ValidCluster, services: &[Service]) -> Vec<Endpoint> {
    let of = |listener: &Listener| {
        let service = service_of(valid, listener, services);
        let spec = service.and_then(|service| service.spec.as_ref());
        let port = spec.and_then(|spec| spec.ports.as_ref()?.first());
        let node_port = port.and_then(|port| port.node_port).and_then(|port| port.try_into().ok());
        let node_port = node_port.filter(|_| listener.type_ != ListenerType::ClusterIP);
        let endpoint = |host: &str, port: u16, scope, node_port| Endpoint {
            listener: listener.name.clone(),
            address: host_and_port(host, port),
            scope: Some(scope),
            node_port,
        };
        let inside = valid.key.service_host(&valid.key.listener_service(&listener.name));
        let inside = endpoint(&inside, listener.port, EndpointScope::Inside, node_port);
        let assigned = match listener.type_ {
            ListenerType::LoadBalancer => service.map(ingress).unwrap_or_default(),
            _ => Vec::new(),
        };
        // A name that leads to a ClusterIP does so by something with a port of its own, which is not known here.
        let port = match listener.type_ {
            ListenerType::ClusterIP => None,
            ListenerType::NodePort => node_port,
            ListenerType::LoadBalancer => Some(listener.port),
        };
        let mut outside: Vec<String> = listener.hosts.clone();
        outside.extend(assigned.into_iter().filter(|host| !listener.hosts.contains(host)));
        let outside = port.map(|port| {
            let one = move |host: &String| endpoint(host, port, EndpointScope::Outside, None);
            outside.iter().map(one).collect::<Vec<_>>()
        });
        std::iter::once(inside).chain(outside.unwrap_or_default()).collect::<Vec<_>>()
    };
    valid.listeners.iter().flat_map(of).collect()
}

/// Listeners whose load balancer has no address; none when no listener has a load balancer.
fn pending(valid: &ValidCluster, services: &[Service]) -> Option<Vec<String>> {
    let balancers = valid.listeners.iter().filter(|l| l.type_ == ListenerType::LoadBalancer);
    let balancers: Vec<&Listener> = balancers.collect();
    let has_none = |listener: &&&Listener| {
        service_of(valid, listener, services).is_none_or(|service| ingress(service).is_empty())
    };
    (!balancers.is_empty())
        .then(|| balancers.iter().filter(has_none).map(|listener| listener.name.clone()).collect())
}

fn host_and_port(host: &str, port: u16) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

/// What is to be said of a Service that was applied, where Kubernetes does not take it: the others go on.
///
/// # Errors
/// Everything else.
pub(super) fn or_refused(applied: Result<(), Halt>) -> Result<Option<Verdict>, Halt> {
    match applied {
        Ok(()) => Ok(None),
        Err(Halt::Failed(error)) => {
            Ok(Some(halt::refused(error, "the listener", "ListenerRefused")?))
        }
        Err(told) => Err(told),
    }
}

#[cfg(test)]
mod tests;
