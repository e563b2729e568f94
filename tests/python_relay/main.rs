//! The official Python clients, unmodified, through Greenroom: what they see of the service directly is what they must
//! see, and beyond that what Greenroom is there for.
//!
//! Needs `python3` with `venv`; the first run installs the clients below `target/`.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]
#![allow(unreachable_pub, reason = "nobody else uses this crate")]

mod differential;
mod player;
mod relay;
mod rendering;
mod through;
