//! What is said of a topic. Pure: observations in, status out.

use std::time::Duration;

use broker_proto::admin;
use operator_api::condition::merge;
use operator_api::limits::STATUS_NAMES_MAX;
use operator_api::topic::{QueuePlacement, TopicStatus};

use super::fetch::Observed;
use super::plan::Plan;
use super::validate::spec_type;
use crate::links::ClusterView;
use crate::push::Outcome as Pushed;
use crate::reach::{Shards, judge, settle, silence};
use crate::verdict::Verdict;

/// What came of the reconcile.
#[derive(Debug, Clone)]
pub enum Found {
    /// It stopped before anything was asked of brokers.
    Verdict(Verdict),
    /// Brokers were asked.
    Pushed(Box<Plan>, Pushed),
}

/// The status, and when to look again because time alone may change it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The status.
    pub status: TopicStatus,
    /// When to look again; none = when something happens.
    pub again_after: Option<Duration>,
}

/// Makes the status.
#[must_use]
pub fn status(observed: &Observed, found: &Found, before: &TopicStatus, now: &str) -> Outcome {
    let generation = observed.topic.metadata.generation.unwrap_or_default();
    let shards = shards(found, before);
    let verdict = match found {
        Found::Verdict(verdict) => verdict.clone(),
        Found::Pushed(_, outcome) => judge(outcome, observed.view.as_ref(), &shards),
    };
    let is_held = verdict.is_ready();
    let silence = silence(observed.view.as_ref(), observed.uptime, &shards);
    let settled = settle(verdict, &before.conditions, generation, silence);
    let mut status = before.clone();
    if settled.verdict.is_some() {
        status.observed_generation = Some(generation);
        status.topic_name = Some(observed.name.clone());
    }
    if let (Found::Pushed(plan, _), Some(view), true) = (found, &observed.view, is_held) {
        status.message_type = spec_type(plan.topic.r#type());
        status.queues = Some(plan.topic.queues);
        status.placement = placement(&plan.topic, view);
        status.groups = observed.groups.iter().take(STATUS_NAMES_MAX).cloned().collect();
    }
    if let Some(verdict) = &settled.verdict {
        status.conditions = merge(&before.conditions, &verdict.findings(), generation, now);
    }
    Outcome { status, again_after: settled.again_after }
}

/// The shards with queues of the topic.
fn shards(found: &Found, before: &TopicStatus) -> Shards {
    match found {
        Found::Pushed(plan, _) => plan.topic.placement.iter().map(|p| p.shard.clone()).collect(),
        Found::Verdict(_) => before.placement.iter().map(|p| p.shard.clone()).collect(),
    }
}

fn placement(topic: &admin::Topic, view: &ClusterView<admin::Topic>) -> Vec<QueuePlacement> {
    let place = |placed: &admin::QueuePlacement| {
        let shard = view.map.shards.iter().find(|shard| shard.name == placed.shard)?;
        Some(QueuePlacement {
            shard: placed.shard.clone(),
            broker: shard.leader_broker,
            queues: placed.queues,
        })
    };
    topic.placement.iter().filter_map(place).collect()
}
