//! Traces, as a collector gets them: a Greenroom process between a simulator and receivers of OTLP that others wrote.
//!
//! Needs `python3` with `venv`; the first run installs the receivers below `target/`.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot run its subject has failed"
)]

#[path = "../blackbox/certificates.rs"]
#[allow(dead_code, reason = "another test's helpers, of which this one needs a part")]
mod certificates;
mod collector;
#[path = "../blackbox/http.rs"]
#[allow(dead_code, reason = "another test's helpers, of which this one needs a part")]
mod http;
mod outages;
#[path = "../blackbox/process.rs"]
#[allow(dead_code, reason = "another test's helpers, of which this one needs a part")]
mod process;
mod receivers;
mod sessions;
#[path = "../blackbox/world.rs"]
#[allow(dead_code, reason = "another test's helpers, of which this one needs a part")]
mod world;
