//! Log lines of the broker: to stderr, for people or as JSON, never with message bodies or secrets.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::failure::Failure;
use crate::cli::serve::LogFormat;

/// Sets the level, like `debug` or `info,broker_grpc=debug`.
const LEVEL_VARIABLE: &str = "PINNACE_LOG";

/// Starts logging.
///
/// # Errors
/// Wrong input when the level cannot be understood.
pub(crate) fn start(format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var(LEVEL_VARIABLE)
        .from_env()
        .map_err(|error| {
            Failure::input(format!("{LEVEL_VARIABLE}: {error}; use error, warn, info or debug"))
        })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => lines.finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|error| Failure::runtime(format!("cannot start logging: {error}")))
}
