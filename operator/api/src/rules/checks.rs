//! The Rust side of the rules: pure functions from a spec (and the one before) to what is wrong with it.

use std::collections::BTreeSet;

use super::{
    BACKOFF, CLUSTER_OBJECT, CLUSTER_REF, CLUSTER_SPEC, EXPONENTIAL, GROUP_NAME, GROUP_OBJECT,
    GROUP_SPEC, OFFSET_RESET, OFFSET_RESET_TO, RETENTION, Rule, STORAGE, SUBSCRIPTION_TOPIC,
    SYSTEM_TOPICS, TOPIC_NAME, TOPIC_OBJECT, TOPIC_SPEC,
};
use crate::broker_cluster::BrokerClusterSpec;
use crate::consumer_group::{
    Backoff, ConsumerGroupSpec, FilterType, Model, OffsetReset, Order, Retry,
};
use crate::limits::{
    ATTEMPTS_MAX, BACKOFF_ENTRIES_MAX, BROKERS_DEFAULT, BROKERS_MAX, CLUSTER_NAME_BYTES_MAX,
    FILTER_EXPRESSION_BYTES_MAX, GROUP_NAME_BYTES_MAX, LITE_EXPIRY_MS_MAX, LITE_EXPIRY_MS_MIN,
    MESSAGE_BYTES_MAX, NAMESPACE_BYTES_MAX, OFFSET_RESET_ID_BYTES_MAX, QUEUES_PER_TOPIC_MAX,
    REPLICATION_MAX, RETENTION_MS_MAX, RETENTION_MS_MIN, RETRY_PAUSE_MS_MAX,
    SCALE_BROKERS_MAX_DEFAULT, SHARDS_MAX, SHARDS_PER_BROKER_MAX, SUBSCRIPTIONS_MAX,
    SYSTEM_TOPIC_NAME_BYTES_MAX, TOPIC_NAME_BYTES_MAX, VOLUME_BYTES_MIN,
    VOLUME_BYTES_PER_SHARD_MIN,
};
use crate::quantity::{DurationText, TimeText};
use crate::topic::{ClusterRef, MessageType, PlacementPolicy, Retention, TopicSpec};

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, like `spec.queues`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Collects broken rules.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Violation>);

impl Findings {
    pub(super) fn add(&mut self, field: &str, message: impl Into<String>) {
        self.0.push(Violation { field: field.to_owned(), message: message.into() });
    }

    pub(super) fn rule(&mut self, holds: bool, field: &str, rule: Rule) {
        if !holds {
            self.add(field, rule.message);
        }
    }

    fn range(&mut self, value: u32, min: u32, max: u32, field: &str) {
        if !(min..=max).contains(&value) {
            self.add(field, format!("{value} is out of range; use {min} to {max}"));
        }
    }

    pub(super) fn length(&mut self, text: &str, max: usize, field: &str) {
        let count = text.chars().count();
        if count == 0 || count > max {
            self.add(field, format!("has {count} characters; use 1 to {max}"));
        }
    }

    pub(super) fn count(&mut self, count: usize, max: usize, field: &str) {
        if count > max {
            self.add(field, format!("has {count} entries; at most {max} are allowed"));
        }
    }

    fn duration(&mut self, duration: &DurationText, field: &str) -> Option<u64> {
        duration.as_ms().map_err(|error| self.add(field, error.to_string())).ok()
    }
}

fn has_name_characters(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '%' | '|');
    !name.is_empty() && name.chars().all(legal)
}

fn is_reserved_topic(name: &str) -> bool {
    ["%RETRY%", "%DLQ%", "rmq_sys_"].iter().any(|prefix| name.starts_with(prefix))
        || SYSTEM_TOPICS.contains(&name)
}

/// What DNS calls a label, starting with a letter.
pub(super) fn is_label(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(legal)
}

fn cluster_ref(findings: &mut Findings, cluster: &ClusterRef) {
    findings.length(&cluster.name, CLUSTER_NAME_BYTES_MAX, "spec.clusterRef.name");
    if let Some(namespace) = &cluster.namespace {
        findings.length(namespace, NAMESPACE_BYTES_MAX, "spec.clusterRef.namespace");
    }
}

fn retention(findings: &mut Findings, retention: Option<&Retention>) {
    let Some(retention) = retention else { return };
    let any = retention.time.is_some() || retention.bytes.is_some();
    findings.rule(any, "spec.retention", RETENTION[0]);
    if let Some(time) = &retention.time
        && let Some(ms) = findings.duration(time, "spec.retention.time")
    {
        findings.rule(ms >= RETENTION_MS_MIN, "spec.retention", RETENTION[1]);
        findings.rule(ms <= RETENTION_MS_MAX, "spec.retention", RETENTION[2]);
    }
    if let Some(Err(error)) = retention.bytes.as_ref().map(|bytes| bytes.as_bytes()) {
        findings.add("spec.retention.bytes", error.to_string());
    }
}

/// What is wrong with a Topic of this object name.
#[must_use]
pub fn check_topic(object_name: &str, spec: &TopicSpec) -> Vec<Violation> {
    let mut findings = Findings::default();
    cluster_ref(&mut findings, &spec.cluster_ref);
    let field = "spec.topicName";
    match &spec.topic_name {
        Some(name) => {
            findings.length(name, TOPIC_NAME_BYTES_MAX, field);
            findings.rule(has_name_characters(name), field, TOPIC_NAME[0]);
            findings.rule(!is_reserved_topic(name), field, TOPIC_NAME[1]);
        }
        None => {
            let legal =
                has_name_characters(object_name) && object_name.len() <= TOPIC_NAME_BYTES_MAX;
            findings.rule(legal, "metadata.name", TOPIC_OBJECT[0].1);
        }
    }
    if let Some(queues) = spec.queues {
        findings.range(queues, 1, QUEUES_PER_TOPIC_MAX, "spec.queues");
    }
    if let Some(bytes) = spec.max_message_bytes {
        findings.range(bytes, 1, MESSAGE_BYTES_MAX, "spec.maxMessageBytes");
    }
    let spreads = spec.placement == Some(PlacementPolicy::Spread);
    let is_ordered = spec.message_type.is_some_and(|message_type| !message_type.may_spread());
    findings.rule(!(spreads && is_ordered), "spec", TOPIC_SPEC[5]);
    retention(&mut findings, spec.retention.as_ref());
    if let Some(expiry) = &spec.lite_expiry {
        let is_lite = spec.message_type == Some(MessageType::Lite);
        findings.rule(is_lite, "spec", TOPIC_SPEC[2]);
        if let Some(ms) = findings.duration(expiry, "spec.liteExpiry") {
            findings.rule(ms >= LITE_EXPIRY_MS_MIN, "spec", TOPIC_SPEC[3]);
            findings.rule(ms <= LITE_EXPIRY_MS_MAX, "spec", TOPIC_SPEC[4]);
        }
    }
    findings.0
}

/// What is wrong with changing one Topic into the other.
#[must_use]
pub fn change_of_topic(old: &TopicSpec, new: &TopicSpec) -> Vec<Violation> {
    let mut findings = Findings::default();
    findings.rule(old.cluster_ref == new.cluster_ref, "spec.clusterRef", CLUSTER_REF[0]);
    findings.rule(old.topic_name == new.topic_name, "spec", TOPIC_SPEC[0]);
    if let (Some(old_queues), Some(new_queues)) = (old.queues, new.queues) {
        findings.rule(new_queues >= old_queues, "spec", TOPIC_SPEC[1]);
    }
    findings.0
}

/// What is wrong with a ConsumerGroup of this object name.
#[must_use]
pub fn check_consumer_group(object_name: &str, spec: &ConsumerGroupSpec) -> Vec<Violation> {
    let mut findings = Findings::default();
    cluster_ref(&mut findings, &spec.cluster_ref);
    let field = "spec.groupName";
    match &spec.group_name {
        Some(name) => {
            findings.length(name, GROUP_NAME_BYTES_MAX, field);
            findings.rule(has_name_characters(name), field, GROUP_NAME[0]);
            findings.rule(!name.starts_with("CID_RMQ_SYS_"), field, GROUP_NAME[1]);
        }
        None => {
            let legal =
                has_name_characters(object_name) && object_name.len() <= GROUP_NAME_BYTES_MAX;
            findings.rule(legal, "metadata.name", GROUP_OBJECT[0].1);
        }
    }
    let is_ordered = spec.model == Some(Model::Broadcasting) && spec.order == Some(Order::Fifo);
    findings.rule(!is_ordered, "spec.order", GROUP_SPEC[3]);
    subscriptions(&mut findings, spec);
    retry(&mut findings, spec.retry.as_ref());
    if let Some(topic) = &spec.lite_topic {
        findings.length(topic, TOPIC_NAME_BYTES_MAX, "spec.liteTopic");
        findings.rule(has_name_characters(topic), "spec.liteTopic", SUBSCRIPTION_TOPIC[0]);
    }
    if let Some(reset) = &spec.offset_reset {
        offset_reset(&mut findings, reset);
    }
    findings.0
}

fn offset_reset(findings: &mut Findings, reset: &OffsetReset) {
    findings.length(&reset.id, OFFSET_RESET_ID_BYTES_MAX, "spec.offsetReset.id");
    let field = "spec.offsetReset.to";
    let given = [reset.to.position.is_some(), reset.to.time.is_some(), reset.to.shift.is_some()];
    let count = given.into_iter().filter(|given| *given).count();
    findings.rule(count == 1, field, OFFSET_RESET_TO[0]);
    if let Some(Err(error)) = reset.to.time.as_ref().map(TimeText::as_unix_ms) {
        findings.add("spec.offsetReset.to.time", error.to_string());
    }
    let field = "spec.offsetReset.topics";
    findings.count(reset.topics.len(), SUBSCRIPTIONS_MAX, field);
    let mut seen = BTreeSet::new();
    for (index, topic) in reset.topics.iter().enumerate() {
        let field = format!("{field}[{index}]");
        findings.length(topic, SYSTEM_TOPIC_NAME_BYTES_MAX, &field);
        findings.rule(has_name_characters(topic), &field, SUBSCRIPTION_TOPIC[0]);
        if !seen.insert(topic) {
            findings.add(&field, format!("Duplicate value: topic {topic:?} is named twice"));
        }
    }
}

fn subscriptions(findings: &mut Findings, spec: &ConsumerGroupSpec) {
    findings.count(spec.subscriptions.len(), SUBSCRIPTIONS_MAX, "spec.subscriptions");
    let mut seen = BTreeSet::new();
    for (index, subscription) in spec.subscriptions.iter().enumerate() {
        let field = format!("spec.subscriptions[{index}]");
        let topic_field = format!("{field}.topic");
        let topic = &subscription.topic;
        findings.length(topic, TOPIC_NAME_BYTES_MAX, &topic_field);
        findings.rule(has_name_characters(topic), &topic_field, SUBSCRIPTION_TOPIC[0]);
        if !seen.insert(topic) {
            findings.add(&field, format!("Duplicate value: topic {topic:?} is subscribed twice"));
        }
        if let Some(filter) = &subscription.filter {
            let field = format!("{field}.filter.expression");
            findings.length(&filter.expression, FILTER_EXPRESSION_BYTES_MAX, &field);
            let compiled = match filter.type_ {
                FilterType::Tag => broker_model::Filter::parse_tags(&filter.expression),
                FilterType::Sql92 => broker_model::Filter::parse_sql(&filter.expression),
            };
            if let Err(error) = compiled {
                findings.add(&field, error.to_string());
            }
        }
    }
}

fn retry(findings: &mut Findings, retry: Option<&Retry>) {
    let Some(retry) = retry else { return };
    if let Some(attempts) = retry.max_attempts {
        findings.range(attempts, 1, ATTEMPTS_MAX, "spec.retry.maxAttempts");
    }
    if let Some(backoff) = &retry.backoff {
        check_backoff(findings, backoff);
    }
}

fn check_backoff(findings: &mut Findings, backoff: &Backoff) {
    let one = backoff.exponential.is_some() != backoff.list.is_some();
    findings.rule(one, "spec.retry.backoff", BACKOFF[0]);
    if let Some(list) = &backoff.list {
        let field = "spec.retry.backoff.list";
        if list.is_empty() {
            findings.add(field, "has no entry; name at least one pause");
        }
        findings.count(list.len(), BACKOFF_ENTRIES_MAX, field);
        for (index, pause) in list.iter().enumerate() {
            let field = format!("{field}[{index}]");
            if let Some(ms) = findings.duration(pause, &field) {
                findings.rule(ms <= RETRY_PAUSE_MS_MAX, &field, BACKOFF[1]);
            }
        }
    }
    if let Some(exponential) = &backoff.exponential {
        let field = "spec.retry.backoff.exponential";
        let initial_ms = findings.duration(&exponential.initial, &format!("{field}.initial"));
        let max_ms = findings.duration(&exponential.max, &format!("{field}.max"));
        if let (Some(initial_ms), Some(max_ms)) = (initial_ms, max_ms) {
            findings.rule(initial_ms <= max_ms, field, EXPONENTIAL[0]);
            findings.rule(max_ms <= RETRY_PAUSE_MS_MAX, field, EXPONENTIAL[1]);
        }
        findings.range(exponential.multiplier, 1, 100, &format!("{field}.multiplier"));
    }
}

/// What is wrong with changing one ConsumerGroup into the other.
#[must_use]
pub fn change_of_consumer_group(
    old: &ConsumerGroupSpec,
    new: &ConsumerGroupSpec,
) -> Vec<Violation> {
    let mut findings = Findings::default();
    findings.rule(old.cluster_ref == new.cluster_ref, "spec.clusterRef", CLUSTER_REF[0]);
    findings.rule(old.group_name == new.group_name, "spec", GROUP_SPEC[0]);
    let same_model = old.model.is_none() || new.model.is_none() || old.model == new.model;
    findings.rule(same_model, "spec", GROUP_SPEC[1]);
    findings.rule(old.lite_topic == new.lite_topic, "spec", GROUP_SPEC[2]);
    if let (Some(old), Some(new)) = (&old.offset_reset, &new.offset_reset) {
        findings.rule(old.id != new.id || old == new, "spec.offsetReset", OFFSET_RESET[0]);
    }
    findings.0
}

/// What is wrong with a BrokerCluster of this object name.
#[must_use]
pub fn check_broker_cluster(object_name: &str, spec: &BrokerClusterSpec) -> Vec<Violation> {
    let mut findings = Findings::default();
    let legal = is_label(object_name) && object_name.len() <= CLUSTER_NAME_BYTES_MAX;
    findings.rule(legal, "metadata.name", CLUSTER_OBJECT[0].1);
    if let Some(brokers) = spec.brokers {
        findings.range(brokers, 1, BROKERS_MAX, "spec.brokers");
    }
    if let Some(max_brokers) = spec.max_brokers {
        findings.range(max_brokers, 1, BROKERS_MAX, "spec.maxBrokers");
    }
    if let Some(replication) = spec.replication {
        findings.range(replication, 1, REPLICATION_MAX, "spec.replication");
        findings.rule(replication == 1, "spec.replication", CLUSTER_SPEC[3]);
    }
    if let Some(shards) = spec.shards {
        findings.range(shards, 1, SHARDS_MAX, "spec.shards");
        let most = |brokers: u32| brokers.saturating_mul(SHARDS_PER_BROKER_MAX);
        let fits = spec.brokers.is_none_or(|brokers| (brokers..=most(brokers)).contains(&shards));
        findings.rule(fits, "spec", CLUSTER_SPEC[0]);
    }
    storage(&mut findings, spec);
    retention(&mut findings, spec.retention.as_ref());
    super::listener::check(&mut findings, object_name, spec);
    super::pod::check(&mut findings, spec);
    findings.0
}

fn storage(findings: &mut Findings, spec: &BrokerClusterSpec) {
    let Some(size) = &spec.storage.size else { return };
    let field = "spec.storage.size";
    let size_bytes = match size.as_bytes() {
        Ok(size_bytes) => size_bytes,
        Err(error) => return findings.add(field, error.to_string()),
    };
    let least = |shards: u32| VOLUME_BYTES_MIN + VOLUME_BYTES_PER_SHARD_MIN * u64::from(shards);
    findings.rule(size_bytes >= least(1), field, STORAGE[2]);
    if let (Some(shards), Some(brokers @ 1..)) = (spec.shards, spec.brokers) {
        findings.rule(size_bytes >= least(shards.div_ceil(brokers)), field, CLUSTER_SPEC[4]);
    }
}

/// What is wrong with changing one BrokerCluster into the other.
#[must_use]
pub fn change_of_broker_cluster(
    old: &BrokerClusterSpec,
    new: &BrokerClusterSpec,
) -> Vec<Violation> {
    let mut findings = Findings::default();
    if let (Some(old), Some(new)) = (old.brokers, new.brokers) {
        findings.rule(new >= old, "spec", CLUSTER_SPEC[1]);
    }
    let most = new.max_brokers.unwrap_or(SCALE_BROKERS_MAX_DEFAULT);
    let before = old.brokers.unwrap_or(BROKERS_DEFAULT);
    let may_grow = new.brokers.is_none_or(|brokers| brokers <= most || brokers <= before);
    findings.rule(may_grow, "spec.brokers", CLUSTER_OBJECT[2].1);
    if let (Some(old), Some(new)) = (old.shards, new.shards) {
        findings.rule(new >= old, "spec", CLUSTER_SPEC[2]);
    }
    if let (Some(old), Some(new)) = (&old.storage.size, &new.storage.size) {
        findings.rule(new.as_bytes().ok() >= old.as_bytes().ok(), "spec.storage", STORAGE[0]);
    }
    let same_class = old.storage.class_name == new.storage.class_name;
    findings.rule(same_class, "spec.storage", STORAGE[1]);
    super::listener::change(&mut findings, &old.listeners, &new.listeners);
    findings.0
}
