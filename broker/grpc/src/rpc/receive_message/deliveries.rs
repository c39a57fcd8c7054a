//! The answer stream of a receive: the status, each message, the time of delivery, the end. A client that leaves before
//! the end got nothing that it will use, so its deliveries are given back.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use broker_engine::Command;
use broker_model::{ReceiptHandle, ShardId};
use broker_proto::rocketmq::{ReceiveMessageResponse, Resource, receive_message_response::Content};
use broker_replication::DeliveredMessage;
use futures::Stream;

use super::{Wish, nothing_found};
use crate::clock::now_ms;
use crate::context::BrokerContext;
use crate::convert::message::to_delivered;
use crate::convert::time::timestamp;
use crate::renewal::Tracked;
use crate::status::{self, Failure};

/// The elements of one answer.
#[derive(Debug)]
pub(crate) struct Deliveries {
    elements: std::vec::IntoIter<ReceiveMessageResponse>,
    unsent: Option<Unsent>,
}

/// What to give back when the stream is dropped before its end.
#[derive(Debug)]
struct Unsent {
    context: Arc<BrokerContext>,
    handles: Vec<ReceiptHandle>,
}

impl Deliveries {
    pub(super) fn new(
        context: &Arc<BrokerContext>,
        topic: &Resource,
        messages: Vec<DeliveredMessage>,
    ) -> Self {
        if messages.is_empty() {
            return Self::refused(nothing_found());
        }
        let handles: Vec<_> = messages.iter().map(|m| m.handle).collect();
        let mut elements = Vec::with_capacity(messages.len() + 2);
        elements.push(element(Content::Status(status::ok())));
        for delivered in messages {
            let (stored, handle) = (delivered.stored_ms, delivered.handle);
            match to_delivered(delivered, topic, &context.advertised) {
                Some(message) => elements.push(element(Content::Message(message))),
                None => tracing::error!(stored, ?handle, "a stored message head cannot be read"),
            }
        }
        elements.push(element(Content::DeliveryTimestamp(timestamp(now_ms()))));
        let unsent = Unsent { context: Arc::clone(context), handles };
        Self { elements: elements.into_iter(), unsent: Some(unsent) }
    }

    /// An answer without messages.
    pub(crate) fn refused(failure: Failure) -> Self {
        let elements = vec![
            element(Content::Status(failure.into_status())),
            element(Content::DeliveryTimestamp(timestamp(now_ms()))),
        ];
        Self { elements: elements.into_iter(), unsent: None }
    }
}

impl Stream for Deliveries {
    type Item = Result<ReceiveMessageResponse, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.elements.next();
        if next.is_none() {
            self.unsent = None;
        }
        Poll::Ready(next.map(Ok))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.elements.size_hint()
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        // Outside of a runtime the process is ending, and the deliveries end with their invisible duration.
        if let Some(unsent) = self.unsent.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(release(unsent));
        }
    }
}

async fn release(unsent: Unsent) {
    unsent.context.renewals.forget(&unsent.handles);
    let mut by_shard: HashMap<ShardId, Vec<ReceiptHandle>> = HashMap::new();
    for handle in unsent.handles {
        by_shard.entry(handle.shard).or_default().push(handle);
    }
    for (shard, handles) in by_shard {
        let Some(shard) = unsent.context.catalog.shard(shard) else { continue };
        if let Err(error) = shard.submit(Command::Release(handles)).await {
            // Nothing is lost: they become visible when their invisible duration ends.
            tracing::debug!(%error, "deliveries of a client that left were not given back");
        }
    }
}

/// Watches over the deliveries of a push consumer.
pub(super) fn track(context: &BrokerContext, wish: &Wish, messages: &[DeliveredMessage]) {
    let deliveries =
        messages.iter().map(|m| Tracked { handle: m.handle, expires_ms: m.invisible_until_ms });
    let names = (&wish.group, &wish.topic);
    context.renewals.track(&wish.session.client_id, names, deliveries, now_ms());
}

fn element(content: Content) -> ReceiveMessageResponse {
    ReceiveMessageResponse { content: Some(content) }
}
