//! Numbers of what the broker holds: topics, groups, lag, logs.

use broker_replication::Catalog;

use super::Sources;
use super::family::{Family, Labels, labels};
use crate::real_clock;

/// Numbers of all shards, topics and groups. What a shard does not tell in time of trouble is left out.
pub(super) async fn families(catalog: &Catalog, sources: &Sources) -> Vec<Family> {
    let node = || sources.node();
    let mut families = vec![
        Family::gauge("rocketmq_topic_number", "Topics of this broker")
            .with(node(), catalog.topics().len() as f64),
        Family::gauge("rocketmq_consumer_group_number", "Consumer groups of this broker")
            .with(node(), catalog.groups().len() as f64),
    ];
    families.extend(logs(catalog));
    if let Ok(topics) = catalog.topic_numbers().await {
        let mut messages = Family::gauge("pinnace_topic_messages", "Messages held");
        let mut bytes = Family::gauge("pinnace_topic_bytes", "Bytes of the log that they take");
        for numbers in topics {
            let topic = || labels(node(), [("topic", numbers.topic.to_string())]);
            messages.add(topic(), numbers.messages as f64);
            bytes.add(topic(), numbers.bytes as f64);
        }
        families.extend([messages, bytes]);
    }
    families.extend(lag(catalog, node).await);
    families
}

fn logs(catalog: &Catalog) -> [Family; 4] {
    let mut leads = Family::gauge("pinnace_shard_leads", "1 when this broker leads the shard");
    let mut bytes = Family::gauge("pinnace_shard_log_bytes", "Bytes of the shard's log");
    let mut index = Family::gauge("pinnace_shard_durable_index", "Last durable entry of the log");
    let mut damaged = Family::gauge(
        "pinnace_shard_damaged_bytes",
        "Bytes of the damaged range of the log: the shard is read-only",
    );
    for shard in catalog.shards() {
        let status = shard.status();
        let name = || vec![("shard", shard.name().to_owned())];
        leads.add(name(), f64::from(u8::from(status.role == "leader")));
        bytes.add(name(), status.log_bytes as f64);
        index.add(name(), status.durable_index as f64);
        if let Some(damage) = status.damage {
            let range = [("from", damage.from.to_string()), ("to", damage.to.to_string())];
            damaged.add(labels(name(), range), damage.to.saturating_sub(damage.from) as f64);
        }
    }
    [leads, bytes, index, damaged]
}

async fn lag(catalog: &Catalog, node: impl Fn() -> Labels) -> Vec<Family> {
    let Ok(progress) = catalog.progress(None).await else { return Vec::new() };
    let now_ms = real_clock::now_ms();
    let mut lag = Family::gauge(
        "rocketmq_consumer_lag_messages",
        "Messages not acknowledged yet, in flight included",
    );
    let mut latency = Family::gauge(
        "rocketmq_consumer_lag_latency",
        "Age in milliseconds of the oldest message not acknowledged",
    );
    let mut inflight = Family::gauge(
        "rocketmq_consumer_inflight_messages",
        "Messages handed out and neither acknowledged nor expired",
    );
    let mut ready =
        Family::gauge("rocketmq_consumer_ready_messages", "Messages waiting to be handed out");
    let mut polls = Family::gauge("pinnace_consumer_waiting_polls", "Receive calls waiting");
    for row in progress {
        let own = || {
            let names = [
                ("consumer_group", row.group.to_string()),
                ("topic", row.topic.to_string()),
                ("is_retry", "false".to_owned()),
                ("is_system", "false".to_owned()),
            ];
            labels(node(), names)
        };
        let oldest_age_ms = row.oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms));
        lag.add(own(), row.lag_messages as f64);
        latency.add(own(), oldest_age_ms as f64);
        inflight.add(own(), row.inflight_messages as f64);
        ready.add(own(), row.lag_messages.saturating_sub(row.inflight_messages) as f64);
        polls.add(own(), row.waiters as f64);
    }
    vec![lag, latency, inflight, ready, polls]
}
