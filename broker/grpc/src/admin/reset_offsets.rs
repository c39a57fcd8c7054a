//! ResetOffsets: sets the progress of a group, on every shard.

use broker_engine::{OffsetAt, ResetOffsets};
use broker_model::limits::{OFFSET_RESET_ID_BYTES_MAX, OFFSET_RESET_TOPICS_MAX};
use broker_model::{GroupName, TopicName};
use broker_proto::admin::reset_offsets_request::To;
use broker_proto::admin::{ResetOffsetsRequest, ResetOffsetsResponse, StartFrom};
use tonic::Status;

use crate::context::BrokerContext;
use crate::status::admin_refusal;

pub(super) async fn reset_offsets(
    context: &BrokerContext,
    request: ResetOffsetsRequest,
) -> Result<ResetOffsetsResponse, Status> {
    check(&request)?;
    let illegal = |error: broker_model::NameError| Status::invalid_argument(error.to_string());
    let group = GroupName::parse(&request.group).map_err(illegal)?;
    let topics: Vec<TopicName> = request
        .topics
        .iter()
        .map(|name| TopicName::parse(name))
        .collect::<Result<_, _>>()
        .map_err(illegal)?;
    let to = match request.to {
        Some(To::Position(position)) => match StartFrom::try_from(position) {
            Ok(StartFrom::Earliest) => OffsetAt::Earliest,
            Ok(StartFrom::Latest) => OffsetAt::Latest,
            _ => return Err(Status::invalid_argument("the position must be EARLIEST or LATEST")),
        },
        Some(To::TimeMs(time_ms)) => OffsetAt::TimeMs(time_ms),
        Some(To::Shift(by)) => OffsetAt::Shift(by),
        None => {
            return Err(Status::invalid_argument("say where to: a position, a time or a shift"));
        }
    };
    let topics_concerned = if topics.is_empty() {
        topics_of(context, &group).await?
    } else {
        u32::try_from(topics.len()).unwrap_or(u32::MAX)
    };
    let reset = ResetOffsets { group, topics, to, id: request.id };
    let done = context.catalog.reset_offsets(&reset).await;
    done.map_err(|refusal| admin_refusal(&refusal))?;
    Ok(ResetOffsetsResponse { topics: topics_concerned })
}

/// Topics on which the group has progress here. A broker of several may have none while another one does; it remembers the
/// reset all the same, so that the group is not set back by it later.
///
/// # Errors
/// FAILED_PRECONDITION when nobody can have any.
async fn topics_of(context: &BrokerContext, group: &GroupName) -> Result<u32, Status> {
    let progress = context.catalog.progress(Some(group.clone())).await;
    let progress = progress.map_err(|refusal| admin_refusal(&refusal))?;
    let held = context.catalog.group(group.as_str());
    let declares_none = held.is_some_and(|held| held.group.subscriptions.is_empty());
    if progress.is_empty() && declares_none && !context.endpoints.has_others() {
        let text = format!(
            "consumer group {group} has no topics yet: it declares no subscription and never received; name the topics \
             (--topic)"
        );
        return Err(Status::failed_precondition(text));
    }
    Ok(u32::try_from(progress.len()).unwrap_or(u32::MAX))
}

/// The id is kept with the group, and told.
fn check(request: &ResetOffsetsRequest) -> Result<(), Status> {
    let (id, topics) = (&request.id, request.topics.len());
    if id.len() > OFFSET_RESET_ID_BYTES_MAX || id.chars().any(char::is_control) {
        return Err(Status::invalid_argument(format!(
            "the id of the reset has {} bytes; use at most {OFFSET_RESET_ID_BYTES_MAX}, without control characters",
            id.len()
        )));
    }
    if topics > OFFSET_RESET_TOPICS_MAX {
        return Err(Status::invalid_argument(format!(
            "the reset names {topics} topics; at most {OFFSET_RESET_TOPICS_MAX} are allowed"
        )));
    }
    Ok(())
}
