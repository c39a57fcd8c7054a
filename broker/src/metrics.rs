//! What Prometheus sees. Numbers are collected when they are asked for and at no other time; names are RocketMQ's where
//! RocketMQ has the same number (protocol section 8.3), else they begin with `pinnace_` or `process_`.

mod family;
pub(crate) mod page;
pub(crate) mod ports;
mod process;
mod shards;
mod traffic;

use std::path::PathBuf;
use std::sync::Arc;

use broker_grpc::BrokerContext;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::health::Health;
use crate::listener::Port;
use crate::wiring;
use family::{Families, Family, Labels};

/// Where the numbers come from.
#[derive(Debug)]
pub(crate) struct Sources {
    /// Knows the shards once they are open.
    pub(crate) health: Arc<Health>,
    /// All ports of the process.
    pub(crate) ports: Vec<Arc<Port>>,
    /// Label `cluster`.
    pub(crate) cluster: String,
    /// Label `node_id`.
    pub(crate) broker: String,
    /// The data directory.
    pub(crate) data: PathBuf,
}

impl Sources {
    /// The page in the OpenMetrics text format.
    async fn page(&self) -> Result<String, std::fmt::Error> {
        let mut families = process::families();
        families.push(self.build());
        families.extend(ports::families(&self.ports));
        families.extend(self.disk());
        if let Some(context) = self.health.context() {
            families.extend(shards::families(&context.catalog, self).await);
            families.extend(traffic::families(context, self));
            families.extend(self.manifests(context));
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Families(families)));
        let mut page = String::new();
        text::encode(&mut page, &registry)?;
        Ok(page)
    }

    /// The labels that RocketMQ puts on every number.
    fn node(&self) -> Labels {
        vec![
            ("cluster", self.cluster.clone()),
            ("node_type", "broker".to_owned()),
            ("node_id", self.broker.clone()),
        ]
    }

    fn disk(&self) -> [Family; 2] {
        let space = wiring::disk_space(&self.data);
        [
            Family::gauge("pinnace_disk_free_bytes", "Space left on the volume of the data")
                .with(self.node(), space.free_bytes as f64),
            Family::gauge("pinnace_disk_total_bytes", "Size of the volume of the data")
                .with(self.node(), space.total_bytes as f64),
        ]
    }

    /// Nothing when the broker follows no manifests.
    fn manifests(&self, context: &BrokerContext) -> Vec<Family> {
        let Some(status) = context.manifests() else { return Vec::new() };
        let in_force = "pinnace_manifests_in_force";
        let help = "1 when everything that the manifests declare is in force, else 0";
        let problems = Family::gauge(
            "pinnace_manifests_problems",
            "What of the manifests is wrong or not in force, in lines of /readyz",
        );
        vec![
            Family::gauge(in_force, help).with(self.node(), f64::from(u8::from(status.in_force))),
            problems.with(self.node(), f64::from(status.problems_total)),
        ]
    }

    fn build(&self) -> Family {
        Family::gauge("pinnace_build", "Version of the running binary; always 1").with(
            vec![
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
                ("cluster", self.cluster.clone()),
                ("broker", self.broker.clone()),
            ],
            1.0,
        )
    }
}
