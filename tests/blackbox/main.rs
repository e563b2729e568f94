//! The binary as its users meet it: started as a process, spoken to over sockets, ended by signals.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot run its subject has failed"
)]

mod http;
mod planted;
mod process;
mod world;

mod access;
mod bodies;
mod commands;
mod ending;
mod inputs;
mod kill;
mod listing;
mod many;
mod nonsense;
mod outcomes;
mod secrets;
mod sessions;
mod tap;
