//! ResetOffsets: sets the progress of a group, on every shard.

use broker_engine::{OffsetAt, ResetOffsets};
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
    if topics.is_empty() {
        let progress = context.catalog.progress(Some(group.clone())).await;
        let progress = progress.map_err(|refusal| admin_refusal(&refusal))?;
        if progress.is_empty() && context.catalog.group(group.as_str()).is_some() {
            let text = format!(
                "consumer group {group} has no topics yet: it declares no subscription and never received; name the \
                 topics (--topic)"
            );
            return Err(Status::failed_precondition(text));
        }
    }
    let reset = ResetOffsets { group, topics, to, id: request.id };
    let done = context.catalog.reset_offsets(&reset).await;
    done.map_err(|refusal| admin_refusal(&refusal))?;
    Ok(ResetOffsetsResponse {})
}
