//! Logs: to stderr, as text or JSON.

use std::{
    backtrace::Backtrace,
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
};

use tracing::Level;
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

/// Sends the process's logs to stderr, panics included. `filter` is as in `telemetry.log_level`.
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
    .map_err(|_| LogsError::AlreadySet)?;
    // A collector that reads JSON would lose the lines that Rust writes of itself; where nothing is logged, these
    // are better than silence.
    let unlogged = panic::take_hook();
    panic::set_hook(Box::new(
        move |info| {
            if tracing::enabled!(Level::ERROR) { log_panic(info) } else { unlogged(info) }
        },
    ));
    Ok(())
}

fn log_panic(info: &PanicHookInfo<'_>) {
    tracing::error!(
        text = info.payload_as_str().unwrap_or("no text"),
        location = info.location().map(ToString::to_string).unwrap_or_default(),
        thread = std::thread::current().name().unwrap_or_default(),
        // Empty unless RUST_BACKTRACE asks for it.
        backtrace = %Backtrace::capture(),
        "panic"
    );
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_filter_that_is_no_directive_is_named_with_what_to_use() {
        let error = init_logs(LogFormat::Text, "greenroom=loud").unwrap_err().to_string();
        assert!(error.contains("\"greenroom=loud\"") && error.contains("use one such as"), "{error}");
    }

    /// Set where this test runs itself in a process of its own, since a process has one logger.
    const INSIDE: &str = "GREENROOM_TEST_LOGS_A_PANIC";

    #[test]
    fn a_panic_is_a_line_of_the_log_as_any_other() {
        if std::env::var_os(INSIDE).is_some() {
            init_logs(LogFormat::Json, "info").unwrap();
            let _ = std::thread::Builder::new()
                .name("doomed".into())
                .spawn(|| panic!("by \"design\""))
                .unwrap()
                .join();
            return;
        }
        let name = "telemetry::logs::tests::a_panic_is_a_line_of_the_log_as_any_other";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let line: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &"panic".into()), "{line}");
        assert_eq!((&line["text"], &line["thread"]), (&"by \"design\"".into(), &"doomed".into()), "{line}");
        assert!(line["location"].as_str().unwrap().contains("logs.rs:"), "{line}");
    }
}
