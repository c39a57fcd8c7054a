//! The deletion of a ConsumerGroup: who uses the group, and what the object says while it waits.

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_proto::admin::{DeleteGroupRequest, Group as WireGroup, GroupStatus};
use kube::runtime::controller::Action;
use operator_api::ConsumerGroup;
use operator_api::condition::merge;
use operator_api::topic::DeletionPolicy;

use super::fetch::target;
use crate::broker_admin::{Answer, BrokerAdmin};
use crate::context::{Context, now};
use crate::deletion::{
    Deletable, Leaving, delete_thing, next_look, set_finalizer, standing_cluster,
};
use crate::error::Error;
use crate::ownership::Claim;
use crate::topic::fetch::{claim, rivals};

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

/// Adds or removes the finalizer as the policy asks.
pub(super) async fn keep_finalizer(
    group: &Arc<ConsumerGroup>,
    context: &Context,
) -> Result<(), Error> {
    let wanted = group.spec.deletion_policy != DeletionPolicy::Retain;
    set_finalizer(group.as_ref(), wanted, context).await
}

/// The object is being deleted.
pub(super) async fn delete(group: &Arc<ConsumerGroup>, context: &Context) -> Result<Action, Error> {
    let (key, name) = target(group);
    let claim = claim(group.as_ref());
    let cluster = standing_cluster(context, &key);
    let rivals = rivals(&context.group_claims, &key, cluster.as_ref(), &name, &claim);
    let leaving = Leaving {
        object: group.as_ref(),
        claim: &claim,
        policy: group.spec.deletion_policy,
        key: &key,
        name: &name,
        has_successor: rivals.iter().any(|rival| rival.takes_over),
        uses: context.links.all_group_status(&key).map(|parts| uses(&name, &parts)),
    };
    let waits = delete_thing::<WireGroup, _>(leaving, context).await?;
    if let Some(verdict) = &waits {
        let group = group.as_ref();
        let before = context.group_status.before(group, group.status.as_ref());
        let generation = group.metadata.generation.unwrap_or_default();
        let mut status = before.status.clone();
        status.observed_generation = Some(generation);
        status.conditions =
            merge(&before.status.conditions, &verdict.findings(), generation, &now());
        let told = status.conditions.clone();
        if context.group_status.write(group, &before, status).await? {
            context.tell(group, &before.status.conditions, &told).await;
        }
    }
    Ok(next_look(waits.as_ref()))
}

/// Topics that are named with messages left to get.
const TOPICS_NAMED_MAX: usize = 8;

/// Who uses a group. Numbers are left out: they move, and would be written to the API server each time.
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
