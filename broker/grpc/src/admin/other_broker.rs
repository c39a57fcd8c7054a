//! Calls of the admin API that are for another broker of the cluster: whoever reaches one broker, as through
//! `kubectl port-forward`, reaches all. The header [`FOR_BROKER`] names the broker; the call goes there as it is, and its
//! answer comes back as it is. What the call says is not looked at here.

use std::convert::Infallible;
use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Channel;
use tower::Service;

use crate::context::BrokerContext;

/// The header with the id of the broker that a call is for, a number; without it the call is for the broker that gets it.
pub const FOR_BROKER: &str = "x-pinnace-for-broker";

/// The admin API of this broker, and the way to that of the others.
#[derive(Debug, Clone)]
pub struct OrOtherBroker<S> {
    inner: S,
    context: Arc<BrokerContext>,
}

impl<S> OrOtherBroker<S> {
    pub(super) fn new(inner: S, context: Arc<BrokerContext>) -> Self {
        Self { inner, context }
    }

    /// The other broker; none when it is this one.
    fn other(&self, wanted: &HeaderValue) -> Result<Option<(u32, Channel)>, Status> {
        let id: Option<u32> = wanted.to_str().ok().and_then(|text| text.parse().ok());
        let id = id.ok_or_else(|| {
            Status::invalid_argument(format!("{FOR_BROKER} is not the number of a broker"))
        })?;
        if id == self.context.broker_id {
            return Ok(None);
        }
        match self.context.peers.admin(&self.context.endpoints, id) {
            Some(channel) => Ok(Some((id, channel))),
            None => Err(Status::failed_precondition(format!(
                "broker {} knows no broker {id}; its cluster map names those that it knows",
                self.context.broker_id
            ))),
        }
    }
}

impl<S: NamedService> NamedService for OrOtherBroker<S> {
    const NAME: &'static str = S::NAME;
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl<S> Service<Request<Body>> for OrOtherBroker<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answering {
        // Without the header at the other broker, so that a call goes on once at the most.
        let wanted = request.headers_mut().remove(FOR_BROKER);
        match wanted.map_or(Ok(None), |wanted| self.other(&wanted)) {
            Ok(None) => Box::pin(self.inner.call(request)),
            Ok(Some((id, channel))) => {
                Box::pin(async move { Ok(pass_on(id, channel, request).await) })
            }
            Err(status) => Box::pin(ready(Ok(status.into_http()))),
        }
    }
}

async fn pass_on(id: u32, mut channel: Channel, request: Request<Body>) -> Response<Body> {
    let answer = match poll_fn(|context| channel.poll_ready(context)).await {
        Ok(()) => channel.call(request).await,
        Err(error) => Err(error),
    };
    answer.unwrap_or_else(|error| {
        tracing::warn!(broker = id, %error, "an admin call was for another broker that does not answer");
        Status::unavailable(format!("broker {id} does not answer")).into_http()
    })
}
