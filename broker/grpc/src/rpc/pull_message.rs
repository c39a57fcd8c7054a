//! PullMessage: reads messages of one queue from an offset on, waiting when there are none (protocol section 3.12).
//! Nothing is handed out: progress is what the client says with UpdateOffset.

use broker_engine::{Pull, Refusal};
use broker_proto::rocketmq::{
    Code, PullMessageRequest, PullMessageResponse, pull_message_response::Content,
};
use futures::future::Either;
use tokio_stream::Iter;
use tonic::{Request, Status, Streaming};

use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::convert::message::to_delivered;
use crate::convert::time::duration_ms;
use crate::peers;
use crate::sql_filter;
use crate::status::{self, Failure};
use crate::validate::{self, PollingWish};

/// Request timeout that the polling time is derived from when a pull names none.
const REQUEST_TIMEOUT_MS_DEFAULT: u64 = 3_000;

/// The elements of one answer, ours or another broker's.
pub(crate) type Pulled = Either<
    Iter<std::vec::IntoIter<Result<PullMessageResponse, Status>>>,
    Streaming<PullMessageResponse>,
>;

pub(crate) async fn pull_message(
    context: &BrokerContext,
    request: Request<PullMessageRequest>,
) -> Pulled {
    let answer = answer(context, request).await;
    answer.unwrap_or_else(|failure| ours(vec![Content::Status(failure.into_status())]))
}

async fn answer(
    context: &BrokerContext,
    request: Request<PullMessageRequest>,
) -> Result<Pulled, Failure> {
    let (metadata, extensions, request) = request.into_parts();
    let caller = Caller::of(&metadata, &extensions)?;
    if let Some(shard) = peers::queue_elsewhere(context, request.message_queue.as_ref(), &caller) {
        let (mut peer, request) = peers::pass_on_poll(context, shard, &caller, request)?;
        return peers::answer_of(peer.pull_message(request).await).map(Either::Right);
    }
    pull(context, &caller, request).await.map(ours)
}

fn ours(contents: Vec<Content>) -> Pulled {
    let elements = contents.into_iter();
    let elements: Vec<_> =
        elements.map(|content| Ok(PullMessageResponse { content: Some(content) })).collect();
    Either::Left(tokio_stream::iter(elements))
}

async fn pull(
    context: &BrokerContext,
    caller: &Caller<'_>,
    request: PullMessageRequest,
) -> Result<Vec<Content>, Failure> {
    let group = context.group_name(request.group.as_ref())?;
    let place = context.queue(request.message_queue.as_ref())?;
    let filter = validate::filter(request.filter_expression.as_ref())?;
    let polling_ms = validate::polling_ms(&PollingWish {
        asked_ms: request.long_polling_timeout.as_ref().and_then(duration_ms),
        remaining_ms: caller.timeout_ms(),
        request_timeout_ms: REQUEST_TIMEOUT_MS_DEFAULT,
        client_version: caller.version(),
    })?;
    let offset = u64::try_from(request.offset)
        .map_err(|_| Failure::new(Code::IllegalOffset, "the offset is negative"))?;
    context.catalog.ensure_group(&group).await?;
    let poll_until_ms = place.shard.now_ms().saturating_add(polling_ms);
    let messages_max = validate::batch_size(request.batch_size);
    let (topic, queue) = (place.topic, place.queue);
    let pull = Pull { topic, queue, offset, filter: filter.clone(), messages_max, poll_until_ms };
    let mut pulled = tokio::select! {
        pulled = place.shard.pull(pull) => pulled?,
        () = context.stopped() => return Err(Refusal::Unavailable.into()),
    };
    pulled.messages.retain(|message| sql_filter::passes(&filter, &message.head));
    let resource = request.message_queue.and_then(|queue| queue.topic).unwrap_or_default();
    let status = if pulled.is_out_of_range {
        let text = format!(
            "offset {offset} is not in the queue; the nearest one is {}",
            pulled.next_offset
        );
        Failure::new(Code::IllegalOffset, text).into_status()
    } else if pulled.messages.is_empty() {
        Failure::new(Code::MessageNotFound, "no new message").into_status()
    } else {
        status::ok()
    };
    let mut elements = vec![Content::Status(status)];
    let messages = pulled.messages.into_iter();
    let shown = messages.filter_map(|m| to_delivered(m, &resource, &context.advertised));
    elements.extend(shown.map(Content::Message));
    elements.push(Content::NextOffset(i64::try_from(pulled.next_offset).unwrap_or(i64::MAX)));
    Ok(elements)
}
