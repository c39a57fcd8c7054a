//! How a verb fails: wrong input (exit 2) or a failure while running (exit 1), each as one line that says what to do.

use std::fmt;
use std::process::ExitCode;

use broker_proto::rocketmq::{Code, Status as BusinessStatus};

use super::output::say;

/// The reason why a verb did not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The arguments are wrong; the same call can never succeed.
    Input(String),
    /// Something went wrong while running; the same call may succeed later.
    Runtime(String),
    /// Whoever read our output has gone; nothing is left to say.
    OutputClosed,
}

impl Failure {
    /// Wrong input; `text` says what to do.
    pub(crate) fn input(text: impl Into<String>) -> Self {
        Self::Input(text.into())
    }

    /// A failure while running; `text` says what to do.
    pub(crate) fn runtime(text: impl Into<String>) -> Self {
        Self::Runtime(text.into())
    }

    /// Keeps a failure that travelled inside a general error; anything else is a failure while running.
    pub(crate) fn from_error(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::Runtime(format!("{error:#}")),
        }
    }

    /// A business status of the RocketMQ protocol that is not OK. Codes that name an illegal value are the caller's.
    pub(crate) fn from_business(what: &str, status: &BusinessStatus) -> Self {
        let name = Code::try_from(status.code).map_or("UNKNOWN_CODE", |code| code.as_str_name());
        let text = if status.message.is_empty() {
            format!("{what}: {name} ({})", status.code)
        } else {
            format!("{what}: {} ({name})", status.message)
        };
        let illegal = (40_002..=40_014).contains(&status.code) && name != "INVALID_RECEIPT_HANDLE";
        let too_large = matches!(status.code, 41_300 | 41_301 | 41_302 | 43_101);
        if illegal || too_large { Self::Input(text) } else { Self::Runtime(text) }
    }

    /// A gRPC status of the admin API; its message already says what to do.
    pub(crate) fn from_admin(address: &str, status: &tonic::Status) -> Self {
        match status.code() {
            tonic::Code::InvalidArgument => Self::Input(status.message().to_owned()),
            tonic::Code::Unimplemented if status.message().is_empty() => Self::Runtime(format!(
                "{address} does not serve Pinnace's admin API; give the admin address with --admin"
            )),
            tonic::Code::Unimplemented => {
                Self::Runtime(format!("not served yet: {}", status.message()))
            }
            tonic::Code::Unavailable | tonic::Code::Unknown | tonic::Code::Cancelled => {
                Self::Runtime(format!(
                    "lost the admin API at {address}: {}; see the broker's log",
                    innermost(status)
                ))
            }
            _ => Self::Runtime(status.message().to_owned()),
        }
    }

    /// Prints the line and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        match self {
            Self::Input(text) => {
                say(format_args!("error: {}", one_line(text)));
                ExitCode::from(2)
            }
            Self::Runtime(text) => {
                say(format_args!("error: {}", one_line(text)));
                ExitCode::from(1)
            }
            Self::OutputClosed => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(text) | Self::Runtime(text) => f.write_str(text),
            Self::OutputClosed => f.write_str("the output was closed"),
        }
    }
}

impl std::error::Error for Failure {}

/// The text of the innermost cause: "connection refused" instead of "transport error".
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Scripts read stderr line by line, so no failure may take more than one.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
