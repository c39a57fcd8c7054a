//! The answer stream of another broker to a receive, on its way to the client. The other broker holds its messages for
//! delivered when this one has them; what the client then does not take is given back there, without counting.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use broker_model::ReceiptHandle;
use broker_proto::rocketmq::receive_message_response::Content;
use broker_proto::rocketmq::{
    ChangeInvisibleDurationRequest, Code, Message, ReceiveMessageResponse, Resource,
};
use futures::{Stream, StreamExt as _};
use tokio::runtime::Handle;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use crate::context::BrokerContext;
use crate::limits::GIVE_BACK_MS_MAX;
use crate::peers::{self, Purpose};

/// Who receives, and on whose behalf messages are given back.
#[derive(Debug, Clone)]
pub(crate) struct Recipient {
    pub(crate) context: Arc<BrokerContext>,
    pub(crate) metadata: MetadataMap,
    pub(crate) group: Option<Resource>,
}

/// The elements of one answer.
#[derive(Debug)]
pub(crate) struct Forwarded {
    /// Read already.
    first: Option<ReceiveMessageResponse>,
    /// None at the end.
    rest: Option<Box<Streaming<ReceiveMessageResponse>>>,
    /// What went to the client so far.
    passed: Vec<Message>,
    /// None when it was dropped.
    recipient: Option<Recipient>,
}

impl Forwarded {
    pub(crate) fn new(recipient: Recipient, answer: Streaming<ReceiveMessageResponse>) -> Self {
        let (rest, recipient) = (Some(Box::new(answer)), Some(recipient));
        Self { first: None, rest, passed: Vec::new(), recipient }
    }

    /// Reads the status, which is passed on all the same. None when the answer ends without one.
    pub(crate) async fn read_status(&mut self) -> Option<Code> {
        let first = self.rest.as_mut()?.message().await.ok()??;
        let code = match &first.content {
            Some(Content::Status(status)) => Some(status.code()),
            _ => None,
        };
        self.first = Some(first);
        code
    }

    fn note(&mut self, element: &ReceiveMessageResponse) {
        if let Some(Content::Message(message)) = &element.content {
            // Its place is all that is needed.
            let message = Message { body: Vec::new().into(), ..message.clone() };
            self.passed.push(message);
        }
    }
}

impl Stream for Forwarded {
    type Item = Result<ReceiveMessageResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match (self.first.take(), &mut self.rest) {
            (Some(first), _) => Some(Ok(first)),
            (None, Some(rest)) => ready!(rest.poll_next_unpin(context)),
            (None, None) => None,
        };
        match &next {
            Some(Ok(element)) => self.note(element),
            Some(Err(_)) => {}
            None => {
                self.rest = None;
                self.passed.clear();
            }
        }
        Poll::Ready(next)
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        let (rest, recipient) = (self.rest.take(), self.recipient.take());
        let (Some(rest), Some(recipient), Ok(runtime)) = (rest, recipient, Handle::try_current())
        else {
            return;
        };
        let (first, passed) = (self.first.take(), std::mem::take(&mut self.passed));
        let limit = Duration::from_millis(GIVE_BACK_MS_MAX);
        runtime.spawn(tokio::time::timeout(limit, async move {
            let unread = rest.filter_map(async |element| element.ok());
            let elements = futures::stream::iter(first).chain(unread);
            let unread = elements.filter_map(async |element| match element.content {
                Some(Content::Message(message)) => Some(message),
                _ => None,
            });
            let messages = futures::stream::iter(passed).chain(unread);
            messages.for_each_concurrent(None, |message| give_back(&recipient, message)).await;
        }));
    }
}

/// Makes a delivery visible again that reached nobody: it is no attempt.
async fn give_back(recipient: &Recipient, message: Message) {
    let properties = message.system_properties.unwrap_or_default();
    let Some(receipt_handle) = properties.receipt_handle else { return };
    let Ok(handle) = ReceiptHandle::decode(&receipt_handle) else { return };
    let request = ChangeInvisibleDurationRequest {
        group: recipient.group.clone(),
        topic: message.topic,
        receipt_handle,
        invisible_duration: Some(prost_types::Duration::default()),
        message_id: properties.message_id,
        lite_topic: properties.lite_topic,
        suspend: Some(true),
    };
    let (context, metadata) = (&recipient.context, &recipient.metadata);
    let asked = peers::ask(context, handle.shard, metadata, Purpose::Poll, request);
    let Ok((mut peer, request)) = asked else { return };
    // A message that stays hidden for its invisible duration is the worst that a failure means.
    let _given_back = peer.change_invisible_duration(request).await;
}
