//! The simulator as a client sees it, with a client of the tests' own.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(clippy::wildcard_enum_match_arm, reason = "whatever else comes fails the test by name")]
#![allow(clippy::large_enum_variant, unreachable_pub, reason = "nobody else uses this crate")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]

mod client;
mod control;
mod faults;
mod handshake;
mod limits;
mod network;
mod plan_file;
mod playing;
mod record;
mod refusals;
