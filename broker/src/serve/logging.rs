//! Log lines of the broker: to stderr, for people or as JSON, never with message bodies or secrets. Nobody has to read
//! them, and stderr may be full or gone: that never ends the process.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::reload::{Error, Handle};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::failure::Failure;
use crate::cli::serve::LogFormat;

/// Sets the level, like `debug` or `info,broker_grpc=debug`.
const LEVEL_VARIABLE: &str = "PINNACE_LOG";

/// Puts another filter in place of the one that logging began with.
type Refilter = Box<dyn Fn(EnvFilter) -> Result<(), Error> + Send + Sync>;

/// There is one log per process, as there is one stderr.
static REFILTER: OnceLock<Refilter> = OnceLock::new();

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
        // A line that cannot be written would be told of on stderr, which panics.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => {
            let lines = lines.with_filter_reloading();
            remember(lines.reload_handle());
            lines.finish().try_init()
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).with_filter_reloading();
            remember(lines.reload_handle());
            lines.finish().try_init()
        }
    };
    started.map_err(|error| Failure::runtime(format!("cannot start logging: {error}")))
}

fn remember<S: 'static>(handle: Handle<EnvFilter, S>) {
    // A second start fails by itself, and changes nothing here.
    let _first = REFILTER.set(Box::new(move |filter| handle.reload(filter)));
}

/// Logs everything of this level and above from now on; finer directives of the start are gone then.
///
/// # Errors
/// A sentence, when logging has not begun.
pub(crate) fn set_level(level: Level) -> Result<(), String> {
    let refilter = REFILTER.get().ok_or("logging has not begun")?;
    refilter(EnvFilter::new(level.as_str())).map_err(|error| error.to_string())
}
