//! What Greenroom's machine runs out of: ports and file descriptors, in a network of the test's own.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot run its subject has failed"
)]

#[path = "../blackbox/http.rs"]
#[allow(dead_code, reason = "another test's helpers, of which this one needs a part")]
mod http;
mod namespace;
#[path = "../blackbox/process.rs"]
#[allow(dead_code, reason = "another test's helpers, of which this one needs a part")]
mod process;
mod shortages;
#[path = "../blackbox/world.rs"]
#[allow(dead_code, reason = "another test's helpers, of which this one needs a part")]
mod world;
