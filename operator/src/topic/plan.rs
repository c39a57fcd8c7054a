//! From a validated topic to what every broker is asked for: settings, and the placement of its queues. Pure.

use broker_proto::admin::{self, MessageType as WireType, Owner, QueuePlacement};
use operator_api::limits::QUEUES_DEFAULT;
use operator_api::quantity::DurationText;
use operator_api::rules::TOPIC_SPEC;
use operator_api::topic::{MessageType, PlacementPolicy, Retention, TopicSpec};

use super::fetch::Observed;
use super::validate::{ValidTopic, spec_type, wire_type};
use crate::links::ClusterView;
use crate::placement::{Placed, PlacementError, Spread, place, spread};
use crate::verdict::Verdict;

/// What is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What every broker is asked for.
    pub topic: admin::Topic,
    /// Whether the mark of somebody else is overwritten.
    pub take_ownership: bool,
}

/// A span of time as brokers take it.
pub(crate) fn wire_duration(text: &DurationText) -> Option<prost_types::Duration> {
    let ms = text.as_ms().ok()?;
    let seconds = i64::try_from(ms / 1000).ok()?;
    let nanos = i32::try_from(ms % 1000 * 1_000_000).ok()?;
    Some(prost_types::Duration { seconds, nanos })
}

fn wire_retention(retention: &Retention) -> admin::Retention {
    admin::Retention {
        time: retention.time.as_ref().and_then(wire_duration),
        bytes: retention.bytes.as_ref().and_then(|bytes| bytes.as_bytes().ok()),
    }
}

/// Where the queues are already: what brokers hold is the truth, and the status the memory of it.
fn existing(observed: &Observed, view: &ClusterView<admin::Topic>) -> Vec<Placed> {
    let shard_id = |name: &str| view.map.shards.iter().find(|s| s.name == name).map(|s| s.id);
    let mut placed: Vec<Placed> = Vec::new();
    let mut note = |shard: &str, queues: u32| {
        let Some(shard) = shard_id(shard) else { return };
        match placed.iter_mut().find(|p| p.shard == shard) {
            Some(known) => known.queues = known.queues.max(queues),
            None => placed.push(Placed { shard, queues }),
        }
    };
    let held = view.brokers.iter().filter_map(|broker| broker.held.as_ref());
    for placement in held.flat_map(|topic| &topic.placement) {
        note(&placement.shard, placement.queues);
    }
    if placed.is_empty() {
        let told = observed.topic.status.iter().flat_map(|status| &status.placement);
        for placement in told {
            let Some(shard) = shard_id(&placement.shard) else { continue };
            placed.push(Placed { shard, queues: placement.queues });
        }
    }
    placed
}

/// Type and number of queues: what the spec says; what it does not say is as in the brokers, or as the status remembers it.
fn size(observed: &Observed) -> (WireType, u32) {
    let (spec, status) = (&observed.topic.spec, observed.topic.status.as_ref());
    let brokers = observed.view.iter().flat_map(|view| &view.brokers);
    let held: Vec<_> = brokers.filter_map(|broker| broker.held.as_ref()).collect();
    let message_type = (spec.message_type.map(wire_type))
        .or_else(|| held.first().map(|held| held.r#type()))
        .or_else(|| status.and_then(|status| status.message_type).map(wire_type))
        .unwrap_or(WireType::Normal);
    let placed = observed.view.as_ref().map(|view| existing(observed, view)).unwrap_or_default();
    let placed = placed.iter().map(|placed| placed.queues).sum();
    let there = held.iter().map(|held| held.queues).chain([placed]).max();
    let there = there.filter(|queues| *queues > 0);
    // The spec of one that is spread says the least.
    let asked = spec.queues.map(|asked| asked.max(there.filter(|_| spreads(spec)).unwrap_or(0)));
    let queues = asked
        .or(there)
        .or_else(|| status.and_then(|status| status.queues))
        .unwrap_or(QUEUES_DEFAULT);
    (message_type, queues)
}

/// Plans a validated topic.
///
/// # Errors
/// The verdict that says what it waits for, or what to change.
pub fn plan(observed: &Observed, valid: &ValidTopic) -> Result<Plan, Verdict> {
    let Some(view) = &observed.view else {
        let message =
            format!("BrokerCluster {} is not set up yet; see its conditions", observed.cluster_key);
        return Err(Verdict::waiting("ClusterNotReady", message));
    };
    let spec = &observed.topic.spec;
    let shards: Vec<u32> = view.map.shards.iter().map(|shard| shard.id).collect();
    let (message_type, queues) = size(observed);
    let existing = existing(observed, view);
    let mut placed = place_queues(observed, message_type, queues, &shards, &existing)?;
    let had = queues_of(&existing);
    let is_grown = message_type == WireType::Fifo && had > 0 && queues_of(&placed) > had;
    if is_grown && view.brokers.iter().any(|broker| broker.silence.is_some()) {
        // It takes no sends before every shard has its new layout.
        placed = existing;
    }
    let name_of = |id: u32| view.map.shards.iter().find(|s| s.id == id).map(|s| s.name.clone());
    let placement = placed
        .iter()
        .filter_map(|p| Some(QueuePlacement { shard: name_of(p.shard)?, queues: p.queues }));
    let retention = spec.retention.as_ref().or(valid.cluster.spec.retention.as_ref());
    let mut topic = wire_topic(observed, retention, placement.collect(), &valid.owner);
    topic.queues = queues_of(&placed);
    topic.first_queues = first_queues(view).filter(|first| *first < topic.queues);
    Ok(Plan { topic, take_ownership: valid.take_ownership })
}

fn queues_of(placed: &[Placed]) -> u32 {
    placed.iter().map(|placed| placed.queues).sum()
}

/// The queues that a FIFO topic had first, as far as any broker knows.
fn first_queues(view: &ClusterView<admin::Topic>) -> Option<u32> {
    let held = view.brokers.iter().filter_map(|broker| broker.held.as_ref());
    let fifo = held.filter(|topic| topic.r#type() == WireType::Fifo);
    fifo.map(|topic| topic.first_queues.unwrap_or(topic.queues)).min()
}

fn spreads(spec: &TopicSpec) -> bool {
    spec.placement == Some(PlacementPolicy::Spread)
}

fn place_queues(
    observed: &Observed,
    message_type: WireType,
    queues: u32,
    shards: &[u32],
    existing: &[Placed],
) -> Result<Vec<Placed>, Verdict> {
    let name = &observed.name;
    let may_spread = spec_type(message_type).is_some_and(MessageType::may_spread);
    let placed = match message_type {
        _ if spreads(&observed.topic.spec) && !may_spread => {
            return Err(Verdict::stalled(
                "InvalidSpec",
                format!("spec: {}", TOPIC_SPEC[5].message),
            ));
        }
        _ if spreads(&observed.topic.spec) => spread(name, queues, shards, existing),
        WireType::Priority => place(name, queues, shards, Spread::Together, existing),
        // The shard of a lite topic follows from those that the topic is on.
        WireType::Lite if !existing.is_empty() => {
            let shards: Vec<u32> = existing.iter().map(|placed| placed.shard).collect();
            place(name, queues, &shards, Spread::Even, existing)
        }
        _ => place(name, queues, shards, Spread::Even, existing),
    };
    placed.map_err(|error| match error {
        PlacementError::NoShard => Verdict::waiting("ClusterNotReady", error.to_string()),
        PlacementError::Shrinks { .. } => Verdict::stalled("ImmutableChange", error.to_string()),
        PlacementError::TooMany { .. } => Verdict::stalled("LimitReached", error.to_string()),
    })
}

/// What every broker is asked for.
pub(super) fn wire_topic(
    observed: &Observed,
    retention: Option<&Retention>,
    placement: Vec<QueuePlacement>,
    owner: &Owner,
) -> admin::Topic {
    let spec = &observed.topic.spec;
    let (message_type, queues) = size(observed);
    admin::Topic {
        name: observed.name.clone(),
        r#type: message_type.into(),
        queues,
        placement,
        owner: Some(owner.clone()),
        version: 0,
        retention: retention.map(wire_retention),
        max_message_bytes: spec.max_message_bytes,
        read: spec.access.as_ref().map(|access| access.read),
        write: spec.access.as_ref().map(|access| access.write),
        lite_expiry: spec.lite_expiry.as_ref().and_then(wire_duration),
        first_queues: None,
    }
}

#[cfg(test)]
mod tests;
