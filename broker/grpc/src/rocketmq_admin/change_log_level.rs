//! ChangeLogLevel: how much the process logs, until it ends. The answer has no status: its remark says what happened.

use broker_proto::rocketmq::change_log_level_request::Level;
use broker_proto::rocketmq::{ChangeLogLevelRequest, ChangeLogLevelResponse};

use crate::context::BrokerContext;

pub(super) fn change_log_level(
    context: &BrokerContext,
    request: &ChangeLogLevelRequest,
) -> ChangeLogLevelResponse {
    let level = match request.level() {
        Level::Trace => tracing::Level::TRACE,
        Level::Debug => tracing::Level::DEBUG,
        Level::Info => tracing::Level::INFO,
        Level::Warn => tracing::Level::WARN,
        Level::Error => tracing::Level::ERROR,
    };
    let remark = match (context.set_log_level)(level) {
        Ok(()) => format!("the log level is {level} until the broker is started again"),
        Err(reason) => format!("the log level was not changed: {reason}"),
    };
    tracing::info!(%level, %remark, "the log level was asked to be changed");
    ChangeLogLevelResponse { remark }
}
