//! NotifyClientTermination: a client says farewell (protocol section 3.13). What it holds goes to others soon.
//! Only what this broker remembers of the client is touched; progress of its group is not.

use broker_proto::rocketmq::{NotifyClientTerminationRequest, NotifyClientTerminationResponse};
use tonic::Request;

use crate::broadcasting;
use crate::caller::Caller;
use crate::context::BrokerContext;
use crate::status::{self, Failure};

/// A client that is not known is told OK as well: one client library fails its shutdown otherwise.
pub(crate) async fn notify_client_termination(
    context: &BrokerContext,
    request: &Request<NotifyClientTerminationRequest>,
) -> Result<NotifyClientTerminationResponse, Failure> {
    let caller = Caller::of_request(request)?;
    context.sessions.remove(caller.client_id);
    context.renewals.release_client(&context.catalog, caller.client_id).await;
    broadcasting::leave_all(context, caller.client_id).await;
    Ok(NotifyClientTerminationResponse { status: Some(status::ok()) })
}
