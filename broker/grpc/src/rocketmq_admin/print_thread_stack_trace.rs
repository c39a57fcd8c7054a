//! PrintThreadStackTrace: what the threads of a client do, asked of the client on its telemetry stream.

use broker_proto::rocketmq::telemetry_command::Command;
use broker_proto::rocketmq::{
    PrintThreadStackTraceCommand, PrintThreadStackTraceRequest, PrintThreadStackTraceResponse,
};

use super::consumers::consumer;
use super::existing_group;
use crate::context::BrokerContext;
use crate::status::{self, Failure};

pub(super) async fn print_thread_stack_trace(
    context: &BrokerContext,
    request: &PrintThreadStackTraceRequest,
) -> Result<PrintThreadStackTraceResponse, Failure> {
    let entry = existing_group(context, request.group.as_ref())?;
    let consumer = consumer(context, &entry.group.name, &request.client_id)?;
    let question =
        |nonce| Command::PrintThreadStackTraceCommand(PrintThreadStackTraceCommand { nonce });
    let answer = context.questions.ask(&consumer.session, question).await?;
    let thread_stack_trace = match answer.command {
        Some(Command::ThreadStackTrace(trace)) => trace.thread_stack_trace,
        _ => None,
    };
    // One client answers without a status.
    let status = answer.status.unwrap_or_else(status::ok);
    Ok(PrintThreadStackTraceResponse { status: Some(status), thread_stack_trace })
}
