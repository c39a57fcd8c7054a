//! Numbers of one name, on their way to the text of the metrics page.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

/// Label names and values of one number.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// `labels` and further ones.
pub(crate) fn labels<const N: usize>(
    mut labels: Labels,
    more: [(&'static str, String); N],
) -> Labels {
    labels.extend(more);
    labels
}

/// All numbers of one name.
#[derive(Debug)]
pub(crate) struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    numbers: Vec<(Labels, f64)>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

impl Family {
    /// Only grows. The page adds `_total` to the name.
    pub(crate) fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter, numbers: Vec::new() }
    }

    /// Goes up and down.
    pub(crate) fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge, numbers: Vec::new() }
    }

    /// Adds a number.
    pub(crate) fn with(mut self, labels: Labels, number: f64) -> Self {
        self.add(labels, number);
        self
    }

    /// Adds a number.
    pub(crate) fn add(&mut self, mut labels: Labels, number: f64) {
        // The encoder writes label values as they are.
        for (_, value) in &mut labels {
            if value.contains(['\\', '"', '\n']) {
                *value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            }
        }
        self.numbers.push((labels, number));
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for (labels, number) in &self.numbers {
            if labels.is_empty() {
                self.encode_number(&mut metric, *number)?;
            } else {
                self.encode_number(&mut metric.encode_family(labels)?, *number)?;
            }
        }
        Ok(())
    }

    fn encode_number(&self, metric: &mut MetricEncoder<'_>, number: f64) -> fmt::Result {
        match self.kind {
            Kind::Counter => metric.encode_counter(&number, None::<&Exemplar<NoLabelSet, f64>>),
            Kind::Gauge => metric.encode_gauge(&number),
        }
    }
}

/// A page of families. A family without numbers is left out.
#[derive(Debug)]
pub(crate) struct Families(pub(crate) Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let filled = self.0.iter().filter(|family| !family.numbers.is_empty());
        for family in filled {
            family.encode(&mut encoder)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn numbers_stand_on_the_page_with_their_labels() {
        let families = Families(vec![
            Family::counter("seen", "Seen").with(vec![("topic", "a\"b".to_owned())], 3.0),
            Family::gauge("held", "Held").with(Labels::new(), 1.5),
            Family::gauge("empty", "Nothing"),
        ]);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(families));
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        assert!(page.contains("seen_total{topic=\"a\\\"b\"} 3.0\n"), "{page}");
        assert!(page.contains("held 1.5\n"), "{page}");
        assert!(!page.contains("empty"), "{page}");
    }
}
