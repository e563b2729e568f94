//! The official Python clients of both generations, unmodified, against the simulator: every feature they have,
//! under every form in which the service may behave where the form can matter. What they must see is worked out
//! from their code, and stands in the features' tables.
//!
//! Needs `python3` with `venv`; the first run installs the clients below `target/`.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail like tests")]
#![allow(unreachable_pub, reason = "nobody else uses this crate")]

mod before;
mod codes;
mod errors;
mod feature;
mod form;
mod limits;
mod player;
mod playing;
mod refusals;
mod table;
