//! The answer stream of a receive: the status, each message, the time of delivery, the end. A client that leaves before
//! the end got nothing that it will use, so its deliveries are given back. At the end those of a push consumer begin to be
//! watched over.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use broker_model::{ReceiptHandle, ShardId};
use broker_proto::rocketmq::receive_message_response::Content;
use broker_proto::rocketmq::{ReceiveMessageResponse, Resource, Status};
use broker_replication::DeliveredMessage;
use broker_replication::memory::Share;
use futures::Stream;

use super::nothing_found;
use crate::clock::{monotonic_ms, now_ms};
use crate::context::BrokerContext;
use crate::convert::message::to_delivered;
use crate::convert::time::timestamp;
use crate::renewal::{Receiver, Tracked};
use crate::status::{self, Failure};

/// The elements of one answer.
#[derive(Debug)]
pub(crate) struct Deliveries {
    elements: std::vec::IntoIter<ReceiveMessageResponse>,
    unsent: Option<Unsent>,
    /// The memory that the messages take until the network has them.
    _shares: Vec<Arc<Share>>,
}

/// What is given back when it is dropped, because the stream was before its end.
#[derive(Debug)]
struct Unsent {
    context: Arc<BrokerContext>,
    deliveries: Vec<Tracked>,
    /// Whose deliveries are to be prolonged.
    receiver: Option<Receiver>,
}

impl Unsent {
    /// The answer was written.
    fn sent(mut self) {
        let deliveries = std::mem::take(&mut self.deliveries);
        if let Some(receiver) = self.receiver.take() {
            self.context.renewals.track(receiver, &deliveries, monotonic_ms());
        }
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        let mut by_shard: HashMap<ShardId, Vec<ReceiptHandle>> = HashMap::new();
        for Tracked { handle, .. } in self.deliveries.drain(..) {
            by_shard.entry(handle.shard).or_default().push(handle);
        }
        for (shard, handles) in by_shard {
            if let Some(shard) = self.context.catalog.shard(shard) {
                shard.give_back(handles);
            }
        }
    }
}

impl Deliveries {
    pub(super) fn new(
        context: &Arc<BrokerContext>,
        topic: &Resource,
        messages: Vec<DeliveredMessage>,
        receiver: Option<Receiver>,
    ) -> Self {
        if messages.is_empty() {
            return Self::refused(nothing_found());
        }
        let read_ms = monotonic_ms();
        let tracked = messages.iter().map(|message| {
            let shard = context.catalog.shard(message.handle.shard);
            let left_ms = shard
                .map_or(0, |shard| message.invisible_until_ms.saturating_sub(shard.steady_ms()));
            Tracked { handle: message.handle, expires_ms: read_ms.saturating_add(left_ms) }
        });
        let (context, deliveries) = (Arc::clone(context), tracked.collect());
        let unsent = Unsent { context, deliveries, receiver };
        let shares = messages.iter().filter_map(|message| message.share.clone()).collect();
        let mut elements = Vec::with_capacity(messages.len() + 2);
        elements.push(element(Content::Status(status::ok())));
        for delivered in messages {
            let (stored, handle) = (delivered.stored_ms, delivered.handle);
            match to_delivered(delivered, topic, &unsent.context.advertised) {
                Some(message) => elements.push(element(Content::Message(message))),
                None => tracing::error!(stored, ?handle, "a stored message head cannot be read"),
            }
        }
        elements.push(element(Content::DeliveryTimestamp(timestamp(now_ms()))));
        Self { elements: elements.into_iter(), unsent: Some(unsent), _shares: shares }
    }

    /// An answer without messages.
    pub(crate) fn refused(failure: Failure) -> Self {
        Self::without_messages(failure.into_status())
    }

    /// Tells another broker that there are messages.
    pub(super) fn ready() -> Self {
        Self::without_messages(status::ok())
    }

    fn without_messages(status: Status) -> Self {
        let elements = vec![
            element(Content::Status(status)),
            element(Content::DeliveryTimestamp(timestamp(now_ms()))),
        ];
        Self { elements: elements.into_iter(), unsent: None, _shares: Vec::new() }
    }
}

impl Stream for Deliveries {
    type Item = Result<ReceiveMessageResponse, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.elements.next();
        if next.is_none()
            && let Some(unsent) = self.unsent.take()
        {
            unsent.sent();
        }
        Poll::Ready(next.map(Ok))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.elements.size_hint()
    }
}

fn element(content: Content) -> ReceiveMessageResponse {
    ReceiveMessageResponse { content: Some(content) }
}
