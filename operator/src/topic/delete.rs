//! The deletion of a Topic: what is asked of brokers, and who uses the topic. The order of waiting and asking is that of
//! all kinds, in `deletion`.

use std::collections::BTreeSet;

use broker_proto::admin::{DeleteTopicRequest, GroupStatus, Topic as WireTopic};
use operator_api::Topic;
use operator_api::topic::{DeletionPolicy, TopicStatus};

use super::fetch::target;
use crate::broker_admin::{Answer, BrokerAdmin};
use crate::claims::Claims;
use crate::context::Context;
use crate::deletion::{Declaration, Deletable};
use crate::names::ClusterKey;
use crate::ownership::Claim;
use crate::status_writer::StatusWriter;

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

impl Declaration for Topic {
    type Thing = WireTopic;
    type Status = TopicStatus;

    fn target(&self) -> (ClusterKey, String) {
        target(self)
    }
    fn policy(&self) -> DeletionPolicy {
        self.spec.deletion_policy
    }
    fn reported(&self) -> Option<&TopicStatus> {
        self.status.as_ref()
    }
    fn claims(context: &Context) -> &Claims {
        &context.topic_claims
    }
    fn statuses(context: &Context) -> &StatusWriter<TopicStatus> {
        &context.topic_status
    }
    fn uses(name: &str, parts: &[GroupStatus]) -> Vec<String> {
        uses(name, parts)
    }
}

/// Who uses a topic.
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
