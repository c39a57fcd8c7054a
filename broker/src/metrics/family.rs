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
    numbers: Vec<(Labels, Number)>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug)]
enum Number {
    One(f64),
    /// Upper ends and counts, and the sum of all that was counted.
    Buckets(Vec<(f64, u64)>, f64),
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

    /// How many fell into which bucket.
    pub(crate) fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Histogram, numbers: Vec::new() }
    }

    /// Adds a number.
    pub(crate) fn with(mut self, labels: Labels, number: f64) -> Self {
        self.add(labels, number);
        self
    }

    /// Adds a number.
    pub(crate) fn add(&mut self, labels: Labels, number: f64) {
        self.push(labels, Number::One(number));
    }

    /// Adds what fell into each bucket, by its upper end, and the sum of all of it.
    pub(crate) fn add_buckets(&mut self, labels: Labels, buckets: Vec<(f64, u64)>, sum: f64) {
        self.push(labels, Number::Buckets(buckets, sum));
    }

    fn push(&mut self, mut labels: Labels, number: Number) {
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
            Kind::Histogram => MetricType::Histogram,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for (labels, number) in &self.numbers {
            if labels.is_empty() {
                self.encode_number(&mut metric, number)?;
            } else {
                self.encode_number(&mut metric.encode_family(labels)?, number)?;
            }
        }
        Ok(())
    }

    fn encode_number(&self, metric: &mut MetricEncoder<'_>, number: &Number) -> fmt::Result {
        match (self.kind, number) {
            (Kind::Counter, Number::One(number)) => {
                metric.encode_counter(number, None::<&Exemplar<NoLabelSet, f64>>)
            }
            (_, Number::One(number)) => metric.encode_gauge(number),
            (_, Number::Buckets(buckets, sum)) => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
            }
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
        let mut times = Family::histogram("took_seconds", "Took");
        times.add_buckets(Labels::new(), vec![(0.5, 2), (f64::MAX, 1)], 9.5);
        let families = Families(vec![
            Family::counter("seen", "Seen").with(vec![("topic", "a\"b".to_owned())], 3.0),
            Family::gauge("held", "Held").with(Labels::new(), 1.5),
            Family::gauge("empty", "Nothing"),
            times,
        ]);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(families));
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        assert!(page.contains("seen_total{topic=\"a\\\"b\"} 3.0\n"), "{page}");
        assert!(page.contains("held 1.5\n"), "{page}");
        assert!(page.contains("took_seconds_sum 9.5\n"), "{page}");
        assert!(page.contains("took_seconds_bucket{le=\"0.5\"} 2\n"), "{page}");
        assert!(page.contains("took_seconds_bucket{le=\"+Inf\"} 3\n"), "{page}");
        assert!(!page.contains("empty"), "{page}");
    }
}
