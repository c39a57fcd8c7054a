//! The deletion of a ConsumerGroup: what is asked of brokers, and who uses the group. The order of waiting and asking is
//! that of all kinds, in `deletion`.

use std::collections::BTreeSet;

use broker_proto::admin::{DeleteGroupRequest, Group as WireGroup, GroupStatus};
use operator_api::ConsumerGroup;
use operator_api::consumer_group::ConsumerGroupStatus;
use operator_api::topic::DeletionPolicy;

use super::fetch::target;
use crate::broker_admin::{Answer, BrokerAdmin};
use crate::claims::Claims;
use crate::context::Context;
use crate::deletion::{Declaration, Deletable};
use crate::names::ClusterKey;
use crate::ownership::Claim;
use crate::status_writer::StatusWriter;

impl Deletable for WireGroup {
    const NOUN: &'static str = "group";

    fn delete<'a>(
        admin: &'a dyn BrokerAdmin,
        name: &str,
        claim: &Claim,
        instance: &str,
    ) -> Answer<'a, ()> {
        let owner = Some(claim.mark(instance));
        admin.delete_group(DeleteGroupRequest { name: name.to_owned(), owner, force: false })
    }
}

impl Declaration for ConsumerGroup {
    type Thing = WireGroup;
    type Status = ConsumerGroupStatus;

    fn target(&self) -> (ClusterKey, String) {
        target(self)
    }
    fn policy(&self) -> DeletionPolicy {
        self.spec.deletion_policy
    }
    fn reported(&self) -> Option<&ConsumerGroupStatus> {
        self.status.as_ref()
    }
    fn claims(context: &Context) -> &Claims {
        &context.group_claims
    }
    fn statuses(context: &Context) -> &StatusWriter<ConsumerGroupStatus> {
        &context.group_status
    }
    fn uses(name: &str, parts: &[GroupStatus]) -> Vec<String> {
        uses(name, parts)
    }
}

/// Topics that are named with messages left to get.
const TOPICS_NAMED_MAX: usize = 8;

/// Who uses a group.
fn uses(group: &str, parts: &[GroupStatus]) -> Vec<String> {
    let parts = || parts.iter().filter(|part| part.name == group);
    let mut uses = Vec::new();
    if parts().any(|part| !part.members.is_empty()) {
        uses.push("consumers of it run".to_owned());
    }
    let rows = || parts().flat_map(|part| &part.topics);
    let behind = rows().filter(|lag| lag.lag_messages > 0 || lag.inflight_messages > 0);
    let behind: BTreeSet<&str> = behind.map(|lag| lag.topic.as_str()).collect();
    if !behind.is_empty() {
        let topics = behind.into_iter().take(TOPICS_NAMED_MAX).collect::<Vec<_>>().join(", ");
        uses.push(format!("messages are left to get of the topics: {topics}"));
    }
    if rows().any(|lag| lag.dead_letters > 0) {
        uses.push("it has dead letters".to_owned());
    }
    uses
}

#[cfg(test)]
mod tests {
    use broker_proto::admin::{Member, TopicLag};

    use super::*;

    fn part(lag_messages: u64, dead_letters: u64) -> GroupStatus {
        let topic = "orders".to_owned();
        let lag = TopicLag { topic, lag_messages, dead_letters, ..TopicLag::default() };
        GroupStatus { name: "billing".to_owned(), topics: vec![lag], ..GroupStatus::default() }
    }

    #[test]
    fn members_messages_and_dead_letters_are_uses_and_progress_alone_is_none() {
        assert_eq!(uses("billing", &[part(0, 0)]), Vec::<String>::new());
        assert_eq!(uses("audit", &[part(3, 0)]), Vec::<String>::new());
        let behind = uses("billing", &[part(0, 0), part(3, 0)]);
        assert_eq!(behind, ["messages are left to get of the topics: orders"]);
        assert_eq!(uses("billing", &[part(0, 1)]), ["it has dead letters"]);
        let mut running = part(0, 0);
        running.members.push(Member::default());
        assert_eq!(uses("billing", &[running]), ["consumers of it run"]);
    }
}
