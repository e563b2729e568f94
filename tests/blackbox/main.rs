//! The binary as its users meet it: started as a process, spoken to over sockets, ended by signals.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot run its subject has failed"
)]

mod certificates;
mod http;
mod planted;
mod process;
mod reload;
mod world;

mod access;
mod audit;
mod bodies;
mod commands;
mod ctl;
mod doctor;
mod ending;
mod events;
mod inputs;
mod kill;
mod listing;
mod many;
mod matrix;
mod nonsense;
mod openapi;
mod outcomes;
mod patching;
mod request_id;
mod secrets;
mod sessions;
mod tap;
mod tls;
