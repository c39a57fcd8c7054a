//! Numbers of what the broker holds: topics, groups, lag, logs.

use broker_engine::{GroupTopicProgress, TopicNumbers};
use broker_replication::{Catalog, Clock, SystemClock};

use super::Sources;
use super::family::{Family, Labels, labels};

/// Topics, and pairs of group and topic, with numbers of their own on one page; the first by name. The others are summed
/// under the topic "", so that sums over all labels stay right.
const NAMED_MAX: usize = 10_000;

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
        let mut oldest = Family::gauge(
            "pinnace_topic_oldest_message_age_seconds",
            "How long ago the oldest message held was stored; absent without messages",
        );
        let now_ms = SystemClock.wall_ms();
        let age_seconds = |oldest_ms| now_ms.saturating_sub(oldest_ms) as f64 / 1_000.0;
        let (named, rest) = topics.split_at(topics.len().min(NAMED_MAX));
        for numbers in named {
            let topic = || labels(node(), [("topic", numbers.topic.to_string())]);
            messages.add(topic(), numbers.messages as f64);
            bytes.add(topic(), numbers.bytes as f64);
            if let Some(oldest_ms) = numbers.oldest_ms {
                oldest.add(topic(), age_seconds(oldest_ms));
            }
        }
        if !rest.is_empty() {
            let others = || labels(node(), [("topic", String::new())]);
            messages.add(others(), rest.iter().map(|numbers| numbers.messages).sum::<u64>() as f64);
            bytes.add(others(), rest.iter().map(|numbers| numbers.bytes).sum::<u64>() as f64);
            if let Some(oldest_ms) = rest.iter().filter_map(|numbers| numbers.oldest_ms).min() {
                oldest.add(others(), age_seconds(oldest_ms));
            }
        }
        families.extend([messages, bytes, oldest]);
        families.extend(dead_letters(&topics, node));
    }
    families.extend(lag(catalog, node).await);
    families
}

/// Of the topics by name, the first so many of groups have numbers of their own; the others are summed.
fn dead_letters(topics: &[TopicNumbers], node: impl Fn() -> Labels) -> [Family; 2] {
    let mut kept = Family::gauge(
        "pinnace_dead_letters",
        "Dead letters of the group that are kept and were neither put back nor purged",
    );
    let mut sent = Family::counter(
        "rocketmq_send_to_dlq_messages",
        "Messages of the group that became dead letters, since its dead-letter topic was made",
    );
    let of_groups = topics.iter().filter_map(|numbers| {
        let group = numbers.topic.as_str().strip_prefix("%DLQ%")?;
        Some((group.to_owned(), numbers.messages, numbers.dead_lettered))
    });
    let of_groups: Vec<_> = of_groups.collect();
    let (named, rest) = of_groups.split_at(of_groups.len().min(NAMED_MAX));
    let sum = rest.iter().cloned().reduce(|a, b| (String::new(), a.1 + b.1, a.2 + b.2));
    for (group, messages, dead_lettered) in named.iter().cloned().chain(sum) {
        kept.add(labels(node(), [("consumer_group", group.clone())]), messages as f64);
        let own = [("consumer_group", group), ("is_system", "false".to_owned())];
        sent.add(labels(node(), own), dead_lettered as f64);
    }
    [kept, sent]
}

fn logs(catalog: &Catalog) -> [Family; 7] {
    let mut leads = Family::gauge("pinnace_shard_leads", "1 when this broker leads the shard");
    let mut bytes = Family::gauge("pinnace_shard_log_bytes", "Bytes of the shard's log");
    let mut index = Family::gauge("pinnace_shard_durable_index", "Last durable entry of the log");
    let mut damaged = Family::gauge(
        "pinnace_shard_damaged_bytes",
        "Bytes of the damaged range of the log: the shard is read-only",
    );
    let mut sealed =
        Family::counter("pinnace_shard_sealed_segments", "Segments sealed since start");
    let mut sealing_failures = Family::counter(
        "pinnace_shard_sealing_failures",
        "Attempts to seal that failed since start; while they do, no space of the log comes back",
    );
    let mut appends = Family::histogram(
        "pinnace_shard_append_seconds",
        "Time that a durable write of the shard's log takes",
    );
    for shard in catalog.shards() {
        let status = shard.status();
        let name = || vec![("shard", shard.name().to_owned())];
        leads.add(name(), f64::from(u8::from(status.role == "leader")));
        bytes.add(name(), status.log_bytes as f64);
        index.add(name(), status.durable_index as f64);
        sealed.add(name(), status.sealed_segments as f64);
        sealing_failures.add(name(), status.sealing_failures as f64);
        let times = status.append_times;
        appends.add_buckets(name(), times.buckets, times.sum_seconds);
        if let Some(damage) = status.damage {
            let range = [("from", damage.from.to_string()), ("to", damage.to.to_string())];
            damaged.add(labels(name(), range), damage.to.saturating_sub(damage.from) as f64);
        }
    }
    [leads, bytes, index, damaged, sealed, sealing_failures, appends]
}

async fn lag(catalog: &Catalog, node: impl Fn() -> Labels) -> Vec<Family> {
    let Ok(progress) = catalog.progress(None).await else { return Vec::new() };
    let now_ms = SystemClock.wall_ms();
    let mut lag = Family::gauge(
        "rocketmq_consumer_lag_messages",
        "Messages not acknowledged yet, in flight included; from the declaration of a subscription on. What passes a \
         declared tag filter of a long backlog is estimated",
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
    let mut polled = Family::gauge(
        "pinnace_consumer_polled",
        "1 when a consumer of the group was ever here, 0 while it is declared only",
    );
    let (named, rest) = progress.split_at(progress.len().min(NAMED_MAX));
    for row in named.iter().map(Row::of).chain(Row::sum(rest)) {
        let own = || {
            let names = [
                ("consumer_group", row.group.clone()),
                ("topic", row.topic.clone()),
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
        polled.add(own(), f64::from(u8::from(row.is_polled)));
    }
    vec![lag, latency, inflight, ready, polls, polled]
}

/// Numbers of one pair of group and topic, or the sum of those without a place of their own.
struct Row {
    group: String,
    topic: String,
    lag_messages: u64,
    inflight_messages: u64,
    oldest_ms: Option<u64>,
    waiters: usize,
    is_polled: bool,
}

impl Row {
    fn of(progress: &GroupTopicProgress) -> Self {
        Self {
            group: progress.group.to_string(),
            topic: progress.topic.to_string(),
            lag_messages: progress.lag_messages,
            inflight_messages: progress.inflight_messages,
            oldest_ms: progress.oldest_ms,
            waiters: progress.waiters,
            is_polled: progress.is_polled,
        }
    }

    fn sum(rest: &[GroupTopicProgress]) -> Option<Self> {
        let nameless =
            |progress| Self { group: String::new(), topic: String::new(), ..Self::of(progress) };
        rest.iter().map(nameless).reduce(|sum, row| Self {
            lag_messages: sum.lag_messages + row.lag_messages,
            inflight_messages: sum.inflight_messages + row.inflight_messages,
            oldest_ms: sum.oldest_ms.into_iter().chain(row.oldest_ms).min(),
            waiters: sum.waiters + row.waiters,
            is_polled: sum.is_polled && row.is_polled,
            ..sum
        })
    }
}

#[cfg(test)]
mod tests {
    use broker_model::{GroupName, TopicName};

    use super::*;

    #[test]
    fn what_has_no_place_of_its_own_is_summed_without_names() {
        let progress = |topic: &str, lag_messages, oldest_ms| GroupTopicProgress {
            group: GroupName::parse("billing").unwrap(),
            topic: TopicName::parse(topic).unwrap(),
            lag_messages,
            inflight_messages: 1,
            oldest_ms,
            waiters: 2,
            is_polled: true,
            is_estimate: false,
        };
        assert!(Row::sum(&[]).is_none());
        let rest = [progress("a", 3, None), progress("b", 4, Some(70)), progress("c", 5, Some(50))];
        for (count, lag_messages, oldest_ms) in [(1, 3, None), (3, 12, Some(50))] {
            let sum = Row::sum(&rest[..count]).unwrap();
            assert_eq!((sum.group.as_str(), sum.topic.as_str()), ("", ""));
            assert_eq!((sum.lag_messages, sum.oldest_ms), (lag_messages, oldest_ms));
            assert_eq!(sum.waiters, 2 * count);
        }
    }
}
