//! Heartbeat: a client lives (protocol section 3.3).
//! Clients do not send their settings again after a refusal, so only a client without any is refused.

use broker_proto::rocketmq::{Code, HeartbeatRequest, HeartbeatResponse};
use tonic::Request;

use crate::caller::Caller;
use crate::clock::monotonic_ms;
use crate::context::BrokerContext;
use crate::status::{self, Failure};

pub(crate) fn heartbeat(
    context: &BrokerContext,
    request: &Request<HeartbeatRequest>,
) -> Result<HeartbeatResponse, Failure> {
    let caller = Caller::of_request(request)?;
    let known = context.sessions.get(caller.client_id).filter(|s| s.settings().is_some());
    if known.is_none() {
        let text = "no settings of this client are known; open a telemetry stream first";
        return Err(Failure::new(Code::UnrecognizedClientType, text));
    }
    context.sessions.touch(caller.client_id, caller.remote, monotonic_ms())?;
    Ok(HeartbeatResponse { status: Some(status::ok()) })
}
