//! ListTopics: all topics, or the named ones, with their numbers.
//! Numbers are summed over the shards of this broker.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use broker_proto::admin::{ListTopicsRequest, ListTopicsResponse, TopicStatus};
use tonic::Status;

use crate::context::BrokerContext;
use crate::convert::admin::topic_to;
use crate::status::admin_refusal;

/// Names that do not exist are left out.
pub(super) async fn list_topics(
    context: &BrokerContext,
    request: &ListTopicsRequest,
) -> Result<ListTopicsResponse, Status> {
    let names: BTreeSet<&str> = request.names.iter().map(String::as_str).collect();
    let mut entries = context.catalog.topics();
    entries.retain(|entry| names.is_empty() || names.contains(entry.topic.name.as_str()));
    let numbers = context.catalog.topic_numbers().await.map_err(|e| admin_refusal(&e))?;
    let numbers: HashMap<&str, (u64, u64)> =
        numbers.iter().map(|n| (n.topic.as_str(), (n.messages, n.bytes))).collect();
    let progress = context.catalog.progress(None).await.map_err(|e| admin_refusal(&e))?;
    let mut groups: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for row in &progress {
        groups.entry(row.topic.as_str()).or_default().insert(row.group.as_str().to_owned());
    }
    let status = entries.iter().map(|entry| {
        let name = entry.topic.name.as_str();
        let (messages, bytes) = numbers.get(name).copied().unwrap_or_default();
        let groups = groups.remove(name).unwrap_or_default().into_iter().collect();
        TopicStatus { name: name.to_owned(), messages, bytes, groups }
    });
    let status = status.collect();
    let topics = entries.iter().map(|entry| topic_to(entry)).collect();
    Ok(ListTopicsResponse { topics, status })
}
