//! The official Python clients, unmodified, against the simulator and through Greenroom: what they document is what
//! they must see.
//!
//! Needs `python3` with `venv`; the first run installs the clients below `target/`.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]
#![allow(unreachable_pub, reason = "nobody else uses this crate")]

mod avatarkit;
mod differential;
mod forms;
mod player;
mod relay;
mod rendering;
mod spatialreal;
mod through;
