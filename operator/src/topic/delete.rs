//! The deletion of a Topic: who uses the topic, and what the object says while it waits.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_proto::admin::{DeleteTopicRequest, GroupStatus, Topic as WireTopic};
use kube::runtime::controller::Action;
use operator_api::Topic;
use operator_api::condition::merge;
use operator_api::topic::DeletionPolicy;

use super::fetch::{claim, rivals, target};
use crate::broker_admin::{Answer, BrokerAdmin};
use crate::context::{Context, now};
use crate::deletion::{
    Deletable, Leaving, delete_thing, next_look, set_finalizer, standing_cluster,
};
use crate::error::Error;
use crate::ownership::Claim;

impl Deletable for WireTopic {
    const NOUN: &'static str = "topic";

    fn delete<'a>(
        admin: &'a dyn BrokerAdmin,
        name: &str,
        claim: &Claim,
        instance: &str,
    ) -> Answer<'a, ()> {
        let owner = Some(claim.mark(instance));
        admin.delete_topic(DeleteTopicRequest { name: name.to_owned(), owner, force: false })
    }
}

/// Adds or removes the finalizer as the policy asks.
pub(super) async fn keep_finalizer(topic: &Arc<Topic>, context: &Context) -> Result<(), Error> {
    let wanted = topic.spec.deletion_policy != DeletionPolicy::Retain;
    set_finalizer(topic.as_ref(), wanted, context).await
}

/// The object is being deleted.
pub(super) async fn delete(topic: &Arc<Topic>, context: &Context) -> Result<Action, Error> {
    let (key, name) = target(topic);
    let claim = claim(topic.as_ref());
    let cluster = standing_cluster(context, &key);
    let rivals = rivals(&context.topic_claims, &key, cluster.as_ref(), &name, &claim);
    let leaving = Leaving {
        object: topic.as_ref(),
        claim: &claim,
        policy: topic.spec.deletion_policy,
        key: &key,
        name: &name,
        has_successor: rivals.iter().any(|rival| rival.takes_over),
        uses: context.links.all_group_status(&key).map(|parts| uses(&name, &parts)),
    };
    let waits = delete_thing::<WireTopic, _>(leaving, context).await?;
    if let Some(verdict) = &waits {
        let topic = topic.as_ref();
        let before = context.topic_status.before(topic, topic.status.as_ref());
        let generation = topic.metadata.generation.unwrap_or_default();
        let mut status = before.status.clone();
        status.observed_generation = Some(generation);
        status.conditions =
            merge(&before.status.conditions, &verdict.findings(), generation, &now());
        let told = status.conditions.clone();
        if context.topic_status.write(topic, &before, status).await? {
            context.tell(topic, &before.status.conditions, &told).await;
        }
    }
    Ok(next_look(waits.as_ref()))
}

/// Who uses a topic. Numbers are left out: they move, and would be written to the API server each time.
fn uses(topic: &str, parts: &[GroupStatus]) -> Vec<String> {
    let mut behind = BTreeSet::new();
    let mut running = BTreeSet::new();
    for part in parts {
        let has_messages = |lag: &&broker_proto::admin::TopicLag| {
            lag.topic == topic && (lag.lag_messages > 0 || lag.inflight_messages > 0)
        };
        if part.topics.iter().any(|lag| has_messages(&lag)) {
            behind.insert(part.name.as_str());
        }
        let mut asked = part.members.iter().flat_map(|member| &member.subscriptions);
        let draws = asked.any(|asked| asked.topic == topic)
            || part.assignments.iter().any(|assigned| assigned.topic == topic);
        if draws {
            running.insert(part.name.as_str());
        }
    }
    let told = |groups: BTreeSet<&str>, what: &str| {
        let groups = groups.into_iter().take(USERS_NAMED_MAX).collect::<Vec<_>>().join(", ");
        (!groups.is_empty()).then(|| format!("{what}: {groups}"))
    };
    let running = told(running, "consumers run of the groups");
    let behind = told(behind, "messages are left to get for the groups");
    running.into_iter().chain(behind).collect()
}

/// Groups that are named as users of a topic.
const USERS_NAMED_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use broker_proto::admin::{Assignment, Member, Subscription, TopicLag};

    use super::*;

    fn part(name: &str, topic: &str, lag_messages: u64) -> GroupStatus {
        let lag = TopicLag { topic: topic.to_owned(), lag_messages, ..TopicLag::default() };
        GroupStatus { name: name.to_owned(), topics: vec![lag], ..GroupStatus::default() }
    }

    #[test]
    fn messages_that_a_group_has_yet_to_get_are_a_use_and_those_nobody_waits_for_are_none() {
        let parts = [part("billing", "orders", 3), part("billing", "orders", 0)];
        assert_eq!(uses("orders", &parts), ["messages are left to get for the groups: billing"]);
        assert_eq!(uses("refunds", &parts), Vec::<String>::new());
        assert_eq!(uses("orders", &[part("billing", "orders", 0)]), Vec::<String>::new());
        assert_eq!(uses("orders", &[]), Vec::<String>::new());
    }

    #[test]
    fn a_running_consumer_is_a_use_also_when_it_has_everything() {
        let wish = Subscription { topic: "orders".to_owned(), ..Subscription::default() };
        let member = Member { subscriptions: vec![wish], ..Member::default() };
        let mut asking = part("billing", "orders", 0);
        asking.members.push(member);
        let mut assigned = part("audit", "orders", 0);
        let topic = "orders".to_owned();
        assigned.assignments.push(Assignment { topic, ..Assignment::default() });
        let found = uses("orders", &[asking, assigned]);
        assert_eq!(found, ["consumers run of the groups: audit, billing"]);
    }
}
