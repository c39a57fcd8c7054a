//! How many messages and bytes went in per topic and out per topic and group. Counted at the answer, read by the metrics.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use broker_model::{GroupName, TopicName};

use crate::limits::TRAFFIC_COUNTS_MAX;

/// Messages and bytes since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// Messages.
    pub messages: u64,
    /// Their bytes, bodies and properties.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Count {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// Counts of everything that passes. A topic or pair beyond the limit is not counted.
#[derive(Debug, Default)]
pub struct Traffic {
    incoming: RwLock<HashMap<TopicName, Count>>,
    outgoing: RwLock<HashMap<(TopicName, GroupName), Count>>,
}

impl Traffic {
    /// Stored durably.
    pub(crate) fn came_in(&self, topic: &TopicName, messages: usize, bytes: usize) {
        add(&self.incoming, topic, messages, bytes);
    }

    /// Handed to a consumer; again for every delivery.
    pub(crate) fn went_out(&self, pair: &(TopicName, GroupName), messages: usize, bytes: usize) {
        add(&self.outgoing, pair, messages, bytes);
    }

    /// What came in, of the topics that `keep` names; the others are forgotten.
    pub fn incoming(&self, keep: impl Fn(&TopicName) -> bool) -> Vec<(TopicName, Sum)> {
        sums(&self.incoming, keep)
    }

    /// What went out, of the topics that `keep` names; the others are forgotten.
    pub fn outgoing(
        &self,
        keep: impl Fn(&TopicName) -> bool,
    ) -> Vec<((TopicName, GroupName), Sum)> {
        sums(&self.outgoing, |(topic, _)| keep(topic))
    }
}

fn add<K: Eq + Hash + Clone>(
    counts: &RwLock<HashMap<K, Count>>,
    key: &K,
    messages: usize,
    bytes: usize,
) {
    let add_to = |count: &Count| {
        count.messages.fetch_add(messages as u64, Ordering::Relaxed);
        count.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    };
    if let Some(count) = counts.read().unwrap_or_else(PoisonError::into_inner).get(key) {
        return add_to(count);
    }
    let mut counts = counts.write().unwrap_or_else(PoisonError::into_inner);
    if counts.len() < TRAFFIC_COUNTS_MAX {
        add_to(counts.entry(key.clone()).or_default());
    }
}

fn sums<K: Eq + Hash + Clone + Ord>(
    counts: &RwLock<HashMap<K, Count>>,
    keep: impl Fn(&K) -> bool,
) -> Vec<(K, Sum)> {
    let mut counts = counts.write().unwrap_or_else(PoisonError::into_inner);
    counts.retain(|key, _| keep(key));
    let sum = |count: &Count| Sum {
        messages: count.messages.load(Ordering::Relaxed),
        bytes: count.bytes.load(Ordering::Relaxed),
    };
    let mut sums: Vec<_> = counts.iter().map(|(key, count)| (key.clone(), sum(count))).collect();
    sums.sort_by(|(a, _), (b, _)| a.cmp(b));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_is_summed_and_forgotten_with_its_topic() {
        let traffic = Traffic::default();
        let topics = ["a", "b"].map(|name| TopicName::parse(name).unwrap());
        traffic.came_in(&topics[0], 2, 100);
        traffic.came_in(&topics[0], 1, 1);
        traffic.came_in(&topics[1], 1, 5);
        let sum = |messages, bytes| Sum { messages, bytes };
        let all = traffic.incoming(|_| true);
        assert_eq!(all, [(topics[0].clone(), sum(3, 101)), (topics[1].clone(), sum(1, 5))]);
        assert_eq!(traffic.incoming(|topic| *topic == topics[1]).len(), 1);
        assert_eq!(traffic.incoming(|_| true).len(), 1);
        let pair = (topics[0].clone(), GroupName::parse("g").unwrap());
        traffic.went_out(&pair, 1, 7);
        assert_eq!(traffic.outgoing(|_| true), [(pair, sum(1, 7))]);
    }
}
