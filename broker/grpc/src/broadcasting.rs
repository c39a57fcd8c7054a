//! Consumers of broadcasting groups come and go: each has progress of its own on every shard, from the moment it says
//! what it subscribes to until it is gone for good.

use broker_engine::{Command, Join, Outcome};
use broker_model::limits::CLIENT_EXPIRY_MS;
use broker_model::{GroupName, Model, TopicName};
use broker_proto::rocketmq::Settings;

use crate::clock::monotonic_ms;
use crate::context::BrokerContext;
use crate::session::settings;
use crate::status::Failure;

/// Makes sure that a consumer gets everything that is sent from now on. Does nothing for other groups.
pub(crate) async fn join(
    context: &BrokerContext,
    client_id: &str,
    sent: &Settings,
) -> Result<(), Failure> {
    let Some(group) = settings::group(sent).filter(|group| is_broadcasting(context, group)) else {
        return Ok(());
    };
    let wanted = settings::topics(sent);
    let topics: Vec<TopicName> =
        wanted.filter_map(|name| Some(context.catalog.topic(name)?.topic.name.clone())).collect();
    for shard in context.catalog.shards() {
        let join =
            Join { group: group.clone(), topics: topics.clone(), client_id: client_id.to_owned() };
        shard.submit(Command::Join(join)).await?;
    }
    Ok(())
}

/// Forgets the progress of a client in all groups.
pub(crate) async fn leave_all(context: &BrokerContext, client_id: &str) {
    for shard in context.catalog.shards() {
        let Ok(Outcome::Members(members)) = shard.submit(Command::ReadMembers).await else {
            continue;
        };
        for (group, client_id) in members.into_iter().filter(|(_, id)| id == client_id) {
            // A shard that cannot do it now forgets the member with the other strangers.
            let _left = shard.submit(Command::Leave { group, client_id }).await;
        }
    }
}

/// Forgets members that have not been heard of since the start: they left while nobody was there to see it.
pub(crate) async fn forget_strangers(context: &BrokerContext) {
    if monotonic_ms() < context.begun_ms + CLIENT_EXPIRY_MS {
        return;
    }
    for shard in context.catalog.shards() {
        let Ok(Outcome::Members(members)) = shard.submit(Command::ReadMembers).await else {
            continue;
        };
        for (group, client_id) in members {
            if context.sessions.get(&client_id).is_none() {
                let _left = shard.submit(Command::Leave { group, client_id }).await;
            }
        }
    }
}

/// Whether each consumer of the group gets every message.
pub(crate) fn is_broadcasting(context: &BrokerContext, group: &GroupName) -> bool {
    let entry = context.catalog.group(group.as_str());
    entry.is_some_and(|entry| entry.group.model == Model::Broadcasting)
}
