//! The body of an answer that keeps its call counted as open until the last byte of it was handed over, and tells whether it
//! waits for the client. Passes everything through; what a call is and who waits for its end is decided in `grpc`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Bytes, Frame, SizeHint};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;
use tonic::body::Body;

use super::unread::{Since, Unread};

/// A body and the call that it answers.
pub(super) struct Counted {
    body: Body,
    unread: Arc<Unread>,
    /// While the client has to take something; none while it waits for us.
    since: Option<Since>,
    /// The call is over when this is dropped.
    _call: TaskTrackerToken,
}

impl Counted {
    pub(super) fn new(body: Body, unread: &Arc<Unread>, call: TaskTrackerToken) -> Self {
        Self { body, unread: Arc::clone(unread), since: Some(unread.begin()), _call: call }
    }
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    /// Asked only when the client takes more.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(since) = self.since.take() {
            self.unread.end(since);
        }
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(_)) = &frame {
            self.since = Some(self.unread.begin());
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(since) = self.since.take() {
            self.unread.end(since);
        }
    }
}
