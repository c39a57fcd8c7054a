//! PullMessage: reads messages of one queue from an offset on, waiting when there are none (protocol section 3.12).
//! Nothing is handed out: progress is what the client says with UpdateOffset.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use broker_engine::{Pull, Refusal};
use broker_proto::rocketmq::{
    Code, PullMessageRequest, PullMessageResponse, pull_message_response::Content,
};
use broker_replication::memory::Share;
use futures::Stream;
use futures::future::Either;
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
pub(crate) type Pulled = Either<Own, Streaming<PullMessageResponse>>;

/// The elements of an answer of our own.
#[derive(Debug)]
pub(crate) struct Own {
    elements: std::vec::IntoIter<Content>,
    /// The memory that the messages take until the network has them.
    _shares: Vec<Arc<Share>>,
}

impl Stream for Own {
    type Item = Result<PullMessageResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let content = self.elements.next();
        Poll::Ready(content.map(|content| Ok(PullMessageResponse { content: Some(content) })))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.elements.size_hint()
    }
}

pub(crate) async fn pull_message(
    context: &BrokerContext,
    request: Request<PullMessageRequest>,
) -> Pulled {
    let answer = answer(context, request).await;
    answer.unwrap_or_else(|failure| ours(vec![Content::Status(failure.into_status())], Vec::new()))
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
    let (contents, shares) = pull(context, &caller, request).await?;
    Ok(ours(contents, shares))
}

fn ours(contents: Vec<Content>, shares: Vec<Arc<Share>>) -> Pulled {
    Either::Left(Own { elements: contents.into_iter(), _shares: shares })
}

async fn pull(
    context: &BrokerContext,
    caller: &Caller<'_>,
    request: PullMessageRequest,
) -> Result<(Vec<Content>, Vec<Arc<Share>>), Failure> {
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
    let poll_until_ms = place.shard.steady_ms().saturating_add(polling_ms);
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
    let shares = pulled.messages.iter().filter_map(|message| message.share.clone()).collect();
    let mut elements = vec![Content::Status(status)];
    let messages = pulled.messages.into_iter();
    let shown = messages.filter_map(|m| to_delivered(m, &resource, &context.advertised));
    elements.extend(shown.map(Content::Message));
    elements.push(Content::NextOffset(i64::try_from(pulled.next_offset).unwrap_or(i64::MAX)));
    Ok((elements, shares))
}
