//! What the operator counts, in the text form that Prometheus reads.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A controller.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

/// A controller and how a reconcile ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    controller: &'static str,
    outcome: &'static str,
}

/// All counters; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: std::sync::Arc<Registry>,
    reconciles: Family<Ended, Counter>,
    seconds: Family<Controller, Histogram, fn() -> Histogram>,
    status_writes: Family<Controller, Counter>,
    leader: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn seconds_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 8))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("pinnace_operator");
        let reconciles = Family::<Ended, Counter>::default();
        registry.register("reconciles", "Finished reconciles", reconciles.clone());
        let seconds = Family::new_with_constructor(seconds_histogram as fn() -> Histogram);
        registry.register("reconcile_seconds", "Duration of reconciles", seconds.clone());
        let status_writes = Family::<Controller, Counter>::default();
        registry.register("status_writes", "Written statuses", status_writes.clone());
        let leader = Gauge::default();
        registry.register("leader", "1 while this process holds the lease", leader.clone());
        Self { registry: registry.into(), reconciles, seconds, status_writes, leader }
    }
}

impl Metrics {
    /// Counts a finished reconcile. `outcome` is `ok` or the word of an error.
    pub fn reconciled(&self, controller: &'static str, outcome: &'static str, took: Duration) {
        self.reconciles.get_or_create(&Ended { controller, outcome }).inc();
        self.seconds.get_or_create(&Controller { controller }).observe(took.as_secs_f64());
    }

    /// Counts a written status.
    pub fn status_written(&self, controller: &'static str) {
        self.status_writes.get_or_create(&Controller { controller }).inc();
    }

    /// Notes whether this process holds the lease.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All numbers as text.
    ///
    /// # Errors
    /// Only when a text cannot be written to memory.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_stands_in_the_text() {
        let metrics = Metrics::default();
        metrics.reconciled("topic", "ok", Duration::from_millis(3));
        metrics.set_leader(true);
        let text = metrics.encode().unwrap();
        assert!(text.contains(r#"reconciles_total{controller="topic",outcome="ok"} 1"#), "{text}");
        assert!(text.contains("pinnace_operator_leader 1"), "{text}");
    }
}
