//! From a validated group to what every broker is asked for. Pure.

use broker_proto::admin::reset_offsets_request::To;
use broker_proto::admin::{self, ResetOffsetsRequest, retry_policy};
use operator_api::consumer_group::{
    Backoff, DeadLetterPolicy, FilterType, Model, OffsetReset, Order, Retry, StartFrom,
    Subscription,
};
use operator_api::limits::OFFSET_RESETS_REMEMBERED_MAX;

use operator_api::rules;

use super::fetch::Observed;
use super::validate::ValidGroup;
use crate::topic::plan::wire_duration;
use crate::verdict::Verdict;

/// What is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What every broker is asked for.
    pub group: admin::Group,
    /// A reset of progress that was not carried out yet.
    pub reset: Option<ResetOffsetsRequest>,
    /// Whether the mark of somebody else is overwritten.
    pub take_ownership: bool,
}

fn held(observed: &Observed) -> Option<&admin::Group> {
    observed.view.iter().flat_map(|view| &view.brokers).find_map(|broker| broker.held.as_ref())
}

/// The model: what the spec says; else that of the group in the brokers, or as the status remembers it.
#[must_use]
pub fn model(observed: &Observed) -> Model {
    let held = held(observed).and_then(|held| match held.model() {
        admin::Model::Clustering => Some(Model::Clustering),
        admin::Model::Broadcasting => Some(Model::Broadcasting),
        admin::Model::Unspecified => None,
    });
    let told = observed.group.status.as_ref().and_then(|status| status.model);
    observed.group.spec.model.or(held).or(told).unwrap_or_default()
}

/// The order, found in the same way.
#[must_use]
pub fn order(observed: &Observed) -> Order {
    let held = held(observed).and_then(|held| match held.order() {
        admin::Order::Concurrent => Some(Order::Concurrent),
        admin::Order::Ordered => Some(Order::Fifo),
        admin::Order::Unspecified => None,
    });
    let told = observed.group.status.as_ref().and_then(|status| status.order);
    observed.group.spec.order.or(held).or(told).unwrap_or_default()
}

/// Plans a validated group.
///
/// # Errors
/// The verdict that says what it waits for.
pub fn plan(observed: &Observed, valid: &ValidGroup) -> Result<Plan, Verdict> {
    if observed.view.is_none() {
        let message =
            format!("BrokerCluster {} is not set up yet; see its conditions", observed.cluster_key);
        return Err(Verdict::waiting("ClusterNotReady", message));
    }
    let spec = &observed.group.spec;
    let group = wire_group(observed, &valid.owner);
    if (model(observed), order(observed)) == (Model::Broadcasting, Order::Fifo) {
        return Err(Verdict::stalled("InvalidSpec", rules::GROUP_SPEC[3].message));
    }
    let done = &observed.resets_done;
    let is_open = |wanted: &&OffsetReset| {
        !done.contains(&wanted.id) && done.len() < OFFSET_RESETS_REMEMBERED_MAX
    };
    let wanted = spec.offset_reset.as_ref().filter(is_open);
    let reset = wanted.map(|wanted| wire_reset(&observed.name, wanted));
    Ok(Plan { group, reset, take_ownership: valid.take_ownership })
}

/// What every broker is asked for.
pub(super) fn wire_group(observed: &Observed, owner: &admin::Owner) -> admin::Group {
    let spec = &observed.group.spec;
    admin::Group {
        name: observed.name.clone(),
        model: match model(observed) {
            Model::Clustering => admin::Model::Clustering,
            Model::Broadcasting => admin::Model::Broadcasting,
        }
        .into(),
        order: match order(observed) {
            Order::Concurrent => admin::Order::Concurrent,
            Order::Fifo => admin::Order::Ordered,
        }
        .into(),
        retry: spec.retry.as_ref().map(wire_retry),
        subscriptions: spec.subscriptions.iter().map(wire_subscription).collect(),
        owner: Some(owner.clone()),
        lite_topic: spec.lite_topic.clone().unwrap_or_default(),
        dead_letter: match spec.dead_letter.policy {
            DeadLetterPolicy::Store => admin::DeadLetterPolicy::Store,
            DeadLetterPolicy::Discard => admin::DeadLetterPolicy::Discard,
        }
        .into(),
        consume: Some(spec.consume),
        ..admin::Group::default()
    }
}

fn wire_reset(group: &str, reset: &OffsetReset) -> ResetOffsetsRequest {
    let to = &reset.to;
    let position = to.position.map(|position| To::Position(wire_start(position).into()));
    let time = to.time.as_ref().and_then(|time| time.as_unix_ms().ok()).map(To::TimeMs);
    ResetOffsetsRequest {
        group: group.to_owned(),
        topics: reset.topics.clone(),
        // Validation let exactly one of the three through.
        to: position.or(time).or_else(|| to.shift.map(To::Shift)),
        id: reset.id.clone(),
    }
}

fn wire_start(start: StartFrom) -> admin::StartFrom {
    match start {
        StartFrom::Earliest => admin::StartFrom::Earliest,
        StartFrom::Latest => admin::StartFrom::Latest,
    }
}

fn wire_retry(retry: &Retry) -> admin::RetryPolicy {
    admin::RetryPolicy {
        max_attempts: retry.max_attempts.unwrap_or_default(),
        backoff: retry.backoff.as_ref().and_then(wire_backoff),
    }
}

fn wire_backoff(backoff: &Backoff) -> Option<retry_policy::Backoff> {
    if let Some(exponential) = &backoff.exponential {
        return Some(retry_policy::Backoff::Exponential(admin::ExponentialBackoff {
            initial: wire_duration(&exponential.initial),
            max: wire_duration(&exponential.max),
            multiplier: f64::from(exponential.multiplier),
        }));
    }
    let list = backoff.list.as_ref()?;
    let next = list.iter().filter_map(wire_duration).collect();
    Some(retry_policy::Backoff::Customized(admin::CustomizedBackoff { next }))
}

fn wire_subscription(subscription: &Subscription) -> admin::Subscription {
    let (filter_type, expression) = match &subscription.filter {
        None => (admin::FilterType::Tag, "*".to_owned()),
        Some(filter) => match filter.type_ {
            FilterType::Tag => (admin::FilterType::Tag, filter.expression.clone()),
            FilterType::Sql92 => (admin::FilterType::Sql92, filter.expression.clone()),
        },
    };
    admin::Subscription {
        topic: subscription.topic.clone(),
        filter_type: filter_type.into(),
        expression,
        start_from: wire_start(subscription.start_from).into(),
    }
}
