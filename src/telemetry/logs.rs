//! Logs: to stderr, as text or JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Why the logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter's text is no directive.
    #[error(
        "\"{filter}\" is no log directive ({error}); use one such as \"info\" or \"info,greenroom=debug\""
    )]
    Filter {
        /// The text.
        filter: String,
        /// What is wrong with it.
        error: ParseError,
    },
    /// The process has a logger already.
    #[error("the logs of this process are set up already")]
    AlreadySet,
}

/// Sends the process's logs to stderr. `filter` is as in `telemetry.log_level`.
///
/// # Errors
///
/// A filter that is no directive, and a second call in one process.
pub fn init_logs(format: LogFormat, filter: &str) -> Result<(), LogsError> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| LogsError::Filter { filter: filter.to_owned(), error })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        // Collectors index top-level keys: an event's fields stand there and not under "fields".
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|_| LogsError::AlreadySet)
}

/// Sends panics to the log, as one line each, instead of to stderr with a backtrace over many: a panic of one
/// session's code is an error of that session, and operators look for errors in the log.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload_as_str().unwrap_or("no text");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(panic = text, place, "panic");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_no_directive_is_named_with_what_to_use() {
        let error = init_logs(LogFormat::Text, "greenroom=loud").unwrap_err().to_string();
        assert!(error.contains("\"greenroom=loud\"") && error.contains("use one such as"), "{error}");
    }
}
