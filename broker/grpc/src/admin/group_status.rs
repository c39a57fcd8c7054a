//! Who is in a group, what they draw from, and how far the group is behind. Members come from the sessions, lag from the
//! shards; both are views of now and stored nowhere.

use std::collections::BTreeMap;

use broker_engine::{GroupTopicProgress, Refusal};
use broker_model::{Model, TopicName};
use broker_proto::admin::{
    Assignment, FilterType, GroupStatus, Member, StartFrom, Subscription, TopicLag,
};
use broker_proto::rocketmq::{
    self as client, FilterType as ClientFilterType, Settings, settings::PubSub,
};

use crate::clock::{monotonic_ms, now_ms, unix_ms_of};
use crate::context::BrokerContext;
use crate::limits::LAG_STEP_MS_MIN;
use crate::session::{Session, settings};

/// By group name; every group of the catalog is there.
pub(super) async fn group_statuses(
    context: &BrokerContext,
) -> Result<BTreeMap<String, GroupStatus>, Refusal> {
    let progress = context.catalog.progress(None).await?;
    let numbers = context.catalog.topic_numbers().await?;
    let mut statuses = BTreeMap::new();
    for entry in context.catalog.groups() {
        let name = entry.group.name.as_str().to_owned();
        statuses.insert(name.clone(), GroupStatus { name, ..GroupStatus::default() });
    }
    add_members(context, &mut statuses);
    let now_ms = now_ms();
    for row in &progress {
        if let Some(status) = statuses.get_mut(row.group.as_str()) {
            status.topics.push(topic_lag(row, now_ms));
        }
    }
    for entry in context.catalog.groups() {
        let letters = TopicName::dead_letter_of(&entry.group.name);
        let of_group = numbers.iter().filter(|n| n.topic == letters);
        let count: u64 = of_group.map(|n| n.messages).sum();
        let Some(status) = statuses.get_mut(entry.group.name.as_str()) else { continue };
        if count > 0 {
            status.topics.push(TopicLag {
                topic: letters.as_str().to_owned(),
                dead_letters: count,
                ..TopicLag::default()
            });
        }
        status.topics.sort_by(|a, b| a.topic.cmp(&b.topic));
    }
    Ok(statuses)
}

fn topic_lag(row: &GroupTopicProgress, now_ms: u64) -> TopicLag {
    TopicLag {
        topic: row.topic.as_str().to_owned(),
        lag_messages: row.lag_messages,
        inflight_messages: row.inflight_messages,
        ready_messages: row.lag_messages.saturating_sub(row.inflight_messages),
        lag_ms: row.oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest)),
        dead_letters: 0,
        never_polled: !row.is_polled,
        estimated: row.is_estimate,
    }
}

fn add_members(context: &BrokerContext, statuses: &mut BTreeMap<String, GroupStatus>) {
    let now_ms = monotonic_ms();
    for session in context.sessions.all() {
        let Some(sent) = session.settings().filter(|_| session.is_alive(now_ms)) else { continue };
        let Some(group) = settings::group(&sent) else { continue };
        let Some(status) = statuses.get_mut(group.as_str()) else { continue };
        let model =
            context.catalog.group(group.as_str()).map_or(Model::Clustering, |g| g.group.model);
        let member = member(&session, &sent);
        for subscription in &member.subscriptions {
            let is_shared = model == Model::Clustering;
            let assignments =
                assignments(context, &member.client_id, &subscription.topic, is_shared);
            status.assignments.extend(assignments);
        }
        status.members.push(member);
    }
    for status in statuses.values_mut() {
        status.members.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        let key = |a: &Assignment| (a.client_id.clone(), a.topic.clone(), a.shard.clone());
        status.assignments.sort_by_cached_key(key);
    }
}

fn member(session: &Session, sent: &Settings) -> Member {
    let agent = sent.user_agent.clone().unwrap_or_default();
    Member {
        client_id: session.client_id.to_string(),
        client_type: sent.client_type().as_str_name().to_owned(),
        language: agent.language().as_str_name().to_owned(),
        version: agent.version,
        remote_address: session.remote().map(|a| a.to_string()).unwrap_or_default(),
        last_heartbeat_ms: unix_ms_of(session.last_seen_ms()),
        subscriptions: subscriptions(sent),
    }
}

fn subscriptions(sent: &Settings) -> Vec<Subscription> {
    let Some(PubSub::Subscription(subscription)) = &sent.pub_sub else { return Vec::new() };
    subscription.subscriptions.iter().map(subscription_of).collect()
}

fn subscription_of(entry: &client::SubscriptionEntry) -> Subscription {
    let expression = entry.expression.clone().unwrap_or_default();
    let filter_type = match expression.r#type() {
        ClientFilterType::Sql => FilterType::Sql92,
        ClientFilterType::Tag | ClientFilterType::Unspecified => FilterType::Tag,
    };
    Subscription {
        topic: entry.topic.as_ref().map(|t| t.name.clone()).unwrap_or_default(),
        filter_type: filter_type.into(),
        expression: expression.expression,
        start_from: StartFrom::Unspecified.into(),
    }
}

/// Every member draws from every queue; a clustering group shares them message by message.
fn assignments(
    context: &BrokerContext,
    client_id: &str,
    topic: &str,
    shared: bool,
) -> Vec<Assignment> {
    let Some(entry) = context.catalog.topic(topic) else { return Vec::new() };
    let of_shard = |shard: &broker_replication::ShardHandle| Assignment {
        client_id: client_id.to_owned(),
        topic: topic.to_owned(),
        shard: shard.name().to_owned(),
        queue_ids: (0..entry.topic.queues_on(shard.id())).collect(),
        shared,
        inflight: 0,
    };
    context.local_shards(&entry.topic).map(of_shard).collect()
}

/// Whether what is now differs from what was told in more than the time of a heartbeat and the age of a message that goes
/// on waiting: the age grows all the time, and is worth telling again once it moved by an eighth.
pub(super) fn differ(told: &GroupStatus, now: &GroupStatus) -> bool {
    let same_member = |(a, b): (&Member, &Member)| {
        a.client_id == b.client_id
            && a.client_type == b.client_type
            && a.version == b.version
            && a.remote_address == b.remote_address
            && a.subscriptions == b.subscriptions
    };
    let same_lag = |(told, now): (&TopicLag, &TopicLag)| {
        let step_ms = (told.lag_ms / 8).max(LAG_STEP_MS_MIN);
        let is_near = told.lag_ms.abs_diff(now.lag_ms) < step_ms;
        is_near && (told.lag_ms == 0) == (now.lag_ms == 0) && {
            TopicLag { lag_ms: 0, ..told.clone() } == TopicLag { lag_ms: 0, ..now.clone() }
        }
    };
    told.assignments != now.assignments
        || told.topics.len() != now.topics.len()
        || !told.topics.iter().zip(&now.topics).all(same_lag)
        || told.members.len() != now.members.len()
        || !told.members.iter().zip(&now.members).all(same_member)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(change: impl FnOnce(&mut GroupStatus)) -> GroupStatus {
        let member = Member { client_id: "a".into(), last_heartbeat_ms: 1, ..Member::default() };
        let mut status = GroupStatus {
            name: "billing".into(),
            members: vec![member],
            topics: vec![TopicLag { topic: "orders".into(), ..TopicLag::default() }],
            ..GroupStatus::default()
        };
        change(&mut status);
        status
    }

    #[test]
    fn a_heartbeat_alone_is_no_change() {
        let first = status(|_| {});
        assert!(!differ(&first, &status(|s| s.members[0].last_heartbeat_ms = 2)));
        assert!(differ(&first, &status(|s| s.members[0].client_id = "b".into())));
        assert!(differ(&first, &status(|s| s.members.clear())));
        assert!(differ(&first, &status(|s| s.topics[0].lag_messages = 1)));
        assert!(differ(&first, &status(|s| s.assignments.push(Assignment::default()))));
        assert!(differ(&first, &status(|s| s.topics.push(TopicLag::default()))));
    }

    #[test]
    fn the_age_of_a_message_that_goes_on_waiting_is_told_in_steps() {
        let waits = |lag_ms: u64| {
            status(|s| s.topics[0] = TopicLag { lag_messages: 1, lag_ms, ..s.topics[0].clone() })
        };
        assert!(!differ(&waits(3_000), &waits(3_999)));
        assert!(differ(&waits(3_000), &waits(4_000)));
        assert!(!differ(&waits(80_000), &waits(89_999)));
        assert!(differ(&waits(80_000), &waits(90_000)));
        assert!(differ(&waits(80_000), &waits(1_000)), "somebody caught up");
        assert!(differ(&waits(500), &waits(0)), "nobody waits any more");
        let mut told = waits(0);
        let seconds: Vec<u64> = (1..=3_600)
            .filter(|second| {
                let now = waits(second * 1_000);
                let is_told = differ(&told, &now);
                if is_told {
                    told = now;
                }
                is_told
            })
            .collect();
        assert!(seconds.len() < 60, "{} times in an hour", seconds.len());
    }

    #[test]
    fn ready_is_what_is_behind_and_not_in_flight() {
        let row = GroupTopicProgress {
            group: broker_model::GroupName::parse("billing").unwrap(),
            topic: TopicName::parse("orders").unwrap(),
            lag_messages: 10,
            inflight_messages: 4,
            oldest_ms: Some(1_000),
            waiters: 0,
            is_polled: true,
            is_estimate: false,
        };
        let lag = topic_lag(&row, 5_000);
        assert_eq!((lag.ready_messages, lag.lag_ms), (6, 4_000));
        let none = topic_lag(&GroupTopicProgress { oldest_ms: None, ..row }, 5_000);
        assert_eq!(none.lag_ms, 0);
    }
}
