//! RedriveDeadLetters and PurgeDeadLetters: puts dead letters of a group back, or takes them away, shard after shard.

use broker_engine::{Command, Outcome, Redrive};
use broker_model::{GroupName, TopicName};
use broker_proto::admin::{RedriveDeadLettersRequest, RedriveDeadLettersResponse};
use tonic::Status;

use crate::context::BrokerContext;
use crate::limits::REDRIVE_MESSAGES_MAX;
use crate::status::admin_refusal;

/// What becomes of the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are due again where they came from.
    PutBack,
    /// They are gone for good.
    Purged,
}

pub(super) async fn redrive_dead_letters(
    context: &BrokerContext,
    request: RedriveDeadLettersRequest,
    fate: Fate,
) -> Result<RedriveDeadLettersResponse, Status> {
    let illegal = |error: broker_model::NameError| Status::invalid_argument(error.to_string());
    let group = GroupName::parse(&request.group).map_err(illegal)?;
    let topic = Some(request.topic.as_str()).filter(|name| !name.is_empty());
    let topic = topic.map(TopicName::parse).transpose().map_err(illegal)?;
    if let Some(only) = &request.only
        && context.catalog.shard_by_name(&only.shard).is_none()
    {
        return Err(Status::not_found(format!("this broker has no shard {:?}", only.shard)));
    }
    let mut room = request.messages_max.min(REDRIVE_MESSAGES_MAX);
    let mut response = RedriveDeadLettersResponse::default();
    let shards = context.catalog.shards().iter();
    for shard in shards.filter(|s| request.only.as_ref().is_none_or(|o| o.shard == s.name())) {
        let redrive = Redrive {
            group: group.clone(),
            topic: topic.clone(),
            messages_max: room,
            only: request.only.as_ref().map(|only| only.offset),
            is_purge: fate == Fate::Purged,
            is_dry_run: request.dry_run,
        };
        let outcome = shard.submit(Command::Redrive(redrive)).await;
        let outcome = outcome.map_err(|refusal| admin_refusal(&refusal))?;
        if let Outcome::Redriven(redriven) = outcome {
            room = room.saturating_sub(u32::try_from(redriven.messages).unwrap_or(room));
            response.messages = response.messages.saturating_add(redriven.messages);
            response.left = response.left.saturating_add(redriven.left);
        }
    }
    Ok(response)
}
