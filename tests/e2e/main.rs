//! The whole manager against the simulator: real sockets, the real HTTP API, the real metrics.
#![allow(missing_docs, reason = "a test's name is its documentation")]

mod codes;
mod failures;
mod gauges;
mod operator;
mod outage;
mod panics;
mod requests;
mod storm;
mod suspension;
mod table;
mod world;
